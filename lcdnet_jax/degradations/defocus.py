"""Defocus blur by a disk, for one image or for the two views of a dual-pixel sensor.

As in ``motion``, light is blurred, not stored values: ``values ** gamma``.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, check_batch, check_range, draw_uniform
from lcdnet_jax.degradations.filtering import filter_images
from lcdnet_jax.degradations.tone import check_gamma, from_light, to_light

_SIDES = {"both": (-1.0, 1.0), "left": (-1.0, 0.0), "right": (0.0, 1.0)}  # times half a chord


def defocus(
    keys: Array, images: ArrayLike, *, radius: Range = (1.0, 6.0), gamma: float = 2.2
) -> Array:
    """Blurs each image by a disk, like a scene at one distance that is out of focus.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        radius: Range of the disk's radius, pixels, at least 0. A radius up to 0.5 does not change
            the image.
        gamma: Exponent that converts stored values to light, above 0. With 1 the stored values
            themselves are blurred.

    Returns:
        Images of the same shape and type. They stay in [0, 1] up to rounding if the input is.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    low, high = check_range("radius", radius, lowest=0)
    check_gamma(gamma)
    (radii,) = draw_uniform(keys, (low, high))
    kernels = disk_kernels(radii, size=2 * math.ceil(high) + 1)
    light = filter_images(to_light(images.astype(jnp.float32), gamma), kernels)
    return from_light(light, gamma).astype(images.dtype)


def dual_pixel(
    keys: Array, images: ArrayLike, *, radius: Range = (-6.0, 6.0), gamma: float = 2.2
) -> Array:
    """Makes the two views of a dual-pixel sensor on a scene that is out of focus.

    Each view sees half of the lens, so the image is blurred by the left and by the right half of a
    disk. The mean of the light of both views equals :func:`defocus`. Behind the plane of focus the
    halves change sides, which a negative radius describes. Real half disks have no sharp edge and
    are not exact mirror images (Abuolaim et al., ICCV 2021); this is the plain geometric model.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        radius: Range of the disk's radius, pixels, of either sign. With a positive radius the left
            view is blurred by the left half.
        gamma: Exponent that converts stored values to light, above 0. With 1 the stored values
            themselves are blurred.

    Returns:
        ``[N, H, W, 2C]`` in the type of ``images``: all channels of the left view, then all
        channels of the right view.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    low, high = check_range("radius", radius, lowest=-math.inf)
    check_gamma(gamma)
    (drawn,) = draw_uniform(keys, (low, high))
    size = 2 * math.ceil(max(abs(low), abs(high))) + 1
    left = disk_kernels(abs(drawn), size=size, side="left")
    # The right half disk is the left one flipped.
    is_negative = (drawn < 0)[:, None, None]
    light = to_light(images.astype(jnp.float32), gamma)
    views = [
        filter_images(light, jnp.where(is_negative == is_right, left, left[:, :, ::-1]))
        for is_right in (False, True)
    ]
    return from_light(jnp.concatenate(views, axis=-1), gamma).astype(images.dtype)


def disk_kernels(radii: ArrayLike, *, size: int, side: str = "both") -> Array:
    """Computes blur kernels that are disks or half disks.

    A value is the share of the pixel that the disk covers, divided by the sum. The share is exact
    along rows and the mean of 16 lines along columns.

    Args:
        radii: ``[N]``, pixels, 0 to ``size / 2``. A radius below 0.5 counts as 0.5, which is a
            single pixel.
        size: Rows and columns, odd.
        side: "both", or the half of the disk: "left" or "right".

    Returns:
        ``[N, size, size]`` float32 of sum 1.

    Raises:
        ValueError: If ``size`` is even or ``side`` is unknown.
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
