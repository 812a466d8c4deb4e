"""Tags of TIFF files, and TIFF files of 16 bits or float32."""

import io
import os
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from lcdnet_jax.image_io._opencv import decode_by_opencv
from lcdnet_jax.image_io._types import ImageError, Metadata
from lcdnet_jax.image_io.metadata import (
    ICC_TAG,
    ORIENTATION_TAG,
    matching_profile,
)

_Tag = ExifTags.Base  # the tags of TIFF files by name

# Photometric interpretations.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2

_STRIP_BYTES = 1 << 20  # size of a TIFF strip before compression


def bits_per_channel(tags: Mapping[int, Any], stream: BinaryIO, name: str) -> int:
    """Reads 8 or 16 bits per channel; raises ImageError for other types or truncated files."""
    bits = {int(value) for value in np.atleast_1d(tags.get(_Tag.BitsPerSample, 1))}
    formats = {int(value) for value in np.atleast_1d(tags.get(_Tag.SampleFormat, 1))}
    if not formats <= {1, 4} or not (bits == {16} or bits <= {1, 2, 4, 8}):
        kind = "floating-point" if 3 in formats else "signed" if 2 in formats else "unsigned"
        raise ImageError(
            f"{name}: {kind} TIFF with {max(bits)} bits a channel is not supported; "
            "save the image again as unsigned numbers with 8 or 16 bits"
        )
    _check_strips(tags, stream, name)
    return 16 if bits == {16} else 8


def read_size(tags: Mapping[int, Any]) -> tuple[int, int]:
    """Reads width and height as stored, before the orientation is applied."""
    return tags[_Tag.ImageWidth], tags[_Tag.ImageLength]


def is_inverted(tags: Mapping[int, Any]) -> bool:
    """Tells whether white is zero."""
    return tags.get(_Tag.PhotometricInterpretation) == _WHITE_IS_ZERO


def check_extra_channels(tags: Mapping[int, Any], name: str) -> None:
    """Raises ImageError for channels that are neither color nor alpha, which Pillow drops."""
    extra = tags.get(_Tag.ExtraSamples, ())
    if len(extra) > 1 or 0 in extra:
        raise ImageError(
            f"{name}: holds channels that are neither color nor alpha, such as a mask, which are "
            "never dropped silently; save it again without them, or with one marked as alpha"
        )


def _check_strips(tags: Mapping[int, Any], stream: BinaryIO, name: str) -> None:
    """Raises ImageError if the file is truncated.

    Neither decoder notices every truncation: separate color planes are returned half empty.
    """
    size = stream.seek(0, os.SEEK_END)
    strips = (_Tag.StripOffsets, _Tag.StripByteCounts)
    tiles = (_Tag.TileOffsets, _Tag.TileByteCounts)
    for offsets, counts in (strips, tiles):
        ends = np.add(tags.get(offsets, 0), tags.get(counts, 0))
        if np.max(ends) > size:
            raise ImageError(
                f"{name}: the TIFF file is cut short (its pixels end at byte {np.max(ends)} of "
                f"{size}); copy or download it again"
            )


def read_float_tags(stream: BinaryIO) -> Mapping[int, Any] | None:
    """Reads the tags of a TIFF file of 32-bit floating-point numbers; None for other files."""
    start = stream.read(8)
    if not start.startswith((b"II*\0", b"MM\0*")):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        stream.seek(tags.next)
        tags.load(stream)
        kinds, bits = (
            {int(v) for v in np.atleast_1d(tags.get(tag, 1))}
            for tag in (_Tag.SampleFormat, _Tag.BitsPerSample)
        )
    except Exception:  # damaged: the reader for integers reports the cause
        return None
    return tags if kinds == {3} and bits == {32} else None


def decode_float(data: bytes, tags: Mapping[int, Any], name: str) -> tuple[np.ndarray, Metadata]:
    """Decodes float32 by OpenCV, because Pillow reads only one channel of floating point."""
    if tags.next:  # type: ignore[attr-defined]
        raise ImageError(f"{name}: holds several pictures (pages); save each to a file of its own")
    width, height, channels = (
        int(tags.get(tag, 1)) for tag in (_Tag.ImageWidth, _Tag.ImageLength, _Tag.SamplesPerPixel)
    )
    color = tags.get(_Tag.PhotometricInterpretation)
    # OpenCV decodes planes wrongly.
    in_planes = channels > 1 and tags.get(_Tag.PlanarConfiguration, 1) != 1
    if (channels, color) not in ((1, _BLACK_IS_ZERO), (3, _RGB)) or in_planes:
        raise ImageError(
            f"{name}: a floating-point TIFF is read as gray or RGB only, black being 0, without "
            "alpha and not in planes; save it so, or with 16 bits a channel"
        )
    _check_strips(tags, io.BytesIO(data), name)
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ImageError(
            f"{name}: {width}x{height} pixels are suspiciously many; raise "
            "PIL.Image.MAX_IMAGE_PIXELS to allow it"
        )
    pixels = decode_by_opencv(data)
    orientation = tags.get(ORIENTATION_TAG, 1)
    shape = (width, height) if orientation in range(5, 9) else (height, width)
    if pixels is None or pixels.dtype != np.float32 or pixels.shape[:2] != shape:
        raise ImageError(
            f"{name}: the floating-point TIFF is cut short, damaged or of an unusual layout; save "
            "it again, without planes or unusual compression"
        )
    if channels == 3:
        pixels = pixels[..., ::-1]

    metadata = Metadata(matching_profile(tags.get(ICC_TAG), channels))
    return np.ascontiguousarray(pixels), metadata


def encode(image: np.ndarray, profile: bytes | None) -> bytes:
    """Encodes uint16 or float32 as a TIFF file.

    OpenCV cannot write a profile, and Pillow cannot write such color images.
    """
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    pixels = image.reshape(height, width, channels).astype(image.dtype.newbyteorder("<"))
    predictor = 1
    if image.dtype == np.uint16:  # horizontal differences compress better
        pixels[:, 1:] -= pixels[:, :-1].copy()
        predictor = 2
    rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
    strips = [
        zlib.compress(pixels[row : row + rows].tobytes(), 4) for row in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]

    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[_Tag.ImageWidth], directory[_Tag.ImageLength] = width, height
    directory[_Tag.BitsPerSample] = (8 * image.dtype.itemsize,) * channels
    directory[_Tag.Compression] = 8  # Deflate
    directory[_Tag.PhotometricInterpretation] = _BLACK_IS_ZERO if channels == 1 else _RGB
    offsets = np.cumsum([0, *lengths[:-1]]).tolist()  # Pillow moves them behind the directory
    directory[_Tag.StripOffsets], directory[_Tag.StripByteCounts] = tuple(offsets), tuple(lengths)
    directory[_Tag.SamplesPerPixel], directory[_Tag.RowsPerStrip] = channels, rows
    directory[_Tag.Predictor] = predictor
    if channels == 4:
        directory[_Tag.ExtraSamples] = 2  # alpha, not multiplied into the colors
    directory[_Tag.SampleFormat] = (1 if image.dtype == np.uint16 else 3,) * channels
    if profile:
        directory[ICC_TAG] = profile
    buffer = io.BytesIO()
    directory.save(buffer)
    return b"".join([buffer.getvalue(), *strips])
