"""One color for each pixel, by the Bayer pattern, and the interpolation of the others."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import checked


def mosaic(images: ArrayLike, corners: ArrayLike) -> Array:
    """One color of each pixel, by the Bayer pattern of rows R G R G ... and G B G B ...

    Args:
        images: ``[N, H, W, 3]``, floating point.
        corners: ``[N, 2]`` integers, row and column of the pattern at which the image begins: 0, 0
            for red.

    Returns:
        ``[N, H, W, 1]`` in the type of ``images``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For other than four axes, empty images, or another number of channels.
    """
    images = checked(images, channels=(3,))
    odd_row, odd_column = _parities(corners, *images.shape[1:3])
    colors = [images[..., i : i + 1] for i in range(3)]
    return jnp.where(odd_row == odd_column, jnp.where(odd_row, colors[2], colors[0]), colors[1])


def demosaic(raw: ArrayLike, corners: ArrayLike) -> Array:
    """Colors of a :func:`mosaic`, interpolated by linear filters of 5x5 pixels, not clipped.

    Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned
    color images", ICASSP 2004: bilinear, plus a share (1/2, 5/8 or 3/4) of the second difference
    of the color that the pixel has. Borders are mirrored without repeating the edge pixel, which
    continues the pattern.

    Args:
        raw: ``[N, H, W, 1]``, floating point, H and W at least 2.
        corners: As for :func:`mosaic`.

    Returns:
        ``[N, H, W, 3]`` in the type of ``raw``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For sides of one pixel, other than four axes, empty images, or more than one
            channel.
    """
    raw = checked(raw, channels=(1,))
    if min(raw.shape[1:3]) < 2:
        raise ValueError(
            f"a mosaic of {raw.shape[1]}x{raw.shape[2]} pixels lacks a color; repeat its image "
            "to 2x2 or more before mosaic"
        )
    padded = jnp.pad(raw.astype(jnp.float32), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    filtered = jax.lax.conv_general_dilated(
        padded,
        jnp.asarray(_FILTERS, jnp.float32),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        precision="highest",
    )
    cross, along_row, along_column, diagonal = (filtered[..., i : i + 1] for i in range(4))
    here = raw.astype(jnp.float32)
    odd_row, odd_column = _parities(corners, *raw.shape[1:3])
    is_green = odd_row != odd_column
    # A green pixel of an even row has red ones beside it and blue ones above and below.
    red = jnp.where(is_green, jnp.where(odd_row, along_column, along_row), here)
    red = jnp.where(odd_row & odd_column, diagonal, red)
    blue = jnp.where(is_green, jnp.where(odd_row, along_row, along_column), diagonal)
    blue = jnp.where(odd_row & odd_column, here, blue)
    green = jnp.where(is_green, here, cross)
    return jnp.concatenate([red, green, blue], axis=-1).astype(raw.dtype)


def _parities(corners: ArrayLike, height: int, width: int) -> tuple[Array, Array]:
    """Whether a row and a column of the pattern is odd: ``[N, H, 1, 1]`` and ``[N, 1, W, 1]``."""
    corners = jnp.asarray(corners, jnp.int32)
    rows = corners[:, :1] + jnp.arange(height, dtype=jnp.int32)[None]
    columns = corners[:, 1:] + jnp.arange(width, dtype=jnp.int32)[None]
    return (rows % 2 == 1)[:, :, None, None], (columns % 2 == 1)[:, None, :, None]


def _filters() -> np.ndarray:
    """Filters ``[4, 5, 5, 1]`` for a color that lies around, beside, above and below, across."""
    cross = [
        [0, 0, -2, 0, 0],
        [0, 0, 4, 0, 0],
        [-2, 4, 8, 4, -2],
        [0, 0, 4, 0, 0],
        [0, 0, -2, 0, 0],
    ]
    beside = [
        [0, 0, 1, 0, 0],
        [0, -2, 0, -2, 0],
        [-2, 8, 10, 8, -2],
        [0, -2, 0, -2, 0],
        [0, 0, 1, 0, 0],
    ]
    diagonal = [
        [0, 0, -3, 0, 0],
        [0, 4, 0, 4, 0],
        [-3, 0, 12, 0, -3],
        [0, 4, 0, 4, 0],
        [0, 0, -3, 0, 0],
    ]
    return np.array([cross, beside, np.transpose(beside), diagonal])[..., None] / 16


_FILTERS = _filters()
