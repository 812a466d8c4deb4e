"""Bayer mosaic and demosaicing."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import check_images


def mosaic(images: ArrayLike, corners: ArrayLike) -> Array:
    """Keeps one color of each pixel by the Bayer pattern with rows R G R G ... and G B G B ...

    Args:
        images: Images ``[N, H, W, 3]``, floating point.
        corners: ``[N, 2]`` integers, row and column of the pattern at the upper left pixel. (0, 0)
            is red.

    Returns:
        ``[N, H, W, 1]`` in the type of ``images``.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the images are empty, or have another number of axes or channels.
    """
    images = check_images(images, channels=(3,))
    odd_row, odd_column = _pattern_parity(corners, *images.shape[1:3])
    colors = [images[..., i : i + 1] for i in range(3)]
    return jnp.where(odd_row == odd_column, jnp.where(odd_row, colors[2], colors[0]), colors[1])


def demosaic(raw: ArrayLike, corners: ArrayLike) -> Array:
    """Interpolates the missing colors of a :func:`mosaic` with linear filters of 5x5 pixels.

    The method is that of Malvar, He and Cutler, "High-quality linear interpolation for demosaicing
    of Bayer-patterned color images", ICASSP 2004: bilinear interpolation plus 1/2, 5/8 or 3/4 of
    the second difference of the color that the pixel has. Borders are reflected without repeating
    the edge pixel, which continues the pattern.

    Args:
        raw: Mosaics ``[N, H, W, 1]``, floating point, H and W at least 2.
        corners: ``[N, 2]`` integers as for :func:`mosaic`.

    Returns:
        ``[N, H, W, 3]`` in the type of ``raw``, not clipped.

    Raises:
        TypeError: If the mosaics are not floating point.
        ValueError: If the mosaics are empty, have a side of one pixel, or have another number of
            axes or channels.
    """
    raw = check_images(raw, channels=(1,))
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
    odd_row, odd_column = _pattern_parity(corners, *raw.shape[1:3])
    is_green = odd_row != odd_column
    # A green pixel in an even row has red neighbors left and right, blue ones above and below.
    red = jnp.where(is_green, jnp.where(odd_row, along_column, along_row), here)
    red = jnp.where(odd_row & odd_column, diagonal, red)
    blue = jnp.where(is_green, jnp.where(odd_row, along_row, along_column), diagonal)
    blue = jnp.where(odd_row & odd_column, here, blue)
    green = jnp.where(is_green, here, cross)
    return jnp.concatenate([red, green, blue], axis=-1).astype(raw.dtype)


def _pattern_parity(corners: ArrayLike, height: int, width: int) -> tuple[Array, Array]:
    """Tells whether pattern rows and columns are odd: ``[N, H, 1, 1]`` and ``[N, 1, W, 1]``."""
    corners = jnp.asarray(corners, jnp.int32)
    rows = corners[:, :1] + jnp.arange(height, dtype=jnp.int32)[None]
    columns = corners[:, 1:] + jnp.arange(width, dtype=jnp.int32)[None]
    return (rows % 2 == 1)[:, :, None, None], (columns % 2 == 1)[:, None, :, None]


def _filters() -> np.ndarray:
    """Builds the filters ``[4, 5, 5, 1]``.

    They are for a color whose nearest pixels lie on all four sides, left and right, above and
    below, and on the diagonals.
    """
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
