"""JPEG compression artifacts, without writing a file.

The steps are the defaults of libjpeg-turbo: conversion to 8-bit Y, Cb, Cr; chroma averaged over 2x2
pixels (4:2:0); an 8x8 DCT; quantization with the tables of ITU-T T.81 annex K, scaled for the
quality as libjpeg does; and the decoder, with its triangle filter for chroma ("fancy upsampling").
Entropy coding is lossless and left out. A few values differ from Pillow's by one level, because the
DCT of libjpeg uses integers of limited precision, and this one uses float32.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    check_batch,
    check_choice,
    check_flag,
    check_images,
    check_range,
    draw_uniform,
    fold_in,
    per_image,
)
from lcdnet_jax.ops import dct_matrix

#: Chroma subsamplings of :func:`jpeg`.
SUBSAMPLINGS = ("4:2:0", "4:4:4")

# Those of random_jpeg.
RANDOM_SUBSAMPLINGS = (*SUBSAMPLINGS, "random")

# Children of the keys of random_jpeg.
_SHIFT, _SUBSAMPLING = 1, 2

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
    keys: Array,
    images: ArrayLike,
    *,
    quality: Range = (30, 95),
    subsampling: str = "4:2:0",
    shift_blocks: bool = False,
) -> Array:
    """Compresses each image as :func:`jpeg` with a random quality.

    ``subsampling`` "random" and ``shift_blocks`` are our choice, for crops and edited files of
    unknown origin. They draw from further keys: the qualities stay the same.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, C = 1 or 3, floating point; clipped to [0, 1].
        quality: Range of qualities, 1 to 100. An integer is drawn uniformly for each image.
        subsampling: "4:2:0" or "4:4:4", as for :func:`jpeg`, or "random": each image draws one of
            the two.
        shift_blocks: Whether the blocks of 8x8 pixels (chroma at 4:2:0: 16x16) begin at a random
            pixel, as in a crop of a larger file. Outside of the image its edge is repeated.

    Returns:
        Images of the same shape and type: multiples of 1/255 in [0, 1], rounded to the type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape or
            number of channels.
    """
    images = check_batch(keys, images)
    low, high = check_range("quality", quality, lowest=1, highest=100)
    check_choice("subsampling", subsampling, RANDOM_SUBSAMPLINGS)
    check_flag("shift_blocks", shift_blocks)
    (drawn,) = draw_uniform(keys, (math.ceil(low), math.floor(high) + 1))
    drawn = jnp.floor(drawn)
    if not shift_blocks:
        return _compress_randomly(keys, images, drawn, subsampling)
    height, width = images.shape[1:3]
    borders = draw_uniform(fold_in(keys, _SHIFT), (0, 16), (0, 16)).astype(jnp.int32)
    for axis, border in enumerate(borders, 1):
        images = _take(images, border, images.shape[axis] + 15, axis=axis, sign=-1)
    images = _compress_randomly(keys, images, drawn, subsampling)
    for axis, (border, size) in enumerate(zip(borders, (height, width), strict=True), 1):
        images = _take(images, border, size, axis=axis, sign=1)
    return images


def _compress_randomly(keys: Array, images: Array, quality: Array, subsampling: str) -> Array:
    if subsampling != "random":
        return jpeg(images, quality=quality, subsampling=subsampling)
    half, full = (jpeg(images, quality=quality, subsampling=name) for name in SUBSAMPLINGS)
    (drawn,) = draw_uniform(fold_in(keys, _SUBSAMPLING), (0, 2))
    return jnp.where(per_image(drawn, images.shape[0]) < 1, half, full)


def _take(images: Array, border: Array, size: int, *, axis: int, sign: int) -> Array:
    """Takes ``size`` rows or columns from ``sign * border [N]`` on; the edge is repeated."""
    place = sign * border[:, None] + jnp.arange(size, dtype=jnp.int32)[None]
    place = jnp.clip(place, 0, images.shape[axis] - 1)
    return jax.vmap(lambda image, at: jnp.take(image, at, axis=axis - 1))(images, place)


def jpeg(images: ArrayLike, *, quality: ArrayLike, subsampling: str = "4:2:0") -> Array:
    """Compresses images as JPEG and decodes them again.

    Args:
        images: Images ``[N, H, W, C]``, C = 1 (gray JPEG) or 3, floating point. They are clipped to
            [0, 1] and rounded to 256 levels first.
        quality: A number or ``[N]``; clipped to 1 to 100.
        subsampling: "4:2:0" (chroma at half the resolution, the default of most programs) or
            "4:4:4".

    Returns:
        Images of the same shape and type: multiples of 1/255 in [0, 1], rounded to the type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the subsampling is unknown, or if the images have another shape or number of
            channels.
    """
    images = check_images(images, channels=(1, 3))
    check_choice("subsampling", subsampling, SUBSAMPLINGS)
    levels = jnp.round(jnp.clip(images.astype(jnp.float32), 0, 1) * 255)
    luma, chroma = (_scale_table(table, quality, images.shape[0]) for table in (_LUMA, _CHROMA))
    if images.shape[-1] == 1:
        decoded = _compress(levels[..., 0][:, None], luma)[:, 0, :, :, None]
    else:
        y, colors = _rgb_to_ycbcr(levels)
        code = _compress if subsampling == "4:4:4" else _compress_at_half
        decoded = _ycbcr_to_rgb(_compress(y, luma), code(colors, chroma))
    return (decoded / 255).astype(images.dtype)


def _scale_table(table: np.ndarray, quality: ArrayLike, count: int) -> Array:
    """Scales a table for the quality by libjpeg's integer arithmetic: ``[N, 1, 1, 8, 1, 8]``."""
    quality = jnp.clip(jnp.broadcast_to(jnp.asarray(quality).astype(jnp.int32), (count,)), 1, 100)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    steps = (jnp.asarray(table, jnp.int32)[None] * percent[:, None, None] + 50) // 100
    return jnp.clip(steps, 1, 255).astype(jnp.float32)[:, None, None, :, None, :]


def _compress(planes: Array, table: Array) -> Array:
    """Transforms planes ``[N, P, H, W]`` of levels, quantizes them and transforms back."""
    *count, height, width = planes.shape
    planes = _pad_edge(planes, -height % 8, -width % 8)
    blocks = planes.reshape(*count, planes.shape[2] // 8, 8, planes.shape[3] // 8, 8) - 128
    waves = jnp.asarray(dct_matrix(8), jnp.float32)
    coefficients = jnp.einsum("ui,npyixj,vj->npyuxv", waves, blocks, waves, precision="highest")
    # libjpeg stores coefficients in eighths and rounds halves away from 0.
    eighths = jnp.round(coefficients * 8)
    steps = jnp.sign(eighths) * jnp.floor((jnp.abs(eighths) + 4 * table) / (8 * table))
    blocks = jnp.einsum("ui,npyuxv,vj->npyixj", waves, steps * table, waves, precision="highest")
    decoded = jnp.clip(jnp.floor(blocks + 128.5), 0, 255)
    return decoded.reshape(planes.shape)[:, :, :height, :width]


def _compress_at_half(planes: Array, table: Array) -> Array:
    _, _, height, width = planes.shape
    # libjpeg pads columns to whole blocks before it averages, and rows afterwards.
    planes = _pad_edge(planes, height % 2, -width % 16)
    total = planes[:, :, ::2] + planes[:, :, 1::2]
    total = total[..., ::2] + total[..., 1::2]
    # libjpeg rounds halves down in even columns and up in odd ones.
    half = _compress(jnp.floor((total + _alternate(total, 1, 2)) / 4), table)
    half = half[..., : (width + 1) // 2]
    if half.shape[3] <= 2:  # too narrow for libjpeg's filter
        wide = jnp.repeat(jnp.repeat(half, 2, axis=2), 2, axis=3)
    else:
        wide = _upsample(_upsample(half, axis=2), axis=3)
        wide = jnp.floor((wide + _alternate(wide, 8, 7)) / 16)
    return wide[:, :, :height, :width]


def _pad_edge(planes: Array, rows: int, columns: int) -> Array:
    return jnp.pad(planes, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="edge")


def _alternate(planes: Array, even: float, odd: float) -> Array:
    columns = np.where(np.arange(planes.shape[3]) % 2 == 0, even, odd)
    return jnp.asarray(columns, jnp.float32)[None, None, None]


def _upsample(planes: Array, *, axis: int) -> Array:
    """Doubles an axis; a value is 3 times the nearer neighbor plus the further one."""
    size = planes.shape[axis]
    border = [(1, 1) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(planes, border, mode="edge")
    before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
    pairs = jnp.stack([3 * planes + before, 3 * planes + after], axis=axis + 1)
    return pairs.reshape(*planes.shape[:axis], 2 * size, *planes.shape[axis + 1 :])


def _rgb_to_ycbcr(levels: Array) -> tuple[Array, Array]:
    """Converts RGB to Y ``[N, 1, H, W]`` and Cb, Cr ``[N, 2, H, W]`` of JFIF, rounded to levels."""
    red, green, blue = (levels[..., i] for i in range(3))
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = 128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue
    return jnp.floor(y + 0.5)[:, None], jnp.floor(jnp.stack([cb, cr], axis=1) + 0.49999)


def _ycbcr_to_rgb(y: Array, colors: Array) -> Array:
    y, cb, cr = y[:, 0], colors[:, 0] - 128, colors[:, 1] - 128
    red = y + jnp.floor(1.402 * cr + 0.5)
    green = y + jnp.floor(-0.344136286 * cb - 0.714136286 * cr + 0.5)
    blue = y + jnp.floor(1.772 * cb + 0.5)
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0, 255)
