"""Fourier transforms of images against NumPy, their gradients, and where a sharded batch goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcdnet_jax.ops import irfft2, rfft2

SHAPES = [(2, 6, 8, 3), (1, 5, 7, 1), (3, 4, 1, 2), (1, 1, 6, 2), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_transforms(rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    z = np.fft.rfft2(x.astype(np.float64), axes=(1, 2), norm="ortho")
    expected = np.concatenate([z.real, z.imag], axis=-1)
    actual = jax.jit(rfft2)(x)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_allclose(irfft2(actual, shape[2]), x, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_of_what_is_no_transform(rng, shape):
    """Spectra that a network has changed are not those of real images."""
    n, height, width, channels = shape
    z = rng.standard_normal((n, height, width // 2 + 1, 2 * channels)).astype(np.float32)
    spectrum = z[..., :channels] + 1j * z[..., channels:]
    expected = np.fft.irfft2(spectrum, (height, width), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(irfft2(z, width), expected, atol=1e-5)


@pytest.mark.extended
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_transposes(rng, shape):
    """<A x, z> = <x, A^T z> for every pair."""
    x = rng.standard_normal(shape).astype(np.float32)
    z = rng.standard_normal(np.asarray(rfft2(x)).shape).astype(np.float32)
    for function, one, other in (
        (rfft2, x, z),
        (lambda spectrum: irfft2(spectrum, shape[2]), z, x),
    ):
        value, pull = jax.vjp(function, one)
        there, back = np.vdot(value, other), np.vdot(one, pull(jnp.asarray(other))[0])
        np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-4)


def gate(x):
    """What a network does: nonlinear between the transforms."""
    z = rfft2(x)
    return (irfft2(z * jnp.abs(z), x.shape[2]) ** 2).sum()


@pytest.mark.extended
def test_a_sharded_batch_stays_where_it_is(rng):
    x = rng.standard_normal((8, 6, 7, 2)).astype(np.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    function = jax.jit(jax.value_and_grad(gate), in_shardings=batch, out_shardings=(whole, batch))
    program = function.lower(x).compile()
    text = program.as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text
    assert text.count(" fft(") == 4
    value, gradient = program(jax.device_put(x, batch))
    expected = jax.value_and_grad(gate)(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)


def test_mapped_over_devices(rng):
    x = rng.standard_normal((4, 2, 6, 7, 2)).astype(np.float32)
    mapped = jax.pmap(jax.grad(gate))(x)
    np.testing.assert_allclose(mapped[1], jax.grad(gate)(x[1]), rtol=1e-4, atol=1e-5)


def test_bad_input():
    with pytest.raises(TypeError, match="float32 or float64, got bfloat16"):
        rfft2(jnp.zeros((1, 4, 4, 1), jnp.bfloat16))
    with pytest.raises(ValueError, match="belongs to an image 8 or 9 pixels wide, not 7"):
        irfft2(jnp.zeros((1, 4, 5, 2)), 7)
