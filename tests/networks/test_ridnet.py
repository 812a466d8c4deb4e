"""RIDNet: initialization."""

import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    assert_fills,
    params_of,
)


@pytest.mark.parametrize(
    ("channels", "mean"),
    [(1, [(0.4488 + 0.4371 + 0.4040) / 3]), (3, [0.4488, 0.4371, 0.4040])],
)
def test_initialization(channels, mean):
    module = networks.create("ridnet", channels=channels, blocks=1)
    names = ("sub_mean", "add_mean", "b1.r1.body3_0")
    sub, add, merged = params_of(module, *names, channels=channels)
    np.testing.assert_allclose(sub["bias"], np.negative(mean), rtol=1e-6)
    np.testing.assert_allclose(add["bias"], mean, rtol=1e-6)
    for shift in (sub, add):
        np.testing.assert_array_equal(shift["kernel"][0, 0], np.eye(channels))
    assert np.std(merged["kernel"]) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.03)
    assert_fills(merged["bias"], (9 * 128) ** -0.5)
