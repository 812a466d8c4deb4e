"""Noise of cameras: signal-dependent noise, and what processing makes of it."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    bounds,
    checked_with,
    normal,
    per_image,
    split,
    uniform,
)
from lcdnet_jax.degradations.bayer import demosaic, mosaic
from lcdnet_jax.degradations.jpeg import random_jpeg
from lcdnet_jax.degradations.noise import as_stored
from lcdnet_jax.degradations.tone import light_to_srgb, srgb_to_light


def poisson_gaussian(
    keys: Array,
    images: ArrayLike,
    *,
    shot: ArrayLike,
    read: ArrayLike,
    protocol: str = "float",
) -> Array:
    """Adds noise of variance ``shot * value + read`` to each value.

    Photons arrive as a Poisson process and electronics add Gaussian noise; Foi et al., "Practical
    Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008. Both
    are drawn together from the normal distribution of that variance, their approximation, which
    is close where a value stands for more than a few photons (``value / shot``).

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1], proportional to light if the noise is
            to be a sensor's. Values below 0 have the noise of 0.
        shot: Variance for each unit of value, at least 0, a number or ``[N]``: ``1 / photons`` if
            the value 1 stands for so many.
        read: Variance at value 0, at least 0, a number or ``[N]``.
        protocol: What a noisy file would hold, see :func:`as_stored`.

    Returns:
        Noisy images, shape and type of ``images``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an unknown protocol, other than four axes, empty images or another number
            of keys.
    """
    images = checked_with(keys, images)
    count, *shape = images.shape
    values = images.astype(jnp.float32)
    variance = per_image(shot, count) * jnp.maximum(values, 0) + per_image(read, count)
    noisy = values + jnp.sqrt(variance) * normal(keys, tuple(shape))
    return as_stored(noisy, protocol).astype(images.dtype)


def camera_noise(
    keys: Array,
    images: ArrayLike,
    *,
    shot: Range = (1e-4, 0.012),
    quality: Range | None = (75, 98),
) -> Array:
    """What a camera would have stored of each scene: noise of the sensor, then its processing.

    sRGB values are decoded to light, divided by the white balance, reduced to one color for each
    pixel (:func:`mosaic`, its pattern begun at a random corner), given :func:`poisson_gaussian`
    noise, multiplied by the white balance, interpolated (:func:`demosaic`), clipped, encoded and
    compressed as 4:2:0 :func:`jpeg`. Gray images have one color and skip what concerns several.

    Noise levels and white balance are those of Brooks et al., "Unprocessing Images for Learned
    Raw Denoising" (CVPR 2019): ``shot`` uniform in its logarithm in [1e-4, 0.012];
    ``log(read) = 2.18 log(shot) + 1.20`` plus a normal number times 0.26; gains of red in [1.9,
    2.4] and of blue in [1.5, 1.9]. Their color matrices, exposure gain and tone mapping are left
    out; the demosaicing and the JPEG qualities are our choice.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, C = 1 or 3, floating point in [0, 1]; clipped to this.
        shot: As in :func:`poisson_gaussian`, above 0, at most 1; drawn uniformly in its logarithm.
        quality: Of the JPEG, from 1 to 100; None only rounds to 256 levels.

    Returns:
        Shape and type of ``images``; multiples of 1/255 in [0, 1], as far as the type holds them.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images, or another
            number of channels or keys.
    """
    images = checked_with(keys, images, channels=(1, 3))
    low, high = bounds("shot", shot, lowest=1e-12, highest=1)
    if quality is not None:
        bounds("quality", quality, lowest=1, highest=100)
    noise_keys, read_keys, option_keys, jpeg_keys = split(keys, 4)
    log_shot, *development = uniform(
        option_keys, (math.log(low), math.log(high)), _RED_GAIN, _BLUE_GAIN, (0, 2), (0, 2)
    )
    log_read = 2.18 * log_shot + 1.20 + 0.26 * normal(read_keys, ())
    shots, reads = jnp.exp(log_shot), jnp.exp(log_read)
    light = srgb_to_light(jnp.clip(images.astype(jnp.float32), 0, 1))
    if images.shape[-1] == 1:
        developed = poisson_gaussian(noise_keys, light, shot=shots, read=reads)
    else:
        developed = _developed(noise_keys, light, shots, reads, *development)
    stored = light_to_srgb(jnp.clip(developed, 0, 1))
    if quality is None:
        return as_stored(stored, "8bit").astype(images.dtype)
    return random_jpeg(jpeg_keys, stored, quality=quality).astype(images.dtype)


def _developed(
    keys: Array, light: Array, shot: Array, read: Array, red: Array, blue: Array, *corner: Array
) -> Array:
    """Light as a camera sees it that has one color for each pixel, not clipped."""
    _, height, width, _ = light.shape
    # A mosaic needs two rows and two columns to hold all colors.
    light = jnp.pad(light, ((0, 0), (0, int(height < 2)), (0, int(width < 2)), (0, 0)), mode="edge")
    corners = jnp.stack(corner, axis=-1).astype(jnp.int32)
    gains = jnp.stack([red, jnp.ones_like(red), blue], axis=-1)[:, None, None]
    raw = poisson_gaussian(keys, mosaic(light / gains, corners), shot=shot, read=read)
    balanced = raw * mosaic(jnp.broadcast_to(gains, light.shape), corners)
    return demosaic(balanced, corners)[:, :height, :width]


_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)
