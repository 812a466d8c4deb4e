"""Blur kernels as short codes, by principal components, for networks that estimate them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def fit_kernel_code(kernels: ArrayLike, *, components: int = 10) -> np.ndarray:
    """Principal directions of many kernels: the matrix of :func:`encode_kernels`.

    IKC (Gu et al., CVPR 2019) has 10 components of 30,000 isotropic Gaussians of 21x21, with
    widths from 0.2 to 4; ``random_kernels(..., kind="isotropic")`` draws such. As in its code,
    directions are those around the mean kernel, while a code is of the kernel itself, from which
    no mean is subtracted. So a kernel is the product of matrix and code only up to what the mean
    has outside the directions.

    Computed by NumPy in float64. Directions of equal variance, or of none, are arbitrary: store
    the matrix with the networks that know its codes.

    Args:
        kernels: ``[K, S, S]``, more than ``components``.
        components: Length of a code, at most ``S * S``.

    Returns:
        ``[S * S, components]`` float32 with orthonormal columns, the direction of most variance
        first; the entry of each that is largest in size is positive.

    Raises:
        ValueError: For other shapes or numbers of kernels.
    """
    kernels = np.asarray(kernels, np.float64)
    if kernels.ndim != 3 or not 1 <= components <= min(kernels[:1].size, len(kernels) - 1):
        raise ValueError(
            f"{components} components cannot be fitted to kernels of shape {kernels.shape}; give "
            "more kernels than components, [K, S, S], and at most S * S components"
        )
    vectors = kernels.reshape(len(kernels), -1)
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # variances rise
    matrix = directions[:, ::-1][:, :components]
    largest = matrix[abs(matrix).argmax(axis=0), np.arange(components)]
    return np.asarray(matrix * np.sign(largest), np.float32)


def encode_kernels(kernels: ArrayLike, matrix: ArrayLike) -> Array:
    """Codes ``[N, components]`` float32 of kernels ``[N, S, S]``, by :func:`fit_kernel_code`.

    Raises:
        ValueError: For kernels of another size than the matrix is for.
    """
    kernels, matrix = (jnp.asarray(x, jnp.float32) for x in (kernels, matrix))
    if kernels.ndim != 3 or matrix.ndim != 2 or kernels[:1].size != len(matrix):
        raise ValueError(
            f"a matrix of shape {matrix.shape} does not encode kernels of shape {kernels.shape}; "
            "fit one to kernels of that size"
        )
    vectors = kernels.reshape(len(kernels), -1)
    return jnp.matmul(vectors, matrix, precision=jax.lax.Precision.HIGHEST)
