"""Pictures for the page: 8 bits, sRGB, from a file of any format.

An image is decoded once, into a file of plain pixels beside it, from which any part is read fast
and with little memory.
"""

import io
import pathlib

import cv2
import numpy as np
from PIL import Image, ImageCms

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header
from lcdnet_jax.inference import limits

# Most pixels of a part, and of the longest side of a whole picture.
MOST_PIXELS, MOST_SIDE = 2**24, 2**12


def write_pixels(source: pathlib.Path, target: pathlib.Path) -> None:
    """Decodes an image to a file of 8-bit pixels in sRGB.

    Args:
        source: An image file.
        target: The file to write, in NumPy's format: ``[H, W]`` or ``[H, W, C]`` uint8.

    Raises:
        ImageError: If the image cannot be decoded, or does not fit into memory.
    """
    limits.check_memory(source, image_io.read_header(source, floats=True), 1)
    pixels, metadata = image_io.read_with_metadata(source)
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, posinf=1)
    pixels = _convert_to_srgb(image_io.to_uint8(pixels), metadata.icc_profile)
    temporary = target.with_suffix(".part")
    with open(temporary, "wb") as stream:
        np.save(stream, pixels)
    temporary.replace(target)


def count_bytes(header: Header) -> int:
    """Counts the bytes of a file of pixels.

    Args:
        header: The header of the image.

    Returns:
        Bytes, at most.
    """
    return header.height * header.width * max(header.channels, 3) + 256


def render(pixels: pathlib.Path, *, size: int) -> bytes:
    """Renders a whole picture.

    Args:
        pixels: A file of :func:`write_pixels`.
        size: Longest side in pixels. Smaller pictures keep their size.

    Returns:
        A PNG.
    """
    image = np.load(pixels, mmap_mode="r")
    height, width = image.shape[:2]
    scale = size / max(height, width)
    if scale < 1:
        sides = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    return _encode(image)


def render_part(pixels: pathlib.Path, *, left: int, top: int, width: int, height: int) -> bytes:
    """Renders a part of a picture, pixel by pixel.

    Args:
        pixels: A file of :func:`write_pixels`.
        left: First column, at least 0.
        top: First row, at least 0.
        width: Columns. Those beyond the picture are left out.
        height: Rows. Those beyond the picture are left out.

    Returns:
        A PNG.

    Raises:
        ValueError: If the part has no pixel, or more than ``MOST_PIXELS``.
    """
    image = np.load(pixels, mmap_mode="r")
    part = image[top : top + height, left : left + width]
    if part.size == 0:
        raise ValueError(
            f"the part is outside of the picture, which has {image.shape[1]}x{image.shape[0]} "
            "pixels; change x, y, w and h"
        )
    if part.shape[0] * part.shape[1] > MOST_PIXELS:
        raise ValueError(f"the part has more than {MOST_PIXELS} pixels; ask for smaller parts")
    return _encode(part)


def _convert_to_srgb(pixels: np.ndarray, profile: bytes | None) -> np.ndarray:
    """Converts ``[H, W]`` or ``[H, W, C]`` uint8 from a color profile; alpha stays."""
    if profile is None:
        return pixels
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    colors = pixels if channels in (1, 3) else pixels[..., :-1]
    if channels == 2:
        colors = colors[..., 0]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = Image.fromarray(np.ascontiguousarray(colors))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):  # damaged, or for another kind of pixels
        return pixels
    assert converted is not None
    result = np.asarray(converted)
    if channels in (2, 4):
        result = np.concatenate([result, pixels[..., -1:]], axis=-1)
    return result


def _encode(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
