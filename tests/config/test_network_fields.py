"""Stored fields of networks: all of them, whatever becomes of presets."""

import dataclasses
import hashlib
import json

import pytest

from lcdnet_jax import networks
from lcdnet_jax.config import network_fields
from lcdnet_jax.config.frozen_presets import FROZEN_PRESETS


def presets():
    return [(name, preset) for name, rows in FROZEN_PRESETS.items() for preset in rows]


def test_frozen_presets_never_change():
    """Files of users mean them. Do not change this number: undo the change of the table."""
    text = json.dumps(FROZEN_PRESETS, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "15e467a76a15b3bfd840debcc4e8ec824c7e4d07dcb7483c76d5b3ebe3279c3b"
    )


@pytest.mark.parametrize(("name", "preset"), presets())
def test_resolve(name, preset):
    """As the network itself resolves them."""
    fields = network_fields.resolve(name, {"preset": preset})
    module = networks.create(name, preset=preset)
    assert fields == network_fields.fields_of(module)
    assert networks.create(name, **fields) == module
    names = {field.name for field in dataclasses.fields(module)}
    assert set(fields) == names - {"name", "parent", "channels", "dtype"}


@pytest.mark.parametrize("name", networks.available())
def test_fields_are_json(name):
    fields = network_fields.fields_of(networks.create(name))
    assert json.loads(json.dumps(fields)) == network_fields.as_json(fields)
    assert network_fields.resolve(name, {}) == fields
    assert set(network_fields.type_hints(name)) == {"preset", *fields}


def test_given_fields_win():
    fields = network_fields.resolve(
        "sadnet", {"preset": "small", "groups": 4, "dilations": [1] * 4}
    )
    assert (fields["width"], fields["groups"], fields["dilations"]) == (8, 4, [1] * 4)
    with pytest.raises(ValueError, match="no preset 'huge'; its presets: base, fast, small"):
        network_fields.resolve("sadnet", {"preset": "huge"})


def test_a_changed_preset_changes_no_old_file(monkeypatch):
    monkeypatch.setattr(
        networks.SADNet, "PRESETS", {"small": {"width": 16, "offset_width": 16, "groups": 4}}
    )
    assert network_fields.resolve("sadnet", {"preset": "small"})["width"] == 16
    old = network_fields.resolve_stored("sadnet", {"preset": "small"})
    assert (old["width"], old["offset_width"], old["groups"]) == (8, 16, 2)
    old = network_fields.resolve_stored("sadnet", {"preset": "base", "groups": 4})
    assert (old["width"], old["groups"]) == (32, 4)
    assert "preset" not in network_fields.summarize("sadnet", {"preset": "base"})


def test_what_is_not_known_is_left():
    for name, kwargs in (
        ("resnet", {"preset": "a", "b": 1}),
        ("sadnet", {"preset": "huge"}),
        ("sadnet", {"preset": ["small"]}),
        ("dncnn", {"preset": "small"}),
    ):
        assert network_fields.resolve_stored(name, kwargs) == kwargs
        assert network_fields.summarize(name, kwargs) == kwargs
    assert network_fields.resolve_stored("dncnn", {"x": 1})["x"] == 1


@pytest.mark.parametrize(
    ("name", "kwargs", "summary"),
    [
        ("sadnet", {"preset": "small"}, {"preset": "small"}),
        ("sadnet", {}, {"preset": "base"}),
        ("sadnet", {"width": 8, "offset_width": 16, "groups": 2}, {"preset": "small"}),
        (
            "sadnet",
            {"preset": "small", "width": 16},
            {"width": 16, "offset_width": 16, "groups": 2},
        ),
        ("sadnet", {"use_rsab": False}, {"preset": "base", "use_rsab": False}),
        ("lcdnet", {"preset": "tiny", "enc_blocks": [1, 1, 1, 1]}, {"preset": "tiny"}),
        ("dncnn", {"depth": 3, "features": 4}, {"depth": 3, "features": 4}),
        ("dncnn", {}, {}),
        ("dncnn", {"x": None}, {"x": None}),
    ],
    ids=str,
)
def test_summarize(name, kwargs, summary):
    assert network_fields.summarize(name, kwargs) == summary
    stored = network_fields.as_json(network_fields.resolve_stored(name, kwargs))
    assert network_fields.summarize(name, stored) == summary
