"""Reading of image files: their pixels and metadata.

Pillow identifies every file. It decodes all but JPEG (see :mod:`lcdnet_jax.image_io.jpeg`), because
it raises an error for a damaged one where OpenCV may return half an image. Pillow silently reduces
16-bit color to 8 bits, so OpenCV decodes 16-bit files as well, and both decoders must agree on the
high bytes.
"""

import io
import os

import cv2
import numpy as np
from PIL import Image

from lcdnet_jax.image_io import jpeg, png, tiff
from lcdnet_jax.image_io._opencv import decode_by_opencv
from lcdnet_jax.image_io._types import ImageError, Metadata
from lcdnet_jax.image_io.headers import OTHER_READERS, find_kind, open_image, read_bytes
from lcdnet_jax.image_io.metadata import (
    adapt,
    find_orientation,
    orient,
    read_info,
    read_orientation,
    read_tiff,
)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file and applies its EXIF orientation.

    Palettes are expanded. Images of 1 bit become 0 and 255. CMYK becomes RGB. Transparency of any
    kind becomes an alpha channel. A JPEG with several pictures (MPO) gives the main one.

    Args:
        path: A file of one of :data:`KINDS`. The content decides, not the suffix.

    Returns:
        ``[H, W]`` (gray), ``[H, W, 2]`` (gray and alpha), ``[H, W, 3]`` (color) or ``[H, W, 4]``
        (color and alpha); uint8, or uint16 if the file stores 16 bits per channel.

    Raises:
        ImageError: As for ``read_header``; also if the file is truncated or damaged.
    """
    return decode(read_bytes(path), name=os.fspath(path))


def read_with_metadata(path: str | os.PathLike[str]) -> tuple[np.ndarray, Metadata]:
    """Reads an image file with its metadata; TIFF also as float32.

    :data:`KINDS` lists the array that each kind of file gives. Damaged metadata counts as absent.

    Args:
        path: A file of one of :data:`KINDS`. The content decides, not the suffix.

    Returns:
        The image, and the metadata that ``write`` accepts. The image is as from ``read``; a TIFF of
        floating point (16 or 32 bits) gives float32 with its values unchanged.

    Raises:
        ImageError: As for ``read``.
    """
    return _decode(read_bytes(path), os.fspath(path), with_metadata=True)


def decode(data: bytes, *, name: str) -> np.ndarray:
    """Decodes the bytes of an image file as ``read`` does.

    Args:
        data: The content of a file of one of :data:`KINDS`.
        name: The name of the file in error messages.

    Returns:
        The image as from ``read``.

    Raises:
        ImageError: As for ``read``.
    """
    return _decode(data, name, with_metadata=False)[0]


def _decode(data: bytes, name: str, *, with_metadata: bool) -> tuple[np.ndarray, Metadata]:
    """Decodes a file; only with its metadata may it hold floating point."""
    kind = find_kind(io.BytesIO(data), name)
    if kind in ("TIFF", "HEIC", "RAW"):
        if kind == "TIFF":
            pixels, found = tiff.decode(data, name, floats=with_metadata)
        else:
            pixels, found = OTHER_READERS[kind].decode(data, name)
        if not with_metadata:
            return pixels, Metadata()
        orientation = find_orientation(found.exif, found.xmp)
        if kind == "TIFF" or data.startswith((b"II*\0", b"MM\0*")):
            found, orientation = read_tiff(data, found)
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        return pixels, adapt(found, channels, orientation)
    with open_image(io.BytesIO(data), name) as (image, header, mode):
        is_jpeg = image.format in ("JPEG", "MPO")
        if image.format == "PNG":
            image = Image.open(io.BytesIO(png.strip_metadata(data, name)), formats=["PNG"])
        if not is_jpeg:
            _load(image, name)
        if image.format == "PNG":
            png.check_rows(data, image, name)
        found, orientation = _find_metadata(data, image)
        if is_jpeg:
            pixels = jpeg.decode(data, image, name)
        elif header.bits == 16:
            pixels = _decode_16_bits(data, image, mode, name)
        else:
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        metadata = Metadata()
        if with_metadata:
            metadata = adapt(found, header.channels, orientation)
    pixels = np.ascontiguousarray(orient(pixels, orientation))
    return pixels if pixels.flags.writeable else pixels.copy(), metadata  # Pillow's are read-only


def _find_metadata(data: bytes, image: Image.Image) -> tuple[Metadata, int]:
    """The metadata of a file as they are, and the orientation that is still to be applied."""
    if image.format == "PNG":
        return png.read_metadata(data)
    orientation = read_orientation(image)
    if image.format in ("JPEG", "MPO"):
        return jpeg.read_metadata(data), orientation
    return read_info(image.info), orientation


def _load(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise ImageError(
            f"{name}: the {image.format} file is cut short or damaged ({error}); "
            "copy or download it again"
        ) from error


def _decode_16_bits(data: bytes, image: Image.Image, mode: str, name: str) -> np.ndarray:
    """Pixels of a PNG decoded by OpenCV, checked against the high bytes that Pillow decoded."""
    coarse = np.asarray(image if len(mode) == 1 else image.convert(mode))
    pixels = decode_by_opencv(data)
    if pixels is not None and pixels.ndim == 3:  # B, G, R(, alpha); gray + alpha is G, G, G, alpha
        order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}.get(mode, [0])
        pixels = pixels[..., order] if max(order) < pixels.shape[2] else None
    fine = coarse.dtype != np.uint8  # Pillow keeps all bits of gray
    if (
        pixels is None
        or pixels.dtype != np.uint16
        or not np.array_equal(pixels if fine else pixels >> 8, coarse)
    ):
        raise ImageError(
            f"{name}: Pillow and OpenCV {cv2.__version__} do not agree on the pixels of this "
            f"16-bit {image.format}; save it again as a plain 16-bit PNG"
        )
    return pixels
