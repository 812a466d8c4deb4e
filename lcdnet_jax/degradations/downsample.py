"""Gaussian blur and decimation that keeps the center of each block of pixels."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    check_batch,
    check_images,
    check_range,
    draw_uniform,
)
from lcdnet_jax.degradations.filtering import convolve
from lcdnet_jax.ops import gaussian_kernels


def gaussian_downsample(
    keys: Array,
    images: ArrayLike,
    *,
    factor: int,
    width: Range = (0.6, 2.4),
    isotropic: float = 0.5,
) -> Array:
    """Blurs each image by a random Gaussian kernel and downsamples it.

    The widths along two perpendicular axes and the angle of the axes are drawn independently and
    uniformly. An isotropic kernel has one width. Blind super-resolution trains on such kernels;
    the ranges here are our choice. As usual there, stored values are blurred, not light.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        factor: Downsampling factor, at least 1. 1 only blurs.
        width: Range of the standard deviation, pixels of ``images``, at least 0.1.
        isotropic: Probability of an isotropic kernel, 0 to 1.

    Returns:
        ``[N, ceil(H / factor), ceil(W / factor), C]`` in the type of ``images``. See
        :func:`downsample` for the position of its pixels.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    low, high = check_range("width", width, lowest=0.1)
    if not 0 <= isotropic <= 1:
        raise ValueError(f"isotropic is {isotropic!r}; use a probability, from 0 to 1")
    _check_factor(factor)
    first, second, angles, choice = draw_uniform(keys, (low, high), (low, high), (0, 180), (0, 1))
    widths = jnp.stack([first, jnp.where(choice < isotropic, first, second)], axis=-1)
    size = max(2 * math.ceil(3 * high) + factor % 2, factor)
    kernels = gaussian_kernels(widths, angles, size=size)
    return downsample(images, kernels, factor=factor)


def downsample(images: ArrayLike, kernels: ArrayLike, *, factor: int) -> Array:
    """Convolves each image and keeps one value of each block of ``factor`` x ``factor`` pixels.

    An output pixel lies at the center of its block, as for bicubic or area resizing, not at the
    block's first pixel. The center of a block of even size lies between pixels, and the center of
    the kernel must lie there too. The size of the kernel is therefore even if ``factor`` is even,
    and odd if it is odd. Borders are reflected.

    Args:
        images: Images ``[N, H, W, C]``, floating point. If ``factor`` does not divide a side, the
            last block is filled with reflected pixels.
        kernels: ``[N, K, K]``, K at least ``factor`` and of the same parity.
        factor: Side of a block, pixels, at least 1.

    Returns:
        ``[N, ceil(H / factor), ceil(W / factor), C]`` in the type of ``images``.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If ``factor`` is below 1, or if images or kernels have another shape.
    """
    images, kernels = check_images(images), jnp.asarray(kernels)
    _check_factor(factor)
    count, height, width, _ = images.shape
    size = kernels.shape[-1]
    if kernels.shape != (count, size, size) or size < factor or (size - factor) % 2:
        raise ValueError(
            f"expected kernels [{count}, K, K] with K = {factor}, {factor + 2}, ..., got shape "
            f"{kernels.shape}; give one for each image, of the same parity as the factor"
        )
    before = (size - factor) // 2
    border = [(0, 0), *((before, before + -side % factor) for side in (height, width)), (0, 0)]
    padded = jnp.pad(images.astype(jnp.float32), border, mode="reflect")
    return convolve(padded, kernels, step=factor).astype(images.dtype)


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"factor is {factor!r}; use 1 or more")
