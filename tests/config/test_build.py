"""What a configuration describes: its network, its degradation and its scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default, sr_small
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, networks

LOW = "degradation.options.low_resolution."
PAIRS = {"degradation.kind": "none", "degradation.options": ConfigDict(), "sfm.rate": 0.0}
SIZES = {"groups": 1, "blocks": 1, "features": 16}


def super_resolution(**fields):
    config = sr_small.get_config("sfm")
    config.network.kwargs = ConfigDict({"scale": 2, **SIZES})
    config.data.crop = 16
    config.update_from_flattened_dict(fields)
    return config


def test_network():
    config = super_resolution(**{"network.dtype": "bfloat16"})
    expected = networks.create(
        "rcan", channels=config.data.channels, dtype=jnp.dtype("bfloat16"), scale=2, **SIZES
    )
    assert config_lib.network(config) == expected


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_compute_type(platform, dtype):
    config = super_resolution(**{"network.dtype": "bfloat16"})
    copied = config_lib.with_compute_type(config, platform)
    assert (copied.network.dtype, config.network.dtype) == (dtype, "bfloat16")
    copied.network.dtype = "bfloat16"
    assert copied.to_dict() == config.to_dict()


def test_network_of_a_wrong_type():
    config = default.get_config()
    config.network.name = "sadnet"
    config.network.kwargs = ConfigDict({"width": "32"})
    with pytest.raises(ValueError, match="width"):
        config_lib.network(config)


@pytest.mark.parametrize("kind", ["awgn", "none"])
def test_no_degradation(kind):
    config = default.get_config()
    config.degradation.kind = kind
    assert config_lib.create_degradation(config) is None


@pytest.mark.extended
def test_degradation(rng):
    config = default.get_config()
    config.degradation.kind = "jpeg"
    config.degradation.options = ConfigDict({"jpeg": {"quality": (30, 30)}})
    keys = jax.random.split(jax.random.key(0), 1)
    images = jnp.asarray(rng.random((1, 16, 16, 3)), jnp.float32)
    expected = degradations.from_kind("jpeg", {"jpeg": {"quality": (30, 30)}})(keys, images)
    actual = config_lib.create_degradation(config)(keys, images)
    np.testing.assert_array_equal(actual, expected)
    assert np.abs(actual - images).max() > 0.01


def test_find_scale():
    config_lib.validate(super_resolution(**{"data.where": "device"}))
    assert config_lib.find_scale(super_resolution()) == 2
    assert config_lib.find_scale(super_resolution(**PAIRS)) == 2
    kmsr = {"network.name": "kmsr", "network.kwargs": ConfigDict(), LOW + "scale": 4}
    config = super_resolution(**kmsr)
    config.degradation.options.low_resolution.enlarge = True
    config_lib.validate(config)
    assert config_lib.find_scale(config) == 4
    assert config_lib.find_scale(super_resolution(**kmsr, **PAIRS)) == 1
