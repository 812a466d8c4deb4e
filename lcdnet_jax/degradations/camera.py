"""Camera noise: signal-dependent sensor noise and the processing that follows it."""

import functools
import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations import camera_color as color
from lcdnet_jax.degradations import camera_processing as processing
from lcdnet_jax.degradations._inputs import (
    Range,
    check_batch,
    check_choice,
    check_flag,
    check_range,
    check_share,
    draw_normal,
    draw_uniform,
    fold_in,
    per_image,
    split_keys,
)
from lcdnet_jax.degradations.bayer import demosaic, mosaic
from lcdnet_jax.degradations.jpeg import RANDOM_SUBSAMPLINGS, random_jpeg
from lcdnet_jax.degradations.noise import apply_protocol
from lcdnet_jax.degradations.tone import (
    light_to_srgb,
    lower_contrast,
    raise_contrast,
    srgb_to_light,
)


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
    color_matrix: Range | None = None,
    balance: str = "raw",
    contrast: Range | None = None,
    zoom: Range | None = None,
    denoise: Range | None = None,
    sharpen: Range | None = None,
    ground_truth: str = "scene",
    subsampling: str = "4:2:0",
    shift_blocks: bool = False,
    second_quality: Range | None = None,
    processed: float = 1.0,
) -> Array:
    """Simulates what a camera stores of each scene: sensor noise, then processing.

    The steps are: decode sRGB to light, divide by the white balance, keep one color per pixel
    (:func:`mosaic`, starting at a random corner of the pattern), add :func:`poisson_gaussian`
    noise, multiply by the white balance, interpolate (:func:`demosaic`), clip, encode as sRGB and
    compress as 4:2:0 :func:`jpeg`. Gray images skip white balance, mosaic and demosaicing.

    Noise levels and white balance are those of Brooks et al., "Unprocessing Images for Learned
    Raw Denoising" (CVPR 2019). The logarithm of ``shot`` is uniform, for ``shot`` in [1e-4, 0.012].
    ``log(read) = 2.18 log(shot) + 1.20`` plus 0.26 times a standard normal number. The gain of red
    is in [1.9, 2.4], the gain of blue in [1.5, 1.9]. Their exposure gain is left out. The
    demosaicing and the JPEG qualities are our choice.

    The options from ``color_matrix`` on add what cameras do beside it; by default each is off. The
    random numbers of the other steps stay the same. All together, in order: the image is decoded
    from the camera's tone curve and sRGB to light, which the sensor sees at a lower resolution and
    in its own colors; after noise and demosaicing follow white balance, color matrix, noise
    reduction, clipping, sRGB and tone curve, zoom, sharpening, and one or two compressions. Color
    matrix and tone curve follow Brooks et al. JPEG after demosaiced noise is also in Guo et al.,
    "Toward Convolutional Blind Denoising of Real Photographs" (CVPR 2019), and resizing with
    several compressions in Zhang et al., "Designing a Practical Degradation Model for Deep Blind
    Image Super-Resolution" (ICCV 2021). Zoom, noise reduction, sharpening and the ground truth
    "average" are ours, and so are all ranges. Above 0.012 the law of ``read`` is an extrapolation.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, C = 1 or 3, floating point; clipped to [0, 1].
        shot: Range of ``shot`` of :func:`poisson_gaussian`, above 0, at most 1. Its logarithm is
            drawn uniformly.
        quality: Range of JPEG qualities, 1 to 100. With None, values are only rounded to 256
            levels.
        color_matrix: Range of how far the colors of the sensor are from those of sRGB, 0 to 1. With
            1 they are between those of four cameras. A matrix converts them to sRGB after
            demosaicing, which amplifies the noise of colors and correlates it. Not for gray images.
        balance: "raw" or "demosaiced": where the white balance is applied. "demosaiced" lets the
            interpolation mix colors that are not balanced. Not for gray images.
        contrast: Range of the share of the tone curve of cameras, 0 to 1: an S-curve on stored
            values.
        zoom: Range of factors of a digital zoom, 1 to 4. The sensor sees the image at a resolution
            that is lower by the factor, and it is enlarged after development, so noise is
            correlated over pixels.
        denoise: Range of the strength of the camera's noise reduction, 0 to 1: colors are smoothed
            by up to 2.5 pixels, luminance by less.
        sharpen: Range of the amount of unsharp masking, 0 to 4.
        ground_truth: What ``images`` stand for. "scene": what the camera sees; all steps also blur
            or sharpen it, which a network then learns to undo. "average": the average of many
            captures, as in CC and PolyU; only noise is added, after all steps before the
            compression, without a mean of its own that would tint dark areas.
        subsampling: "4:2:0", "4:4:4" or "random", see :func:`random_jpeg`; also of the second
            compression.
        shift_blocks: Whether JPEG blocks begin at a random pixel, see :func:`random_jpeg`; in the
            second compression at another one.
        second_quality: Range of qualities of a second JPEG compression, 1 to 100, which half of
            the images get.
        processed: Share of the images that get zoom, noise reduction, sharpening and second
            compression, where these are on; 0 to 1. The others skip the four.

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
    check_choice("balance", balance, BALANCES)
    check_choice("ground_truth", ground_truth, GROUND_TRUTHS)
    check_choice("subsampling", subsampling, RANDOM_SUBSAMPLINGS)
    check_flag("shift_blocks", shift_blocks)
    check_share("processed", processed)
    drawn = _draw_processing(
        keys,
        contrast=(contrast, 0, 1),
        zoom=(zoom, 1, 4),
        denoise=(denoise, 0, 1),
        sharpen=(sharpen, 0, 4),
        second_quality=(second_quality, 1, 100),
        color_matrix=(color_matrix, 0, 1),
    )
    if processed < 1:
        (share,) = draw_uniform(fold_in(keys, _PROCESSED), (0, 1))
        drawn = {
            name: jnp.where(share < processed, one, _NEUTRAL[name]) if name in _NEUTRAL else one
            for name, one in drawn.items()
        }
    noise_keys, read_keys, option_keys, jpeg_keys = split_keys(keys, 4)
    log_shot, *development = draw_uniform(
        option_keys, (math.log(low), math.log(high)), _RED_GAIN, _BLUE_GAIN, (0, 2), (0, 2)
    )
    log_read = 2.18 * log_shot + 1.20 + 0.26 * draw_normal(read_keys, ())
    add_noise = functools.partial(
        poisson_gaussian, noise_keys, shot=jnp.exp(log_shot), read=jnp.exp(log_read)
    )
    wanted = jnp.clip(images.astype(jnp.float32), 0, 1)
    light = _to_light(wanted, drawn)
    matrices = None
    if "color_matrix" in drawn:
        matrices = color.draw_color_matrices(fold_in(keys, _MATRIX), drawn["color_matrix"])

    def develop(sense: Callable[[Array], Array]) -> Array:
        """Simulates the camera up to its compression, with or without noise."""
        if images.shape[-1] == 1:
            developed = sense(light)
        else:
            developed = _develop(sense, light, *development, balance=balance, matrices=matrices)
        return _render(developed, drawn)

    stored = develop(add_noise)
    if ground_truth == "average":
        noisy, quiet = (jnp.clip(one, 0, 1) for one in (stored, develop(lambda light: light)))
        stored = processing.remove_bias(noisy, quiet, wanted)
    compress = functools.partial(random_jpeg, subsampling=subsampling, shift_blocks=shift_blocks)
    if quality is None:
        stored = apply_protocol(stored, "8bit")
    else:
        stored = compress(jpeg_keys, stored, quality=quality)
    if second_quality is not None:
        again = compress(fold_in(keys, _SECOND_JPEG), stored, quality=second_quality)
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
        (drawn[name],) = draw_uniform(fold_in(keys, _PROCESSING + number), ends)
    return drawn


def _to_light(values: Array, drawn: Mapping[str, Array]) -> Array:
    """Light that the sensor sees of stored values."""
    if "contrast" in drawn:
        values = lower_contrast(values, per_image(drawn["contrast"], len(values)))
    light = srgb_to_light(values)
    return processing.reduce_for_zoom(light, drawn["zoom"]) if "zoom" in drawn else light


def _develop(
    sense: Callable[[Array], Array],
    light: Array,
    red: Array,
    blue: Array,
    *corner: Array,
    balance: str,
    matrices: Array | None,
) -> Array:
    """Simulates a sensor with one color per pixel and develops its image, without clipping.

    Args:
        sense: Adds the noise of the sensor to a mosaic.
        light: Linear sRGB ``[N, H, W, 3]``.
        red: Gain of red ``[N]``.
        blue: Gain of blue ``[N]``.
        *corner: Row and column of the pattern at the upper left pixel, ``[N]`` from 0 to below 2.
        balance: One of BALANCES.
        matrices: Matrices ``[N, 3, 3]`` from linear sRGB to the sensor; None for its equal.
    """
    _, height, width, _ = light.shape
    # A mosaic needs two rows and two columns to contain all colors.
    light = jnp.pad(light, ((0, 0), (0, int(height < 2)), (0, int(width < 2)), (0, 0)), mode="edge")
    corners = jnp.stack(corner, axis=-1).astype(jnp.int32)
    gains = color.balance_gains(red, blue)
    if matrices is not None:
        light = color.to_sensor(light, matrices)
    raw = sense(mosaic(light / gains, corners))
    if balance == "demosaiced":
        developed = demosaic(raw, corners) * gains
    else:
        balanced = raw * mosaic(jnp.broadcast_to(gains, light.shape), corners)
        developed = demosaic(balanced, corners)
    if matrices is not None:
        developed = color.from_sensor(developed, matrices)
    return developed[:, :height, :width]


def _render(light: Array, drawn: Mapping[str, Array]) -> Array:
    """Stored values of developed light, unclipped after sharpening."""
    if "denoise" in drawn:
        light = processing.denoise(light, drawn["denoise"])
    values = light_to_srgb(jnp.clip(light, 0, 1))
    if "contrast" in drawn:
        values = raise_contrast(values, per_image(drawn["contrast"], len(values)))
    if "zoom" in drawn:
        values = processing.enlarge_for_zoom(values, drawn["zoom"])
    return processing.sharpen(values, drawn["sharpen"]) if "sharpen" in drawn else values


BALANCES = ("raw", "demosaiced")
GROUND_TRUTHS = ("scene", "average")

# Children of the keys; the numbers of a split are smaller.
_PROCESSING, _SECOND_JPEG, _MATRIX, _PROCESSED = 100, 200, 201, 202

# Drawn numbers with which a step changes nothing.
_NEUTRAL = {"zoom": 1.0, "denoise": 0.0, "sharpen": 0.0, "second_quality": 1.0}

_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)
