"""Gaussian kernels: their moments, against the covariance of the definition."""

import functools

import jax
import numpy as np
import pytest

from lcdnet_jax.ops import gaussian

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
gaussian_kernels = quick_jit(gaussian.gaussian_kernels, static_argnames="size")


@pytest.mark.parametrize("size", [21, 22])
def test_kernels(size):
    widths = np.array([[2.0, 2.0], [3.0, 1.0], [1.0, 2.5]], np.float32)
    angles = np.array([10.0, 30.0, 90.0], np.float32)
    kernels = np.asarray(gaussian_kernels(widths, angles, size=size), np.float64)
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    for kernel, width, angle in zip(kernels, widths, np.radians(angles), strict=True):
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        covariance = axes.T @ np.diag(width**2.0) @ axes  # of (column, row)
        places = np.stack([columns, rows])
        assert np.allclose((kernel * places).sum(axis=(1, 2)), 0, atol=1e-5)
        actual = np.einsum("ij,aij,bij->ab", kernel, places, places)
        np.testing.assert_allclose(actual, covariance, rtol=0.02, atol=0.02)
    with pytest.raises(ValueError, match="size is 0; use 1 or more"):
        gaussian.gaussian_kernels(widths, angles, size=0)


def test_narrow_kernels_are_a_pixel():
    kernels = np.asarray(gaussian_kernels(np.float32([[0, 1e-6]]), np.zeros(1), size=3))
    np.testing.assert_allclose(kernels[0], np.outer([0, 1, 0], [0, 1, 0]), atol=1e-6)
