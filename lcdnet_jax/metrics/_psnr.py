"""Peak signal-to-noise ratio and mean absolute error."""

import jax
import jax.numpy as jnp

from lcdnet_jax.metrics._inputs import float32_pair, mean_per_image


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
    return -10.0 * jnp.log10(mean_per_image(jnp.square((a - b) / data_range), sizes, mask))


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
    return mean_per_image(jnp.abs(a - b), sizes, mask)
