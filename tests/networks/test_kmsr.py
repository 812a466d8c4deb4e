"""KMSR against a slow reference."""

import jax
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from lcdnet_jax.networks import kmsr
from tests.networks.by_hand import (
    assert_fills,
    block_of,
    check,
    conv,
    drawn,
    image,
    quick_jit,
    relu,
)
from tests.networks.every_network import TINY


def kmsr_by_hand(x, p):
    y = relu(conv(x, p["input"]))
    for i in range(len(p["resblock_layer"]["conv1"]["kernel"])):
        block = block_of(p["resblock_layer"], i)
        y = relu(y + conv(relu(conv(y, block["conv1"])), block["conv2"]))
    return conv(y, p["output"])


@pytest.mark.parametrize("channels", [1, 3])
def test_kmsr_by_hand(channels):
    check(
        networks.KMSR(channels=channels, features=5, blocks=3),
        [image(2, 5, 6, channels)],
        kmsr_by_hand,
    )


def test_block_by_hand():
    """Also for negative inputs, which the network does not give it."""

    def by_hand(x, p):
        return relu(x + conv(relu(conv(x, p["conv1"])), p["conv2"]))

    check(kmsr.Block(), [image(2, 4, 5, 3) - np.float32(0.5)], by_hand)


def test_kmsr_names():
    """Those of the class in the code of frequency masking."""
    kwargs = TINY["kmsr"]
    variables = drawn(networks.create("kmsr", **kwargs), image(1, 8, 8, 1))
    state = convert.to_torch("kmsr", variables, **kwargs)
    layers = [
        f"resblock_layer.{i}.conv{j}.{k}"
        for i in (0, 1)
        for j in (1, 2)
        for k in ("weight", "bias")
    ]
    assert sorted(state) == sorted(["input.weight", "output.weight", *layers])
    kernel = variables["params"]["resblock_layer"]["conv2"]["kernel"][1]
    np.testing.assert_array_equal(
        state["resblock_layer.1.conv2.weight"], kernel.transpose(3, 2, 0, 1)
    )
    again = convert.from_torch("kmsr", state, **kwargs)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    del state["output.weight"]
    with pytest.raises(ValueError, match=r"missing: output\.weight"):
        convert.from_torch("kmsr", state, **kwargs)


def test_initialization():
    module = networks.KMSR(blocks=2)
    params = quick_jit(module.init)(jax.random.key(0), image(1, 4, 4, 3))["params"]
    gain = 2**0.5
    assert_fills(params["input"]["kernel"], gain * (6 / (9 * (3 + 64))) ** 0.5)
    for i in (0, 1):
        layer = block_of(params["resblock_layer"]["conv2"], i)
        assert_fills(layer["kernel"], gain * (6 / (9 * (64 + 64))) ** 0.5)
        assert_fills(layer["bias"], (9 * 64) ** -0.5)
