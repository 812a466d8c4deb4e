"""What cameras do beside demosaicing: color matrix, digital zoom, denoising, sharpening.

The steps are simple stand-ins, so that noise gets the correlation between pixels and colors that it
has in photographs; no camera works exactly so. Computation is in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lcdnet_jax.degradations._inputs import per_image

# Luma of sRGB values (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def mix_colors(images: Array, share: Array) -> Array:
    """Mixes colors as filters of a sensor do, each of which passes some of all colors.

    Args:
        images: Light ``[N, H, W, 3]``.
        share: ``[N]``, from 0 to below 1: this share of each color is the mean of the three. Gray
            stays gray.

    Returns:
        Images of the same shape.
    """
    mix = per_image(share, images.shape[0])
    return images + mix * (images.mean(axis=-1, keepdims=True) - images)


def separate_colors(images: Array, share: Array) -> Array:
    """Inverts :func:`mix_colors` by the color matrix of the camera, which amplifies noise."""
    mix = per_image(share, images.shape[0])
    mean = images.mean(axis=-1, keepdims=True)
    return mean + (images - mean) / (1 - mix)


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
    """Smooths colors, and luma half as much, as the noise reduction of a camera does.

    Args:
        images: Stored values ``[N, H, W, C]``, C = 1 or 3.
        strength: ``[N]`` in [0, 1]. With 1 the differences of colors from luma are those of a
            Gaussian blur of 1.5 pixels, and luma is halfway to one of 0.7 pixels.

    Returns:
        Images of the same shape.
    """
    amount = per_image(strength, images.shape[0])
    if images.shape[-1] == 1:
        return images + amount / 2 * (_blur(images, 0.7) - images)
    luma = (images * jnp.asarray(_LUMA)[None, None, None]).sum(axis=-1, keepdims=True)
    colors = images - luma
    smooth = luma + amount / 2 * (_blur(luma, 0.7) - luma)
    return smooth + colors + amount * (_blur(colors, 1.5) - colors)


def sharpen(images: Array, amount: Array) -> Array:
    """Adds ``amount`` times the difference from a Gaussian blur of 1 pixel (unsharp masking).

    Args:
        images: Stored values ``[N, H, W, C]``.
        amount: ``[N]``, at least 0.

    Returns:
        Images of the same shape, unclipped.
    """
    return images + per_image(amount, images.shape[0]) * (images - _blur(images, 1.0))


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
