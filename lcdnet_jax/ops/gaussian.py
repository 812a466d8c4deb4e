"""Gaussian blur kernels."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def gaussian_kernels(widths: ArrayLike, angles: ArrayLike, *, size: int) -> Array:
    """Computes Gaussian blur kernels.

    The center is at ``(size - 1) / 2``, which is between four pixels for an even size.

    Args:
        widths: ``[N, 2]``, standard deviations along the first and the second axis of the kernel,
            pixels. Values below 0.1, which is already a single pixel, count as 0.1.
        angles: ``[N]``, angle from the image row to the first axis, degrees, clockwise.
        size: Rows and columns, at least 1.

    Returns:
        ``[N, size, size]`` float32 of sum 1.

    Raises:
        ValueError: If ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; use 1 or more, about 6 widths")
    widths = jnp.maximum(jnp.asarray(widths, jnp.float32), 0.1)[:, :, None, None]
    turn = jnp.asarray(angles, jnp.float32)[:, None, None] * (math.pi / 180)
    offsets = np.arange(size, dtype=np.float32) - (size - 1) / 2
    rows, columns = jnp.asarray(offsets[None, :, None]), jnp.asarray(offsets[None, None, :])
    along = columns * jnp.cos(turn) + rows * jnp.sin(turn)
    across = rows * jnp.cos(turn) - columns * jnp.sin(turn)
    kernels = jnp.exp(-((along / widths[:, 0]) ** 2 + (across / widths[:, 1]) ** 2) / 2)
    return kernels / kernels.sum(axis=(1, 2), keepdims=True)
