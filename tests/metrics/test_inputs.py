"""What all metrics of batches share."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import metrics
from tests.metrics.images import pair

psnr = jax.jit(metrics.psnr)

ssim = jax.jit(metrics.ssim)

ssim_3d = jax.jit(metrics.ssim_3d)


def test_large_flat_images_lose_no_digits():
    """One float32 sum over many equal values would be off by 1e-5."""
    a = np.full((1, 640, 512, 3), 0.9, np.float32)
    b = a - np.float32(0.2)
    error = np.mean((a.astype(np.float64) - b) ** 2)
    np.testing.assert_allclose(psnr(a, b), [-10 * np.log10(error)], atol=3e-6)
    expected = (2 * 0.9 * 0.7 + 1e-4) / (0.9**2 + 0.7**2 + 1e-4)
    np.testing.assert_allclose(ssim(a, b), [expected], atol=2e-6)


@pytest.mark.extended
def test_bfloat16_is_computed_in_float32(rng):
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in pair(rng, (2, 16, 19, 3)))
    for metric in (psnr, ssim, ssim_3d):
        result = metric(a, b)
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, metric(a.astype(jnp.float32), b.astype(jnp.float32)))
    assert psnr(a, b.astype(jnp.float32)).dtype == jnp.float32


def test_gradients_are_finite_on_flat_images():
    flat = jnp.full((1, 12, 13, 3), 0.5)
    a = jnp.concatenate([flat, flat, 0 * flat])
    b = jnp.concatenate([flat, 0 * flat, 0 * flat])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(metrics.ssim(x, b))))(a)
    assert np.isfinite(gradient).all()
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(metrics.psnr(x, 0 * flat))))(flat)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "metric",
    [metrics.psnr, metrics.mae, metrics.ssim, metrics.ssim_3d, metrics.ssim_uniform],
)
def test_bad_input(metric):
    x = np.zeros((2, 12, 12, 3), np.float32)
    with pytest.raises(ValueError, match=r"differ in shape.*\(2, 12, 12, 3\).*\(1, 12, 12, 3\)"):
        metric(x, x[:1])
    with pytest.raises(ValueError, match=r"x\[None\]"):
        metric(x[0], x[0])
    with pytest.raises(TypeError, match=r"uint8.*to_float"):
        metric(x, x.astype(np.uint8))
    with pytest.raises(TypeError, match=r"int32.*to_float"):
        metric(x.astype(np.int32), x)


def test_modules_hide_no_function():
    """Importing a module of a package sets an attribute of that name."""
    for name in metrics.__all__:
        assert importlib.util.find_spec(f"lcdnet_jax.metrics.{name}") is None
        assert callable(getattr(metrics, name))
