"""Cards: descriptions of weights, as JSON beside or inside their file."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import storage, strict_json, value_rules
from lcdnet_jax._version import __version__
from lcdnet_jax.config.rules import network_kwargs
from lcdnet_jax.messages import shorten
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Fields, Json, JsonObject, PyTree

NAME = "card.json"

# Version of the schema below. It increases with every change that older readers would misread.
FORMAT = 1


class CardError(ValueError):
    """A missing or invalid card. The message names the file and the fix."""


class Card(TypedDict):
    """A card. It has no date, so that the same weights give the same file.

    Attributes:
        format: Version of this schema.
        lcdnet_jax: Version of the library that wrote the card.
        network: Name of the network, as for ``networks.create``.
        kwargs: All fields of the network, except channels and dtype. Cards of older versions leave
            out defaults and may name a "preset", see :func:`lcdnet_jax.config.resolve_stored`.
        channels: Channels of the images.
        dtype: Compute type of the network.
        parameters: Number of parameters.
        step: Steps of training; 0 if unknown.
        averaged: Whether the parameters are a moving average (EMA).
        storage: Type of the parameters in the file. Loading gives float32.
        input_range: Values of black and white inside the network. Images are in [0, 1].
        training: The whole configuration of the training; None without a training.
        metrics: Scores: "data", "protocol", "sigma" (8-bit units, None without a noise level),
            "psnr" in dB, "ssim", further scores, and "n", the number of images. They come from
            ``eval.py`` if its results were given when the card was written. Otherwise they come
            from the newest evaluation of the training, with its "step" and the description of the
            protocol.
        licence: License of the weights, free text.
        notes: Free text.
        origin: The files that the weights come from, "file" and "sha256".
        dropped: Names in those files that the network does not use.
    """

    format: int
    lcdnet_jax: str
    network: str
    kwargs: JsonObject
    channels: int
    dtype: str
    parameters: int
    step: int
    averaged: bool
    storage: str
    input_range: list[float]
    training: JsonObject | None
    metrics: list[JsonObject]
    licence: str
    notes: str
    origin: list[dict[str, str]]
    dropped: list[str]


def create(
    name: str,
    module: RestorationNetwork,
    params: PyTree,
    *,
    step: int = 0,
    averaged: bool = False,
    training: Fields | None = None,
    metrics: Sequence[Fields] = (),
    origin: Sequence[Mapping[str, str]] = (),
    dropped: Sequence[str] = (),
) -> Card:
    """Creates the card of weights of this library.

    Args:
        name: Name of the network.
        module: The network. The card stores all of its fields.
        params: Its parameters, arrays or their shapes.
        step: See :class:`Card`.
        averaged: See :class:`Card`.
        training: See :class:`Card`.
        metrics: See :class:`Card`.
        origin: See :class:`Card`.
        dropped: See :class:`Card`.

    Returns:
        The card as :func:`parse` reads it, with lists in place of tuples.

    Raises:
        CardError: For a value that JSON cannot hold.
    """
    card = {
        "format": FORMAT,
        "lcdnet_jax": __version__,
        "network": name,
        "kwargs": config_lib.fields_of(module),
        "channels": module.channels,
        "dtype": jnp.dtype(module.dtype).name,
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        "step": step,
        "averaged": averaged,
        "storage": "float32",
        "input_range": module.input_range,
        "training": training,
        "metrics": metrics,
        "licence": "not stated",
        "notes": "",
        "origin": origin,
        "dropped": dropped,
    }
    try:
        text = json.dumps(card, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CardError(f"the card of {name} cannot be written as JSON ({error})") from error
    return check(json.loads(text), f"the card of {name}")


def read(directory: str | pathlib.Path) -> Card:
    """Reads the card of a directory.

    Args:
        directory: The directory.

    Returns:
        The card.

    Raises:
        CardError: If there is none, or as :func:`parse`.
    """
    path = storage.to_path(directory) / NAME
    try:
        text = strict_json.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        raise CardError(
            f"{path} does not exist; give a directory that lcdnet-jax convert or export "
            "wrote, or write it again"
        ) from None
    except OSError as error:
        raise CardError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except strict_json.JSONError as error:
        raise CardError(f"{path} is not valid JSON ({error}); restore it from a backup") from None
    return parse(text, str(path))


def write(card: Card, directory: str | pathlib.Path) -> None:
    """Writes ``card.json`` into a directory.

    Args:
        card: The card.
        directory: An existing directory.

    Raises:
        OSError: If writing fails.
    """
    (pathlib.Path(directory) / NAME).write_bytes(encode(card))


def encode(card: Card) -> bytes:
    """The content of ``card.json``.

    Args:
        card: The card.

    Returns:
        JSON.
    """
    return (json.dumps(card, indent=2, allow_nan=False) + "\n").encode()


def parse(text: str | bytes, where: str) -> Card:
    """Reads a card from JSON.

    Args:
        text: JSON.
        where: Name of the card in messages.

    Returns:
        The card.

    Raises:
        CardError: If it is not JSON, or as :func:`check`.
    """
    try:
        stored = strict_json.parse(text)
    except strict_json.JSONError as error:
        raise CardError(f"{where} is not valid JSON ({error}); restore it from a backup") from None
    return check(stored, where)


def check(stored: Json, where: str) -> Card:
    """Checks that a value is a card.

    Args:
        stored: The content of the JSON file.
        where: Name of the card in messages.

    Returns:
        The same value.

    Raises:
        CardError: If it is of a newer version, or any field is missing, unknown or of another
            type. One line lists all such fields.
    """
    version = stored.get("format") if isinstance(stored, dict) else None
    if not isinstance(version, int) or version < 1:
        raise CardError(
            f"{where} is not a card of lcdnet-jax, which would have a format number; write it again"
        )
    if version > FORMAT:
        raise CardError(
            f"{where} was written by a newer version, lcdnet_jax {stored.get('lcdnet_jax')} (card "
            f"format {version}, this is {__version__} with {FORMAT}); update lcdnet-jax"
        )
    problems = [f"{field} is missing" for field in _RULES if field not in stored]
    problems += [f"{field!r} is unknown" for field in stored if field not in _RULES]
    problems += [
        f"{field} must be {wanted}, got {shorten(stored[field])}"
        for field, rule in _RULES.items()
        if field in stored and (wanted := rule(stored[field]))
    ]
    if problems:
        raise CardError(f"{where}: {'; '.join(problems)}; fix it or write it again")
    return cast(Card, stored)


def format_identity(card: Card) -> str:
    """Names the weights of a card.

    Args:
        card: The card.

    Returns:
        Network, step and checksums of the original files, joined by commas, such as
        "sadnet, step 1000, 0123456789ab". It ends in "raw" if the weights are not averaged.
    """
    origin = [file["sha256"][:12] for file in card["origin"]]
    raw = [] if card["averaged"] else ["raw"]
    return ", ".join([card["network"], f"step {card['step']}", *origin, *raw])


def training_config(card: Card, where: str) -> ConfigDict:
    """Finds the configuration of the training.

    Args:
        card: The card of the weights.
        where: Name of the weights in messages.

    Returns:
        The configuration. Without a training it describes the network only.

    Raises:
        CardError: If this version cannot use the configuration.
    """
    if card["training"] is None:
        return get_network_config(card)
    try:
        stored = ConfigDict(config_lib.upgrade(card["training"]))
        config_lib.validate(stored)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CardError(
            f"{where} has weights whose training this version cannot read, written by lcdnet_jax "
            f"{card['lcdnet_jax']} ({reason}); update lcdnet-jax, or export them again"
        ) from error
    return stored


def get_network_config(card: Card) -> ConfigDict:
    """The part of a training's configuration that describes the network."""
    kwargs = network_fields(card)
    network = {"name": card["network"], "kwargs": kwargs, "dtype": card["dtype"]}
    try:
        return ConfigDict({"network": network, "data": {"channels": card["channels"]}})
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # names as "__class__"
        reason = " ".join(str(error).split())
        raise CardError(f"kwargs in the card cannot be fields of a network ({reason})") from None


def network_fields(card: Card) -> Fields:
    """All fields of the network; cards of older versions may name a preset instead."""
    return config_lib.resolve_stored(card["network"], card["kwargs"])


def get_folder_names(source: str, path: str) -> str:
    """The folders of a data set without their parents. Names of TFDS data sets are kept.

    Args:
        source: ``config.data.eval.source`` or ``config.data.train.source``, perhaps several joined
            by commas.
        path: The field ``path`` of the same section, joined in the same way.

    Returns:
        The names, joined by commas.
    """
    kinds, paths = source.split(","), path.split(",")
    named = kinds if len(kinds) == len(paths) else [""] * len(paths)
    return ",".join(
        place if kind.strip() == "tfds" else pathlib.PurePath(place).name
        for kind, place in zip(named, paths, strict=True)
    )


def are_scores(rows: object) -> bool:
    """Whether a value is valid as ``metrics`` of a card."""
    return isinstance(rows, list) and all(map(_is_score_row, rows))


def _is_score_row(row: Json) -> bool:
    """Whether a value holds the scores of one evaluation."""
    if not isinstance(row, dict) or not {"protocol", "data", "sigma"} <= set(row):
        return False
    return all(
        value_rules.text(value) is None if field in ("protocol", "data")
        else value_rules.finite_number(value) is None or (field == "sigma" and value is None)
        for field, value in row.items()
    )  # fmt: skip


def _metrics(value: Json) -> str | None:
    return None if are_scores(value) else "a list of scores with protocol, data and sigma"


def _training(value: Json) -> str | None:
    return None if value is None or isinstance(value, dict) else "an object or null"


def _origin(value: Json) -> str | None:
    good = isinstance(value, list) and all(
        isinstance(entry, dict)
        and set(entry) == {"file", "sha256"}
        and all(isinstance(part, str) for part in entry.values())
        for entry in value
    )
    return None if good else "a list of objects with file and sha256"


def _texts(value: Json) -> str | None:
    good = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return None if good else "a list of strings"


_RULES: Mapping[str, value_rules.Rule] = {
    "format": value_rules.integer(1),
    "lcdnet_jax": value_rules.text,
    "network": value_rules.text,
    "kwargs": network_kwargs,
    "channels": value_rules.integer(0),
    "dtype": value_rules.text,
    "parameters": value_rules.integer(0),
    "step": value_rules.integer(0),
    "averaged": value_rules.boolean,
    "storage": value_rules.text,
    "input_range": value_rules.value_range(list),
    "training": _training,
    "metrics": _metrics,
    "licence": value_rules.text,
    "notes": value_rules.text,
    "origin": _origin,
    "dropped": _texts,
}
