"""Camera noise: signal-dependent sensor noise and the processing that follows it."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    check_batch,
    check_range,
    draw_normal,
    draw_uniform,
    per_image,
    split_keys,
)
from lcdnet_jax.degradations.bayer import demosaic, mosaic
from lcdnet_jax.degradations.jpeg import random_jpeg
from lcdnet_jax.degradations.noise import apply_protocol
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

    Photon counts follow a Poisson distribution, and the electronics add Gaussian noise. The sum is
    approximated by one normal distribution of the same variance, as in Foi et al., "Practical
    Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008. The
    approximation is close where a value is more than a few photons (``value / shot``).

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1]. To model a sensor they
            must be proportional to light. Negative values get the noise of 0.
        shot: Variance per unit of value, at least 0, a number or ``[N]``. If the value 1 is P
            photons, it is ``1 / P``.
        read: Variance at value 0, at least 0, a number or ``[N]``.
        protocol: Noise protocol, see :func:`apply_protocol`.

    Returns:
        Noisy images of the same shape and type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the protocol is unknown, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    count, *shape = images.shape
    values = images.astype(jnp.float32)
    variance = per_image(shot, count) * jnp.maximum(values, 0) + per_image(read, count)
    noisy = values + jnp.sqrt(variance) * draw_normal(keys, tuple(shape))
    return apply_protocol(noisy, protocol).astype(images.dtype)


def camera_noise(
    keys: Array,
    images: ArrayLike,
    *,
    shot: Range = (1e-4, 0.012),
    quality: Range | None = (75, 98),
) -> Array:
    """Simulates what a camera stores of each scene: sensor noise, then processing.

    The steps are: decode sRGB to light, divide by the white balance, keep one color per pixel
    (:func:`mosaic`, starting at a random corner of the pattern), add :func:`poisson_gaussian`
    noise, multiply by the white balance, interpolate (:func:`demosaic`), clip, encode as sRGB and
    compress as 4:2:0 :func:`jpeg`. Gray images skip white balance, mosaic and demosaicing.

    Noise levels and white balance are those of Brooks et al., "Unprocessing Images for Learned
    Raw Denoising" (CVPR 2019). The logarithm of ``shot`` is uniform, for ``shot`` in [1e-4, 0.012].
    ``log(read) = 2.18 log(shot) + 1.20`` plus 0.26 times a standard normal number. The gain of red
    is in [1.9, 2.4], the gain of blue in [1.5, 1.9]. Their color matrices, exposure gain and tone
    mapping are left out. The demosaicing and the JPEG qualities are our choice.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, C = 1 or 3, floating point; clipped to [0, 1].
        shot: Range of ``shot`` of :func:`poisson_gaussian`, above 0, at most 1. Its logarithm is
            drawn uniformly.
        quality: Range of JPEG qualities, 1 to 100. With None, values are only rounded to 256
            levels.

    Returns:
        Images of the same shape and type: multiples of 1/255 in [0, 1], rounded to the type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape or
            number of channels.
    """
    images = check_batch(keys, images, channels=(1, 3))
    low, high = check_range("shot", shot, lowest=1e-12, highest=1)
    if quality is not None:
        check_range("quality", quality, lowest=1, highest=100)
    noise_keys, read_keys, option_keys, jpeg_keys = split_keys(keys, 4)
    log_shot, *development = draw_uniform(
        option_keys, (math.log(low), math.log(high)), _RED_GAIN, _BLUE_GAIN, (0, 2), (0, 2)
    )
    log_read = 2.18 * log_shot + 1.20 + 0.26 * draw_normal(read_keys, ())
    shots, reads = jnp.exp(log_shot), jnp.exp(log_read)
    light = srgb_to_light(jnp.clip(images.astype(jnp.float32), 0, 1))
    if images.shape[-1] == 1:
        developed = poisson_gaussian(noise_keys, light, shot=shots, read=reads)
    else:
        developed = _develop(noise_keys, light, shots, reads, *development)
    stored = light_to_srgb(jnp.clip(developed, 0, 1))
    if quality is None:
        return apply_protocol(stored, "8bit").astype(images.dtype)
    return random_jpeg(jpeg_keys, stored, quality=quality).astype(images.dtype)


def _develop(
    keys: Array, light: Array, shot: Array, read: Array, red: Array, blue: Array, *corner: Array
) -> Array:
    """Simulates a sensor with one color per pixel and develops its image, without clipping."""
    _, height, width, _ = light.shape
    # A mosaic needs two rows and two columns to contain all colors.
    light = jnp.pad(light, ((0, 0), (0, int(height < 2)), (0, int(width < 2)), (0, 0)), mode="edge")
    corners = jnp.stack(corner, axis=-1).astype(jnp.int32)
    gains = jnp.stack([red, jnp.ones_like(red), blue], axis=-1)[:, None, None]
    raw = poisson_gaussian(keys, mosaic(light / gains, corners), shot=shot, read=read)
    balanced = raw * mosaic(jnp.broadcast_to(gains, light.shape), corners)
    return demosaic(balanced, corners)[:, :height, :width]


_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)
