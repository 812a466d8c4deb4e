"""Chunks of PNG files, and PNG files of 16 bits."""

import dataclasses
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from lcdnet_jax.image_io import exif
from lcdnet_jax.image_io._opencv import encode_by_opencv
from lcdnet_jax.image_io._types import ImageError, Metadata
from lcdnet_jax.image_io.metadata import find_orientation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What a decoder needs: colors, transparency, pixels.
_FOR_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")

# How colors are shown; mDCv and cLLi were written before the final standard.
_COLOR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = b"XML:com.adobe.xmp"
# Texts of ImageMagick with EXIF data or XMP in hexadecimal digits.
_RAW_EXIF, _RAW_XMP = (b"Raw profile type exif", b"Raw profile type APP1"), b"Raw profile type xmp"

# Not reported when they are left out: hints for the decoder of the stored pixels.
_SILENT = (b"iDOT", b"hIST", b"sPLT", b"acTL", b"fcTL", b"fdAT")

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each color type

# First column, first row, step of columns and step of rows of each pass.
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)

_BYTES_AT_ONCE = 2**20  # of pixels that are decompressed only to be counted

_LONGEST = 2**24  # bytes of metadata in a chunk
_MOST_CHUNKS = 2**20

_INCH = 0.0254  # meters
_METER = 1  # unit of pHYs


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """Fields of a PNG file that describe its pixels.

    ``stub`` is the file without pixels and metadata, for the reader of headers.
    """

    bits: int
    color_type: int
    color_key: bool  # one color is transparent (tRNS)
    orientation: int
    stub: bytes


def read_chunks(stream: BinaryIO, name: str) -> PngHeader:
    """Reads the chunks of a PNG except the pixels; raises ImageError unless it ends with IEND."""
    color_key, has_pixels, stub = False, False, [_SIGNATURE]
    found = _ChunkMetadata()
    stream.seek(8)
    start = stream.read(8 + 13 + 4)
    if len(start) == 25 and start[4:8] == b"IHDR":
        width, height, bits, color_type = struct.unpack(">IIBB", start[8:18])
        if not width or not height:
            raise ImageError(f"{name}: the image has zero size ({width}x{height}); save it again")
        stub.append(start)
        for _ in range(_MOST_CHUNKS):
            chunk = stream.read(8)
            length, kind = struct.unpack(">I4s", chunk.ljust(8, b"\0"))
            if not kind.isalpha():  # such as the zeros of a sparse file
                break
            if kind == b"IEND":
                stub += [_make_chunk(b"IDAT", b""), _make_chunk(b"IEND", b"")]
                orientation = _find_orientation(found)
                return PngHeader(bits, color_type, color_key, orientation, b"".join(stub))
            has_pixels |= kind == b"IDAT"
            described = kind in (b"PLTE", b"tRNS", b"acTL", b"fcTL") and not has_pixels
            wanted = described or kind == b"eXIf" or kind in _TEXTS
            data = stream.read(length + 4) if wanted and length <= _LONGEST else b""
            stream.seek(length + 4 - len(data), os.SEEK_CUR)
            if described:
                stub += [chunk, data] if data else []
                color_key |= kind == b"tRNS"
            elif data[length:] == struct.pack(">I", zlib.crc32(kind + data[:length])):
                _collect(found, kind, data[:length])
    raise ImageError(
        f"{name}: the PNG file is cut short (its last chunk is missing); copy or download it again"
    )


def strip_metadata(data: bytes, name: str) -> bytes:
    """The file with nothing but pixels, so that damaged metadata has no effect on them.

    Raises:
        ImageError: A checksum of the pixels is wrong. Pillow does not check it.
    """
    view = memoryview(data)  # whose parts are no copies
    parts: list[bytes | memoryview] = [_SIGNATURE]
    for kind, start, end in _split(data):
        if kind not in _FOR_PIXELS:
            continue
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError(
                f"{name}: the PNG file is damaged (a checksum of {kind.decode('ascii')} is wrong); "
                "copy or download it again"
            )
        parts.append(view[start:end])
    return b"".join(parts)


def check_rows(data: bytes, image: Image.Image, name: str) -> None:
    """Raises ImageError if rows are missing, for which Pillow silently gives zeros.

    Args:
        data: The file.
        image: What Pillow decoded.
        name: The name of the file in errors.
    """
    width, height, bits, color_type, interlace = struct.unpack(">IIBBxxB", data[16:29])
    last_row = image.crop((0, height - 1, width, height))
    if not interlace and np.asarray(last_row).any():  # to count costs a third of the decoding
        return
    bits *= _CHANNELS[color_type]
    expected = 0
    for left, top, across, down in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    found = _count_inflated(data, expected)
    if found < expected:
        raise ImageError(
            f"{name}: the PNG file is cut short or damaged (its pixels have {found} of {expected} "
            "bytes); copy or download it again"
        )


def _count_inflated(data: bytes, most: int) -> int:
    """Counts the bytes of the decompressed pixels, until there are ``most``."""
    decoder = zlib.decompressobj()
    view, count = memoryview(data), 0
    for kind, start, end in _split(data):
        part: bytes | memoryview = view[start + 8 : end - 4] if kind == b"IDAT" else b""
        while len(part) and count < most:
            try:
                count += len(decoder.decompress(part, _BYTES_AT_ONCE))
            except zlib.error:
                return count
            part = decoder.unconsumed_tail
    return count + len(decoder.flush()) if count < most else count


def read_metadata(data: bytes) -> tuple[Metadata, int]:
    """Reads the metadata of a PNG file as they are, and its orientation."""
    header = data[24:26]
    kept: list[tuple[bytes, bytes]] = []
    found = _ChunkMetadata()
    left_out: list[str] = []
    resolution = None
    for kind, start, end in _split(data):
        if kind in _FOR_PIXELS or kind in _SILENT:
            continue
        content = data[start + 8 : end - 4]
        if zlib.crc32(data[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            left_out.append(f"damaged {kind.decode('ascii')}")
        elif _collect(found, kind, content):
            if kind == b"iCCP" and not found.icc_profile:
                left_out.append("damaged color profile")
        elif kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", content[:9].ljust(9, b"\0"))
            if unit == _METER and x and y:
                resolution = (x * _INCH, y * _INCH)
            elif x != y and len(content) == 9:
                left_out.append("shape of pixels")
        elif kind == b"bKGD" and (header[0] not in (8, 16) or header[1] == 3):
            left_out.append("bKGD")  # in other numbers than those of the result
        elif kind in (*_COLOR, *_TEXTS, b"bKGD", b"tIME") or kind[3:].islower():
            # Small fourth letters mark chunks that are valid for changed pixels, too.
            kept.append((kind, content))
        else:
            left_out.append(kind.decode("ascii"))
    metadata = Metadata(
        icc_profile=found.icc_profile,
        exif=found.exif,
        xmp=found.xmp,
        png_chunks=tuple(kept),
        resolution=resolution,
        left_out=tuple(dict.fromkeys(left_out)),
    )
    return metadata, _find_orientation(found)


def _split(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk."""
    place = 8
    while len(data) - place >= 12:
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if not kind.isalpha() or end > len(data):
            return
        yield kind, place, end
        place = end


@dataclasses.dataclass
class _ChunkMetadata:
    """Metadata of the chunks so far, and the keys of those that were decompressed."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    keys: set[bytes] = dataclasses.field(default_factory=set)


def _collect(found: _ChunkMetadata, kind: bytes, data: bytes) -> bool:
    """Keeps the content of a chunk with a profile, EXIF data or XMP; False for another chunk.

    Of several compressed chunks of one key the first counts: each may grow to megabytes.
    """
    if kind == b"eXIf":
        found.exif = exif.PREFIX + data.removeprefix(exif.PREFIX)
        return True
    if kind == b"iCCP":
        if _is_first(found, kind):
            found.icc_profile = _inflate(data.partition(b"\0")[2][1:]) or None
        return True
    if kind not in _TEXTS:
        return False
    key, _, text = data.partition(b"\0")
    if key == _XMP_KEY and kind == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
        if _is_first(found, key):
            found.xmp = _inflate(text) if compressed else text
        return True
    if key not in (*_RAW_EXIF, _RAW_XMP):
        return False
    if not _is_first(found, key):
        return True
    content = _read_raw_profile(_inflate(text[1:]) if kind == b"zTXt" else text)
    if content.startswith(exif.PREFIX):
        found.exif = found.exif or content
    elif content:
        found.xmp = found.xmp or content.removeprefix(b"http://ns.adobe.com/xap/1.0/\0")
    return True


def _is_first(found: _ChunkMetadata, key: bytes) -> bool:
    is_first = key not in found.keys
    found.keys.add(key)
    return is_first


def _read_raw_profile(text: bytes) -> bytes:
    """Reads a text of ImageMagick: a name, a length, and hexadecimal digits in lines."""
    _, _, digits = [*text.split(None, 2), b"", b"", b""][:3]
    digits = digits.rstrip(b"\0").translate(None, b" \t\r\n\v\f")
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return b""


def _find_orientation(found: _ChunkMetadata) -> int:
    return find_orientation(found.exif, found.xmp)


def _inflate(data: bytes) -> bytes:
    """Decompresses metadata; empty if it is damaged or grows without bound."""
    decoder = zlib.decompressobj()
    try:
        result = decoder.decompress(data, _LONGEST)
    except zlib.error:
        return b""
    return result if decoder.eof else b""


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
        + _make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0))
        + _make_chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + _make_chunk(b"IEND", b"")
    )


def add_metadata(png: bytes, metadata: Metadata) -> bytes:
    """Adds metadata to a PNG file that has none."""
    background = {0: 2, 2: 6, 4: 2, 6: 6}[png[25]]  # bytes of bKGD by color type
    chunks = [
        (kind, data)
        for kind, data in metadata.png_chunks
        if kind != b"bKGD" or len(data) == background
    ]
    if metadata.icc_profile:
        profile = b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile)
        chunks.append((b"iCCP", profile))
    if metadata.resolution:
        x, y = (min(max(round(value / _INCH), 1), 2**31 - 1) for value in metadata.resolution)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(exif.PREFIX)))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEY + bytes(5) + metadata.xmp))
    chunks += [_make_comment(comment) for comment in metadata.comments]
    added = b"".join(_make_chunk(*chunk) for chunk in chunks)
    return png[:33] + added + png[33:]  # behind IHDR


def _make_comment(text: bytes) -> tuple[bytes, bytes]:
    """A comment of a JPEG, in UTF-8 or else in any encoding of one byte a letter."""
    text = text.replace(b"\0", b"")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return b"tEXt", b"Comment\0" + text
    return b"iTXt", b"Comment" + bytes(5) + text


def _make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
