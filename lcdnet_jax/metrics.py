"""Image quality, per image, computed in float32 whatever the inputs' dtype.

Both metrics take two batches ``[N, H, W, C]`` of floating-point images whose values span
``data_range`` and return ``[N]`` float32. They neither clip nor round nor crop: that is the
business of a protocol. All functions can be jitted and differentiated.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_WINDOW = 11
_SIGMA = 1.5
_K1 = 0.01
_K2 = 0.03


def psnr(
    a: jax.Array, b: jax.Array, *, data_range: float = 1.0, sizes: jax.Array | None = None
) -> jax.Array:
    """Peak signal-to-noise ratio in dB: 10 log10(data_range^2 / mean squared error).

    The mean is over pixels and channels of each image.

    Args:
      a: ``[N, H, W, C]`` images, floating point.
      b: images of the same shape.
      data_range: largest minus smallest possible value, 1 for images in [0, 1].
      sizes: ``[N, 2]`` true heights and widths of images that were padded at the bottom and
        right to a common shape; the padding does not count, and an image smaller than the
        metric needs gives NaN. None: no padding.

    Returns:
      ``[N]`` float32; infinity for identical images.

    Raises:
      ValueError: different shapes or not four axes.
      TypeError: integer images.
    """
    a, b = float32_pair(a, b)
    return -10.0 * jnp.log10(_mean(jnp.square((a - b) / data_range), sizes))


def ssim(
    a: jax.Array, b: jax.Array, *, data_range: float = 1.0, sizes: jax.Array | None = None
) -> jax.Array:
    """Structural similarity of Wang et al., "Image Quality Assessment", IEEE TIP 2004.

    11x11 Gaussian window of sigma 1.5, population variances, K1 = 0.01, K2 = 0.03; the map is
    computed for each channel, where the window lies inside the image, and averaged. This is
    ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)``.

    Args:
      a: ``[N, H, W, C]`` images, floating point, H and W at least 11.
      b: images of the same shape.
      data_range: largest minus smallest possible value, 1 for images in [0, 1].
      sizes: ``[N, 2]`` true heights and widths of images that were padded at the bottom and
        right to a common shape; the padding does not count, and an image smaller than the
        metric needs gives NaN. None: no padding.

    Returns:
      ``[N]`` float32 in [-1, 1].

    Raises:
      ValueError: different shapes, not four axes, or images smaller than the window.
      TypeError: integer images.
    """
    a, b = float32_pair(a, b)
    height, width, channels = a.shape[1:]
    if min(height, width) < _WINDOW:
        if sizes is not None:
            return jnp.full(a.shape[0], jnp.nan, jnp.float32)
        raise ValueError(
            f"SSIM needs images of at least {_WINDOW}x{_WINDOW} pixels, got {height}x{width}; "
            "use larger images or psnr"
        )
    a, b = a / data_range, b / data_range
    # E[x^2] - E[x]^2 cancels where an image is bright and smooth. Variances do not see a
    # constant, so each channel's mean is taken out first and added to the local means only.
    inside = None if sizes is None else _inside(height, width, sizes)
    mean_a = jnp.mean(a, axis=(1, 2), keepdims=True, where=inside)
    mean_b = jnp.mean(b, axis=(1, 2), keepdims=True, where=inside)
    a, b = a - mean_a, b - mean_b
    moments = _blur(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mu_a, mu_b, aa, bb, ab = (moments[..., i * channels : (i + 1) * channels] for i in range(5))
    variance = aa - mu_a * mu_a + bb - mu_b * mu_b
    covariance = ab - mu_a * mu_b
    mu_a, mu_b = mu_a + mean_a, mu_b + mean_b
    c1, c2 = _K1**2, _K2**2
    luminance = (2.0 * mu_a * mu_b + c1) / (mu_a * mu_a + mu_b * mu_b + c1)
    structure = (2.0 * covariance + c2) / (variance + c2)
    return _mean(luminance * structure, None if sizes is None else sizes - (_WINDOW - 1))


def float32_pair(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two batches ``[N, H, W, C]`` as float32, after a check of their shapes and dtypes.

    Raises:
      ValueError: different shapes or not four axes.
      TypeError: not floating point.
    """
    if jnp.shape(a) != jnp.shape(b):
        raise ValueError(
            f"the two batches differ in shape: {jnp.shape(a)} and {jnp.shape(b)}; "
            "crop or pair them so that they agree"
        )
    if jnp.ndim(a) != 4:
        raise ValueError(
            f"expected batches [N, H, W, C], got shape {jnp.shape(a)}; "
            "add the missing axes, x[None] for a single image"
        )
    for x in (a, b):
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            raise TypeError(
                f"expected floating-point images, got {jnp.result_type(x)}; "
                "convert with lcdnet_jax.image_io.to_float"
            )
    return jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)


def _inside(height: int, width: int, sizes: jax.Array) -> jax.Array:
    """``[N, H, W, 1]``, False in the padding."""
    rows = jnp.arange(height)[None, :] < sizes[:, :1]
    columns = jnp.arange(width)[None, :] < sizes[:, 1:]
    return rows[:, :, None, None] & columns[:, None, :, None]


def _mean(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Mean of each image; row by row, as one long float32 sum of equal values is off by 1e-5."""
    if sizes is None:
        return jnp.mean(jnp.mean(x, axis=(2, 3)), axis=1)
    heights, widths = sizes[:, 0, None], sizes[:, 1, None]
    columns = jnp.arange(x.shape[2])[None] < widths
    rows = jnp.arange(x.shape[1])[None] < heights
    x = jnp.where(columns[:, None, :, None], x, 0)
    row_means = jnp.sum(jnp.mean(x, axis=3), axis=2) / widths.astype(jnp.float32)
    means = jnp.sum(jnp.where(rows, row_means, 0), axis=1) / heights[:, 0].astype(jnp.float32)
    return jnp.where(jnp.min(sizes, axis=1) > 0, means, jnp.nan)  # nothing left to average


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian window along H and W, valid region: shifted multiply-adds, exact in float32."""
    taps = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        size = x.shape[axis] - _WINDOW + 1
        shifted = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(_WINDOW))
        x = functools.reduce(
            jnp.add, (float(tap) * part for tap, part in zip(taps, shifted, strict=True))
        )
    return x
