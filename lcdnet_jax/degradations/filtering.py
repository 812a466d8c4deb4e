"""Convolution of each image of a batch with its own kernel.

The convolution is a product in the Fourier domain, and the Fourier transform is a matrix product,
for the same reasons as in ``ops.dct``. A direct convolution with a kernel of 31x31 needs 961
multiplications for each pixel. For ``jnp.fft`` XLA gathers a sharded batch on every device, while
matrix products need no communication. Their cost grows with the cube of the side: they are cheap
for training crops, and more expensive than an FFT for large images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import check_images


def filter_images(images: ArrayLike, kernels: ArrayLike) -> Array:
    """Convolves each image with its own kernel, the same for all channels.

    Equals ``scipy.ndimage.convolve(..., mode="mirror")``: borders are reflected without repeating
    the edge pixel, and a side of one pixel is repeated. A single bright pixel becomes a copy of the
    kernel (convolution, not correlation).

    Args:
        images: Images ``[N, H, W, C]``, floating point.
        kernels: ``[N, K, L]``, K and L odd. They may be larger than the image.

    Returns:
        Images of the same shape and type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the images have another shape, or the kernels an even size or another number.
    """
    images, kernels = check_images(images), jnp.asarray(kernels)
    count = images.shape[0]
    if kernels.ndim != 3 or kernels.shape[0] != count or not all(k % 2 for k in kernels.shape[1:]):
        raise ValueError(
            f"expected kernels [{count}, K, L] with K and L odd, got shape {kernels.shape}; give "
            "one for each image, padded by zeros to an odd size"
        )
    return convolve(mirror_pad(images, kernels.shape[1] // 2, kernels.shape[2] // 2), kernels)


def mirror_pad(images: Array, rows: int, columns: int) -> Array:
    """Converts images to float32 and adds a reflected border on all sides."""
    border = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    return jnp.pad(images.astype(jnp.float32), border, mode="reflect")


def convolve(images: Array, kernels: Array, *, step: int = 1) -> Array:
    """Convolves without padding ("valid"), at every ``step``-th pixel.

    Args:
        images: Images ``[N, P, Q, C]``, float32.
        kernels: ``[N, K, L]``, not larger than the images.
        step: Stride of the output, pixels.

    Returns:
        ``[N, ceil((P - K + 1) / step), ceil((Q - L + 1) / step), C]`` float32.
    """
    height, width = images.shape[1:3]
    down, across = _fourier_matrix(height), _fourier_matrix(width)[:, : width // 2 + 1]
    spectrum = _transform(jnp.moveaxis(images, -1, 1), down, across)
    rows, columns = kernels.shape[1:]
    taps = kernels.astype(jnp.float32)[:, None]
    product = spectrum * _transform(taps, down[:, :rows], across[:columns])

    # The circular convolution is cut to the part that does not wrap around. Images are real, so the
    # transform holds one of each pair of opposite frequencies, which then counts twice.
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


def _fourier_matrix(size: int) -> np.ndarray:
    """Builds the symmetric DFT matrix, ``[size, size]`` complex128."""
    index = np.arange(size)
    # The angle is reduced as an integer, because the cosine of a large number is less accurate.
    return np.exp(-2j * np.pi / size * (np.outer(index, index) % size))


def _transform(planes: Array, down: np.ndarray, across: np.ndarray) -> Array:
    """Computes ``down @ planes @ across`` for real planes ``[N, C, P, Q]``."""
    lines = jax.lax.complex(_real_product(planes, across.real), _real_product(planes, across.imag))
    return jnp.matmul(_constant(down), lines, precision=_HIGHEST)


def _real_product(planes: Array, matrix: np.ndarray) -> Array:
    return jnp.matmul(planes, jnp.asarray(matrix, jnp.float32), precision=_HIGHEST)


def _constant(matrix: np.ndarray) -> Array:
    return jnp.asarray(matrix, jnp.complex64)
