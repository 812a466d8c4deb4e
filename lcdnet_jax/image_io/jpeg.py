"""Segments of JPEG files."""

import os
from typing import BinaryIO

from lcdnet_jax.image_io._types import ImageError

EXIF_LIMIT = 65533  # bytes

_MOST_JUNK = 2**16  # bytes between segments
# Markers of frames, with the size of the image, and of the first scan.
_FRAMES = {*range(0xC0, 0xD0), 0xDA} - {0xC4, 0xC8, 0xCC}


def check_segments(stream: BinaryIO, name: str) -> None:
    """Raises ImageError if Pillow would read gigabytes to find the frame."""
    stream.seek(2)
    junk = 0
    while junk < _MOST_JUNK and (byte := stream.read(1)):
        marker = stream.read(1) if byte == b"\xff" else b"\0"
        if marker == b"\xff":  # a fill byte
            stream.seek(-1, os.SEEK_CUR)
        if marker < b"\xc0" or marker == b"\xff":
            junk += 1
        elif marker[0] in _FRAMES:
            return
        else:
            length = int.from_bytes(stream.read(2), "big")
            stream.seek(max(length - 2, 0), os.SEEK_CUR)
    raise ImageError(
        f"{name}: the JPEG header is damaged or cut short; copy the file again or remove it"
    )
