"""Sizes that the file formats can hold."""

import math
import os
import pathlib

from lcdnet_jax.image_io._types import IMAGE_FORMATS, ImageError

# Pixels of the longer side. JPEG: of libjpeg, below the 65535 of the format.
_LONGEST_SIDES = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536, "PNG": 2**31 - 1, "BMP": 2**31 - 1}

# A BMP states its size in 32 bits, with a header and padded rows.
_LARGEST_BMP = 2**32 - 2**10


def check_size(path: str | os.PathLike[str], shape: tuple[int, ...]) -> None:
    """Checks that the format that a path names can hold an image of a size.

    Args:
        path: The file that will be written; its suffix names the format, as for ``check_format``.
        shape: ``(H, W)`` or ``(H, W, C)`` of the image.

    Raises:
        ImageError: If a side is too long for the format, or the file would be too large.
    """
    kind = IMAGE_FORMATS.get(pathlib.Path(path).suffix.lower())
    height, width = shape[:2]
    longest = _LONGEST_SIDES.get(kind or "", math.inf)
    if max(height, width) > longest:
        raise ImageError(
            f"{path}: {kind} holds at most {longest} pixels a side, and the image has "
            f"{width}x{height}; use .png or .tiff"
        )
    row = math.prod(shape[1:])
    if kind == "BMP" and height * (row + -row % 4) > _LARGEST_BMP:
        raise ImageError(
            f"{path}: BMP holds at most 4 GB, and the image has {width}x{height} pixels; use .png "
            "or .tiff"
        )
