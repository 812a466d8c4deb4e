"""Frequency masks against the authors' numbers in tests/golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import sfm
from tests import golden_files


@pytest.fixture(params=["mode1_c", "mode2_c0.85", "mode2_c0.15"])
def case(request):
    data = golden_files.load("sfm_33x57")
    image, band, mask, masked = (
        data[f"33x57_{request.param}/{key}"] for key in ("image", "band", "mask", "masked")
    )
    assert 0 < mask.mean() < 1
    return image.transpose(1, 2, 0), band, mask, masked.transpose(1, 2, 0)


def test_masks(case):
    image, band, expected, _ = case
    mask = sfm.band_mask(*image.shape[:2], *band)
    assert mask.dtype == jnp.float32
    np.testing.assert_array_equal(mask, expected)


def test_masked_images(case):
    image, _, mask, expected = case
    found = sfm.apply_mask(image.astype(np.float32), mask)
    assert found.dtype == jnp.float32
    golden_files.assert_close(found, expected, 1e-5)


def test_masked_images_in_float64(case):
    image, _, mask, expected = case
    with jax.enable_x64(True):
        found = sfm.apply_mask(image, mask)
    assert found.dtype == np.float64
    golden_files.assert_close(found, expected, 1e-12)
