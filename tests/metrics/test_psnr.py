import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from lcdnet_jax import metrics
from tests.metrics.images import pair

psnr = jax.jit(metrics.psnr)

mae = jax.jit(metrics.mae)


@pytest.mark.parametrize("shape", [(3, 23, 31, 3), (1, 37, 18, 1)])
def test_psnr_agrees_with_scikit_image(rng, shape):
    a, b = pair(rng, shape)
    expected = [peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(a, b, strict=True)]
    result = psnr(a, b)
    assert result.shape == shape[:1]
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)
    scaled = functools.partial(metrics.psnr, data_range=255)
    np.testing.assert_allclose(jax.jit(scaled)(a * 255, b * 255), expected, atol=1e-4)


def test_psnr_by_hand():
    flat = jnp.full((4, 5, 7, 3), 0.5)
    offsets = jnp.array([0.1, 0.01, 0.0, -0.5])[:, None, None, None]
    result = psnr(flat, flat + jnp.broadcast_to(offsets, flat.shape))
    np.testing.assert_allclose(result, [20.0, 40.0, np.inf, 6.0206], atol=1e-4)


def test_mae_by_hand(rng):
    a, b = pair(rng, (3, 9, 7, 3))
    sizes = np.array([[9, 7], [4, 7], [9, 2]], np.int32)
    whole = [np.abs(x.astype(np.float64) - y).mean() for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(mae(a, b), whole, rtol=1e-6)
    assert mae(a, b).dtype == jnp.float32
    parts = [
        np.abs(x[:h, :w].astype(np.float64) - y[:h, :w]).mean()
        for x, y, (h, w) in zip(a, b, sizes, strict=True)
    ]
    np.testing.assert_allclose(mae(a, b, sizes=sizes), parts, rtol=1e-6)
    np.testing.assert_allclose(mae(a, a), 0)
    assert np.isnan(mae(a, b, sizes=sizes * np.array([[1, 1], [0, 1], [1, 1]], np.int32))[1])


def masked_means(maps, mask):
    """Mean over the pixels of a mask ``[N, H, W]``, all channels, in float64."""
    return [m[inside].astype(np.float64).mean() for m, inside in zip(maps, mask, strict=True)]


def test_masks_of_means_over_pixels(rng):
    a, b = pair(rng, (2, 15, 18, 3))
    mask = rng.random((2, 15, 18)) < 0.7
    sizes = np.array([[15, 18], [12, 13]], np.int32)
    masks = {"mask": mask[..., None]}
    seen = mask.copy()
    seen[1, 12:] = seen[1, :, 13:] = False
    for sized, inside in (({}, mask), ({"sizes": sizes}, seen)):
        squares = masked_means((a - b) ** 2, inside)
        np.testing.assert_allclose(psnr(a, b, **masks, **sized), -10 * np.log10(squares), rtol=1e-5)
        absolutes = masked_means(np.abs(a - b), inside)
        np.testing.assert_allclose(mae(a, b, **masks, **sized), absolutes, rtol=1e-5)
    assert np.isnan(psnr(a, b, mask=jnp.zeros_like(mask[..., None]))).all()
