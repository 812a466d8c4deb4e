"""JPEG compression and decompression, without the file in between.

What libjpeg-turbo does by default, step by step: conversion to 8-bit Y, Cb, Cr; the colors
averaged over 2x2 pixels (4:2:0); an 8x8 cosine transform; rounding to multiples of the tables of
ITU-T T.81 annex K, scaled by libjpeg's rule for quality; and the way back, with its triangle
filter for the colors ("fancy upsampling"). The entropy code loses nothing and is left out. What
differs from Pillow is one last bit here and there: libjpeg's transform works in integers of
limited precision, this one in float32.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, checked, checked_with, uniform
from lcdnet_jax.ops import dct_matrix

SUBSAMPLINGS = ("4:2:0", "4:4:4")

_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def random_jpeg(
    keys: Array, images: ArrayLike, *, quality: Range = (30, 95), subsampling: str = "4:2:0"
) -> Array:
    """:func:`jpeg` with a quality for each image, a whole number drawn uniformly from a pair."""
    images = checked_with(keys, images)
    low, high = bounds("quality", quality, lowest=1, highest=100)
    (drawn,) = uniform(keys, (math.ceil(low), math.floor(high) + 1))
    return jpeg(images, quality=jnp.floor(drawn), subsampling=subsampling)


def jpeg(images: ArrayLike, *, quality: ArrayLike, subsampling: str = "4:2:0") -> Array:
    """What is left of images after they were saved as JPEG and read again.

    Args:
        images: ``[N, H, W, C]``, C = 1 (saved as gray) or 3, floating point in [0, 1]; clipped and
            rounded to 256 levels first.
        quality: From 1 to 100, a number or ``[N]``; values beyond count as the nearest of these.
        subsampling: "4:2:0" (colors at half the resolution, the default of most programs) or
            "4:4:4".

    Returns:
        Shape and type of ``images``; multiples of 1/255 in [0, 1], as far as the type holds them.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an unknown subsampling, other than four axes, empty images, or another
            number of channels.
    """
    images = checked(images, channels=(1, 3))
    if subsampling not in SUBSAMPLINGS:
        raise ValueError(f"no subsampling {subsampling!r}; use one of {', '.join(SUBSAMPLINGS)}")
    levels = jnp.round(jnp.clip(images.astype(jnp.float32), 0, 1) * 255)
    luma, chroma = (_scaled(table, quality, images.shape[0]) for table in (_LUMA, _CHROMA))
    if images.shape[-1] == 1:
        decoded = _coded(levels[..., 0][:, None], luma)[:, 0, :, :, None]
    else:
        y, colors = _split_colors(levels)
        code = _coded if subsampling == "4:4:4" else _coded_at_half
        decoded = _join_colors(_coded(y, luma), code(colors, chroma))
    return (decoded / 255).astype(images.dtype)


def _scaled(table: np.ndarray, quality: ArrayLike, count: int) -> Array:
    """The table for a quality, ``[N, 1, 1, 8, 1, 8]``, in libjpeg's whole-number arithmetic."""
    quality = jnp.clip(jnp.broadcast_to(jnp.asarray(quality).astype(jnp.int32), (count,)), 1, 100)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    steps = (jnp.asarray(table, jnp.int32)[None] * percent[:, None, None] + 50) // 100
    return jnp.clip(steps, 1, 255).astype(jnp.float32)[:, None, None, :, None, :]


def _coded(planes: Array, table: Array) -> Array:
    """Planes ``[N, P, H, W]`` of levels after transform, rounding and the way back."""
    *count, height, width = planes.shape
    planes = _repeated(planes, -height % 8, -width % 8)
    blocks = planes.reshape(*count, planes.shape[2] // 8, 8, planes.shape[3] // 8, 8) - 128
    waves = jnp.asarray(dct_matrix(8), jnp.float32)
    coefficients = jnp.einsum("ui,npyixj,vj->npyuxv", waves, blocks, waves, precision="highest")
    # libjpeg has coefficients in eighths, and rounds halves away from 0.
    eighths = jnp.round(coefficients * 8)
    steps = jnp.sign(eighths) * jnp.floor((jnp.abs(eighths) + 4 * table) / (8 * table))
    blocks = jnp.einsum("ui,npyuxv,vj->npyixj", waves, steps * table, waves, precision="highest")
    decoded = jnp.clip(jnp.floor(blocks + 128.5), 0, 255)
    return decoded.reshape(planes.shape)[:, :, :height, :width]


def _coded_at_half(planes: Array, table: Array) -> Array:
    _, _, height, width = planes.shape
    # Columns are repeated to whole blocks before they are averaged, rows after it.
    planes = _repeated(planes, height % 2, -width % 16)
    total = planes[:, :, ::2] + planes[:, :, 1::2]
    total = total[..., ::2] + total[..., 1::2]
    # Halves are rounded down and up in turn.
    half = _coded(jnp.floor((total + _alternating(total, 1, 2)) / 4), table)
    half = half[..., : (width + 1) // 2]
    if half.shape[3] <= 2:  # too narrow for libjpeg's filter
        wide = jnp.repeat(jnp.repeat(half, 2, axis=2), 2, axis=3)
    else:
        wide = _widened(_widened(half, axis=2), axis=3)
        wide = jnp.floor((wide + _alternating(wide, 8, 7)) / 16)
    return wide[:, :, :height, :width]


def _repeated(planes: Array, rows: int, columns: int) -> Array:
    return jnp.pad(planes, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="edge")


def _alternating(planes: Array, even: float, odd: float) -> Array:
    columns = np.where(np.arange(planes.shape[3]) % 2 == 0, even, odd)
    return jnp.asarray(columns, jnp.float32)[None, None, None]


def _widened(planes: Array, *, axis: int) -> Array:
    """Twice as many values along an axis, each 3 times the nearer one plus the further one."""
    size = planes.shape[axis]
    border = [(1, 1) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(planes, border, mode="edge")
    before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
    pairs = jnp.stack([3 * planes + before, 3 * planes + after], axis=axis + 1)
    return pairs.reshape(*planes.shape[:axis], 2 * size, *planes.shape[axis + 1 :])


def _split_colors(levels: Array) -> tuple[Array, Array]:
    """JFIF's Y ``[N, 1, H, W]``, and Cb and Cr ``[N, 2, H, W]``, rounded to levels."""
    red, green, blue = (levels[..., i] for i in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = 128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue
    return jnp.floor(y + 0.5)[:, None], jnp.floor(jnp.stack([cb, cr], axis=1) + 0.49999)


def _join_colors(y: Array, colors: Array) -> Array:
    y, cb, cr = y[:, 0], colors[:, 0] - 128, colors[:, 1] - 128
    red = y + jnp.floor(1.402 * cr + 0.5)
    green = y + jnp.floor(-0.344136286 * cb - 0.714136286 * cr + 0.5)
    blue = y + jnp.floor(1.772 * cb + 0.5)
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0, 255)
