"""Camera noise: signal-dependent sensor noise and the processing that follows it."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations import camera_processing as processing
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
    crosstalk: Range | None = None,
    balance: str = "raw",
    zoom: Range | None = None,
    denoise: Range | None = None,
    sharpen: Range | None = None,
    second_quality: Range | None = None,
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

    The options from ``crosstalk`` on, None or "raw" by default, add what cameras do beside it. They
    are stand-ins of ours, see :mod:`lcdnet_jax.degradations.camera_processing`. In order: the
    sensor sees a reduced image and mixes its colors; after demosaicing, white balance and a color
    matrix follow; stored values are denoised, enlarged, sharpened, and compressed once or twice.
    The other random numbers stay the same. Above 0.012 the law of ``read`` is an extrapolation.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, C = 1 or 3, floating point; clipped to [0, 1].
        shot: Range of ``shot`` of :func:`poisson_gaussian`, above 0, at most 1. Its logarithm is
            drawn uniformly.
        quality: Range of JPEG qualities, 1 to 100. With None, values are only rounded to 256
            levels.
        crosstalk: Range of the share of each color of the sensor that is the mean of all colors, 0
            to 0.8. A color matrix undoes it after demosaicing, amplifies the noise of colors and
            correlates it. Not for gray images.
        balance: "raw" or "demosaiced": where the white balance is applied. "demosaiced" lets the
            interpolation mix colors that are not balanced. Not for gray images.
        zoom: Range of factors of a digital zoom, 1 to 4. The sensor sees the image at a resolution
            that is lower by the factor, and it is enlarged after development, so noise is
            correlated over pixels and fine detail is lost.
        denoise: Range of the strength of the camera's noise reduction, 0 to 1.
        sharpen: Range of the amount of unsharp masking, 0 to 4.
        second_quality: Range of qualities of a second JPEG compression, 1 to 100, which half of
            the images get.

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
    if balance not in BALANCES:
        raise ValueError(f"no balance {balance!r}; use one of {', '.join(BALANCES)}")
    drawn = _draw_processing(
        keys,
        crosstalk=(crosstalk, 0, 0.8),
        zoom=(zoom, 1, 4),
        denoise=(denoise, 0, 1),
        sharpen=(sharpen, 0, 4),
        second_quality=(second_quality, 1, 100),
    )
    noise_keys, read_keys, option_keys, jpeg_keys = split_keys(keys, 4)
    log_shot, *development = draw_uniform(
        option_keys, (math.log(low), math.log(high)), _RED_GAIN, _BLUE_GAIN, (0, 2), (0, 2)
    )
    log_read = 2.18 * log_shot + 1.20 + 0.26 * draw_normal(read_keys, ())
    shots, reads = jnp.exp(log_shot), jnp.exp(log_read)
    light = srgb_to_light(jnp.clip(images.astype(jnp.float32), 0, 1))
    if "zoom" in drawn:
        light = processing.reduce_for_zoom(light, drawn["zoom"])
    if images.shape[-1] == 1:
        developed = poisson_gaussian(noise_keys, light, shot=shots, read=reads)
    else:
        if "crosstalk" in drawn:
            light = processing.mix_colors(light, drawn["crosstalk"])
        developed = _develop(noise_keys, light, shots, reads, *development, balance=balance)
        if "crosstalk" in drawn:
            developed = processing.separate_colors(developed, drawn["crosstalk"])
    stored = light_to_srgb(jnp.clip(developed, 0, 1))
    if "denoise" in drawn:
        stored = processing.denoise(stored, drawn["denoise"])
    if "zoom" in drawn:
        stored = processing.enlarge_for_zoom(stored, drawn["zoom"])
    if "sharpen" in drawn:
        stored = processing.sharpen(stored, drawn["sharpen"])
    if quality is None:
        stored = apply_protocol(stored, "8bit")
    else:
        stored = random_jpeg(jpeg_keys, stored, quality=quality)
    if second_quality is not None:
        again = random_jpeg(_fold_in(keys, _SECOND_JPEG), stored, quality=second_quality)
        stored = jnp.where(per_image(drawn["second_quality"] < 0.5, len(stored)) > 0, again, stored)
    return stored.astype(images.dtype)


def _draw_processing(keys: Array, **options: tuple[Range | None, float, float]) -> dict[str, Array]:
    """Draws ``[N]`` numbers for the options that are not None, each from a key of its own.

    Args:
        keys: Random keys ``[N]``.
        **options: Ranges with their limits. For "second_quality" the number is in [0, 1).
    """
    drawn = {}
    for number, (name, (pair, lowest, highest)) in enumerate(options.items()):
        if pair is None:
            continue
        ends = check_range(name, pair, lowest=lowest, highest=highest)
        ends = (0, 1) if name == "second_quality" else ends
        (drawn[name],) = draw_uniform(_fold_in(keys, _PROCESSING + number), ends)
    return drawn


def _fold_in(keys: Array, number: int) -> Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _develop(
    keys: Array,
    light: Array,
    shot: Array,
    read: Array,
    red: Array,
    blue: Array,
    *corner: Array,
    balance: str,
) -> Array:
    """Simulates a sensor with one color per pixel and develops its image, without clipping."""
    _, height, width, _ = light.shape
    # A mosaic needs two rows and two columns to contain all colors.
    light = jnp.pad(light, ((0, 0), (0, int(height < 2)), (0, int(width < 2)), (0, 0)), mode="edge")
    corners = jnp.stack(corner, axis=-1).astype(jnp.int32)
    gains = jnp.stack([red, jnp.ones_like(red), blue], axis=-1)[:, None, None]
    raw = poisson_gaussian(keys, mosaic(light / gains, corners), shot=shot, read=read)
    if balance == "demosaiced":
        return (demosaic(raw, corners) * gains)[:, :height, :width]
    balanced = raw * mosaic(jnp.broadcast_to(gains, light.shape), corners)
    return demosaic(balanced, corners)[:, :height, :width]


BALANCES = ("raw", "demosaiced")

# Children of the keys; the numbers of a split are smaller.
_PROCESSING, _SECOND_JPEG = 100, 200

_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)
