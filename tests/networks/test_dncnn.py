"""DnCNN: initialization, and batch statistics over a mapped axis."""

import jax
import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    image,
    params_of,
    quick_jit,
    variables_of,
)
from tests.networks.every_network import TINY


def test_statistics_are_shared_over_the_mapped_axis():
    module = networks.create("dncnn", **TINY["dncnn"])
    x = image(4, 6, 5, 1)
    variables = variables_of(module)

    def apply(x, axis_name=None):
        return module.apply(variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"])

    y, together = quick_jit(apply)(x)
    parts = jax.vmap(lambda part: apply(part, "i"), axis_name="i")
    mapped, apart = quick_jit(parts)(x.reshape(2, 2, *x.shape[1:]))
    np.testing.assert_allclose(mapped.reshape(y.shape), y, atol=1e-6)
    for one, both in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(both, np.stack([one, one]), rtol=1e-5, atol=1e-7)


def test_initialization():
    module = networks.create("dncnn", depth=4)
    conv, *norms = params_of(module, "dncnn.conv_1", "dncnn.bn_1", "dncnn.bn_2")
    std = (2 / (9 * 64)) ** 0.5
    assert np.std(conv["kernel"]) == pytest.approx(std, rel=0.03)
    assert np.abs(conv["kernel"]).max() > 3.5 * std  # tails and all
    scale = np.asarray([norm["scale"] for norm in norms])
    assert np.abs(scale).max() == np.float32(0.025)
    assert (scale > 0).mean() == pytest.approx(0.5, abs=0.15)
    # P(|N(0, 0.0589)| > 0.025) = 0.671
    assert (np.abs(scale) == np.float32(0.025)).mean() == pytest.approx(0.671, abs=0.12)
    assert not norms[0]["bias"].any()
