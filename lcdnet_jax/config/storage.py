"""Configurations in files: writing, reading, upgrading, and comparing a run with a command.

``config.json`` holds the SHA-256 of its fields in "sha256". Files of older versions have none.
"""

import copy
import json
import pathlib
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from lcdnet_jax import atomic_io, strict_json
from lcdnet_jax.config import network_fields
from lcdnet_jax.config.network_fields import as_json
from lcdnet_jax.config.schema import FIELDS, REQUIRED, ConfigError, flatten
from lcdnet_jax.typing import Fields, Json, JsonObject

# The only fields in the configuration of converted weights.
_NETWORK_FIELDS = ("network.name", "network.kwargs", "network.dtype", "data.channels")

# Sections whose fields are all newer than the format. A file may lack such a section.
_LATER_SECTIONS = {name.rpartition(".")[0] for name in FIELDS} - {
    name.rpartition(".")[0] for name, field in FIELDS.items() if field.absent is REQUIRED
}


def save(config: ConfigDict, path: pathlib.Path) -> None:
    """Writes a configuration as JSON, all or nothing, with every field of the network.

    Args:
        config: The configuration, or the part of it that describes the network.
        path: The ``config.json`` to write. It is replaced if it exists.

    Raises:
        ValueError: For an unknown network or preset.
        TypeError: For a value that JSON cannot hold.
        OSError: If the file cannot be written.
    """
    stored = config.to_dict()
    network = stored["network"]
    network["kwargs"] = network_fields.resolve(network["name"], network["kwargs"])
    stored["sha256"] = _compute_checksum(stored)
    text = json.dumps(stored, indent=2, sort_keys=True) + "\n"
    atomic_io.write(path, text.encode(), force=True)


def load(path: pathlib.Path, *, training: bool = False) -> ConfigDict:
    """Reads a file that :func:`save` of this version or an older one wrote.

    Args:
        path: The ``config.json`` of a training, or of converted weights, which holds the network
            alone: ``network`` and ``data.channels``.
        training: Refuse the ``config.json`` of converted weights.

    Returns:
        The configuration. ``network.kwargs`` holds every field of the network and no preset.

    Raises:
        ConfigError: If the file does not exist, is not a configuration, or is not as it was
            written.
    """
    stored = _with_tuples(_read(path))
    if isinstance(stored, dict):
        _check_checksum(path, stored)
        stored.pop("sha256", None)
    alone = isinstance(stored, dict) and describes_network_alone(stored)
    if isinstance(stored, dict) and not alone:
        stored = _with_later_fields(stored)
    sections = {"network", "data"} if alone else {n.partition(".")[0] for n in FIELDS if "." in n}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(s), dict) for s in sections):
        raise ConfigError(f"{path} is not a configuration of train.py; restore it from a backup")
    flat = flatten(stored)
    for name in _NETWORK_FIELDS:
        if wanted := FIELDS[name].rule(flat.get(name)):
            raise ConfigError(f"{path}: {name} must be {wanted}, got {flat.get(name)!r}")
    if alone and training:
        raise ConfigError(
            f"{path.parent} holds converted weights, which have no optimizer state to continue "
            "from; set config.init_from to it and train in another working directory"
        )
    try:
        return ConfigDict(_with_network_fields(stored))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # names such as "__class__"
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} has names that no configuration has ({reason}); restore it from a backup"
        ) from None


def describes_network_alone(config: Mapping[str, Json] | ConfigDict) -> bool:
    """Distinguishes the configuration of converted weights from that of a training.

    Args:
        config: A configuration, or the content of its file.

    Returns:
        Whether it holds the fields of a network and no others.
    """
    return set(flatten(config)) == set(_NETWORK_FIELDS)


def _read(path: pathlib.Path) -> Json:
    try:
        return strict_json.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{path} does not exist; give a working directory of train.py (it holds config.json "
            "and checkpoints/)"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except strict_json.JSONError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); restore it from a backup") from None


def _compute_checksum(stored: Mapping[str, Json]) -> str:
    fields = {name: value for name, value in stored.items() if name != "sha256"}
    return strict_json.compute_sha256(fields)


def _check_checksum(path: pathlib.Path, stored: Mapping[str, Json]) -> None:
    if "sha256" in stored:
        if stored["sha256"] != _compute_checksum(stored):
            raise ConfigError(
                f"{path} is not as it was written (its SHA-256 differs); restore it from a backup. "
                'If you changed it on purpose, delete its line "sha256"'
            )
    # A damaged name of the checksum must not look like a file without one.
    elif unknown := set(stored) - {name.partition(".")[0] for name in FIELDS}:
        raise ConfigError(
            f"{path} has unknown fields ({', '.join(sorted(map(repr, unknown)))}) and no "
            '"sha256"; restore it from a backup'
        )


def upgrade(stored: Mapping[str, Json]) -> JsonObject:
    """Converts a stored configuration of any version to the current format.

    Args:
        stored: The content of the JSON file. It is not changed. It may be damaged: a value that
            should be a mapping but is not one is kept.

    Returns:
        A copy with the fields that were added later, with every field of the network in place of
        a preset, and with tuples in place of lists.
    """
    return _with_network_fields(_with_later_fields(_with_tuples(dict(stored))))


def _with_later_fields(stored: JsonObject) -> JsonObject:
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
        holder: Json = stored
        for part in section.split(".") if section else ():
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.setdefault(key, copy.copy(field.absent))
    return stored


def _with_network_fields(stored: JsonObject) -> JsonObject:
    network = stored.get("network")
    if not isinstance(network, dict) or not isinstance(network.get("kwargs"), dict):
        return stored
    kwargs = network_fields.resolve_stored(network.get("name", ""), network["kwargs"])
    return {**stored, "network": {**network, "kwargs": kwargs}}


def differences(stored: ConfigDict, given: ConfigDict) -> list[str]:
    """Lists fields that differ between a run and a command although they may not.

    Fields of the network are compared one by one, whether a preset sets them or not.

    Args:
        stored: The configuration of the run, as :func:`load` returns it.
        given: The configuration of the command, which must be valid.

    Returns:
        One line for each field, with both values.
    """
    old = _comparable(stored, network_fields.resolve_stored)
    new = _comparable(given, network_fields.resolve)
    if old.get("network.name") != new.get("network.name"):  # their fields differ
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


def _comparable(config: ConfigDict, resolve: Callable[[str, Fields], Fields]) -> JsonObject:
    """Values by dotted name, in the form of JSON, with every field of the network."""
    flat = flatten(config.to_dict())
    kwargs = resolve(flat["network.name"], flat.pop("network.kwargs"))
    flat |= {f"network.kwargs.{field}": value for field, value in kwargs.items()}
    return {name: as_json(value) for name, value in flat.items()}


def _with_tuples(value: Json) -> Json:
    """Replaces lists by tuples, because a network's fields must be hashable."""
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value
