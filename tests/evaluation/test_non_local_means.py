"""Non-local means: less noise, and the strength with the best score."""

import numpy as np
import pytest

from lcdnet_jax import protocols
from lcdnet_jax.evaluation import Evaluator, non_local_means

pytest.importorskip("skimage")

SIGMA = 30.0


def blocks(rng, height, width):
    """A clean image of 8x8 blocks."""
    coarse = rng.random((height // 8, width // 8, 3), np.float32)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def mean_squared_error(a, b):
    return np.mean((a.astype(float) - b) ** 2)


def test_denoise_removes_noise(rng):
    clean = blocks(rng, 48, 40)
    noisy = clean + rng.normal(0, SIGMA / 255, clean.shape).astype(np.float32)
    restored = non_local_means.denoise(noisy, sigma=SIGMA, strength=0.8)
    assert (restored.shape, restored.dtype) == (clean.shape, np.float32)
    assert mean_squared_error(restored, clean) < 0.6 * mean_squared_error(noisy, clean)


def test_tune_strength_chooses_the_best_mean(rng, monkeypatch):
    """With a denoiser whose error is known: 0.6 is best on the mean, not on each image."""
    errors = {"a": (9, 2, 1, 9), "b": (9, 2, 5, 9)}  # of each strength, in units of 0.01
    examples = [
        {"name": name, "clean": np.full((16, 16, 3), value, np.float32)}
        for name, value in (("a", 0.2), ("b", 0.6))
    ]

    def denoise(noisy, *, sigma, strength):
        assert sigma == SIGMA
        name, value = ("a", 0.2) if noisy.mean() < 0.4 else ("b", 0.6)
        error = errors[name][non_local_means.STRENGTHS.index(strength)] / 100
        return np.full_like(noisy, value + error)

    monkeypatch.setattr(non_local_means, "denoise", denoise)
    evaluator = Evaluator(protocols.get("float"))
    assert non_local_means.tune_strength(examples, evaluator, sigma=SIGMA) == 0.6


def test_tune_strength_sees_centers_only(rng, monkeypatch):
    clean = np.zeros((300, 258, 3), np.float32)
    clean[22:278, 1:257] = 0.5
    shapes = set()

    def denoise(noisy, *, sigma, strength):
        shapes.add(noisy.shape)
        assert abs(noisy.mean() - 0.5) < 0.01  # no pixel of the border
        return noisy

    monkeypatch.setattr(non_local_means, "denoise", denoise)
    evaluator = Evaluator(protocols.get("float"))
    non_local_means.tune_strength([{"name": "x", "clean": clean}], evaluator, sigma=SIGMA)
    assert shapes == {(256, 256, 3)}
