"""Fixtures: restorers of a small network, and a small LCDNet."""

import jax
import jax.numpy as jnp
import pytest

from lcdnet_jax import networks
from tests.inference.blur import make


@pytest.fixture(scope="module")
def color():
    return make(3)


@pytest.fixture(scope="module")
def gray():
    return make(1)


@pytest.fixture(scope="module")
def lcdnet():
    """The smallest one with channel attention, and the shapes of its variables."""
    module = networks.create(
        "lcdnet", channels=1, width=16, enc_blocks=(1, 1, 1, 1), block="naf", use_msfm=False,
        scam_type="none", sfe_type="naf", global_branch="none", layer_scale_init=1.0,
    )  # fmt: skip
    return module, jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
