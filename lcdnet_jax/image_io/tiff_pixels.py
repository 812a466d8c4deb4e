"""Pixels of TIFF files, decoded by tifffile and imagecodecs.

Decoders fill what is missing with zeros, or stop early without an error. Here every strip and tile
must decode to its number of bytes. A wrong byte that leaves the number as it is cannot be found in
uncompressed, LZW and PackBits data, which have no checksum; nor in most ZSTD data, where it is
optional.
"""

import contextlib
import io
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import ExifTags, Image
from tifffile import COMPRESSION, PHOTOMETRIC

from lcdnet_jax.image_io import ccitt, jpeg
from lcdnet_jax.image_io._types import ImageError
from lcdnet_jax.image_io.tiff_directories import (
    ASSOCIATED,
    BYTE_COMPRESSIONS,
    FAX_COMPRESSIONS,
    Picture,
    check_length,
)

_PIXELS_AT_ONCE = 2**20  # divided by alpha in float64, which bounds the memory

_DECODERS: dict[str, Callable[..., bytes | bytearray]] = {
    "lzw": imagecodecs.lzw_decode,
    "deflate": imagecodecs.deflate_decode,
    "packbits": imagecodecs.packbits_decode,
    "lzma": imagecodecs.lzma_decode,
    "zstd": imagecodecs.zstd_decode,
}


def decode_pixels(picture: Picture, data: bytes, name: str) -> np.ndarray:
    """Decodes the picture of a file to gray or RGB with straight alpha, black being 0.

    Args:
        picture: The directory. It is changed and serves for one call.
        data: The file.
        name: The name of the file in errors.

    Returns:
        ``[H, W]`` or ``[H, W, channels]`` uint8, uint16 or float32, before the orientation.

    Raises:
        ImageError: A strip or tile is damaged.
    """
    try:
        return _convert_colors(picture, _decode_segments(picture, data, name))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # the decoders raise many types
        raise ImageError(
            f"{name}: the TIFF file is cut short or damaged ({error}); copy or download it again"
        ) from error


def _decode_segments(picture: Picture, data: bytes, name: str) -> np.ndarray:
    """Decodes strips or tiles to ``[height, width, samples]`` as stored."""
    page, compression = picture.page, picture.page.compression
    decoder = next(
        (_DECODERS[key] for key, numbers in BYTE_COMPRESSIONS.items() if compression in numbers),
        None,
    )
    is_reversed = page.fillorder == 2 and compression != COMPRESSION.JPEG
    page.fillorder = 1
    if decoder is not None:  # tifffile would not compare the number of bytes
        page.compression = COMPRESSION.NONE
    dtype = np.float32 if picture.is_float else np.uint16 if picture.bits == 16 else np.uint8
    pixels = np.empty((picture.height, picture.width, picture.samples), dtype)
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    for index, (start, length) in enumerate(places):
        segment: bytes | bytearray = data[start : start + length]
        if is_reversed:
            segment = imagecodecs.bitorder_decode(segment)
        if decoder is not None:
            segment = decoder(segment, out=max(picture.list_lengths(index)) + 1)
        if page.compression == COMPRESSION.NONE:
            check_length(picture, index, len(segment), name)
        if compression == COMPRESSION.JPEG:
            _check_jpeg_size(segment, picture, index)
        part, (plane, _, top, left, _), _ = page.decode(
            segment, index, jpegtables=page.jpegtables, _fullsize=page.is_tiled
        )
        assert part is not None  # which is of segments that are missing
        if compression == COMPRESSION.JPEG:
            _check_jpeg(segment, page.jpegtables)
        elif compression in FAX_COMPRESSIONS:
            _check_fax(segment, part[0, ..., 0], compression, name)
        part = part[0, : picture.height - top, : picture.width - left]
        channels = slice(plane, plane + 1) if picture.planes > 1 else slice(None)
        pixels[top : top + part.shape[0], left : left + part.shape[1], channels] = part
    return pixels


def _check_jpeg_size(segment: bytes | bytearray, picture: Picture, index: int) -> None:
    """Raises ValueError unless a strip or tile has its size: tifffile would reshape another one."""
    with Image.open(io.BytesIO(segment), formats=["JPEG"]) as image:
        width, height = image.size
    if width != picture.segment_size[1] or height not in picture.list_heights(index):
        raise ValueError(f"strip or tile {index} has {width}x{height} pixels")


def _check_jpeg(segment: bytes | bytearray, tables: bytes | None) -> None:
    """Raises ValueError for damage, of which imagecodecs does not tell."""
    if tables:  # without their end mark, in front of the pixels
        segment = tables[:-2] + segment[2:]
    with contextlib.suppress(jpeg.SamplingError):
        jpeg.decode_strictly(bytes(segment), "GRAY")


def _check_fax(segment: bytes | bytearray, bits: np.ndarray, compression: int, name: str) -> None:
    if not ccitt.is_whole(segment, bits, compression):
        raise ImageError(
            f"{name}: the fax data of the TIFF file are damaged or written in an unusual way; copy "
            "or download it again, or save it again, compressed by LZW or Deflate"
        )


def _convert_colors(picture: Picture, pixels: np.ndarray) -> np.ndarray:
    """Converts samples as stored to gray or RGB in which black is 0, with straight alpha."""
    color, page = picture.page.photometric, picture.page
    if color == PHOTOMETRIC.PALETTE:
        table = np.asarray(page.tags.valueof(ExifTags.Base.ColorMap), np.uint16).reshape(3, -1)
        if table.shape[1] != 1 << picture.bits:
            raise ValueError("the palette is incomplete")
        return np.ascontiguousarray((table >> 8).astype(np.uint8).T[pixels[..., 0]])
    if picture.bits < 8:
        pixels = pixels * np.uint8(255 // ((1 << picture.bits) - 1))
    if color == PHOTOMETRIC.MINISWHITE:
        pixels[..., 0] = np.iinfo(pixels.dtype).max - pixels[..., 0]
    if color == PHOTOMETRIC.SEPARATED:
        return _convert_to_rgb("CMYK", pixels)
    if color == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        return _convert_to_rgb("YCbCr", pixels)
    if picture.alpha == ASSOCIATED:
        _divide_by_alpha(pixels)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _convert_to_rgb(mode: str, pixels: np.ndarray) -> np.ndarray:
    image = Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
    return np.asarray(image.convert("RGB"))


def _divide_by_alpha(pixels: np.ndarray) -> None:
    """Divides colors by alpha in place; the colors of hidden pixels become 0."""
    top = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    rows_at_once = max(_PIXELS_AT_ONCE // pixels.shape[1], 1)
    for start in range(0, len(pixels), rows_at_once):
        rows = pixels[start : start + rows_at_once]
        colors, alpha = rows[..., :-1].astype(np.float64), rows[..., -1:]
        straight = np.divide(colors * top, alpha, out=np.zeros_like(colors), where=alpha > 0)
        if pixels.dtype.kind != "f":
            straight = np.rint(straight).clip(0, top)
        rows[..., :-1] = straight
