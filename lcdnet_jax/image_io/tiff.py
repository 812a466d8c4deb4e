"""TIFF files: read by tifffile and imagecodecs, written in strips."""

import io
from collections.abc import Callable
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import ExifTags, TiffImagePlugin
from tifffile import COMPRESSION, PHOTOMETRIC, PREDICTOR, SAMPLEFORMAT

from lcdnet_jax.image_io import raw
from lcdnet_jax.image_io._types import Header, Metadata
from lcdnet_jax.image_io.metadata import (
    ICC_TAG,
    orient,
)
from lcdnet_jax.image_io.tiff_directories import (
    BYTE_COMPRESSIONS,
    UNASSOCIATED,
    Picture,
    RawPictureError,
    make_float_error,
    open_picture,
)
from lcdnet_jax.image_io.tiff_pixels import decode_pixels

_Tag = ExifTags.Base  # the tags of TIFF files by name

_STRIP_BYTES = 1 << 20  # size of a strip before compression


def _encode_packbits(rows: np.ndarray) -> bytes:
    return b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in rows)


# Number in files and encoder of each value of ``Metadata.tiff_compression``.
_ENCODERS: dict[str | None, tuple[COMPRESSION, Callable[[np.ndarray], bytes | bytearray]]] = {
    None: (COMPRESSION.NONE, np.ndarray.tobytes),
    "lzw": (COMPRESSION.LZW, lambda rows: imagecodecs.lzw_encode(rows.tobytes())),
    "deflate": (
        COMPRESSION.ADOBE_DEFLATE,
        lambda rows: imagecodecs.deflate_encode(rows.tobytes()),
    ),
    "packbits": (COMPRESSION.PACKBITS, _encode_packbits),
    "lzma": (COMPRESSION.LZMA, lambda rows: imagecodecs.lzma_encode(rows.tobytes())),
    "zstd": (COMPRESSION.ZSTD, lambda rows: imagecodecs.zstd_encode(rows.tobytes())),
}


def read_header(stream: BinaryIO, name: str, *, floats: bool = False) -> Header:
    """Reads size, channels and bits of the decoded array.

    Raises ImageError for damaged files, and for floating point if not wanted.
    """
    try:
        with open_picture(stream, name) as picture:
            if picture.is_float and not floats:
                raise make_float_error(name, picture.bits)
            height, width = picture.height, picture.width
            if picture.orientation >= 5:
                height, width = width, height
            bits = 32 if picture.is_float else 16 if picture.bits == 16 else 8
            return Header(height, width, picture.channels, bits)
    except RawPictureError:
        return raw.read_header(stream, name)


def read_size(stream: BinaryIO, name: str) -> tuple[int, int]:
    """Reads height and width as stored; raises ImageError for damaged files."""
    try:
        with open_picture(stream, name) as picture:
            return picture.height, picture.width
    except RawPictureError:
        header = raw.read_header(stream, name)
        return header.height, header.width


def decode(data: bytes, name: str, *, floats: bool) -> tuple[np.ndarray, Metadata]:
    """Decodes a TIFF file and its metadata; raises ImageError for floating point if not wanted.

    Values of floating point are not changed. float16 becomes float32.
    """
    try:
        with open_picture(io.BytesIO(data), name) as picture:
            if picture.is_float and not floats:
                raise make_float_error(name, picture.bits)
            metadata = _read_metadata(picture)
            pixels = decode_pixels(picture, data, name)
    except RawPictureError:
        return raw.decode(data, name)
    return np.ascontiguousarray(orient(pixels, picture.orientation)), metadata


def _read_metadata(picture: Picture) -> Metadata:
    """The color profile as it is, and the compression; other metadata is in the first directory."""
    page, first = picture.page, picture.first
    profile = page.tags.valueof(ICC_TAG, first.tags.valueof(ICC_TAG))
    kinds = (key for key, numbers in BYTE_COMPRESSIONS.items() if page.compression in numbers)
    # JPEG loses pixels, and fax data hold no gray.
    default = None if page.compression == COMPRESSION.NONE else "deflate"
    return Metadata(profile, tiff_compression=next(kinds, default))


def encode(image: np.ndarray, profile: bytes | None, compression: str | None) -> bytes:
    """Encodes uint8, uint16 or float32 as a TIFF file with straight alpha.

    By default uint8 is not compressed, and other types are by Deflate.
    """
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    pixels = image.reshape(height, width, channels)
    if compression is None and image.dtype != np.uint8:
        compression = "deflate"
    predictor: PREDICTOR = PREDICTOR.NONE
    predict: Callable[..., np.ndarray] | None = None
    if compression not in (None, "packbits"):  # differences compress better
        predictor, predict = PREDICTOR.HORIZONTAL, imagecodecs.delta_encode
        if image.dtype == np.float32:
            predictor, predict = PREDICTOR.FLOATINGPOINT, imagecodecs.floatpred_encode
    number, compress = _ENCODERS[compression]
    rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
    strips = []
    for row in range(0, height, rows):
        strip = np.ascontiguousarray(pixels[row : row + rows])
        if predict is not None:
            strip = predict(strip, axis=-2)
        strips.append(compress(strip.astype(strip.dtype.newbyteorder("<"), copy=False)))
    lengths = [len(strip) for strip in strips]

    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[_Tag.ImageWidth], directory[_Tag.ImageLength] = width, height
    directory[_Tag.BitsPerSample] = (8 * image.dtype.itemsize,) * channels
    directory[_Tag.Compression] = int(number)
    directory[_Tag.PhotometricInterpretation] = int(
        PHOTOMETRIC.MINISBLACK if channels <= 2 else PHOTOMETRIC.RGB
    )
    offsets = np.cumsum([0, *lengths[:-1]]).tolist()  # Pillow moves them behind the directory
    directory[_Tag.StripOffsets], directory[_Tag.StripByteCounts] = tuple(offsets), tuple(lengths)
    directory[_Tag.SamplesPerPixel], directory[_Tag.RowsPerStrip] = channels, rows
    directory[_Tag.Predictor] = int(predictor)
    if channels in (2, 4):
        directory[_Tag.ExtraSamples] = UNASSOCIATED
    kind = SAMPLEFORMAT.IEEEFP if image.dtype == np.float32 else SAMPLEFORMAT.UINT
    directory[_Tag.SampleFormat] = (int(kind),) * channels
    if profile:
        directory[ICC_TAG] = profile
    buffer = io.BytesIO()
    directory.save(buffer)
    return b"".join([buffer.getvalue(), *strips])
