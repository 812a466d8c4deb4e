"""RIDNet: a block by hand, and initialization."""

import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax.networks import ridnet
from tests.networks.by_hand import (
    assert_fills,
    check,
    conv,
    image,
    params_of,
    relu,
)


@pytest.mark.parametrize("sizes", [(3, 3), (3, 3, 1)])
def test_residual_by_hand(sizes):
    """Also for negative inputs, which the network does not give it."""

    def by_hand(x, p):
        y = conv(x, p["body_0"])
        for i in range(1, len(sizes)):
            y = conv(relu(y), p[f"body_{2 * i}"])
        return relu(x + y)

    x = image(2, 4, 5, 6) - np.float32(0.5)
    variables, _ = check(ridnet.Residual(sizes), [x], by_hand)
    kernels = [variables["params"][f"body_{2 * i}"]["kernel"].shape for i in range(len(sizes))]
    assert kernels == [(size, size, 6, 6) for size in sizes]


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
