"""Two-dimensional real Fourier transforms of images as matrix products, without complex numbers.

These functions compute what those of :mod:`lcdnet_jax.ops.fourier` compute. A transform of H rows
and W columns takes H * W * (2 H + W) multiplications instead of about H * W * log(H * W), but they
are matrix products, for which accelerators are made. Programs of matrix products can be exported
for images of any size and for runtimes that lack complex numbers. A batch that is sharded over
devices stays where it is.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.ops.fourier import check_columns, check_real, spectrum_shape
from lcdnet_jax.ops.operators import operator


def rdft2(x: Array) -> Array:
    """Computes :func:`lcdnet_jax.ops.rfft2` by matrix products in full precision.

    Args:
        x: ``[N, H, W, C]``, float32 or float64. H and W may be symbols of ``jax.export``.

    Returns:
        ``[N, H, W // 2 + 1, 2 C]`` in the type of ``x``: real parts, then imaginary parts.

    Raises:
        TypeError: If ``x`` is neither float32 nor float64.
    """
    return jnp.moveaxis(rdft2_planes(jnp.moveaxis(x, 3, 1)), 1, 3)


def irdft2(z: Array, width: int) -> Array:
    """Inverts :func:`rdft2`.

    Args:
        z: ``[N, H, W // 2 + 1, 2 C]``: real parts, then imaginary parts.
        width: W, pixels. The shape of ``z`` does not tell whether W is even or odd.

    Returns:
        Images ``[N, H, W, C]`` in the type of ``z``.

    Raises:
        ValueError: If ``z`` cannot be the transform of images of this width.
    """
    return jnp.moveaxis(irdft2_planes(jnp.moveaxis(z, 3, 1), width), 1, 3)


@operator(shape=lambda x: spectrum_shape(x.shape))
def rdft2_planes(x: Array) -> Array:
    """Computes :func:`rdft2` with channels first.

    Args:
        x: ``[N, C, H, W]``, float32 or float64.

    Returns:
        ``[N, 2 C, H, W // 2 + 1]`` in the type of ``x``: real parts, then imaginary parts.

    Raises:
        TypeError: If ``x`` is neither float32 nor float64.
    """
    check_real(x)
    height, width = x.shape[2:]
    # Rows first: their transform halves the columns that the second one has to transform.
    cosines, sines = _waves(width, width // 2 + 1, x.dtype)
    real, imaginary = _times(x, cosines), -_times(x, sines)
    cosines, sines = _waves(height, height, x.dtype)
    return jnp.concatenate(
        [
            _times_rows(cosines, real) + _times_rows(sines, imaginary),
            _times_rows(cosines, imaginary) - _times_rows(sines, real),
        ],
        axis=1,
    )


@operator(shape=lambda z, width: (z.shape[0], z.shape[1] // 2, z.shape[2], width))
def irdft2_planes(z: Array, width: int) -> Array:
    """Computes :func:`irdft2` with channels first.

    Args:
        z: ``[N, 2 C, H, W // 2 + 1]``: real parts, then imaginary parts.
        width: W, pixels.

    Returns:
        Images ``[N, C, H, W]`` in the type of ``z``.

    Raises:
        ValueError: If ``z`` cannot be the transform of images of this width.
    """
    check_columns(z.shape[3], width)
    real, imaginary = jnp.split(z, 2, axis=1)
    cosines, sines = _waves(z.shape[2], z.shape[2], z.dtype)
    real, imaginary = (
        _times_rows(cosines, real) - _times_rows(sines, imaginary),
        _times_rows(cosines, imaginary) + _times_rows(sines, real),
    )
    cosines, sines = _waves(width, z.shape[3], z.dtype)
    # Most columns stand for two frequencies, their own and the opposite one.
    column = jnp.arange(z.shape[3])[:, None]
    counts = jnp.where((column == 0) | (2 * column == width), 1, 2).astype(z.dtype)
    return _times(real, counts * cosines.T) - _times(imaginary, counts * sines.T)


def _waves(size: int, frequencies: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Cosines and sines ``[size, frequencies]`` over the root of the size."""
    # In float64 on the host. Symbolic sizes have no numbers before the program runs.
    xp = np if isinstance(size, int) else jnp
    # The angle is reduced as an integer, because the cosine of a large number is less accurate.
    turns = xp.arange(size)[:, None] * xp.arange(frequencies)[None] % size
    count = size if xp is np else jnp.asarray(size).astype(dtype)
    angles = 2 * math.pi / count * (turns if xp is np else turns.astype(dtype))
    scale = 1 / xp.sqrt(count)
    return jnp.asarray(xp.cos(angles) * scale, dtype), jnp.asarray(xp.sin(angles) * scale, dtype)


def _times(x: Array, matrix: Array) -> Array:
    """Multiplies each row of ``[N, C, H, W]`` by a matrix ``[W, V]``."""
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


def _times_rows(matrix: Array, x: Array) -> Array:
    """Multiplies each column of ``[N, C, H, W]`` by a symmetric matrix ``[H, H]``."""
    return jnp.einsum("nchw,hg->ncgw", x, matrix, precision=jax.lax.Precision.HIGHEST)
