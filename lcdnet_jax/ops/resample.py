"""Downsampling and upsampling by 2, as the networks use them.

Windows of a 2x2 convolution with stride 2 do not overlap. The convolution is therefore a matrix
product after a rearrangement of pixels, and this form is faster than the general strided
convolution, above all its gradient. All pixels share one axis, so the gradient of the kernel is
one matrix product as well.
"""

import jax
import jax.numpy as jnp
from jax import Array

from lcdnet_jax.ops.operators import operator
from lcdnet_jax.ops.precision import at_least_float32


@operator()
def conv2x2_down(x: Array, kernel: Array) -> Array:
    """Computes a 2x2 convolution of stride 2.

    Args:
        x: Features ``[N, 2H, 2W, C]``.
        kernel: ``[2, 2, C, O]`` in the type of ``x``.

    Returns:
        ``[N, H, W, O]`` in the type of ``x``.
    """
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * channels)
    out = cells @ kernel.reshape(4 * channels, -1)
    return out.reshape(n, height // 2, width // 2, -1)


@operator()
def conv2x2_up(x: Array, kernel: Array) -> Array:
    """Computes a transposed 2x2 convolution of stride 2.

    ``out[2i+a, 2j+b, o] = sum_c x[i, j, c] * kernel[a, b, c, o]``.

    Args:
        x: Features ``[N, H, W, C]``.
        kernel: ``[2, 2, C, O]`` in the type of ``x``.

    Returns:
        ``[N, 2H, 2W, O]`` in the type of ``x``.
    """
    n, height, width, channels = x.shape
    cells = x.reshape(-1, channels) @ kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    cells = cells.reshape(n, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(n, 2 * height, 2 * width, -1)


@operator()
def upsample2x(x: Array) -> Array:
    """Doubles height and width by bilinear interpolation.

    Equals PyTorch's ``interpolate(scale_factor=2, mode="bilinear", align_corners=False)``: pixel
    centers are at half-integers, and edge pixels are repeated. The computation is in float32, or in
    float64 for float64 features.

    Args:
        x: Features ``[N, H, W, C]``.

    Returns:
        ``[N, 2H, 2W, C]`` in the type of ``x``.
    """
    exact = x.astype(at_least_float32(x.dtype))
    return _double(_double(exact, 1), 2).astype(x.dtype)


def _double(x: Array, axis: int) -> Array:
    """Interpolates along one axis. ``jax.image.resize`` multiplies by a dense matrix instead."""
    length = x.shape[axis]
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
    pairs = jnp.stack([x + 0.25 * (before - x), x + 0.25 * (after - x)], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * length, *x.shape[axis + 1 :])
