"""Checks of AVIF files, which Pillow reads with 8 bits and as sRGB, whatever they hold.

Damage that leaves the lengths as they are is not noticed, since AV1 has no checksum.
"""

import os
import struct
from typing import BinaryIO

from PIL import features

from lcdnet_jax.image_io._types import ImageError

_MOST_BOX_BYTES = 1 << 24  # of the box that describes the images
_MOST_BOXES = 1000

_DEEP = 0x40  # bit in the third byte of the configuration of AV1

_BT709, UNSPECIFIED = 1, 2  # primaries of ITU-T H.273
_PQ, _HLG = 16, 18  # transfer functions of HDR


def is_srgb(primaries: int, transfer: int) -> bool:
    """Tells whether colors without a profile are those of sRGB, nearly; see ITU-T H.273."""
    return primaries in (_BT709, UNSPECIFIED) and transfer not in (_PQ, _HLG)


def check(stream: BinaryIO, name: str) -> None:
    """Raises ImageError for AVIF files that Pillow would change silently.

    Args:
        stream: The file.
        name: The name of the file in errors.
    """
    if not features.check("avif"):
        raise ImageError(f"{name}: this build of Pillow has no AVIF; pip install -U pillow")
    box = _read_description(stream)
    for config in box.split(b"av1C")[1:]:
        if len(config) > 2 and config[2] & _DEEP:
            raise ImageError(
                f"{name}: has 10 or 12 bits a channel, of which Pillow would keep 8; save it as "
                "TIFF or PNG with 16 bits"
            )
    has_profile = b"colrprof" in box or b"colrrICC" in box
    for colors in () if has_profile else box.split(b"colrnclx")[1:]:
        if len(colors) >= 4 and not is_srgb(*struct.unpack(">HH", colors[:4])):
            raise ImageError(
                f"{name}: has HDR or wide-gamut colors without a profile, which would be lost; "
                "save it with the colors of sRGB"
            )


def _read_description(stream: BinaryIO) -> bytes:
    """Reads the box "meta"; empty if there is none of a usual size."""
    size = stream.seek(0, os.SEEK_END)
    place = 0
    for _ in range(_MOST_BOXES):
        stream.seek(place)
        start = stream.read(16)
        if len(start) < 8:
            break
        length = int.from_bytes(start[:4], "big")
        if length == 1:
            length = int.from_bytes(start[8:], "big")
        if start[4:8] == b"meta":
            stream.seek(place)
            return stream.read(min(length or size, _MOST_BOX_BYTES))
        if length < 8:
            break
        place += length
    return b""
