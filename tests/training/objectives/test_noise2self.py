"""Noise2Self: which pixels are hidden, and that they alone are compared."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.config import ConfigError
from lcdnet_jax.training.objectives.noise2self import select_hidden_pixels

COUNT = 6  # images of clean_batch
N2S = {"objective": "noise2self"}


@pytest.mark.extended
def test_pixels_are_those_of_the_official_masker():
    """row % 3 == step % 3 and column % 3 == step // 3 % 3; nine steps hide all once."""
    seen = 0
    for step in range(20):
        actual = np.asarray(select_hidden_pixels(7, 5, step=jnp.int32(step)))
        expected = np.zeros((7, 5), bool)
        for row in range(7):
            for column in range(5):
                expected[row, column] = (row % 3, column % 3) == (step % 3, step // 3 % 3)
        np.testing.assert_array_equal(actual[0, :, :, 0], expected)
        seen = seen + expected * (step < 9)
    assert (seen == 1).all()


@pytest.mark.extended
@pytest.mark.parametrize("source", ["noise", "pairs", "degraded only", "host"])
def test_hidden_pixels_are_random_and_the_target_is_the_input(clean_batch, pairs, prepared, source):
    batch = pairs if source in ("pairs", "host") else clean_batch()
    fields = {"noise": {}, "host": {"degradation.where": "host"}}
    given = N2S | fields.get(source, {"degradation.kind": "none"})
    actual = prepared(batch, step=4, **given)
    noisy = {
        "noise": prepared(clean_batch(), step=4)["degraded"],
        "degraded only": np.asarray(batch["clean"]),
    }.get(source, np.asarray(batch.get("degraded")))
    np.testing.assert_array_equal(actual["clean"], noisy)
    hidden = actual["scored"]
    assert hidden.shape == (COUNT, 10, 13, 1)
    assert (hidden == np.asarray(select_hidden_pixels(10, 13, step=jnp.int32(4)))).all()
    np.testing.assert_array_equal(actual["degraded"][~hidden], noisy[~hidden])
    drawn = actual["degraded"][hidden]
    assert len(np.unique(drawn)) == drawn.size
    assert 0 <= drawn.min() < 0.1
    assert 0.9 < drawn.max() < 1


@pytest.mark.extended
def test_masked_before_pixels_are_hidden(pairs, prepared):
    batch = pairs
    given = {**N2S, "degradation.kind": "none"}
    plain = prepared(batch, **given)
    masked = prepared(batch, **given, **{"sfm.rate": 1.0})
    np.testing.assert_array_equal(masked["clean"], batch["degraded"])
    hidden = masked["scored"]
    np.testing.assert_array_equal(masked["degraded"][hidden], plain["degraded"][hidden])
    assert np.abs(masked["degraded"] - plain["degraded"])[~hidden].max() > 0.01


def test_refused(pairs, prepared):
    with pytest.raises(ConfigError, match="'noise2self' masks the noisy image"):
        prepared(pairs, **N2S, **{"sfm.rate": 0.5, "sfm.where": "host"})


@pytest.mark.extended
@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_hidden_pixels_are_compared(clean_batch, prepared, step_with, shift, accumulate):
    batch = clean_batch()
    given = {"objective": "noise2self", "loss": "sse", "accumulate": accumulate}
    seen = prepared(batch, **given)
    gradient, loss = step_with(shift, batch, **given)
    x, y = (seen[k].astype(np.float64)[seen["scored"]] for k in ("degraded", "clean"))
    error = 0.5 * x + 0.25 - y
    np.testing.assert_allclose(loss, 0.5 * (error**2).sum() / COUNT, rtol=1e-5)
    np.testing.assert_allclose(gradient["a"], (error * x).sum() / COUNT, rtol=1e-5)
    np.testing.assert_allclose(gradient["b"], error.sum() / COUNT, rtol=1e-4)


def test_whole_spectra_need_all_pixels(clean_batch, prepared):
    with pytest.raises(ConfigError, match="'l1_fft' compares whole spectra"):
        prepared(clean_batch(), **N2S, loss="l1_fft")


@pytest.mark.extended
def test_denoises_without_clean_images(errors_before_and_after):
    before, after = errors_before_and_after("noise2self")
    assert after < 0.25 * before
