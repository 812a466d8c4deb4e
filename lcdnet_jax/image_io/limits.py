"""Sizes that the file formats can hold, and that are read."""

import math
import os
import pathlib

import numpy as np
from PIL import Image

from lcdnet_jax.image_io._types import IMAGE_FORMATS, ImageError

# Pixels of the longer side. JPEG: of libjpeg, below the 65535 of the format.
# AVIF: of its decoder, below the 65536 of the format. HEIC: the longest that was written and read.
_LONGEST_SIDES = {
    "JPEG": 65500,
    "WEBP": 16383,
    "AVIF": 32768,
    "HEIC": 32768,
    "PNG": 2**31 - 1,
    "BMP": 2**31 - 1,
}

# HEIC: of x265, if the other side has less than 32 pixels: a picture of its level 4.1 has at most
# 2228224 pixels, and a side at most the root of 8 times as many, which is counted in blocks of 8.
_THIN, _LONGEST_OF_THIN = 32, 4216

_MOST_PIXELS = {"AVIF": 2**28, "HEIC": 2**30}  # of the decoders libavif and libheif

# Bytes of pixels. A BMP states its size in 32 bits, with a header and padded rows. Places in a TIFF
# have 32 bits, also those of the metadata behind the pixels. Whether compression would be enough is
# not known before.
_MOST_BYTES = {"BMP": 2**32 - 2**10, "TIFF": 2**32 - 2**26}


def check_size(
    path: str | os.PathLike[str], shape: tuple[int, ...], *, dtype: np.typing.DTypeLike = np.uint8
) -> None:
    """Checks that the format that a path names can hold an image of a size.

    Args:
        path: The file that will be written; its suffix names the format, as for ``check_format``.
        shape: ``(H, W)`` or ``(H, W, C)`` of the image.
        dtype: Type of the pixels.

    Raises:
        ImageError: If a side is too long for the format (for HEIC also if the other one is very
            short), or the file would be too large.
    """
    kind = IMAGE_FORMATS.get(pathlib.Path(path).suffix.lower(), "")
    height, width = shape[:2]
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    if kind == "BMP":
        row += -row % 4
    longest = _LONGEST_SIDES.get(kind, math.inf)
    if max(height, width) > longest:
        limit = f"{longest} pixels a side"
    elif kind == "HEIC" and min(height, width) < _THIN and max(height, width) > _LONGEST_OF_THIN:
        limit = f"{_LONGEST_OF_THIN} pixels a side if the other has less than {_THIN}"
    elif height * width > _MOST_PIXELS.get(kind, math.inf):
        limit = f"{_MOST_PIXELS[kind] // 10**6} megapixels"
    elif height * row > _MOST_BYTES.get(kind, math.inf):
        limit = "4 GB"
    else:
        return
    other = {"PNG": ".tiff", "TIFF": ".png"}.get(kind, ".png or .tiff")
    raise ImageError(
        f"{path}: {kind} holds at most {limit}, and the image has {width}x{height}; use {other}"
    )


def check_pixels(height: int, width: int, name: str) -> None:
    """Checks the size that a header announces against Pillow's limit for decompression bombs.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        name: The name of the file in errors.

    Raises:
        ImageError: There are more pixels than Pillow allows.
    """
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ImageError(
            f"{name}: {width}x{height} pixels are suspiciously many; raise "
            "PIL.Image.MAX_IMAGE_PIXELS to allow it"
        )
