"""Structural similarity, with the three windows that published tables use."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.metrics._inputs import float32_pair, mask_padding, mean_per_image

_WINDOW = 11

_SIGMA = 1.5

_UNIFORM_WINDOW = 7

_K1 = 0.01

_K2 = 0.03


def ssim(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Computes the structural similarity (SSIM) of each image.

    Source: Wang et al., "Image Quality Assessment", IEEE TIP 2004. The window is an 11x11 Gaussian
    of sigma 1.5, with population variances, K1 = 0.01 and K2 = 0.03. The map is computed for each
    channel where the window lies inside the image, and averaged. This equals
    ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)``.

    Args:
        a: Images ``[N, H, W, C]``, floating point, H and W at least 11.
        b: Images of the same shape.
        data_range: Largest minus smallest possible value, 1 for images in [0, 1].
        sizes: True heights and widths ``[N, 2]`` of images that were padded at the bottom and right
            to a common shape. The padding does not count. An image that is too small for the metric
            gives NaN. None means no padding.
        mask: Centers of the windows that count, ``[N, H, W, 1]`` bool, or None for all. An image
            without any gives NaN. Windows use all pixels, masked or not.

    Returns:
        ``[N]`` float32 in [-1, 1].

    Raises:
        ValueError: If the shapes differ, do not have four axes, or are smaller than the window.
        TypeError: If the images are integers.
    """
    return _ssim_inside(a, b, _gaussian_taps(), data_range=data_range, sizes=sizes, mask=mask)


def ssim_uniform(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Computes SSIM with equal weights in a 7x7 window and sample variances.

    This equals ``skimage.metrics.structural_similarity`` with its defaults, which the evaluation of
    dual-pixel defocus deblurring uses (Abuolaim and Brown, ECCV 2020).

    Args:
        a: Images ``[N, H, W, C]``, floating point, H and W at least 7.
        b: Images of the same shape.
        data_range: Largest minus smallest possible value, 1 for images in [0, 1].
        sizes: As for :func:`ssim`.
        mask: As for :func:`ssim`.

    Returns:
        ``[N]`` float32 in [-1, 1].

    Raises:
        ValueError: If the shapes differ, do not have four axes, or are smaller than the window.
        TypeError: If the images are integers.
    """
    taps = np.full(_UNIFORM_WINDOW, 1 / _UNIFORM_WINDOW)
    return _ssim_inside(
        a, b, taps, data_range=data_range, sizes=sizes, mask=mask, sample_variance=True
    )


def ssim_3d(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Computes SSIM over height, width and channels, as MATLAB's ``ssim`` of a 3-D array.

    The evaluation code of SADNet and the tables of motion deblurring since MPRNet use it. It
    differs from :func:`ssim` in two ways. The Gaussian window of color images is 11x11x11, with
    channels as the third axis. Image and channels are padded with their border values, so that the
    map covers the whole image. For gray images the window is 11x11. Scores of color images are not
    comparable to those of :func:`ssim`.

    Args:
        a: Images ``[N, H, W, C]``, floating point, of any size.
        b: Images of the same shape.
        data_range: Largest minus smallest possible value, 1 for images in [0, 1].
        sizes: As for :func:`ssim`.
        mask: As for :func:`ssim`.

    Returns:
        ``[N]`` float32 in [-1, 1].

    Raises:
        ValueError: If the shapes differ or do not have four axes.
        TypeError: If the images are integers.
    """
    a, b = float32_pair(a, b)
    count, height, width, channels = a.shape
    if sizes is None:
        sizes = jnp.broadcast_to(jnp.array([height, width]), (count, 2))
    inside = mask_padding(height, width, sizes)
    across = _across_channels(channels)

    def mean(x: jax.Array) -> jax.Array:  # over all channels, because the window covers them
        return jnp.mean(x, axis=(1, 2, 3), keepdims=True, where=inside)

    def blur(x: jax.Array) -> jax.Array:
        groups = x.reshape((count, height, width, -1, channels))
        groups = jnp.einsum("nhwgc,dc->nhwgd", groups, across, precision="highest")
        return _blur(_extend(groups.reshape(x.shape), sizes), _gaussian_taps())

    return mean_per_image(
        _similarity(a / data_range, b / data_range, mean=mean, blur=blur), sizes, mask
    )


def _ssim_inside(
    a: jax.Array,
    b: jax.Array,
    taps: np.ndarray,
    *,
    data_range: float,
    sizes: jax.Array | None,
    mask: jax.Array | None,
    sample_variance: bool = False,
) -> jax.Array:
    """Computes SSIM of each channel with a separable window, averaged where it lies inside."""
    a, b = float32_pair(a, b)
    height, width = a.shape[1:3]
    window = len(taps)
    if min(height, width) < window:
        if sizes is not None:
            return jnp.full(a.shape[0], jnp.nan, jnp.float32)
        raise ValueError(
            f"SSIM needs images of at least {window}x{window} pixels, got {height}x{width}; "
            "use larger images or psnr"
        )
    inside = None if sizes is None else mask_padding(height, width, sizes)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.mean(x, axis=(1, 2), keepdims=True, where=inside)

    similarity = _similarity(
        a / data_range,
        b / data_range,
        mean=mean,
        blur=functools.partial(_blur, taps=taps),
        unbias=window**2 / (window**2 - 1) if sample_variance else 1.0,
    )
    cut = window // 2
    if mask is not None:
        mask = mask[:, cut : height - cut, cut : width - cut]
    return mean_per_image(similarity, None if sizes is None else sizes - (window - 1), mask)


def _similarity(
    a: jax.Array,
    b: jax.Array,
    *,
    mean: Callable[[jax.Array], jax.Array],
    blur: Callable[[jax.Array], jax.Array],
    unbias: float = 1.0,
) -> jax.Array:
    """Computes the SSIM map of images in [0, 1].

    ``E[x^2] - E[x]^2`` loses precision where an image is bright and smooth. Variances do not depend
    on a constant, so ``mean`` (over all pixels that the window covers) is subtracted first and
    added to the local means only. ``blur`` computes local means of images that are concatenated
    along channels. Variances are multiplied by ``unbias``.
    """
    channels = a.shape[-1]
    mean_a, mean_b = mean(a), mean(b)
    a, b = a - mean_a, b - mean_b
    moments = blur(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mu_a, mu_b, aa, bb, ab = (moments[..., i * channels : (i + 1) * channels] for i in range(5))
    variance = unbias * (aa - mu_a * mu_a + bb - mu_b * mu_b)
    covariance = unbias * (ab - mu_a * mu_b)
    mu_a, mu_b = mu_a + mean_a, mu_b + mean_b
    c1, c2 = _K1**2, _K2**2
    luminance = (2.0 * mu_a * mu_b + c1) / (mu_a * mu_a + mu_b * mu_b + c1)
    structure = (2.0 * covariance + c2) / (variance + c2)
    return luminance * structure


def _gaussian_taps() -> np.ndarray:
    taps = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    return taps / taps.sum()


def _across_channels(channels: int) -> np.ndarray:
    """Builds the window along channels with repeated end channels, as a matrix ``[C, C]``."""
    matrix = np.zeros((channels, channels), np.float32)
    for channel in range(channels):
        for offset, tap in enumerate(_gaussian_taps(), start=-(_WINDOW // 2)):
            matrix[channel, np.clip(channel + offset, 0, channels - 1)] += tap
    return matrix


def _extend(x: jax.Array, sizes: jax.Array) -> jax.Array:
    """Repeats the border values of each image by half a window, beyond its true size."""
    for axis in (1, 2):
        index = jnp.arange(x.shape[axis] + _WINDOW - 1)[None] - _WINDOW // 2
        index = jnp.clip(index, 0, sizes[:, axis - 1, None] - 1)
        x = jax.vmap(lambda image, i, axis=axis: jnp.take(image, i, axis=axis - 1))(x, index)
    return x


def _blur(x: jax.Array, taps: np.ndarray) -> jax.Array:
    """Applies the window along H and W in the valid region by shifted multiply-adds."""
    for axis in (1, 2):
        size = x.shape[axis] - len(taps) + 1
        shifted = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(len(taps)))
        x = functools.reduce(
            jnp.add, (float(tap) * part for tap, part in zip(taps, shifted, strict=True))
        )
    return x
