"""The estimate of device memory against sizes counted by hand."""

import sys

import flax.linen as nn
import jax.numpy as jnp
import pytest

from benchmarks import device_memory
from lcdnet_jax import networks
from lcdnet_jax.networks import registered


class Two(networks.RestorationNetwork):
    """Two convolutions without bias. The second one's gradient needs what ReLU gives."""

    channels: int = 1
    features: int = 4
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        y = nn.Conv(self.features, (3, 3), use_bias=False)(x)
        return nn.Conv(1, (3, 3), use_bias=False)(jnp.exp(y))


def config(crop=8, batch=2):
    return device_memory.make_config("two", "", crop, batch, "float32")


def test_by_hand():
    with registered("two", Two):
        found = device_memory.estimate(config())
    parameters, pixels = 2 * 9 * 4, 2 * 8 * 8
    counters = 3  # steps of the state, of Adam and of its schedule
    assert found.state == 4 * (4 * parameters + counters)
    assert found.gradients == 4 * parameters
    # The clean images, the input, and what the exponential gives; its gradient is itself.
    assert found.activations == 4 * pixels * (1 + 1 + 4)
    assert found.total == sum(found)


def test_kept_arrays_grow_with_pixels():
    with registered("two", Two):
        small, large = (device_memory.estimate(config(crop)).activations for crop in (8, 16))
    assert large == 4 * small


def test_crops_of_a_network_that_enlarges():
    c = device_memory.make_config("kmsr", "", 8, 1, "float32")
    assert device_memory.estimate(c).activations > 2 * 4 * 8 * 8
    assert ("ikc", "") not in device_memory._list_presets([])
    assert ("sadnet", "base") in device_memory._list_presets([])
    assert device_memory._list_presets(["sadnet:small", "kmsr"]) == [
        ("sadnet", "small"),
        ("kmsr", ""),
    ]


@pytest.mark.extended
def test_table(capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(sys, "argv", ["device_memory", "two", "--crop", "8", "16", "--check"])
    with registered("two", Two):
        device_memory.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split(" | ")[-1] == "plan |"
    assert len(rows) == 2
    assert all(row.startswith("| two | ") for row in rows)


def test_plan_holds_the_state():
    with registered("two", Two):
        c = config()
        assert device_memory.read_plan(c) > device_memory.estimate(c).state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "'nosuch'"),
        (["rcan", "--crop", "4", "6"], "must be a positive multiple of 4, the scale of rcan"),
        (["sadnet:huge"], "network 'sadnet' has no preset 'huge'; its presets: base, fast, small"),
    ],
)
def test_mistakes(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["device_memory", *arguments])
    with pytest.raises(SystemExit):
        device_memory.main()
    assert message in capsys.readouterr().err
