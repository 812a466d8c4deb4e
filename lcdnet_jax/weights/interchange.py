"""Weights in and out: parameters-only directories, safetensors and PyTorch files.

A parameters-only directory holds ``config.json`` with the network alone, ``checkpoints/<step>/``
with ``params`` and ``batch_stats``, and ``card.json``, see :mod:`lcdnet_jax.weights.card`. It
serves ``Restorer.from_checkpoint``, ``eval.py --checkpoint`` and ``config.init_from``. A
safetensors file holds the same in one file: arrays named by their Flax path
(``params/out/kernel``), and the card in its header. A
PyTorch file holds a plain state dict, see :mod:`lcdnet_jax.convert`, and no card.

:func:`load` reads all of them. What is written is written beside its place and renamed, so that
there is never half of it, and replaces something only by ``force``.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lcdnet_jax import atomic_io, checkpoints, convert, networks, protocols
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import Card, CardError

Path = str | os.PathLike[str]

_SAFETENSORS = (".safetensors",)
_TORCH = (".pth", ".pt")

# What parameters may be stored as.
_STORAGE = ("float32", "bfloat16", "float16")

# The one entry of a safetensors header's metadata, since several come in any order.
_ENTRY = "lcdnet_jax"


class Weights(NamedTuple):
    """A network with its weights.

    Attributes:
        module: The network.
        variables: Its variables, float32: "params", and "batch_stats" where there are any.
        card: What is known of them.
    """

    module: nn.Module
    variables: dict[str, Any]
    card: Card


def describe(name: str, variables: Mapping[str, Any], **network_kwargs: Any) -> Weights:
    """Variables at hand as something to save.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: What the network's ``init`` gives.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Network, variables as given, and a card that tells of no training (step 0).

    Raises:
        ValueError: If these are no variables of that network.
    """
    module = _network(name, network_kwargs)
    convert.check_variables(name, variables, network_kwargs)
    card = card_lib.create(name, module, variables["params"])
    return Weights(module, dict(variables), card)


def load(
    path: Path,
    *,
    network: str | None = None,
    network_kwargs: Mapping[str, Any] | None = None,
    ema: bool = True,
    step: int | None = None,
) -> Weights:
    """Reads weights of any kind.

    Args:
        path: Working directory of a training, parameters-only directory, ``.safetensors`` file of
            this library, or a ``.pth``, ``.pt`` or ``.safetensors`` file with a PyTorch state dict.
        network: What a PyTorch state dict is of, as for :func:`lcdnet_jax.networks.create`. The
            others say that themselves.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.
        ema: Of a directory: use averaged parameters where the checkpoint has them.
        step: Of a directory: the step to load; None for the newest that is not damaged.

    Returns:
        Network, variables as float32 on the first device, and their card: as it was stored, or
        made of what a training's configuration and log say, or of a PyTorch file's name.

    Raises:
        CheckpointError: For files that are damaged, or not what they should be.
        ValueError: For a card (``CardError``) or configuration (``ConfigError``) that cannot be
            used, and arguments or state dicts that do not fit.
        OSError: For a file that cannot be opened.
        ImportError: For a PyTorch file where PyTorch is not installed.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind == "directory":
        if network is not None:
            raise ValueError(
                f"{path} is a directory, which says itself what network it holds; give a PyTorch "
                "file, or leave network off"
            )
        return _load_directory(path, ema=ema, step=step)
    if step is not None:
        raise _one_step(path, step)
    if kind == "torch":
        return _from_state_dict(path, convert.read_state_dict(path), network, network_kwargs)
    tensors, header = _read_safetensors(path)
    if header is None:
        return _from_state_dict(path, tensors, network, network_kwargs)
    if network is not None:
        raise ValueError(f"{path} says itself what network it holds; leave network off")
    return _from_tensors(path, tensors, header)


def card(path: Path, *, ema: bool = True, step: int | None = None) -> Card:
    """The card of what :func:`load` would give, without reading or verifying the weights.

    So of a training it is that of the newest checkpoint, also where :func:`load` would find that
    one damaged and take an earlier one.

    Raises:
        CheckpointError, ValueError, OSError: As :func:`load`; also for PyTorch files, which have
            none.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind == "directory":
        config = config_lib.load(path / "config.json")
        if _is_network_alone(config):
            found = _card_beside(config, path)
            if step not in (None, found["step"]):
                raise CheckpointError(
                    f"{path} has no step {step}, only {found['step']}; leave the step off"
                )
            return found
        if step is None:
            reader = checkpoints.Checkpoints(path)
            try:
                step = reader.latest_step()
            finally:
                reader.close()
        if step is None:
            raise CheckpointError(f"{path} holds no complete checkpoint; train first")
        params = networks.abstract_variables(config_lib.network(config))["params"]
        return _card_of_run(path, config, params, ema=ema, step=step)
    if step is not None:
        raise _one_step(path, step)
    header = _read_safetensors(path, arrays=False)[1] if kind == "safetensors" else None
    if header is None:
        raise CardError(f"{path} has no card; only files that this library wrote have one")
    return header.card


def configuration(card: Card, where: str) -> ConfigDict:
    """How weights were trained; where their card does not say, the network alone.

    Args:
        card: Theirs.
        where: What messages call it.

    Raises:
        CardError: If what it says is not of this version.
    """
    if card["training"] is None:
        return _network_alone(card)
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


def export_params(
    source: Path | Weights,
    output: Path,
    *,
    licence: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    force: bool = False,
    **how: Any,
) -> Card:
    """Writes a parameters-only directory.

    Args:
        source: What :func:`load` takes or gives.
        output: The directory to write.
        licence: Of the weights, for the card; None for what the source's says.
        notes: The same.
        metrics: The same, see :class:`lcdnet_jax.weights.card.Card` and :func:`scores`.
        dtype: What parameters are stored as: "float32" (None), or "bfloat16" or "float16" for half
            of the size; whoever loads them gets float32. Running statistics stay float32.
        force: Replace ``output`` where it is an earlier one.
        **how: Arguments of :func:`load`.

    Returns:
        The card that was written.

    Raises:
        CheckpointError, ValueError, OSError, ImportError: As :func:`load`; also for metrics of
            other weights, and an output that may not be replaced or cannot be written. Then
            everything is as it was.
    """
    output = pathlib.Path(os.path.realpath(output))
    atomic_io.check_directory(output, _KIND, force=force)
    _, variables, described = _weights(source, how, licence, notes, metrics, dtype)
    with atomic_io.replacing_directory(output, force=force) as made:
        made.mkdir()
        config_lib.save(_network_alone(described), made / "config.json")
        card_lib.write(described, made)
        try:
            _write_checkpoint(made, described["step"], variables)
        except CheckpointError as error:  # which speaks of a training to be continued
            reason = " ".join(str(error.__cause__ or error).split())
            raise CheckpointError(
                f"cannot write the checkpoint {output}: {reason}; free disk space or check "
                "permissions"
            ) from error
        atomic_io.check_directory(output, _KIND, force=force)  # something may have come meanwhile
    return described


def save_safetensors(
    source: Path | Weights,
    file: Path,
    *,
    licence: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    force: bool = False,
    **how: Any,
) -> Card:
    """Writes one file that is enough to make the network again.

    Arguments, result and errors are those of :func:`export_params`. The same weights give the same
    bytes. The header has a checksum of the arrays.
    """
    path = _check_free_file(file, _SAFETENSORS, force)
    _, variables, described = _weights(source, how, licence, notes, metrics, dtype)
    flat = flatten_dict(variables, sep="/")
    tensors = {name: np.ascontiguousarray(flat[name]) for name in sorted(flat)}
    entry = json.dumps({"card": described, "sha256": _digest(tensors)}, sort_keys=True)
    _write_file(path, safetensors.numpy.save(tensors, metadata={_ENTRY: entry}), force)
    return described


def scores(results: Path) -> list[dict[str, Any]]:
    """The results of ``eval.py`` as ``metrics`` of a card.

    Each says in "weights" which they are of; whoever writes the card compares and drops that.

    Args:
        results: Its ``results.json``.

    Raises:
        ValueError: If it is not that, or holds nothing.
        OSError: If it cannot be read.
    """
    try:
        text = pathlib.Path(results).read_bytes()
    except OSError as error:
        raise OSError(
            f"cannot read {results}: {error.strerror}; give the results.json of eval.py"
        ) from error
    try:
        metrics = [_metric(row) for row in json.loads(text)]
        good = bool(metrics) and card_lib.are_scores([_without_weights(row) for row in metrics])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        good = False
    if not good:
        raise ValueError(f"{results} holds no scores; give the results.json of eval.py")
    return metrics


def _of_these(described: Card, row: Mapping[str, Any]) -> dict[str, Any]:
    """Scores without "weights", which must be these; results of older versions have none."""
    own = card_lib.identity(described)
    if row.get("weights", own) != own:
        raise ValueError(
            f"the scores are of other weights ({row['weights']}) than these ({own}); score these "
            "by eval.py"
        )
    return _without_weights(row)


def _without_weights(row: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in row.items() if field != "weights"}


def _metric(row: Mapping[str, Any]) -> dict[str, Any]:
    named = ("dataset", "protocol", "mode", "sigma")
    mode = "" if row["mode"] == "full" else f", {row['mode']}"
    described = {"data": row["dataset"], "protocol": row["protocol"] + mode, "sigma": row["sigma"]}
    # null is a score that is not a finite number, such as the SSIM of a tiny image.
    numbers = {k: v for k, v in row.items() if k not in named and v is not None}
    return {**described, **numbers}


def save_torch(source: Path | Weights, file: Path, *, force: bool = False, **how: Any) -> Card:
    """Writes a PyTorch state dict, float32, which ``torch.load`` reads with ``weights_only=True``.

    Names are those of :func:`lcdnet_jax.convert.to_torch`; arguments as :func:`export_params`.

    Returns:
        The card of the weights, which the file does not hold.
    """
    path = _check_free_file(file, _TORCH, force)
    torch = convert.import_torch("writing")
    _, variables, described = _weights(source, how)
    state_dict = convert.to_torch(described["network"], variables, **_kwargs(described))
    written = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in state_dict.items()}, written)
    _write_file(path, written.getvalue(), force)
    return described


def _one_step(path: pathlib.Path, step: int) -> ValueError:
    return ValueError(f"{path} holds the weights of one step; leave step {step} off")


def _kind(path: pathlib.Path) -> str:
    if path.suffix.lower() in (*_SAFETENSORS, *_TORCH) and not path.is_dir():
        return "safetensors" if path.suffix.lower() in _SAFETENSORS else "torch"
    if path.is_file():
        raise ValueError(
            f"{path} is no checkpoint: give a directory, or a file that ends in "
            f"{', '.join((*_SAFETENSORS, *_TORCH))}"
        )
    return "directory"


def _weights(
    source: Path | Weights,
    how: Mapping[str, Any],
    licence: str | None = None,
    notes: str | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    dtype: str | None = None,
) -> Weights:
    """What to write, the parameters in the type to write them in."""
    dtype = dtype or "float32"
    if dtype not in _STORAGE:
        raise ValueError(f"dtype must be one of {', '.join(_STORAGE)}, got {dtype!r}")
    if isinstance(source, Weights):
        if how:
            raise ValueError(f"{', '.join(how)} is for a path; these weights are loaded already")
        module, variables, described = source
    else:
        module, variables, described = load(source, **how)
    stored = {**variables, "params": _cast(variables["params"], dtype)}
    described = Card(**{**described, "storage": dtype})
    described["kwargs"] = json.loads(json.dumps(_fields(described)))  # lists for tuples
    described["training"] = _without_folders(described["training"])
    if licence is not None:
        described["licence"] = licence
    if notes is not None:
        described["notes"] = notes
    if metrics is not None:
        described["metrics"] = [_of_these(described, row) for row in metrics]
    return Weights(module, stored, card_lib.check(described, "the card to write"))


def _without_folders(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A configuration whose paths are cut to their names: others have other folders."""
    if training is None:
        return None
    stored = json.loads(json.dumps(training))
    data = stored.get("data")
    for split in data.values() if isinstance(data, dict) else ():
        if isinstance(split, dict) and {"source", "path"} <= set(split):
            split["path"] = _folder_names(split["source"], split["path"])
    options = stored.get("degradation", {}).get("options", {})
    for given in options.values():
        if isinstance(given.get("pool"), str):
            given["pool"] = pathlib.PurePath(given["pool"]).name
    for fields, field in (
        (stored, "init_from"),
        (stored, "resume"),
        (stored.get("gan", {}), "vgg"),
    ):
        if isinstance(fields.get(field), str):
            fields[field] = pathlib.PurePath(fields[field]).name
    return stored


def _folder_names(source: str, path: str) -> str:
    """Of the sources of a data set, joined by commas, the names of the folders."""
    kinds, paths = source.split(","), path.split(",")
    named = kinds if len(kinds) == len(paths) else [""] * len(paths)
    return ",".join(
        place if kind.strip() == "tfds" else pathlib.PurePath(place).name
        for kind, place in zip(named, paths, strict=True)
    )


def _cast(params: Any, dtype: str) -> Any:
    """NumPy arrays of another type; ValueError for a number beyond its range."""

    def cast(path: Any, leaf: Any) -> np.ndarray:
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


# Directories


def _load_directory(directory: pathlib.Path, *, ema: bool, step: int | None) -> Weights:
    config = config_lib.load(directory / "config.json")
    found = _card_beside(config, directory) if _is_network_alone(config) else None
    module, variables, step = checkpoints.load_variables(directory, ema=ema, step=step)
    if found is None:
        found = _card_of_run(directory, config, variables["params"], ema=ema, step=step)
    return Weights(module, variables, found)


def _is_network_alone(config: ConfigDict) -> bool:
    return "steps" not in config


def _card_beside(config: ConfigDict, directory: pathlib.Path) -> Card:
    found = card_lib.read(directory)
    described = json.loads(json.dumps(config.to_dict()))
    if described != json.loads(json.dumps(_network_alone(found).to_dict())):
        raise CardError(
            f"{directory / card_lib.NAME} describes another network than config.json beside it; "
            "restore both from a copy"
        )
    return found


def _card_of_run(
    directory: pathlib.Path, config: ConfigDict, params: Any, *, ema: bool, step: int
) -> Card:
    reader = checkpoints.Checkpoints(directory)
    try:
        has_ema = "ema" in reader.items(step)
    finally:
        reader.close()
    manifest = pathlib.Path("checkpoints", str(step), "manifest.json")
    origin = []
    with contextlib.suppress(FileNotFoundError):  # of checkpoints of older versions
        digest = hashlib.sha256((directory / manifest).read_bytes()).hexdigest()
        origin.append({"file": manifest.as_posix(), "sha256": digest})
    return card_lib.create(
        config.network.name,
        config_lib.network(config),
        params,
        step=step,
        averaged=has_ema and ema,
        training=config.to_dict(),
        # Averaged parameters are the ones that are evaluated where there are any.
        metrics=_metrics(directory, config, step) if ema or not has_ema else [],
        origin=origin,
    )


def _metrics(directory: pathlib.Path, config: ConfigDict, step: int) -> list[dict[str, Any]]:
    """Scores of the newest evaluation up to a step, as metrics.jsonl has them."""
    try:
        lines = (directory / "metrics.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return []
    scored = _protocols(config)
    names = "|".join(re.escape(protocol.name) for protocol in scored)
    found: dict[tuple[int, str, float | None], dict[str, float]] = {}
    for line in lines:
        try:
            row = json.loads(line)
            at = row.pop("step")
        except (ValueError, KeyError, AttributeError, TypeError):
            continue  # half a line, written when the run was cut off
        for name, value in row.items():
            match = re.fullmatch(rf"eval/(?:({names})/)?(?:sigma(\d[\d.]*)/)?(\w+)", name)
            if match and isinstance(at, int) and isinstance(value, float) and math.isfinite(value):
                protocol = match[1] or scored[0].name  # named only where there are several
                sigma = None if match[2] is None else float(match[2])
                found.setdefault((at, protocol, sigma), {})[match[3]] = value
    newest = max((at for at, *_ in found if at <= step), default=None)
    if newest is None:
        return []
    evaluated = config.data.eval
    folder = _folder_names(evaluated.source, evaluated.path)
    data = f"{evaluated.source} {folder}".strip()
    told = {protocol.name: protocol.describe() for protocol in scored}
    return [
        {"step": at, "data": data, "protocol": told[protocol], "sigma": sigma, **scores}
        for (at, protocol, sigma), scores in found.items()
        if at == newest
    ]


def _protocols(config: ConfigDict) -> list[protocols.Protocol]:
    degradation = config.degradation
    return protocols.of_training(
        degradation.kind,
        protocol=degradation.protocol,
        spectrum=degradation.spectrum,
        source=config.data.eval.source,
        scale=config_lib.scale(config),
    )


def _network_alone(described: Card) -> ConfigDict:
    """What of a training's configuration describes the network."""
    network = {
        "name": described["network"],
        "kwargs": _fields(described),
        "dtype": described["dtype"],
    }
    return ConfigDict({"network": network, "data": {"channels": described["channels"]}})


# What a parameters-only directory holds beside its card, and what eval.py adds to it.
_KIND = atomic_io.DirectoryKind(
    name="conversion",
    required=(card_lib.NAME,),
    optional=("config.json", "checkpoints", "eval"),
)


def _write_checkpoint(directory: pathlib.Path, step: int, variables: Mapping[str, Any]) -> None:
    writer = checkpoints.Checkpoints(directory, keep=1)
    try:
        writer.save(step, jax.tree.map(jnp.asarray, variables))
        writer.finish(step)
    finally:
        writer.close()


# Files


def _network(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The network, if a configuration may hold it."""
    try:
        module = networks.create(name, **kwargs)
        dtype = jnp.dtype(module.dtype).name
    except TypeError as error:  # for a value of a kind that the network does not look for
        raise ValueError(f"{name} with {dict(kwargs)}: {error}") from error
    for field, value in (("data.channels", module.channels), ("network.dtype", dtype)):
        if wanted := config_lib.FIELDS[field].rule(value):
            raise ValueError(f"{field.rpartition('.')[2]} must be {wanted}, got {value!r}")
    return module


def _kwargs(described: Card) -> dict[str, Any]:
    """Arguments of ``networks.create``."""
    dtype = jnp.dtype(described["dtype"])
    return {**_fields(described), "channels": described["channels"], "dtype": dtype}


def _fields(described: Card) -> dict[str, Any]:
    """All fields of the network; older cards may name a preset instead."""
    return config_lib.resolve_stored(described["network"], described["kwargs"])


def _from_state_dict(
    path: pathlib.Path,
    state_dict: Mapping[str, np.ndarray],
    network: str | None,
    network_kwargs: Mapping[str, Any] | None,
) -> Weights:
    if network is None:
        raise ValueError(
            f"{path} does not say which network its weights are of; give network='NAME', or make a "
            f"checkpoint of it: lcdnet-jax convert NAME {path} -o DIR"
        )
    kwargs = dict(network_kwargs or {})
    module = _network(network, kwargs)
    variables, dropped = convert.convert_state_dict(network, state_dict, kwargs)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = [{"file": path.name, "sha256": digest}]
    described = card_lib.create(
        network, module, variables["params"], origin=origin, dropped=dropped
    )
    return Weights(module, variables, described)


class _Header(NamedTuple):
    card: Card
    sha256: str


def _read_safetensors(
    path: pathlib.Path, *, arrays: bool = True
) -> tuple[dict[str, np.ndarray], _Header | None]:
    """Arrays by name, and what this library wrote into the header, if it did."""
    tensors = {}
    try:
        with open(path, "rb"), safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys() if arrays else ():
                tensors[name] = file.get_tensor(name)
    except OSError as error:
        raise OSError(
            f"cannot read {path}: {error.strerror or error}; give a .safetensors file"
        ) from error
    except Exception as error:  # of several kinds, for types that NumPy lacks
        raise CheckpointError(
            f"{path} is no safetensors file, or is damaged ({error}); bring it back from a copy"
        ) from error
    if _ENTRY not in metadata:
        return tensors, None
    where = f"the header of {path}"
    try:
        entry = json.loads(metadata[_ENTRY])
        stored, sha256 = entry["card"], str(entry["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CardError(f"{where} is damaged; bring the file back from a copy") from error
    return tensors, _Header(card_lib.check(stored, where), sha256)


def _from_tensors(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], header: _Header
) -> Weights:
    if _digest(tensors) != header.sha256:
        raise CheckpointError(
            f"{path} is damaged: its arrays are not as they were saved (SHA-256 differs); bring it "
            "back from a copy"
        )
    name = header.card["network"]
    try:
        kwargs = _kwargs(header.card)
        module = _network(name, kwargs)
        flat = {tuple(key.split("/")): jnp.asarray(v, jnp.float32) for key, v in tensors.items()}
        variables = unflatten_dict(flat)
        convert.check_variables(name, variables, kwargs)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not hold what its card says: {' '.join(str(error).split())}"
        ) from error
    return Weights(module, variables, header.card)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_free_file(file: Path, suffixes: tuple[str, ...], force: bool) -> pathlib.Path:
    """The file to write; ValueError or OSError if it may or can not be."""
    path = pathlib.Path(os.path.realpath(file))
    atomic_io.check_file(path, force=force)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} must end in {' or '.join(suffixes)}; rename it")
    return path


def _write_file(path: pathlib.Path, data: bytes, force: bool) -> None:
    atomic_io.make_folder(path)
    atomic_io.write(path, data, force=force)
