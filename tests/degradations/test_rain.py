"""Rain: how much, how bright, in which direction, and the veil."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from lcdnet_jax import degradations
from lcdnet_jax.degradations import Rain

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEYS = jax.random.split(jax.random.key(0), 4)
# One layer, faint: clipping would hide what is measured.
PLAIN = Rain(
    layers=1,
    coverage=(1.0, 1.0),
    length=(16.0, 16.0),
    width=(2.0, 2.0),
    brightness=(0.04, 0.04),
    angle=(40.0, 40.0),
    spread=0.0,
    transmission=(0.6, 0.6),
    airlight=(0.8, 0.8),
)


def rainy(clean, kind):
    add = functools.partial(degradations.rain, kind=kind)
    return np.asarray(quick_jit(add)(KEYS[: len(clean)], clean), np.float64)


@pytest.fixture(scope="module")
def streaks():
    """What falls on images that are dark on one half, without the veil."""
    clean = np.full((4, 90, 100, 1), 0.3, np.float32)
    clean[:, :, 50:] = 0.1
    return (rainy(clean, PLAIN) - 0.4 * 0.8) / 0.6 - clean


@pytest.mark.extended
def test_streaks_add_to_the_scene(streaks):
    assert streaks.min() == pytest.approx(0, abs=1e-6)
    # Of a streak: the mean of its points' brightness, and the areas under its two profiles.
    expected = 0.04 * 0.65 * (2 / 3 * 17 / 16) * np.sqrt(np.pi / np.log(2)) / 2
    assert streaks.mean() == pytest.approx(expected, rel=0.1)
    # Neither the scene nor the border changes what falls.
    border = np.concatenate([streaks[:, :6].ravel(), streaks[:, -6:].ravel()])
    assert border.mean() == pytest.approx(expected, rel=0.15)
    assert streaks[:, :, :50].mean() == pytest.approx(streaks[:, :, 50:].mean(), rel=0.15)


def test_angle(streaks):
    """Brightness goes on 40 degrees from the vertical, down and to the right."""
    plane = streaks[..., 0] - streaks.mean()

    def alike(rows, columns):
        part = plane[:, rows:, max(columns, 0) : plane.shape[2] + min(columns, 0)]
        other = plane[:, : plane.shape[1] - rows, max(-columns, 0) : plane.shape[2] - columns]
        other = other[:, :, : part.shape[2]]
        return (part * other).mean() / plane.var()

    assert alike(5, 4) > 0.4  # atan(4 / 5) is 39 degrees
    assert alike(5, -4) < 0.1
    assert alike(6, 0) < 0.2


@pytest.mark.extended
def test_heavy():
    """As far from the clean image as the pairs of Rain100H that were looked at."""
    ramp = np.linspace(0.1, 0.7, 64 * 64, dtype=np.float32).reshape(1, 64, 64, 1)
    clean = np.repeat(ramp, 4, axis=0)
    assert 35 < (rainy(clean, "heavy") - clean).mean() * 255 < 90


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "rain of 0 layers; use 1 or more"),
        ({"coverage": (0.5, 2.0)}, r"coverage is \(0.5, 2.0\); use two numbers"),
        ({"length": (0.0, 2.0)}, "1 <= low"),
        ({"width": (0.1, 2.0)}, "0.5 <= low"),
        ({"angle": (-120.0, 2.0)}, "-90 <= low <= high <= 90"),
        ({"spread": -1.0}, "use degrees from 0 to 90"),
        ({"transmission": (0.9, 0.5)}, "transmission is"),
    ],
)
def test_messages(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)
