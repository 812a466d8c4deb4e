"""Principal component codes of blur kernels, for networks that estimate the kernel."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def fit_kernel_code(kernels: ArrayLike, *, components: int = 10) -> np.ndarray:
    """Computes the matrix of :func:`encode_kernels` by principal component analysis.

    IKC (Gu et al., CVPR 2019) uses 10 components of 30,000 isotropic Gaussian kernels of 21x21
    with widths from 0.2 to 4, such as ``random_kernels(..., kind="isotropic")`` draws. As in the
    code of IKC, the components are those of the kernels minus their mean, while a code is computed
    from the kernel without subtracting the mean. The product of matrix and code therefore misses
    the part of the mean that lies outside the components.

    The computation is in NumPy float64. Components of equal or zero variance are arbitrary, so the
    matrix must be stored with the network that is trained on its codes.

    Args:
        kernels: ``[K, S, S]``, K larger than ``components``.
        components: Length of a code, 1 to ``S * S``.

    Returns:
        ``[S * S, components]`` float32 with orthonormal columns, largest variance first. In each
        column the entry of largest magnitude is positive.

    Raises:
        ValueError: If the kernels have another shape or are too few.
    """
    kernels = np.asarray(kernels, np.float64)
    if kernels.ndim != 3 or not 1 <= components <= min(kernels[:1].size, len(kernels) - 1):
        raise ValueError(
            f"components={components} cannot be fitted to kernels of shape {kernels.shape}; give "
            "more kernels than components, [K, S, S], and at most S * S components"
        )
    vectors = kernels.reshape(len(kernels), -1)
    centered = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centered.T @ centered)  # ascending variance
    matrix = directions[:, ::-1][:, :components]
    largest = matrix[abs(matrix).argmax(axis=0), np.arange(components)]
    return np.asarray(matrix * np.sign(largest), np.float32)


def encode_kernels(kernels: ArrayLike, matrix: ArrayLike) -> Array:
    """Computes the codes of blur kernels.

    Args:
        kernels: ``[N, S, S]``.
        matrix: ``[S * S, components]``, from :func:`fit_kernel_code`.

    Returns:
        Codes ``[N, components]`` float32.

    Raises:
        ValueError: If the kernels do not have the size that the matrix was computed for.
    """
    kernels, matrix = (jnp.asarray(x, jnp.float32) for x in (kernels, matrix))
    if kernels.ndim != 3 or matrix.ndim != 2 or kernels[:1].size != len(matrix):
        raise ValueError(
            f"a matrix of shape {matrix.shape} does not encode kernels of shape {kernels.shape}; "
            "fit one to kernels of that size"
        )
    vectors = kernels.reshape(len(kernels), -1)
    return jnp.matmul(vectors, matrix, precision=jax.lax.Precision.HIGHEST)
