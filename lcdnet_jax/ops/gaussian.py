"""Gaussian blur kernels."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def gaussian_kernels(widths: ArrayLike, angles: ArrayLike, *, size: int) -> Array:
    """Gaussian kernels, centred at ``(size - 1) / 2``: between four pixels for an even size.

    Args:
        widths: ``[N, 2]`` standard deviations along the first and the second axis, pixels, above 0
            (0.1 is as good as a single pixel).
        angles: ``[N]`` degrees from a row to the first axis, clockwise on the screen.
        size: Rows and columns.

    Returns:
        ``[N, size, size]`` float32 of sum 1.

    Raises:
        ValueError: For a size below 1.
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
