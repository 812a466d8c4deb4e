import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, networks
from lcdnet_jax.inference import ComputeTypeWarning
from lcdnet_jax.inference import restorer as restorer_lib
from lcdnet_jax.inference.options import OptionError
from tests.inference.blur import BUCKET, Blur, TwoViews
from tests.inference.filters import Filter


def test_bfloat16(rng, monkeypatch):
    """As on an accelerator."""
    monkeypatch.setattr(restorer_lib, "avoid_slow_type", lambda dtype, platform: dtype)
    module = networks.create("dncnn", depth=3, features=4)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    image = rng.random((17, 23), np.float32)
    exact, coarse = (
        Restorer(module, variables, bucket=BUCKET, dtype=dtype) for dtype in (None, "bfloat16")
    )
    assert coarse.module.dtype == jnp.bfloat16
    assert coarse(image).dtype == np.float32
    difference = np.abs(coarse(image) - exact(image)).max()
    assert 0 < difference < 0.05
    back = Restorer(coarse.module, variables, bucket=BUCKET, dtype=jnp.float32)
    np.testing.assert_array_equal(back(image), exact(image))


@pytest.mark.parametrize("device", [None, "cpu:1"])
def test_bfloat16_is_float32_on_a_cpu(device):
    """The type of the weights as well as the option."""
    module = networks.create("dncnn", depth=3, features=4)
    stored = module.clone(dtype=jnp.bfloat16)
    for network, options in ((module, {"dtype": "bfloat16"}), (stored, {})):
        with pytest.warns(ComputeTypeWarning, match="DnCNN computes in float32, as bfloat16 is"):
            restorer = Restorer(network, {}, device=device, **options)
        assert restorer.module == module
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restorer.with_bucket(8)
        assert Restorer(stored, {}, dtype="float32").module == module


def test_wrong_dtype():
    module, variables = networks.create("dncnn", depth=3, features=4), {}
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16, got 'float16'"):
        Restorer(module, variables, dtype="float16")
    with pytest.raises(ValueError, match="TwoViews has no dtype; leave it out"):
        Restorer(TwoViews(), {}, dtype="bfloat16")


def test_device(rng, color):
    image = rng.random((9, 9, 3), np.float32)
    for device in ("cpu:5", jax.devices()[5]):
        restorer = Restorer(color.module, color.variables, bucket=BUCKET, device=device)
        used, run = [], restorer._program.run
        restorer._program.run = lambda *a, f=run, to=used: to.append(f(*a)) or to[-1]
        np.testing.assert_array_equal(restorer(image), color(image))
        assert used[0].devices() == {jax.devices()[5]}
    for device in ("cpu:8", "cpu:x", "cpu:-1", "cpu:", "cpu:0:0", "", ":", ":0", "abacus"):
        with pytest.raises(ValueError, match=f"no device '{device}'; use one of cpu:0, cpu:1"):
            Restorer(color.module, color.variables, device=device)


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [
        ("tile", 24, 32),
        ("tile", 512.5, 32),
        ("tile", True, 32),
        ("overlap", -1, 0),
        ("overlap", "64", 0),
        ("max_pixels", -1, 1),
        ("max_pixels", 0, 1),
        ("bucket", 0, 1),
        ("bucket", 2.5, 1),
        ("tile_batch", 0, 1),
    ],
)
def test_integers(option, value, least):
    message = f"^{option} must be an integer of at least {least}, got {value!r}$"
    with pytest.raises(ValueError, match=message):
        Restorer(Blur(), {}, **{option: value})
    Restorer(Blur(), {}, tile=np.int64(256), overlap=np.int16(0))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"ensemble": "no"}, "ensemble must be True or False, got 'no'"),
        ({"progress": 3}, "progress must be a function or None, got 3"),
        ({"on_compile": 3}, "on_compile must be a function or None, got 3"),
    ],
    ids=str,
)
def test_options_are_checked_at_once(color, option, message):
    with pytest.raises(ValueError, match=message):
        Restorer(color.module, color.variables, **option)
    if "ensemble" in option:
        assert Restorer(color.module, color.variables, ensemble=np.True_).ensemble
        return
    with pytest.raises(ValueError, match=message):
        color.with_progress(**{"progress": None, **option})


def test_networks_without_local_means(lcdnet):
    with pytest.raises(ValueError, match="Filter has no local_pool; leave it out, as the network"):
        Restorer(Filter(), {}, local_pool=96)
    with pytest.raises(ValueError, match="RCAN has no local_pool; leave it out, or use tile to s"):
        Restorer(networks.create("rcan"), {}, local_pool=96)
    with pytest.raises(ValueError, match="local_pool must be an integer of at least 1, got 0"):
        Restorer(*lcdnet, local_pool=0)


def test_flags_in_messages():
    error = OptionError("tile_batch 1 of tiles, overlapping: tile 2, overlap 3; local_pool")
    assert str(error.with_flags("-")) == (
        "--tile-batch 1 of tiles, overlapping: --tile 2, --overlap 3; --local-pool"
    )
    assert str(error.with_flags("_")).endswith("--local_pool")
