"""Fourier transforms as matrix products, against NumPy and the FFT."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcdnet_jax.ops import dft, irdft2, irdft2_planes, irfft2, rdft2, rdft2_planes, rfft2

SHAPES = [(2, 6, 8, 3), (1, 5, 7, 1), (3, 4, 1, 2), (1, 1, 6, 2), (1, 1, 1, 1), (1, 63, 34, 2)]


def gate(x, transform=rdft2, invert=irdft2):
    """What a network does: nonlinear between the transforms."""
    z = transform(x)
    return (invert(z * jnp.abs(z), x.shape[2]) ** 2).sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_transforms(rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    z = np.fft.rfft2(x.astype(np.float64), axes=(1, 2), norm="ortho")
    expected = np.concatenate([z.real, z.imag], axis=-1)
    actual = rdft2(x)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(irdft2(actual, shape[2]), x, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_of_what_is_no_transform(rng, shape):
    """Spectra that a network has changed are not those of real images."""
    n, height, width, channels = shape
    z = rng.standard_normal((n, height, width // 2 + 1, 2 * channels)).astype(np.float32)
    spectrum = z[..., :channels] + 1j * z[..., channels:]
    expected = np.fft.irfft2(spectrum, (height, width), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(irdft2(z, width), expected, rtol=0, atol=5e-6)


def test_gradient(rng):
    x = rng.standard_normal((2, 6, 7, 2)).astype(np.float32)
    expected = jax.grad(gate)(x, rfft2, irfft2)
    np.testing.assert_allclose(jax.grad(gate)(x), expected, rtol=1e-4, atol=2e-5)


def test_large_sides():
    """The error does not grow with the side, since angles are reduced as integers."""
    cosines, sines = dft._waves(2048, 1025, jnp.float32)
    turns = np.outer(np.arange(2048), np.arange(1025)).astype(np.float64)
    expected = np.exp(2j * np.pi * turns / 2048) / np.sqrt(2048)
    np.testing.assert_allclose(
        np.asarray(cosines) + 1j * np.asarray(sines), expected, rtol=0, atol=2e-9
    )


def test_precision():
    """Products in bfloat16, the default of TPUs, would be wrong by 1 %."""
    text = jax.jit(gate).lower(jnp.zeros((1, 4, 6, 1))).as_text()
    assert text.count("dot_general") > 8
    assert text.count("dot_general") == text.count("precision = [HIGHEST, HIGHEST]")
    assert "complex" not in text


def test_symbolic_sizes(rng):
    """One program for all sizes, odd ones too."""
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 2, h, w"), jnp.float32)
    exported = jax.export.export(jax.jit(rdft2_planes))(images)
    inverse = jax.export.export(jax.jit(lambda z, x: irdft2_planes(z, x.shape[3])))(
        jax.ShapeDtypeStruct(exported.out_avals[0].shape, jnp.float32), images
    )
    for shape in ((1, 2, 7, 10), (2, 2, 64, 33)):
        x = rng.standard_normal(shape).astype(np.float32)
        z = exported.call(x)
        np.testing.assert_allclose(z, rdft2_planes(x), rtol=0, atol=1e-5)
        np.testing.assert_allclose(inverse.call(z, x), x, rtol=0, atol=1e-5)


@pytest.mark.extended
def test_a_sharded_batch_stays_where_it_is(rng):
    x = rng.standard_normal((8, 6, 7, 2)).astype(np.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    function = jax.jit(jax.value_and_grad(gate), in_shardings=batch, out_shardings=(whole, batch))
    text = function.lower(x).compile().as_text()
    assert not any(name in text for name in ("all-gather", "all-to-all", "collective-permute"))


def test_bad_input():
    with pytest.raises(TypeError, match="float32 or float64, got bfloat16"):
        rdft2(jnp.zeros((1, 4, 4, 1), jnp.bfloat16))
    with pytest.raises(ValueError, match="belongs to an image 8 or 9 pixels wide, not 7"):
        irdft2(jnp.zeros((1, 4, 5, 2)), 7)
