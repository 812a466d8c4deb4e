"""Networks by name, and a network that someone else wrote."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import default
from lcdnet_jax import Restorer, export, networks, ops
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.export import run_exported
from lcdnet_jax.networks import registered
from lcdnet_jax.training import train_and_evaluate
from tests.guards import cases

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Halves(networks.RestorationNetwork):
    """A convolution at half the size, enlarged again and added to the input."""

    channels: int = 3
    features: int = 4
    dtype: Any = jnp.float32

    stride = 2
    tile_overlap = 8
    PRESETS = {"wide": {"features": 8}}  # noqa: RUF012

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        height, width = x.shape[1:3]
        y = ops.pad_to_multiple(x, self.stride).astype(self.dtype)
        y = nn.relu(nn.Conv(self.features, (2, 2), strides=2, dtype=self.dtype)(y))
        y = nn.ConvTranspose(self.channels, (2, 2), strides=(2, 2), dtype=self.dtype)(y)
        return x + y[:, :height, :width].astype(x.dtype)


class Other(Halves):
    pass


@pytest.fixture
def halves():
    with registered("halves", Halves):
        yield


def test_create(halves):
    assert "halves" in networks.available()
    assert networks.get("halves") is Halves
    assert networks.create("halves", preset="wide") == Halves(features=8)
    networks.register("halves", Halves)  # again


def test_registered_for_a_block():
    """In place of another class, whose name it gives back whatever happens."""

    def fail():
        with networks.registered("sadnet", Halves), networks.registered("other", Other):
            assert networks.get("sadnet") is Halves
            assert networks.get("other") is Other
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert networks.get("sadnet") is networks.SADNet
    assert "other" not in networks.available()
    with (
        pytest.raises(TypeError, match="is not a network"),
        networks.registered("sadnet", nn.Dense),
    ):
        pass
    assert networks.get("sadnet") is networks.SADNet


def test_refused(halves):
    with pytest.raises(ValueError, match=r"'halves' belongs to .*test_registry\.Halves; choose an"):
        networks.register("halves", Other)
    with pytest.raises(ValueError, match=r"'sadnet' belongs to .*sadnet\.SADNet; choose"):
        networks.register("sadnet", Halves)
    for name in ("", "a net", "half-net", 3):
        with pytest.raises(ValueError, match="is not a Python identifier; use letters"):
            networks.register(name, Other)
    with pytest.raises(TypeError, match="is not a network; give a class derived from"):
        networks.register("dense", nn.Dense)
    assert "dense" not in networks.available()
    with pytest.raises(ValueError, match="no network 'dense'; known networks: buifd"):
        networks.get("dense")


def test_modules_that_declare_nothing():
    """Nothing is guessed of them."""

    class Plain(nn.Module):
        channels: int = 3

    for use in (lambda: Restorer(Plain(), {}), lambda: export.export_program(Plain(), {})):
        with pytest.raises(TypeError, match=r"^Plain does not declare .*; derive it from lcd"):
            use()


@pytest.mark.extended
def test_registered_network_from_training_to_program(halves, tmp_path):
    config = cases.config_of(
        default,
        {"network.name": "halves", "network.kwargs": {"features": 2}, "steps": 2},
    )
    datasets = {"train": cases.Batches(config), "eval": cases.evaluation_images(config)}
    train_and_evaluate(config, tmp_path / "run", datasets=datasets, devices=jax.local_devices()[:1])
    image = cases.floats(1, 13, 22, 1)[0]
    restorer = Restorer.from_checkpoint(tmp_path / "run")
    assert restorer.module == Halves(channels=1, features=2)
    assert restorer.overlap == 8
    expected = restorer(image)
    assert (expected.shape, expected.dtype) == (image.shape, image.dtype)

    weights = weights_lib.load(tmp_path / "run")
    described = weights_lib.create_weights("halves", weights.variables, channels=1, features=2)
    weights_lib.save_safetensors(described, tmp_path / "halves.safetensors")
    again = Restorer.from_checkpoint(tmp_path / "halves.safetensors")(image)
    np.testing.assert_array_equal(again, expected)

    path = tmp_path / "halves.jaxprog"
    card = export.write(path, weights.module, weights.variables, platforms=("cpu",))
    assert (card["stride"], card["channels"]) == (2, 1)
    found = run_exported.load(path)(image[None])[0]
    whole = np.asarray(weights.module.apply(weights.variables, image[None]))[0]
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)


def test_compute_types_of_every_network_are_documented():
    document = pathlib.Path(__file__).parents[2] / "docs/explanations/devices.md"
    _, _, section = document.read_text().partition("## Compute types")
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert tuple(rows) == networks.available()
