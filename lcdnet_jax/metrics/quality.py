"""Image quality, per image, computed in float32 whatever the inputs' dtype.

All metrics take two batches ``[N, H, W, C]`` of floating-point images whose values span
``data_range`` and return ``[N]`` float32. They neither clip nor round nor crop: that is the
business of a protocol. All functions can be jitted and differentiated.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_WINDOW = 11
_SIGMA = 1.5
_UNIFORM_WINDOW = 7
_K1 = 0.01
_K2 = 0.03


def psnr(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
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
      mask: ``[N, H, W, 1]`` bool, the mean is over the pixels where it is True, NaN where it
        never is; None: all.

    Returns:
      ``[N]`` float32; infinity for identical images.

    Raises:
      ValueError: different shapes or not four axes.
      TypeError: integer images.
    """
    a, b = float32_pair(a, b)
    return -10.0 * jnp.log10(_mean(jnp.square((a - b) / data_range), sizes, mask))


def mae(
    a: jax.Array,
    b: jax.Array,
    *,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Mean absolute error over pixels and channels of each image, in the units of the images.

    Args:
      a: ``[N, H, W, C]`` images, floating point.
      b: images of the same shape.
      sizes: as for :func:`psnr`.
      mask: as for :func:`psnr`.

    Returns:
      ``[N]`` float32, 0 for identical images.

    Raises:
      ValueError: different shapes or not four axes.
      TypeError: integer images.
    """
    a, b = float32_pair(a, b)
    return _mean(jnp.abs(a - b), sizes, mask)


def ssim(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
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
      mask: ``[N, H, W, 1]`` bool, the mean is over the windows whose centre has True, NaN where
        none has; None: all. Windows see all pixels, masked or not.

    Returns:
      ``[N]`` float32 in [-1, 1].

    Raises:
      ValueError: different shapes, not four axes, or images smaller than the window.
      TypeError: integer images.
    """
    return _ssim_inside(a, b, _taps(), data_range=data_range, sizes=sizes, mask=mask)


def ssim_uniform(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: float = 1.0,
    sizes: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """SSIM as :func:`ssim`, but with equal weights in a 7x7 window and sample variances.

    This is ``skimage.metrics.structural_similarity`` with its defaults, which the evaluation of
    dual-pixel defocus deblurring uses (Abuolaim and Brown, ECCV 2020).

    Args:
      a: ``[N, H, W, C]`` images, floating point, H and W at least 7.
      b: images of the same shape.
      data_range: largest minus smallest possible value, 1 for images in [0, 1].
      sizes: as for :func:`ssim`.
      mask: as for :func:`ssim`.

    Returns:
      ``[N]`` float32 in [-1, 1].

    Raises:
      ValueError: different shapes, not four axes, or images smaller than the window.
      TypeError: integer images.
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
    """SSIM over height, width and channels: that of MATLAB's ``ssim`` for arrays of three axes.

    The evaluation code of SADNet has it, and the tables of motion deblurring since MPRNet.

    Like :func:`ssim`, but the Gaussian window is 11x11x11 for colour images, its third axis the
    channels, and image and channels are extended by their border values, so that the map covers
    the whole image. For grey images the window is 11x11. Scores of colour images are not
    comparable to those of :func:`ssim`.

    Args:
      a: ``[N, H, W, C]`` images, floating point, of any size.
      b: images of the same shape.
      data_range: largest minus smallest possible value, 1 for images in [0, 1].
      sizes: as for :func:`ssim`.
      mask: as for :func:`ssim`.

    Returns:
      ``[N]`` float32 in [-1, 1].

    Raises:
      ValueError: different shapes or not four axes.
      TypeError: integer images.
    """
    a, b = float32_pair(a, b)
    count, height, width, channels = a.shape
    if sizes is None:
        sizes = jnp.broadcast_to(jnp.array([height, width]), (count, 2))
    inside = _inside(height, width, sizes)
    across = _across_channels(channels)

    def mean(x: jax.Array) -> jax.Array:  # of all channels: the window sees their differences
        return jnp.mean(x, axis=(1, 2, 3), keepdims=True, where=inside)

    def blur(x: jax.Array) -> jax.Array:
        groups = x.reshape((count, height, width, -1, channels))
        groups = jnp.einsum("nhwgc,dc->nhwgd", groups, across, precision="highest")
        return _blur(_extend(groups.reshape(x.shape), sizes), _taps())

    return _mean(_similarity(a / data_range, b / data_range, mean=mean, blur=blur), sizes, mask)


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
    """SSIM of each channel with a separable window, averaged where the window lies inside."""
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
    inside = None if sizes is None else _inside(height, width, sizes)

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
    return _mean(similarity, None if sizes is None else sizes - (window - 1), mask)


def _similarity(
    a: jax.Array,
    b: jax.Array,
    *,
    mean: Callable[[jax.Array], jax.Array],
    blur: Callable[[jax.Array], jax.Array],
    unbias: float = 1.0,
) -> jax.Array:
    """The map of SSIM, from images in [0, 1].

    E[x^2] - E[x]^2 cancels where an image is bright and smooth. Variances do not see a constant,
    so ``mean`` (over whatever the window sees) is taken out first and added to the local means
    only. ``blur`` takes images, concatenated along channels, to their local means; variances are
    multiplied by ``unbias``.
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


def _inside(height: int, width: int, sizes: jax.Array) -> jax.Array:
    """``[N, H, W, 1]``, False in the padding."""
    rows = jnp.arange(height)[None, :] < sizes[:, :1]
    columns = jnp.arange(width)[None, :] < sizes[:, 1:]
    return rows[:, :, None, None] & columns[:, None, :, None]


def _mean(x: jax.Array, sizes: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
    """Mean of each image; row by row, as one long float32 sum of equal values is off by 1e-5."""
    if mask is not None:
        return _mean(jnp.where(mask, x, 0), sizes) / _mean(mask.astype(x.dtype), sizes)
    if sizes is None:
        return jnp.mean(jnp.mean(x, axis=(2, 3)), axis=1)
    heights, widths = sizes[:, 0, None], sizes[:, 1, None]
    columns = jnp.arange(x.shape[2])[None] < widths
    rows = jnp.arange(x.shape[1])[None] < heights
    x = jnp.where(columns[:, None, :, None], x, 0)
    row_means = jnp.sum(jnp.mean(x, axis=3), axis=2) / widths.astype(jnp.float32)
    means = jnp.sum(jnp.where(rows, row_means, 0), axis=1) / heights[:, 0].astype(jnp.float32)
    return jnp.where(jnp.min(sizes, axis=1) > 0, means, jnp.nan)  # nothing left to average


def _taps() -> np.ndarray:
    taps = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    return taps / taps.sum()


def _across_channels(channels: int) -> np.ndarray:
    """The window along channels that repeat beyond the first and last, as ``[C, C]``."""
    matrix = np.zeros((channels, channels), np.float32)
    for channel in range(channels):
        for offset, tap in enumerate(_taps(), start=-(_WINDOW // 2)):
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
    """Window along H and W, valid region: shifted multiply-adds, exact in float32."""
    for axis in (1, 2):
        size = x.shape[axis] - len(taps) + 1
        shifted = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(len(taps)))
        x = functools.reduce(
            jnp.add, (float(tap) * part for tap, part in zip(taps, shifted, strict=True))
        )
    return x
