"""Defocus blur by a disk, and the pair of views that a dual-pixel sensor has of it.

As in ``motion``, it is light that is blurred: ``values ** gamma``.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, checked_with, uniform
from lcdnet_jax.degradations.filtering import filter_images
from lcdnet_jax.degradations.tone import check_gamma, from_light, to_light

_SIDES = {"both": (-1.0, 1.0), "left": (-1.0, 0.0), "right": (0.0, 1.0)}  # times half a chord


def defocus(
    keys: Array, images: ArrayLike, *, radius: Range = (1.0, 6.0), gamma: float = 2.2
) -> Array:
    """Blurs each image by a disk of its own: a scene at one distance, out of focus.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        radius: Of the disk, pixels, at least 0; up to 0.5 the image stays as it is.
        gamma: Exponent from stored values to light; 1 blurs the stored values.

    Returns:
        Shape and type of ``images``; in [0, 1], up to rounding, where these are.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images or another
            number of keys.
    """
    images = checked_with(keys, images)
    low, high = bounds("radius", radius, lowest=0)
    check_gamma(gamma)
    (radii,) = uniform(keys, (low, high))
    kernels = disk_kernels(radii, size=2 * math.ceil(high) + 1)
    light = filter_images(to_light(images.astype(jnp.float32), gamma), kernels)
    return from_light(light, gamma).astype(images.dtype)


def dual_pixel(
    keys: Array, images: ArrayLike, *, radius: Range = (-6.0, 6.0), gamma: float = 2.2
) -> Array:
    """The two views of a dual-pixel sensor on a scene out of focus: each sees half of the lens.

    Blurs by the left and the right half of a disk, so that the mean of both views' light is
    :func:`defocus`. Behind the plane of focus the halves change sides, which a negative radius
    stands for. Real halves have no sharp edge and are not exact mirror images (Abuolaim et al.,
    ICCV 2021); this is the plain geometric form.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        radius: Of the disk, pixels, of either sign. The left view has the disk's left half where
            it is positive.
        gamma: Exponent from stored values to light; 1 blurs the stored values.

    Returns:
        ``[N, H, W, 2C]`` in the type of ``images``: all channels of the left view, then those of
        the right one (for color R, G, B left, R, G, B right).

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images or another
            number of keys.
    """
    images = checked_with(keys, images)
    low, high = bounds("radius", radius, lowest=-math.inf)
    check_gamma(gamma)
    (drawn,) = uniform(keys, (low, high))
    size = 2 * math.ceil(max(abs(low), abs(high))) + 1
    left = disk_kernels(abs(drawn), size=size, side="left")
    # The right half is the left one mirrored.
    turned = (drawn < 0)[:, None, None]
    light = to_light(images.astype(jnp.float32), gamma)
    views = [
        filter_images(light, jnp.where(turned == swapped, left, left[:, :, ::-1]))
        for swapped in (False, True)
    ]
    return from_light(jnp.concatenate(views, axis=-1), gamma).astype(images.dtype)


def disk_kernels(radii: ArrayLike, *, size: int, side: str = "both") -> Array:
    """Disks, or halves of them, as the share of each pixel that they cover, normalized.

    Exact along rows; along columns each pixel is the mean of 16 lines.

    Args:
        radii: ``[N]``, pixels, at least 0 and at most ``size / 2``. A disk in one pixel (up to
            0.5) is that pixel.
        size: Rows and columns, odd.
        side: "both", or "left" or "right" of the vertical diameter.

    Returns:
        ``[N, size, size]`` float32 of sum 1.

    Raises:
        ValueError: For an even size or an unknown side.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size is {size}; use an odd number, 2 * ceil(radius) + 1 holds a disk")
    if side not in _SIDES:
        raise ValueError(f"no side {side!r} of a disk; use one of {', '.join(_SIDES)}")
    radii = jnp.maximum(jnp.asarray(radii, jnp.float32), 0.5)[:, None, None, None]
    pixels = np.arange(size, dtype=np.float32) - size // 2
    lines = pixels[:, None] + (np.arange(16, dtype=np.float32)[None] + 0.5) / 16 - 0.5
    half = jnp.sqrt(jnp.maximum(radii**2 - jnp.asarray(lines**2)[None, :, :, None], 0.0))
    ends = jnp.asarray(np.stack([pixels - 0.5, pixels + 0.5]))[:, None, None, None]
    low, high = (factor * half for factor in _SIDES[side])
    covered = jnp.clip(high, *ends) - jnp.clip(low, *ends)
    disk = covered.mean(axis=2)
    return disk / disk.sum(axis=(1, 2), keepdims=True)
