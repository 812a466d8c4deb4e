"""Saving weights in each format, all or nothing."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import atomic_io, convert, storage
from lcdnet_jax import config as config_lib
from lcdnet_jax.atomic_io import Path
from lcdnet_jax.typing import Fields, Json, JsonObject, PyTree
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import (
    directory,
    hub,
    loader,
    model_card,
    safetensors_file,
    scores,
    torch_file,
)
from lcdnet_jax.weights.card import Card, CardError
from lcdnet_jax.weights.network import Weights

# Types in which parameters may be stored.
_STORAGE = ("float32", "bfloat16", "float16")


def save_directory(
    source: Path | Weights,
    output: Path,
    *,
    license: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Json]] | None = None,
    dtype: str | None = None,
    force: bool = False,
    **load_options: Any,
) -> Card:
    """Saves weights as a parameters-only directory.

    Args:
        source: Weights, or a path that :func:`load` reads.
        output: The directory to write.
        license: License of the weights for the card; None keeps that of the source's card.
        notes: Notes for the card; None keeps those of the source's card.
        metrics: Scores for the card, see :class:`Card` and :func:`read_results`; None keeps those
            of the source's card.
        dtype: Type in which parameters are stored: "float32" (the default), or "bfloat16" or
            "float16" for half of the size. Loading gives float32. Running statistics stay float32.
        force: Whether to replace ``output`` if it is an earlier parameters-only directory.
        **load_options: Arguments of :func:`load`, if ``source`` is a path.

    Returns:
        The card that was written.

    Raises:
        CheckpointError, ValueError, OSError, ImportError: As :func:`load`; also for metrics of
            other weights, and for an output that may not be replaced or cannot be written. In all
            cases nothing on disk is changed.
    """
    output = storage.resolve(storage.to_path(output))
    atomic_io.check_directory(output, directory.KIND, force=force)
    weights = _prepare(source, load_options, license, notes, metrics, dtype)
    directory.write(output, weights.variables, weights.card, force=force)
    return weights.card


def save_safetensors(
    source: Path | Weights,
    file: Path,
    *,
    license: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Json]] | None = None,
    dtype: str | None = None,
    force: bool = False,
    **load_options: Any,
) -> Card:
    """Saves weights as one safetensors file, which also describes the network.

    The same weights give the same bytes. The header has a checksum of the arrays.

    Args:
        source: Weights, or a path that :func:`load` reads.
        file: The file to write; it must end in ".safetensors".
        license: As for :func:`save_directory`.
        notes: As for :func:`save_directory`.
        metrics: As for :func:`save_directory`.
        dtype: As for :func:`save_directory`.
        force: Whether to replace an existing file.
        **load_options: Arguments of :func:`load`, if ``source`` is a path.

    Returns:
        The card that was written.

    Raises:
        CheckpointError, ValueError, OSError, ImportError: As :func:`save_directory`.
    """
    path = _check_file(file, safetensors_file.SUFFIXES, force)
    weights = _prepare(source, load_options, license, notes, metrics, dtype)
    _write_file(path, safetensors_file.encode(weights.variables, weights.card), force)
    return weights.card


def save_torch(
    source: Path | Weights, file: Path, *, force: bool = False, **load_options: Any
) -> Card:
    """Saves a PyTorch state dict, float32, which ``torch.load`` reads with ``weights_only=True``.

    Names are those of :func:`lcdnet_jax.convert.to_torch`.

    Args:
        source: Weights, or a path that :func:`load` reads.
        file: The file to write; it must end in ".pth" or ".pt".
        force: Whether to replace an existing file.
        **load_options: Arguments of :func:`load`, if ``source`` is a path.

    Returns:
        The card of the weights. The file does not hold it.

    Raises:
        CheckpointError, ValueError, OSError: As :func:`save_directory`.
        ImportError: If PyTorch is not installed.
    """
    path = _check_file(file, torch_file.SUFFIXES, force)
    convert.import_torch("writing")  # before anything is loaded
    weights = _prepare(source, load_options)
    _write_file(path, torch_file.encode(weights.variables, weights.card), force)
    return weights.card


def save_to_hub(
    source: Path | Weights,
    repo: str,
    *,
    license: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Json]] | None = None,
    dtype: str | None = None,
    private: bool = False,
    force: bool = False,
    **load_options: Any,
) -> str:
    """Uploads weights to a model repository of the Hugging Face hub, as one commit.

    The repository gets the file of :func:`save_safetensors`, the card, a page made from the card,
    and checksums. ``Restorer.from_pretrained("hf://ORG/NAME")`` loads them.

    Args:
        source: Weights, or a path that :func:`load` reads.
        repo: The repository, "ORG/NAME". It is created if it does not exist.
        license: As for :func:`save_directory`.
        notes: As for :func:`save_directory`.
        metrics: As for :func:`save_directory`.
        dtype: As for :func:`save_directory`.
        private: Whether a new repository is private.
        force: Whether to replace files of the repository. Its history keeps them.
        **load_options: Arguments of :func:`load`, if ``source`` is a path.

    Returns:
        The name of this version of the weights, "hf://ORG/NAME@COMMIT".

    Raises:
        HubError: For a wrong name, without a token that may write, for a repository that holds
            files (without ``force``), and if the hub does not answer.
        CheckpointError, ValueError, OSError: As :func:`load`; also for metrics of other weights.
        ImportError: If huggingface_hub is not installed.
    """
    hub.check_upload(repo)  # before anything is loaded
    weights = _prepare(source, load_options, license, notes, metrics, dtype)
    files = {
        card_lib.NAME: card_lib.encode(weights.card),
        hub.WEIGHTS: safetensors_file.encode(weights.variables, weights.card),
        hub.PAGE: model_card.render(weights.card, repo.removeprefix(hub.PREFIX)).encode(),
    }
    return hub.upload(repo, files, private=private, force=force)


def _prepare(
    source: Path | Weights,
    load_options: Fields,
    license: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Json]] | None = None,
    dtype: str | None = None,
) -> Weights:
    """Loads the source, converts the type of its parameters, and updates its card."""
    dtype = dtype or "float32"
    if dtype not in _STORAGE:
        raise ValueError(f"dtype must be one of {', '.join(_STORAGE)}, got {dtype!r}")
    if isinstance(source, Weights):
        if load_options:
            names = ", ".join(load_options)
            raise ValueError(f"{names} is for a path; these weights are loaded already")
        weights = source
    else:
        weights = loader.load(source, **load_options)
    stored = {**weights.variables, "params": _cast(weights.variables["params"], dtype)}
    card = Card(**{**weights.card, "storage": dtype})
    card["kwargs"] = config_lib.as_json(card_lib.network_fields(card))
    card["training"] = _shorten_paths(card["training"])
    if license is not None:
        card["licence"] = license
    if notes is not None:
        card["notes"] = notes
    if metrics is not None:
        card["metrics"] = [scores.check_weights(card, row) for row in metrics]
    return Weights(weights.module, stored, card_lib.check(card, "the card to write"))


def _shorten_paths(training: Mapping[str, Json] | None) -> JsonObject | None:
    """A configuration with file names in place of paths, which are valid on one machine only.

    Raises:
        CardError: If a field has a wrong type, as in a damaged file.
    """
    if training is None:
        return None
    stored = config_lib.as_json(training)
    try:
        _remove_folders(stored)
    except (AttributeError, TypeError) as error:
        raise CardError(
            f"the configuration of the training has a field of a wrong type ({error}); restore the "
            "weights from a backup"
        ) from error
    return stored


def _remove_folders(stored: JsonObject) -> None:
    """Removes folders in place."""
    data = stored.get("data")
    for split in data.values() if isinstance(data, dict) else ():
        if isinstance(split, dict) and {"source", "path"} <= set(split):
            split["path"] = card_lib.get_folder_names(split["source"], split["path"])
    options = stored.get("degradation", {}).get("options", {})
    for values in options.values():
        if isinstance(values.get("pool"), str):
            values["pool"] = pathlib.PurePath(values["pool"]).name
    for fields, field in (
        (stored, "init_from"),
        (stored, "resume"),
        (stored.get("gan", {}), "vgg"),
    ):
        if isinstance(fields.get(field), str) and not hub.is_name(fields[field]):
            fields[field] = pathlib.PurePath(fields[field]).name


def _cast(params: PyTree, dtype: str) -> PyTree:
    """Converts to NumPy arrays of another type. Raises ValueError for numbers beyond its range."""

    def cast(path: PyTree, leaf: PyTree) -> np.ndarray:
        array = np.asarray(leaf)
        with np.errstate(over="ignore"):
            smaller = array.astype(jnp.dtype(dtype))
        if np.isfinite(array).all() and not np.isfinite(smaller).all():
            name = "/".join(entry.key for entry in path)
            raise ValueError(
                f"{name} reaches {np.abs(array).max():g}, more than {dtype} holds; store the "
                "parameters as bfloat16 or float32"
            )
        return smaller

    return jax.tree_util.tree_map_with_path(cast, params)


def _check_file(file: Path, suffixes: tuple[str, ...], force: bool) -> pathlib.Path:
    """The real path of a file to write. Raises ValueError or OSError if it cannot be written."""
    path = storage.resolve(storage.to_path(file))
    atomic_io.check_file(path, force=force)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} must end in {' or '.join(suffixes)}; rename it")
    return path


def _write_file(path: pathlib.Path, data: bytes, force: bool) -> None:
    atomic_io.make_folder(path)
    atomic_io.write(path, data, force=force)
