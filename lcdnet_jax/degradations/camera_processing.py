"""What cameras do beside demosaicing: digital zoom, noise reduction, sharpening.

The steps are simple stand-ins of ours, so that noise gets the correlation between pixels and colors
that it has in photographs; no camera works exactly so. Computation is in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lcdnet_jax.degradations._inputs import per_image

# Luminance of linear sRGB (IEC 61966-2-1).
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)

# Standard deviations of the blurs of denoise, pixels.
_COLOR_BLUR, _LUMINANCE_BLUR = 2.5, 0.7

# Standard deviation of the neighborhoods of remove_bias, pixels.
_NEIGHBORHOOD = 8.0


def reduce_for_zoom(images: Array, factor: Array) -> Array:
    """Reduces images to the resolution of a digital zoom.

    Args:
        images: Images ``[N, H, W, C]``.
        factor: ``[N]``, at least 1.

    Returns:
        Images of the same shape. The scene is in the first ``H / factor`` rows and columns; the
        edge is repeated beyond.
    """
    return _resample(images, factor, antialiased=True)


def enlarge_for_zoom(images: Array, factor: Array) -> Array:
    """Enlarges the result of :func:`reduce_for_zoom` again, by linear interpolation."""
    return _resample(images, 1 / factor, antialiased=False)


def denoise(images: Array, strength: Array) -> Array:
    """Smooths colors, and luminance half as much, as the noise reduction of a camera does.

    Cameras do it before dark values are clipped. What is left of the noise is mostly without color,
    and clipping it tints dark areas less.

    Args:
        images: Light ``[N, H, W, C]``, C = 1 or 3, unclipped.
        strength: ``[N]`` in [0, 1]. With 1 the differences of colors from luminance are those of a
            Gaussian blur of 2.5 pixels, and luminance is halfway to one of 0.7 pixels.

    Returns:
        Images of the same shape, unclipped.
    """
    amount = per_image(strength, images.shape[0])
    if images.shape[-1] == 1:
        return images + amount / 2 * (_blur(images, _LUMINANCE_BLUR) - images)
    luminance = (images * jnp.asarray(_LUMINANCE)[None, None, None]).sum(axis=-1, keepdims=True)
    colors = images - luminance
    smooth = luminance + amount / 2 * (_blur(luminance, _LUMINANCE_BLUR) - luminance)
    return smooth + colors + amount * (_blur(colors, _COLOR_BLUR) - colors)


def sharpen(images: Array, amount: Array) -> Array:
    """Adds ``amount`` times the difference from a Gaussian blur of 1 pixel (unsharp masking).

    Args:
        images: Stored values ``[N, H, W, C]``.
        amount: ``[N]``, at least 0.

    Returns:
        Images of the same shape, unclipped.
    """
    return images + per_image(amount, images.shape[0]) * (images - _blur(images, 1.0))


def remove_bias(noisy: Array, quiet: Array, images: Array) -> Array:
    """Adds the noise of a developed image to another image, so that its mean stays.

    Noise that is clipped at black or white has a mean of its own. In strong noise it tints dark
    areas, because red and blue have more noise than green. If the ground truth is the average of
    many captures, as in CC and PolyU, that mean is part of the ground truth, and the noise around
    it has none. So the mean of the noise in each neighborhood (a Gaussian window of 8 pixels) is
    subtracted. What is left is made weaker near black and white, as much as ``images`` are nearer
    to them than the average of captures, so that nothing needs to be clipped again.

    Args:
        noisy: Developed images ``[N, H, W, C]`` in [0, 1].
        quiet: The same without noise, in [0, 1].
        images: Stored values ``[N, H, W, C]`` in [0, 1] to which the noise is added.

    Returns:
        Images of the same shape in [0, 1]. Their mean over many draws is about ``images``.
    """
    noise = noisy - quiet
    bias = _blur_widely(noise)
    average = jnp.clip(quiet + bias, 1e-6, 1 - 1e-6)
    weaker = jnp.minimum(1, jnp.minimum(images / average, (1 - images) / (1 - average)))
    return jnp.clip(images + weaker * (noise - bias), 0, 1)


def _blur_widely(images: Array) -> Array:
    """Gaussian blur of 8 pixels by matrices; weights beyond the edge are left out."""
    highest = jax.lax.Precision.HIGHEST

    def weights(size: int) -> np.ndarray:
        place = np.arange(size)
        near = np.exp(-0.5 * ((place[:, None] - place[None]) / _NEIGHBORHOOD) ** 2)
        return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)

    height, width = images.shape[1:3]
    images = jnp.einsum("ik,nkwc->niwc", weights(height), images, precision=highest)
    return jnp.einsum("jk,nikc->nijc", weights(width), images, precision=highest)


def _blur(images: Array, sigma: float) -> Array:
    """Gaussian blur to two deviations and a pixel; the edge is repeated."""
    radius = int(2 * sigma) + 1
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        border = [(radius, radius) if i == axis else (0, 0) for i in range(4)]
        padded, size = jnp.pad(images, border, mode="edge"), images.shape[axis]
        images = jnp.zeros_like(images)
        for k, weight in enumerate(weights):
            part = jax.lax.slice_in_dim(padded, k, k + size, axis=axis)
            images = images + float(weight) * part
    return images


def _resample(images: Array, step: Array, *, antialiased: bool) -> Array:
    """Samples each image at every ``step``-th pixel, by a triangle as wide as two steps or pixels.

    Samples beyond the edge repeat it.
    """
    highest = jax.lax.Precision.HIGHEST
    down, across = (_weights(size, step, antialiased) for size in images.shape[1:3])
    images = jnp.einsum("nik,nkwc->niwc", down, images, precision=highest)
    return jnp.einsum("njk,nikc->nijc", across, images, precision=highest)


def _weights(size: int, step: Array, antialiased: bool) -> Array:
    """Resampling matrices ``[N, size, size]`` along one axis; rows sum to 1."""
    steps = step[:, None, None].astype(jnp.float32)
    place = jnp.arange(size, dtype=jnp.float32)
    centers = jnp.clip((place[None, :, None] + 0.5) * steps - 0.5, 0, size - 1)
    width = jnp.maximum(steps, 1.0) if antialiased else 1.0
    weights = jnp.maximum(0.0, 1 - jnp.abs(place[None, None, :] - centers) / width)
    return weights / weights.sum(axis=-1, keepdims=True)
