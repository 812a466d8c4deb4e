"""Fields of networks in stored form: every field, and no preset.

``network.kwargs`` of a configuration that a user writes may name a preset and leave fields out.
``config.json`` and cards store every field of the network's class, except ``channels`` and
``dtype``, which have entries of their own. So a stored network stays the same when a preset
changes. A field that a file lacks was added later and means the default of the class. So the
default of a new field must leave the network unchanged.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from lcdnet_jax import networks
from lcdnet_jax.config.frozen_presets import FROZEN_PRESETS
from lcdnet_jax.typing import Fields, Json

# Fields that configurations and cards store in entries of their own.
STORED_APART = ("name", "channels", "dtype")
_LEFT_OUT = ("parent", *STORED_APART)  # Flax adds "parent"


def fields_of(module: networks.RestorationNetwork) -> Fields:
    """Collects the fields of a network to store.

    Args:
        module: The network.

    Returns:
        Values by name, without ``channels`` and ``dtype``.
    """
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in _LEFT_OUT
    }


def resolve(name: str, kwargs: Fields) -> Fields:
    """Resolves the fields of a network that a user describes, by the current presets.

    Args:
        name: One of ``networks.available()``.
        kwargs: Its fields, and perhaps "preset", as for ``networks.create``. Unknown fields are
            kept; ``networks.create`` refuses them.

    Returns:
        All fields by name.

    Raises:
        ValueError: For an unknown network or preset.
    """
    given = dict(kwargs)
    preset = networks.get_preset(name, given.pop("preset", None))
    kept = {field: value for field, value in preset.items() if field not in _LEFT_OUT}
    return {**_defaults(name), **kept, **given}


def resolve_stored(name: str, kwargs: Fields) -> Fields:
    """Resolves the fields of a stored network, by the presets of the file's version.

    Args:
        name: Name of the network in the file. Fields of an unknown network are not changed.
        kwargs: Its fields in the file. With an unknown preset they are not changed;
            ``networks.create`` refuses it.

    Returns:
        All fields by name.
    """
    given = dict(kwargs)
    if name not in networks.available():
        return given
    preset: Fields = {}
    if "preset" in given:
        presets = FROZEN_PRESETS.get(name, {})
        if given["preset"] not in tuple(presets):
            return given
        preset = presets[given.pop("preset")]
    return {**_defaults(name), **preset, **given}


def _defaults(name: str) -> Fields:
    """Default values of a network's fields."""
    return {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(networks.get(name))
        if field.name not in _LEFT_OUT
    }


def summarize(name: str, kwargs: Fields) -> Fields:
    """Describes stored fields briefly, as a user would write them.

    Args:
        name: Name of the network.
        kwargs: Its stored fields.

    Returns:
        The preset that the fields match, if there is exactly one, and the fields that differ from
        it or, without a preset, from the defaults of the network's class. Presets of the same
        fields are named after what they were trained for, which fields do not tell.
    """
    fields = resolve_stored(name, kwargs)
    if name not in networks.available() or "preset" in fields:
        return fields
    expected, described = _defaults(name), {}
    matching = {
        preset: values
        for preset, values in networks.get(name).PRESETS.items()
        if all(as_json(fields.get(k)) == as_json(v) for k, v in values.items() if k in expected)
    }
    if len(matching) == 1:
        ((preset, values),) = matching.items()
        expected, described = {**expected, **values}, {"preset": preset}
    missing = object()
    return described | {
        field: value
        for field, value in fields.items()
        if as_json(value) != as_json(expected.get(field, missing))
    }


def type_hints(name: str) -> dict[str, Any]:
    """Types of the fields that ``network.kwargs`` of a network may hold, by name."""
    hints = typing.get_type_hints(networks.get(name))
    return {"preset": str, **{field: hints[field] for field in _defaults(name)}}


def as_json(value: object) -> Json:
    """Copies a value to the types of JSON.

    Args:
        value: Nested mappings, tuples and lists of values that JSON holds.

    Returns:
        The copy, as it would be after writing and reading: dicts and lists.
    """
    if isinstance(value, Mapping):
        return {key: as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, (tuple, list)) else value
