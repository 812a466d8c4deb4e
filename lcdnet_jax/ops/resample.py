"""Changes of resolution by two, as networks use them.

The 2x2 convolutions of stride 2 have windows that do not overlap, so they are matrix products
between rearrangements of pixels. Compilers run these forms, and above all their gradients,
faster than the general strided convolution. Pixels are one axis there: the gradient of the
kernel is then one plain product, too.
"""

import jax
from jax import Array

from lcdnet_jax.ops.precision import at_least_float32


def conv2x2_down(x: Array, kernel: Array) -> Array:
    """Strided 2x2 convolution: ``[N, 2H, 2W, C]``, kernel ``[2, 2, C, O]`` -> ``[N, H, W, O]``."""
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * channels)
    out = cells @ kernel.reshape(4 * channels, -1)
    return out.reshape(n, height // 2, width // 2, -1)


def conv2x2_up(x: Array, kernel: Array) -> Array:
    """Transposed 2x2 convolution of stride 2: ``[N, H, W, C]`` -> ``[N, 2H, 2W, O]``.

    ``out[2i+a, 2j+b, o] = sum_c x[i, j, c] * kernel[a, b, c, o]``; kernel ``[2, 2, C, O]``.
    """
    n, height, width, channels = x.shape
    cells = x.reshape(-1, channels) @ kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    cells = cells.reshape(n, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(n, 2 * height, 2 * width, -1)


def upsample2x(x: Array) -> Array:
    """Bilinear doubling with half-pixel centres and repeated edges: ``[N, H, W, C]``.

    Equals PyTorch's ``interpolate(scale_factor=2, mode="bilinear", align_corners=False)``.
    Computed in float32 at full precision, returned in ``x``'s type.
    """
    n, height, width, channels = x.shape
    exact = at_least_float32(x.dtype)
    out = jax.image.resize(
        x.astype(exact),
        (n, 2 * height, 2 * width, channels),
        "bilinear",
        precision=jax.lax.Precision.HIGHEST,
    )
    return out.astype(x.dtype)
