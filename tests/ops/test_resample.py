"""Halving and doubling, against sums written out and interpolation by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.ops import resample


def test_conv2x2_down(rng):
    x, kernel = rng.normal(size=(2, 6, 4, 3)), rng.normal(size=(2, 2, 3, 5))
    cells = x.reshape(2, 3, 2, 2, 2, 3)
    expected = np.einsum("niajbc,abco->nijo", cells, kernel)
    actual = resample.conv2x2_down(jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_conv2x2_up(rng):
    x, kernel = rng.normal(size=(2, 3, 2, 5)), rng.normal(size=(2, 2, 5, 3))
    expected = np.einsum("nijc,abco->niajbo", x, kernel).reshape(2, 6, 4, 3)
    actual = resample.conv2x2_up(jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_upsample2x(rng):
    """New centers lie a quarter of a pixel beside the old ones; edge pixels are repeated."""
    x = rng.random((1, 3, 5, 2), np.float32)

    def double(values):
        old = np.arange(len(values))
        return np.interp((np.arange(2 * len(values)) + 0.5) / 2 - 0.5, old, values)

    expected = np.apply_along_axis(double, 2, np.apply_along_axis(double, 1, x))
    np.testing.assert_allclose(resample.upsample2x(jnp.asarray(x)), expected, rtol=0, atol=1e-6)
    half = resample.upsample2x(jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(half), expected, rtol=0, atol=1e-2)


def test_upsampling_costs_the_same_for_each_pixel():
    """A product with a matrix of weights would cost more in larger images."""
    text = jax.jit(resample.upsample2x).lower(jnp.zeros((1, 8, 8, 2))).as_text()
    assert "dot_general" not in text
