"""Noise2Noise: what the network is given and asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import degradations, sfm
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training.step import prepare

COUNT = 6  # images of clean_batch
N2N = {"objective": "noise2noise"}


def keys_of(config, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    return jnp.stack([jax.random.fold_in(key, place) for place in range(COUNT)])


@pytest.mark.extended
def test_input_and_target_are_two_noisy_copies(config, clean_batch, prepared):
    batch = clean_batch()
    actual = prepared(batch, step=3, **N2N)
    assert set(actual) == {"clean", "degraded", "mask"}
    levels = {"sigma_min": 5.0, "sigma_max": 50.0}
    one, other = degradations.noisy_copies(keys_of(config, 3), batch["clean"], count=2, **levels)
    np.testing.assert_array_equal(actual["degraded"], one)
    np.testing.assert_array_equal(actual["clean"], other)
    # The input is that of supervised training.
    supervised = prepared(batch, step=3)
    np.testing.assert_array_equal(actual["degraded"], supervised["degraded"])


@pytest.mark.extended
def test_masked_after_noise(config, clean_batch, prepared):
    batch = clean_batch()
    plain = prepared(batch, **N2N)
    masked = prepared(batch, **N2N, **{"sfm.rate": 1.0})
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    keys = jnp.stack([jax.random.fold_in(key, 2) for key in keys_of(config, 0)])
    expected, _ = sfm.mask_images(keys, plain["degraded"], rate=1.0)
    np.testing.assert_allclose(masked["degraded"], expected, atol=1e-6)
    assert np.abs(masked["degraded"] - plain["degraded"]).max() > 0.01


def test_as_released_the_others_are_black(clean_batch, prepared):
    fields = {"sfm.rate": 0.5, "sfm.unselected": "zero"}
    actual = prepared(clean_batch(), **N2N, **fields)
    plain = prepared(clean_batch(), **N2N)
    black = ~actual["degraded"].any((1, 2, 3))
    assert 0 < black.sum() < COUNT
    np.testing.assert_array_equal(actual["clean"], plain["clean"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"degradation.kind": "none"}, "which also trains on pairs of two captures"),
        ({"degradation.where": "host"}, "set config.degradation.where to 'device'"),
        ({"sfm.rate": 0.5, "sfm.where": "host"}, "set config.sfm.where to 'device'"),
        ({"sfm.rate": 0.5, "sfm.target": "masked"}, "which are not masked; set config.sfm"),
    ],
)
def test_refused(pairs, prepared, fields, message):
    with pytest.raises(ConfigError, match=message):
        prepared(pairs, **N2N, **fields)


def test_refuses_images_that_are_degraded_already(config, pairs):
    config.objective = "noise2noise"
    with pytest.raises(ValueError, match="makes both noisy copies itself; leave them out"):
        prepare(pairs, config, step=jnp.int32(0), axis_name=None)


@pytest.mark.extended
def test_denoises_without_clean_images(errors_before_and_after):
    before, after = errors_before_and_after("noise2noise")
    assert after < 0.25 * before
