"""Types and channels of image arrays: uint8, uint16 and floating point; gray and color.

Any byte order is accepted. The functions that convert return the byte order of the machine.
"""

import os
from typing import Any

import numpy as np
from PIL import Image

from lcdnet_jax.image_io._types import ImageError
from lcdnet_jax.image_io.pil_images import from_pil
from lcdnet_jax.messages import shorten

#: Weights of red, green and blue in gray, those of MATLAB's rgb2gray. Gray test sets such as BSD68
#: were made with its rounded output.
LUMA_WEIGHTS = (0.2989360213, 0.5870430745, 0.1140209043)


def to_array(image: Any) -> np.ndarray:
    """Converts an image of any common kind to an array whose pixels this library can use.

    Args:
        image: An array of any shape in uint8, uint16 or floating point, in any byte order; an
            object that NumPy converts to one, such as an array of JAX; or a PIL image, which is
            converted by its mode (:func:`from_pil`).

    Returns:
        The array. NumPy arrays are returned as they are.

    Raises:
        ImageError: For a path, any other dtype, a masked array, or a PIL image of another mode.
            The message says how to convert it.
    """
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, str | os.PathLike):
        raise ImageError(
            f"the image is a path, {shorten(os.fspath(image))}; read it with "
            "lcdnet_jax.image_io.read"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError(
            "the image is a masked array; replace what is masked, as by image.filled(0)"
        )
    image = np.asarray(image)
    _check_dtype(image.dtype)
    return image


def _check_dtype(dtype: np.dtype) -> None:
    """Raises ImageError for pixels that are neither uint8, uint16 nor floating point."""
    if (
        _to_native_order(dtype) in (np.uint8, np.uint16)
        or dtype.kind == "f"
        or dtype.name == "bfloat16"
    ):
        return
    if dtype.kind == "b":
        fix = "image.astype(numpy.uint8) * 255 makes black and white of it"
    elif dtype.kind in "iu":
        fix = (
            "call image.astype(numpy.uint8) if white is 255, or image.astype(numpy.uint16) if it "
            "is 65535"
        )
    else:
        fix = "convert the array to one of these"
    raise ImageError(f"expected uint8, uint16 or floating-point pixels, got {dtype}; {fix}")


def _to_native_order(dtype: np.dtype) -> np.dtype:
    """The type in the byte order of the machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def to_float(image: np.ndarray) -> np.ndarray:
    """Converts an image to float32.

    Args:
        image: An array of any shape. uint8 is divided by 255 and uint16 by 65535. Floating-point
            values are kept.

    Returns:
        The same shape in float32; in [0, 1] for integers.

    Raises:
        ImageError: For any other dtype.
    """
    image = np.asarray(image)
    _check_dtype(image.dtype)
    if image.dtype.kind == "u":
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return image.astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Converts an image to uint8.

    Args:
        image: An array of any shape in uint8, uint16 or floating point. Floating-point values are
            clipped to [0, 1], scaled by 255 and rounded to nearest.

    Returns:
        The same shape in uint8.

    Raises:
        ImageError: For NaN or infinity, or for another dtype.
    """
    return _to_integer(image, np.uint8)


def to_uint16(image: np.ndarray) -> np.ndarray:
    """Converts an image to uint16.

    Args:
        image: An array of any shape in uint8, uint16 or floating point. Floating-point values are
            clipped to [0, 1], scaled by 65535 and rounded to nearest.

    Returns:
        The same shape in uint16.

    Raises:
        ImageError: For NaN or infinity, or for another dtype.
    """
    return _to_integer(image, np.uint16)


def _to_integer(image: np.ndarray, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    image = np.asarray(image)
    if _to_native_order(image.dtype) == dtype:
        return image.astype(dtype, copy=False)
    values = to_float(image) if image.dtype.kind != "f" else image
    if not np.isfinite(values).all():
        raise ImageError(
            "the image holds NaN or infinity, which integers cannot represent; "
            "find where they come from, or call numpy.nan_to_num first"
        )
    values = np.clip(values, 0, 1, dtype=np.promote_types(values.dtype, np.float32))
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def convert_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Converts gray to color or color to gray.

    Gray is repeated over three channels. Color becomes luma, as by MATLAB's ``rgb2gray``.

    Args:
        image: ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]``, integer or floating point.
        channels: 1 for gray or 3 for color.

    Returns:
        ``[H, W, channels]`` of the same dtype; integers are rounded to nearest.

    Raises:
        ImageError: For an alpha channel, another shape, or ``channels`` other than 1 and 3.
    """
    image = np.asarray(image)
    if channels not in (1, 3):
        raise ImageError(f"an image is converted to 1 or 3 channels, not to {channels!r}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim == 3 and image.shape[2] in (2, 4):
        raise ImageError(
            f"the image has an alpha channel (shape {image.shape}), which is never dropped "
            'silently; convert the file once, for example with Image.open(p).convert("RGB").save(q)'
        )
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ImageError(f"expected an image of shape HxW, HxWx1 or HxWx3, got {image.shape}")
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    luma = image.astype(np.float64) @ np.array(LUMA_WEIGHTS)[:, None]
    if np.issubdtype(image.dtype, np.integer):
        luma = np.rint(luma)
    return luma.astype(image.dtype)
