"""Scores of padded images are those of the images themselves."""

import jax
import numpy as np
import pytest

from lcdnet_jax import metrics


@pytest.mark.extended
@pytest.mark.parametrize("shape", [(11, 11, 1), (20, 70, 3), (64, 64, 3)])
def test_psnr_and_ssim(rng, shape):
    a, b = (rng.random(shape, np.float32) for _ in range(2))
    expected = [float(score(a[None], b[None])[0]) for score in (metrics.psnr, metrics.ssim)]
    np.testing.assert_allclose(metrics.psnr_and_ssim(a, b), expected, rtol=1e-5)


def test_small_images_have_no_ssim(rng):
    a = rng.random((10, 30, 3), np.float32)
    psnr, ssim = metrics.psnr_and_ssim(a, a)
    assert psnr == np.inf
    assert np.isnan(ssim)


def test_masks_and_buckets(rng):
    """Further images are padded alike, and the padding does not count."""
    a, b = (rng.random((13, 21, 3), np.float32) for _ in range(2))
    mask = rng.random((13, 21, 1)) < 0.5
    score = jax.jit(lambda a, b, sizes, mask: {"mae": metrics.mae(a, b, sizes=sizes, mask=mask)})
    expected = np.abs(a - b)[mask[..., 0]].mean()
    for bucket in (1, 8, 64):
        found = metrics.score_padded(score, a, b, mask, bucket=bucket)
        np.testing.assert_allclose(found["mae"], expected, rtol=1e-5)
