"""Weights by name, and estimates of their speed."""

import shutil

import jax
import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.serve.catalog import Catalog, parse_strength
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.weights import hub, pretrained


def test_names(checkpoint, tmp_path):
    copy = tmp_path / "small"
    shutil.copytree(checkpoint, copy)
    catalog = Catalog([str(checkpoint), str(copy), "sadnet-photo"])
    names = [entry["name"] for entry in catalog.describe()]
    assert names == [*pretrained.names(), "small", "small-2"]
    assert catalog.default == "small"
    assert catalog.find(None).name == "small"
    assert catalog.find("small-2").restorer.module.depth == 3
    assert Catalog([]).default == pretrained.DEFAULT
    assert Catalog(["sadnet-gray-blind"]).default == "sadnet-gray-blind"
    for wrong in ("", "Small", str(checkpoint), "../small"):
        with pytest.raises(RequestError, match="no such weights; there are sadnet-color-blind, "):
            catalog.find(wrong)
    with pytest.raises(ValueError, match="does not exist; give a working directory"):
        Catalog([str(tmp_path / "none")])


def test_weights_of_the_hub(checkpoint, monkeypatch):
    """Have the name of their repository, not that of a file in the cache."""
    monkeypatch.setattr(hub, "download", lambda name: checkpoint)
    assert Catalog(["hf://org/mine@v1"]).default == "mine"


def test_speed():
    catalog = Catalog([])
    photo, color = catalog.find("sadnet-photo"), catalog.find("sadnet-color-blind")
    assert catalog.estimate_speed(photo) is None
    catalog.add_measurement(photo, 6.0, 1000, 2000)
    assert catalog.estimate_speed(photo) == 3
    assert catalog.estimate_speed(color) == pytest.approx(3 * color.macs / photo.macs)
    color.macs = 2 * photo.macs
    assert catalog.estimate_speed(color) == 6
    color.macs = None
    assert catalog.estimate_speed(color) is None
    entries = {entry["name"]: entry for entry in catalog.describe()}
    assert entries["sadnet-photo"]["seconds_per_megapixel"] == 3


def test_speed_of_small_and_thin_images():
    """They are slower per pixel, so they do not replace a measurement of a larger image."""
    catalog = Catalog([])
    photo = catalog.find("sadnet-photo")
    for seconds, height, width, expected in [
        *((1.0, 100, 100, 100), (2.0, 200, 100, 100), (1.0, 500, 1000, 2), (10.0, 60_000, 10, 2)),
        *((9.0, 3000, 3000, 1), (0.0, 3000, 3000, 1), (2.0, 1000, 1000, 2)),
    ]:
        catalog.add_measurement(photo, seconds, height, width)
        assert catalog.estimate_speed(photo) == expected


def test_strength_of_a_network_that_enlarges(tmp_path):
    kwargs = {"groups": 1, "blocks": 1, "features": 16, "scale": 2}
    module = networks.create("rcan", **kwargs)
    variables = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), networks.abstract_variables(module)
    )
    weights_lib.save_directory(
        weights_lib.create_weights("rcan", variables, **kwargs), tmp_path / "twice"
    )
    catalog = Catalog([str(tmp_path / "twice")])
    entry = next(entry for entry in catalog.describe() if entry["name"] == "twice")
    assert (entry["scale"], entry["strength"]) == (2, False)
    weights = catalog.find("twice")
    assert parse_strength(None, weights) == 1
    with pytest.raises(RequestError, match="enlarges by 2") as error:
        parse_strength("0.5", weights)
    assert error.value.status == 400
