"""Blur by Gaussian kernels, of one width or two, and decimation: low-resolution images."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, checked, checked_with, uniform
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
    """Blurs each image by a random Gaussian kernel and keeps one value of each block of pixels.

    Widths along two perpendicular axes and the angle of these are drawn independently and
    uniformly; an isotropic kernel has one width. Blind super-resolution trains on such kernels;
    the ranges are our choice. Stored values are blurred, as is usual there, not light.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        factor: Side of a block, pixels, at least 1; 1 only blurs.
        width: Standard deviation, pixels of ``images``, at least 0.1.
        isotropic: Probability of one width in all directions.

    Returns:
        ``[N, ceil(H / factor), ceil(W / factor), C]`` in the type of ``images``, placed as
        :func:`downsample` says.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images or another
            number of keys.
    """
    images = checked_with(keys, images)
    low, high = bounds("width", width, lowest=0.1)
    if not 0 <= isotropic <= 1:
        raise ValueError(f"isotropic is {isotropic!r}; use a probability, from 0 to 1")
    _check_factor(factor)
    first, second, angles, choice = uniform(keys, (low, high), (low, high), (0, 180), (0, 1))
    widths = jnp.stack([first, jnp.where(choice < isotropic, first, second)], axis=-1)
    size = max(2 * math.ceil(3 * high) + factor % 2, factor)
    kernels = gaussian_kernels(widths, angles, size=size)
    return downsample(images, kernels, factor=factor)


def downsample(images: ArrayLike, kernels: ArrayLike, *, factor: int) -> Array:
    """Convolves each image, borders mirrored, and keeps one value of each block of pixels.

    A result lies in the middle of its block of ``factor`` x ``factor`` pixels, as for bicubic or
    area resizing, not at its first pixel. The middle of an even block lies between pixels, and so
    must the middle of the kernel: its size is even where ``factor`` is.

    Args:
        images: ``[N, H, W, C]``, floating point. Where ``factor`` does not divide a side, the last
            block is completed by mirrored pixels.
        kernels: ``[N, K, K]`` with K at least ``factor``, odd or even as it is.
        factor: Side of a block, at least 1.

    Returns:
        ``[N, ceil(H / factor), ceil(W / factor), C]`` in the type of ``images``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For a factor below 1, kernels of another shape, other than four axes or empty
            images.
    """
    images, kernels = checked(images), jnp.asarray(kernels)
    _check_factor(factor)
    count, height, width, _ = images.shape
    size = kernels.shape[-1]
    if kernels.shape != (count, size, size) or size < factor or (size - factor) % 2:
        raise ValueError(
            f"expected kernels [{count}, K, K] with K = {factor}, {factor + 2}, ..., got shape "
            f"{kernels.shape}; give one for each image, of a size that is odd or even as the factor"
        )
    before = (size - factor) // 2
    border = [(0, 0), *((before, before + -side % factor) for side in (height, width)), (0, 0)]
    padded = jnp.pad(images.astype(jnp.float32), border, mode="reflect")
    return convolve(padded, kernels, step=factor).astype(images.dtype)


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"factor is {factor!r}; use 1 or more")
