"""Convolution of each image with a kernel of its own.

Written as a discrete Fourier transform by matrix products, as ``ops.dct`` is and for its reasons.
A direct convolution takes as many multiplications for each pixel as the kernel has taps, 961 for
31x31. For ``jnp.fft`` XLA gathers a batch that is sharded over devices; products need no exchange.
Their cost grows with the cube of the side: little for crops, more than an FFT's for whole frames.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import checked


def filter_images(images: ArrayLike, kernels: ArrayLike) -> Array:
    """Convolves each image, borders mirrored, with one kernel for all its channels.

    Equals ``scipy.ndimage.convolve(..., mode="mirror")``: the edge pixel is not repeated, and a
    side of one pixel is repeated. A bright point becomes a picture of the kernel.

    Args:
        images: ``[N, H, W, C]``, floating point.
        kernels: ``[N, K, L]``, K and L odd; also larger than the image.

    Returns:
        Shape and type of ``images``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For other than four axes, empty images, or kernels of an even size or of
            another number.
    """
    images, kernels = checked(images), jnp.asarray(kernels)
    count = images.shape[0]
    if kernels.ndim != 3 or kernels.shape[0] != count or not all(k % 2 for k in kernels.shape[1:]):
        raise ValueError(
            f"expected kernels [{count}, K, L] with K and L odd, got shape {kernels.shape}; give "
            "one for each image, padded by zeros to an odd size"
        )
    return convolve(mirrored(images, kernels.shape[1] // 2, kernels.shape[2] // 2), kernels)


def mirrored(images: Array, rows: int, columns: int) -> Array:
    """Images with a mirrored border on all sides, in float32 from here on."""
    border = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    return jnp.pad(images.astype(jnp.float32), border, mode="reflect")


def convolve(images: Array, kernels: Array, *, step: int = 1) -> Array:
    """Convolution where kernel and image overlap in full, at every ``step``-th place.

    Args:
        images: ``[N, P, Q, C]`` float32.
        kernels: ``[N, K, L]``, not larger than the images.
        step: Distance of results, pixels.

    Returns:
        ``[N, ceil((P - K + 1) / step), ceil((Q - L + 1) / step), C]`` float32.
    """
    height, width = images.shape[1:3]
    down, across = _fourier(height), _fourier(width)[:, : width // 2 + 1]
    spectrum = _transform(jnp.moveaxis(images, -1, 1), down, across)
    rows, columns = kernels.shape[1:]
    taps = kernels.astype(jnp.float32)[:, None]
    product = spectrum * _transform(taps, down[:, :rows], across[:columns])

    # Results that a period wraps around are left out. Columns are real, so the transform holds
    # one of each pair of opposite frequencies, which then counts twice.
    twice = np.full(across.shape[1], 2.0)
    twice[[0, -1] if width % 2 == 0 else [0]] = 1
    back_down = down[rows - 1 :: step].conj() / height
    back_across = (across[columns - 1 :: step].conj() * twice / width).T
    lines = jnp.matmul(_constant(back_down), product, precision=_HIGHEST)
    result = _real_product(lines.real, back_across.real) - _real_product(
        lines.imag, back_across.imag
    )
    return jnp.moveaxis(result, 1, -1)


_HIGHEST = jax.lax.Precision.HIGHEST


def _fourier(size: int) -> np.ndarray:
    """The transform as a symmetric matrix, ``[size, size]`` complex128."""
    index = np.arange(size)
    # The angle is reduced as an integer: large arguments would cost the cosine its last digits.
    return np.exp(-2j * np.pi / size * (np.outer(index, index) % size))


def _transform(planes: Array, down: np.ndarray, across: np.ndarray) -> Array:
    """``down @ planes @ across`` for real planes ``[N, C, P, Q]``."""
    lines = jax.lax.complex(_real_product(planes, across.real), _real_product(planes, across.imag))
    return jnp.matmul(_constant(down), lines, precision=_HIGHEST)


def _real_product(planes: Array, matrix: np.ndarray) -> Array:
    return jnp.matmul(planes, jnp.asarray(matrix, jnp.float32), precision=_HIGHEST)


def _constant(matrix: np.ndarray) -> Array:
    return jnp.asarray(matrix, jnp.complex64)
