"""The cosine transform against scipy, its definition and its algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from lcdnet_jax import ops

# Square, odd, wide, tall, one row, one column, one pixel; leading axes none, one or two.
SHAPES = [
    (64, 64, 3),
    (2, 33, 57, 1),
    (2, 3, 8, 5, 2),
    (1, 9, 3),
    (2, 8, 1, 1),
    (1, 1, 1),
]

# Compiled without LLVM's optimization: these programs run once or twice.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
dct_2d = quick_jit(ops.dct_2d)
idct_2d = quick_jit(ops.idct_2d)


def scipy_dct(x):
    return fft.dctn(np.asarray(x, np.float64), axes=(-3, -2), norm="ortho")


def test_matrix_is_the_definition():
    expected = np.zeros((5, 5))
    for k in range(5):
        for j in range(5):
            scale = np.sqrt((1 if k == 0 else 2) / 5)
            expected[k, j] = scale * np.cos(np.pi * k * (2 * j + 1) / 10)
    matrix = ops.dct_matrix(5)
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(ops.dct_matrix(1), [[1]])
    np.testing.assert_allclose(ops.dct_matrix(2), np.array([[1, 1], [1, -1]]) / np.sqrt(2))


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_matrix_is_orthogonal(size):
    matrix = ops.dct_matrix(size)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_scipy_and_inverts(rng, shape):
    x = rng.random(shape, np.float32)
    forward = dct_2d(x)
    assert forward.dtype == jnp.float32
    expected = scipy_dct(x)
    # The mean's coefficient is as large as the image is wide, the others of the order of 1.
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-5)
    backward = idct_2d(expected.astype(np.float32))
    assert backward.dtype == jnp.float32
    np.testing.assert_allclose(backward, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_float64(rng, shape):
    x = rng.random(shape)
    with jax.enable_x64(True):
        forward = dct_2d(x)
        backward = idct_2d(forward)
    assert forward.dtype == backward.dtype == np.float64
    np.testing.assert_allclose(forward, scipy_dct(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(backward, x, rtol=0, atol=1e-12)


def test_energy_is_kept(rng):
    """Parseval: sums of squares, channel by channel; all of a constant's is in one coefficient."""
    x = rng.standard_normal((3, 21, 34, 2), np.float32)
    energy = np.square(np.asarray(dct_2d(x), np.float64)).sum((1, 2))
    np.testing.assert_allclose(energy, np.square(x.astype(np.float64)).sum((1, 2)), rtol=1e-5)
    constant = np.array(ops.dct_2d(np.full((6, 24, 1), 0.5, np.float32)))
    assert constant[0, 0, 0] == pytest.approx(0.5 * 12)
    constant[0, 0, 0] = 0
    np.testing.assert_allclose(constant, 0, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_only_rounds_the_result(rng, dtype):
    x = jnp.asarray(rng.random((2, 32, 24, 3)), dtype)
    coarse = idct_2d(x)
    assert coarse.dtype == dtype
    exact = idct_2d(x.astype(jnp.float32))
    np.testing.assert_array_equal(coarse, exact.astype(dtype))


@pytest.mark.parametrize("transform", [ops.dct_2d, ops.idct_2d])
def test_bad_input(transform):
    with pytest.raises(TypeError, match=r"got uint8; convert with image_io\.to_float"):
        transform(np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match=r"got shape \(4, 5\); add the missing axes"):
        transform(np.zeros((4, 5), np.float32))
    for shape in [(0, 4, 1), (2, 4, 0, 1)]:
        with pytest.raises(ValueError, match="pixels is empty"):
            transform(np.zeros(shape, np.float32))


def test_bad_size():
    with pytest.raises(ValueError, match="of 0 samples; use 1 or more"):
        ops.dct_matrix(0)
