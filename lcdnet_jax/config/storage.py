"""Configurations in files: writing, reading, older files, and comparing a run with a command."""

import copy
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lcdnet_jax import atomic_io
from lcdnet_jax.config import network_fields
from lcdnet_jax.config.network_fields import as_json
from lcdnet_jax.config.schema import FIELDS, REQUIRED, ConfigError, flatten

# All that the configuration of converted weights holds.
_NETWORK_ALONE = ("network.name", "network.kwargs", "network.dtype", "data.channels")

# Sections whose fields are all younger than the format, so that a file may lack the section.
_LATER_SECTIONS = {name.rpartition(".")[0] for name in FIELDS} - {
    name.rpartition(".")[0] for name, field in FIELDS.items() if field.absent is REQUIRED
}


def save(config: ConfigDict, path: pathlib.Path) -> None:
    """Writes a configuration as JSON, all or nothing, with every field of the network.

    Raises:
        ValueError: For a network or preset that is not known.
        TypeError: For a value that JSON has no form for.
        OSError: If the file cannot be written.
    """
    stored = config.to_dict()
    network = stored["network"]
    network["kwargs"] = network_fields.resolve(network["name"], network["kwargs"])
    text = json.dumps(stored, indent=2, sort_keys=True) + "\n"
    atomic_io.write(path, text.encode(), force=True)


def load(path: pathlib.Path, *, training: bool = False) -> ConfigDict:
    """Reads what :func:`save` wrote, in this version or an older one.

    Args:
        path: The ``config.json`` of a training, or of converted weights, which holds the network
            alone: ``network`` and ``data.channels``.
        training: Refuse the latter.

    Returns:
        The configuration. ``network.kwargs`` holds every field of the network and no preset.

    Raises:
        ConfigError: If there is no such file, or it is not a configuration.
    """
    try:
        stored = _with_tuples(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{path} does not exist; give a working directory of train.py (it holds config.json "
            "and checkpoints/)"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise ConfigError(f"{path} is not valid JSON ({error}); restore it from a copy") from None
    alone = isinstance(stored, dict) and set(flatten(stored)) == set(_NETWORK_ALONE)
    if isinstance(stored, dict) and not alone:
        stored = _with_later_fields(stored)
    sections = {"network", "data"} if alone else {n.partition(".")[0] for n in FIELDS if "." in n}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(s), dict) for s in sections):
        raise ConfigError(f"{path} is no configuration of train.py; restore it from a copy")
    flat = flatten(stored)
    for name in _NETWORK_ALONE:
        if wanted := FIELDS[name].rule(flat.get(name)):
            raise ConfigError(f"{path}: {name} must be {wanted}, got {flat.get(name)!r}")
    if alone and training:
        raise ConfigError(
            f"{path.parent} holds converted weights, which have no optimiser state to continue "
            "from; set config.init_from to it and train in another working directory"
        )
    return ConfigDict(_with_network_fields(stored))


def upgrade(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration of any version, in the form of this one.

    Args:
        stored: As JSON has it; it is left as it is. It may be damaged: what is no mapping where
            one should be stays so.

    Returns:
        The same with the fields that are younger than the file, with every field of the network
        in place of a preset, and with tuples where JSON has lists.
    """
    return _with_network_fields(_with_later_fields(_with_tuples(dict(stored))))


def _with_later_fields(stored: dict[str, Any]) -> dict[str, Any]:
    """Renames and adds fields in place."""
    optimizer = stored.get("optimizer")
    if isinstance(optimizer, dict) and "halve_every" in optimizer:  # its first name
        optimizer["decay_every"] = optimizer.pop("halve_every")
        if optimizer.get("schedule") == "halving":
            optimizer["schedule"] = "step"
    for name, field in FIELDS.items():
        if field.absent is REQUIRED:
            continue
        section, _, key = name.rpartition(".")
        if section in _LATER_SECTIONS:
            stored.setdefault(section, {})
        holder = stored.get(section) if section else stored
        if isinstance(holder, dict):
            holder.setdefault(key, copy.copy(field.absent))
    return stored


def _with_network_fields(stored: dict[str, Any]) -> dict[str, Any]:
    network = stored.get("network")
    if not isinstance(network, dict) or not isinstance(network.get("kwargs"), dict):
        return stored
    kwargs = network_fields.resolve_stored(network.get("name", ""), network["kwargs"])
    return {**stored, "network": {**network, "kwargs": kwargs}}


def differences(stored: ConfigDict, given: ConfigDict) -> list[str]:
    """Fields that differ between a run and a command and may not, one line each.

    Fields of the network are compared one by one, whether a preset gives them or not.

    Args:
        stored: The configuration of the run, as :func:`load` gives it.
        given: That of the command, which was found valid.
    """
    old = _comparable(stored, network_fields.resolve_stored)
    new = _comparable(given, network_fields.resolve)
    if old.get("network.name") != new.get("network.name"):  # whose fields do not compare
        old, new = (
            {name: value for name, value in flat.items() if not name.startswith("network.kwargs.")}
            for flat in (old, new)
        )
    return [
        f"config.{name}: {old.get(name)!r} there, {new.get(name)!r} given"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
        and not (name in FIELDS and FIELDS[name].may_change(given))
    ]


def _comparable(config: ConfigDict, resolve: Any) -> dict[str, Any]:
    """Values as JSON has them by field, those of the network by its fields."""
    flat = flatten(config.to_dict())
    kwargs = resolve(flat["network.name"], flat.pop("network.kwargs"))
    flat |= {f"network.kwargs.{field}": value for field, value in kwargs.items()}
    return {name: as_json(value) for name, value in flat.items()}


def _with_tuples(value: Any) -> Any:
    """Value with tuples again where JSON has lists: a network's fields must be hashable."""
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value
