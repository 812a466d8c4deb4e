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
    """Computes the peak signal-to-noise ratio of each image in dB.

    It is ``10 log10(data_range^2 / mse)``, where ``mse`` is the mean squared error over pixels and
    channels.

    Args:
        a: Images ``[N, H, W, C]``, floating point.
        b: Images of the same shape.
        data_range: Largest minus smallest possible value, 1 for images in [0, 1].
        sizes: True heights and widths ``[N, 2]`` of images that were padded at the bottom and right
            to a common shape. The padding does not count. An image that is too small for the metric
            gives NaN. None means no padding.
        mask: Pixels that count, ``[N, H, W, 1]`` bool, or None for all. An image without any gives
            NaN.

    Returns:
        ``[N]`` float32; infinity for identical images.

    Raises:
        ValueError: If the shapes differ or do not have four axes.
        TypeError: If the images are integers.
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
    """Computes the mean absolute error of each image over pixels and channels.

    Args:
        a: Images ``[N, H, W, C]``, floating point.
        b: Images of the same shape.
        sizes: As for :func:`psnr`.
        mask: As for :func:`psnr`.

    Returns:
        ``[N]`` float32 in the units of the images; 0 for identical images.

    Raises:
        ValueError: If the shapes differ or do not have four axes.
        TypeError: If the images are integers.
    """
    a, b = float32_pair(a, b)
    return mean_per_image(jnp.abs(a - b), sizes, mask)
