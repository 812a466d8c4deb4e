"""Chunks of PNG files, and PNG files of 16 bits."""

import dataclasses
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np

from lcdnet_jax.image_io._opencv import encode_by_opencv
from lcdnet_jax.image_io._types import ImageError


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """Fields of a PNG file that describe its pixels."""

    bits: int
    color_type: int
    color_key: bool  # one color is transparent (tRNS)
    metadata: bool  # there may be an orientation


def read_chunks(stream: BinaryIO, name: str) -> PngHeader:
    """Reads the chunks of a PNG except the pixels; raises ImageError unless it ends with IEND."""
    color_key = metadata = False
    stream.seek(8)
    start = stream.read(8 + 13 + 4)
    if len(start) == 25 and start[4:8] == b"IHDR":
        width, height, bits, color_type = struct.unpack(">IIBB", start[8:18])
        if not width or not height:
            raise ImageError(f"{name}: the image has zero size ({width}x{height}); save it again")
        while len(chunk := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", chunk)
            if not kind.isalpha():  # such as the zeros of a sparse file
                break
            if kind == b"IEND":
                return PngHeader(bits, color_type, color_key, metadata)
            text = stream.read(min(length, 16)) if kind in (b"iTXt", b"tEXt", b"zTXt") else b""
            color_key |= kind == b"tRNS"
            metadata |= kind == b"eXIf" or text.startswith((b"XML:com.adobe", b"Raw profile"))
            stream.seek(length - len(text) + 4, os.SEEK_CUR)
    raise ImageError(
        f"{name}: the PNG file is cut short (its last chunk is missing); "
        "copy or download it again"
    )


def encode_16_bits(image: np.ndarray) -> bytes:
    """Encodes uint16 as a PNG file without metadata."""
    if image.ndim == 2 or image.shape[2] != 2:
        return encode_by_opencv(".png", image)
    # Color type 4, which neither Pillow nor OpenCV writes with 16 bits.
    height, width, _ = image.shape
    rows = image.astype(">u2").view(np.uint8).reshape(height, 4 * width)
    rows = np.pad(rows, ((0, 0), (1, 0)))  # filter type 0 before each row
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + _chunk(b"IEND", b"")
    )


def add_chunks(png: bytes, profile: bytes | None, exif: bytes | None) -> bytes:
    """Inserts a color profile and EXIF data into a PNG file."""
    chunks = b""
    if profile:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return png[:33] + chunks + png[33:]  # behind IHDR


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
