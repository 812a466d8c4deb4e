"""Pixels and segments of JPEG files.

Pillow and OpenCV hide the warnings of libjpeg, which fills a damaged part of an image with
arbitrary pixels. simplejpeg decodes with the same library and raises an error for each warning.
"""

import os
import re
import struct
from typing import BinaryIO, Literal

import numpy as np
import simplejpeg
from PIL import Image

from lcdnet_jax.image_io import exif
from lcdnet_jax.image_io._types import ImageError, Metadata

_MOST_STEPS = 2**16  # segments, and bytes between them
# Markers of frames, with the size of the image, and of the first scan.
_FRAMES = {*range(0xC0, 0xD0), 0xDA} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}  # frames in which a scan holds all bits of its coefficients
_SCAN, _END, _JFIF, _EXIF, _ICC = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2
_PHOTOSHOP, _ADOBE, _COMMENT = 0xED, 0xEE, 0xFE

_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP_NAME = b"Photoshop 3.0\0"
_ICC_NAME = b"ICC_PROFILE\0"
_MOST_BYTES = 65533  # of a segment without its length

_INCH, _CENTIMETER = 1, 2  # units of JFIF

# Other segments by their beginning: what they hold, or "" where nothing is lost.
_OTHERS = {
    b"JFXX": "thumbnail",
    exif.PREFIX: "further EXIF",
    b"MPF": "further pictures",
    b"http://ns.adobe.com/xmp/ext": "extended XMP",
    b"Adobe": "",  # how the colors are stored
    b"Ducky": "",  # the quality with which they were stored
    b"JP": "content credentials",  # JUMBF: signatures of the unchanged pixels
}

_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xda-\xfe])")
_IN_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # all but stuffed bytes and restart markers

_COLORS: dict[str, Literal["GRAY", "RGB", "CMYK"]] = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


class SamplingError(ValueError):
    """Colors in an unusual resolution, which libjpeg decodes and simplejpeg does not."""


def check_segments(stream: BinaryIO, name: str) -> None:
    """Raises ImageError if Pillow would read gigabytes to find the frame."""
    stream.seek(2)
    for _ in range(_MOST_STEPS):
        byte = stream.read(1)
        marker = stream.read(1) if byte == b"\xff" else b"\0"
        if marker == b"\xff":  # a fill byte
            stream.seek(-1, os.SEEK_CUR)
        if marker < b"\xc0" or marker == b"\xff":
            continue
        if marker[0] in _FRAMES:
            return
        length = int.from_bytes(stream.read(2), "big")
        stream.seek(max(length - 2, 0), os.SEEK_CUR)
    raise ImageError(f"{name}: the JPEG header is damaged or cut short; copy or download it again")


def decode(data: bytes, image: Image.Image, name: str) -> np.ndarray:
    """Decodes a JPEG file; an error if the decoder reports any damage.

    Damage may go unnoticed in files with colors in an unusual resolution (``SamplingError``).

    Args:
        data: The file.
        image: The same file, opened by Pillow.
        name: The name of the file in errors.

    Returns:
        ``[H, W]`` or ``[H, W, 3]`` uint8, as stored: no orientation is applied.

    Raises:
        ImageError: The file is cut short or damaged.
    """
    try:
        data = _strip_metadata(data)
        try:
            pixels = decode_strictly(data, _COLORS[image.mode])
        except SamplingError:
            # Pillow decodes these. Damage in them that libjpeg only warns of is not noticed.
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape[1::-1] != image.size:
            raise ValueError(f"{image.width}x{image.height} pixels were announced")
        # Pillow knows which files store CMYK inverted.
        pixels = np.asarray(image.convert("RGB")) if image.mode == "CMYK" else pixels
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise ImageError(
            f"{name}: the JPEG file is cut short or damaged ({error}); copy or download it again"
        ) from error
    return pixels[..., 0] if image.mode == "L" else pixels


def read_metadata(data: bytes) -> Metadata:
    """Reads the metadata of a JPEG file as they are."""
    segments, _ = _split(data)
    first_exif = xmp = resolution = None
    profile: dict[int, bytes] = {}
    resources, comments, left_out = [], [], []
    for marker, payload in segments:
        if marker == _JFIF and payload.startswith(b"JFIF\0"):
            resolution = _read_density(payload)
            if not resolution and payload[8:10] != payload[10:12]:
                left_out.append("shape of pixels")
        elif marker == _EXIF and payload.startswith(exif.PREFIX) and not first_exif:
            first_exif = payload
        elif marker == _EXIF and payload.startswith(_XMP_NAME):
            xmp = xmp or payload.removeprefix(_XMP_NAME)
        elif marker == _ICC and payload.startswith(_ICC_NAME):
            profile[payload[len(_ICC_NAME)] if len(payload) > len(_ICC_NAME) else 0] = payload[14:]
        elif marker == _PHOTOSHOP and payload.startswith(_PHOTOSHOP_NAME):
            resources.append(payload.removeprefix(_PHOTOSHOP_NAME))
        elif marker == _COMMENT:
            comments.append(payload)
        elif marker >= _JFIF and marker < 0xF0:
            left_out.append(_name_segment(marker, payload))
    return Metadata(
        icc_profile=b"".join(part for _, part in sorted(profile.items())) or None,
        exif=first_exif,
        xmp=xmp,
        iptc=b"".join(resources) or None,
        comments=tuple(comments),
        resolution=resolution,
        left_out=tuple(name for name in dict.fromkeys(left_out) if name),
    )


def _read_density(payload: bytes) -> tuple[float, float] | None:
    """Pixels per inch; None if the file has only the shape of a pixel."""
    if len(payload) < 12 or payload[7] not in (_INCH, _CENTIMETER):
        return None
    factor = 1 if payload[7] == _INCH else 2.54
    x, y = (int.from_bytes(payload[k : k + 2], "big") * factor for k in (8, 10))
    return (x, y) if x and y else None


def _name_segment(marker: int, payload: bytes) -> str:
    for start, name in _OTHERS.items():
        if payload.startswith(start):
            return name
    found = re.match(rb"[\w .:/-]{2,20}", payload)
    return f"APP{marker - _JFIF}" + (f" {found[0].decode('ascii')}" if found else "")


def add_metadata(jpeg: bytes, metadata: Metadata) -> bytes:
    """Adds metadata to a JPEG file that has none."""
    segments, place = _split(jpeg)
    new = []
    if metadata.exif:
        new.append((_EXIF, metadata.exif))
    if metadata.xmp:
        new.append((_EXIF, _XMP_NAME + metadata.xmp))
    profile, step = metadata.icc_profile or b"", _MOST_BYTES - len(_ICC_NAME) - 2
    parts = [profile[start : start + step] for start in range(0, len(profile), step)]
    new += [
        (_ICC, _ICC_NAME + bytes([number, len(parts)]) + part)
        for number, part in enumerate(parts, 1)
    ]
    resources, step = metadata.iptc or b"", _MOST_BYTES - len(_PHOTOSHOP_NAME)
    new += [
        (_PHOTOSHOP, _PHOTOSHOP_NAME + resources[start : start + step])
        for start in range(0, len(resources), step)
    ]
    new += [(_COMMENT, comment) for comment in metadata.comments]
    parts = [jpeg[:2]]
    for marker, payload in segments:
        if marker == _JFIF and metadata.resolution:
            payload = payload[:7] + _make_density(metadata.resolution) + payload[12:]
        parts.append(_make_segment(marker, payload))
        if marker == _JFIF:
            parts += [_make_segment(*segment) for segment in new]
    return b"".join([*parts, jpeg[place:]])


def _make_density(resolution: tuple[float, float]) -> bytes:
    """Unit and whole numbers, in the unit that fits better."""
    choices = []
    for unit, factor in ((_INCH, 1.0), (_CENTIMETER, 2.54)):
        numbers = [min(max(round(value / factor), 1), 0xFFFF) for value in resolution]
        errors = (abs(n * factor - v) for n, v in zip(numbers, resolution, strict=True))
        choices.append((max(errors), unit, numbers))
    _, unit, numbers = min(choices)
    return struct.pack(">BHH", unit, *numbers)


def _make_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def decode_strictly(data: bytes, colorspace: Literal["GRAY", "RGB", "CMYK"]) -> np.ndarray:
    """Decodes a JPEG file without metadata; an error wherever libjpeg warns.

    Args:
        data: The file. Zeros before its end, which some cameras write, are no damage.
        colorspace: Colors of the result.

    Returns:
        ``[H, W, channels]`` uint8, the pixels that Pillow decodes.

    Raises:
        SamplingError: simplejpeg does not know the resolution of the colors.
        ValueError: The file is cut short or damaged.
    """
    for _ in range(2):
        try:
            return simplejpeg.decode_jpeg(
                data, colorspace=colorspace, fastdct=False, fastupsample=False, strict=True
            )
        except ValueError as error:
            warning = str(error)
        if "subsampling level" in warning:  # known from the header, before any pixel is decoded
            raise SamplingError(warning)
        data = _strip_padding(data, warning)
    raise ValueError(warning)


def _split(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Splits a file into its segments before the first scan, and the place of that scan."""
    segments: list[tuple[int, bytes]] = []
    place = 2
    for _ in range(_MOST_STEPS):
        match = _SEGMENT.search(data, place)
        if match is None:
            break
        if match[1][0] == _SCAN:
            return segments, match.start()
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        place = match.end() + max(length, 2)
        segments.append((match[1][0], data[match.end() + 2 : place]))
    return segments, len(data)


def _strip_metadata(data: bytes) -> bytes:
    """Removes what the pixels do not need and a decoder might warn of.

    libjpeg reports its first warning only, and that may be about bytes between segments or the
    version of JFIF.
    """
    segments, place = _split(data)
    if place == len(data):
        raise ValueError("the pixels are missing")
    kept, sequential = [data[:2]], False
    for marker, payload in segments:
        sequential |= marker in _SEQUENTIAL
        if marker == _JFIF and payload.startswith(b"JFIF\0"):  # says that colors are YCbCr
            payload = b"JFIF\0\1\1\0\0\1\0\1\0\0"
        elif marker >= _JFIF and not (marker == _ADOBE and payload.startswith(b"Adobe")):
            continue
        kept.append(_make_segment(marker, payload))
    scan = bytearray(data[place:])
    end = 2 + int.from_bytes(scan[2:4], "big")
    if sequential and end <= len(scan):
        scan[end - 3 : end] = b"\0\x3f\0"  # all coefficients; some cameras write other values
    return b"".join([*kept, scan])


def _strip_padding(data: bytes, warning: str) -> bytes:
    """Removes zeros between the last scan and the end marker, which some cameras write.

    Raises:
        ValueError: The warning is another one.
    """
    count = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    if not count:
        raise ValueError(warning)
    _, place = _split(data)
    for _ in range(_MOST_STEPS):
        match = _IN_SCAN.search(data, place)
        if match is None:
            break
        if match[1][0] == _END:
            start = match.start() - int(count[1])
            if data[start : match.start()].strip(b"\0"):
                break
            return data[:start] + data[match.start() :]
        place = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    raise ValueError(warning)
