"""Codes of kernels, against the singular vectors of the kernels."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.ops import gaussian, kernel_code


def test_kernel_code(rng):
    """Orthonormal, most variance first, and enough for Gaussians of one width."""
    widths = jnp.asarray(np.repeat(rng.uniform(0.5, 2.0, (300, 1)), 2, axis=1), jnp.float32)
    kernels = np.asarray(gaussian.gaussian_kernels(widths, jnp.zeros(300), size=11))
    matrix = kernel_code.fit_kernel_code(kernels, components=6)
    assert matrix.shape == (121, 6)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-5)
    codes = np.asarray(kernel_code.encode_kernels(kernels, matrix))
    vectors = kernels.reshape(300, 121)
    np.testing.assert_allclose(codes, vectors @ matrix, atol=1e-5)
    assert (np.diff(codes.var(axis=0)) < 0).all()
    mean = vectors.mean(axis=0)
    restored = mean + (codes - mean @ matrix) @ matrix.T
    assert abs(restored - vectors).max() < 1e-3 * vectors.max()
    # As the right singular vectors of the centered kernels, up to the sign.
    directions = np.linalg.svd(vectors - mean, full_matrices=False)[2][:3]
    np.testing.assert_allclose(abs(directions @ matrix[:, :3]), np.eye(3), atol=1e-3)


def test_kernel_code_messages():
    kernels = np.zeros((4, 3, 3), np.float32)
    for wrong in (kernels, kernels[0], np.zeros((20, 2, 2), np.float32)):
        with pytest.raises(ValueError, match=r"components=5 cannot be fitted .*give more kernels"):
            kernel_code.fit_kernel_code(wrong, components=5)
    with pytest.raises(ValueError, match=r"\(25, 2\) does not encode kernels of shape \(4, 3, 3\)"):
        kernel_code.encode_kernels(kernels, np.zeros((25, 2), np.float32))
