"""RCAN: sizes, initialization, weights of another scale."""

import jax
import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    assert_fills,
    block_of,
    image,
    quick_jit,
    size_of,
)


def test_small_rcan():
    module = networks.create("rcan", preset="small", scale=2)
    assert module.scale == 2
    assert 100_000 < size_of(networks.abstract_variables(module)) < 300_000
    assert networks.create("rcan", preset="base") == networks.create("rcan")


@pytest.mark.extended
def test_initialization():
    module = networks.create("rcan", groups=1, blocks=2, features=32, scale=2)
    x = image(1, 4, 4, 1)
    params = quick_jit(module.init)(jax.random.key(0), x)["params"]
    blocks = params["body_0"]["blocks"]["body_0"]
    for layer, fan_in in (
        (params["head_0"], 9),
        (params["tail_0_0"], 9 * 32),
        (block_of(blocks, 0), 9 * 32),
        (block_of(blocks, 1), 9 * 32),
    ):
        assert_fills(layer["kernel"], fan_in**-0.5)
        assert 0.7 * fan_in**-0.5 < np.abs(layer["bias"]).max() <= fan_in**-0.5
    assert (blocks["kernel"][0] != blocks["kernel"][1]).mean() > 0.9
    again = quick_jit(module.apply)({"params": params}, x)  # nothing is missing
    assert np.isfinite(again).all()
