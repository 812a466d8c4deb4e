"""Directories with weights: working directories of a training, and parameters-only directories.

A parameters-only directory holds ``config.json`` with the network alone, ``checkpoints/<step>/``
with ``params`` and ``batch_stats``, and ``card.json``. The card of a working directory is made
from its ``config.json``, its ``scores.jsonl`` and the manifest of the checkpoint. The content of
``config.json`` decides which of the two a directory is.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
from collections.abc import Callable
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lcdnet_jax import atomic_io, checkpoints, networks, strict_json
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.typing import PyTree, Variables
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import scores
from lcdnet_jax.weights.card import Card, CardError
from lcdnet_jax.weights.network import Weights

T = TypeVar("T")

# A number of training steps; "best", see ``config.best_metric``; or None for the newest.
Step = int | Literal["best"] | None

# A parameters-only directory. eval.py adds the folder eval.
KIND = atomic_io.DirectoryKind(
    name="conversion",
    required=(card_lib.NAME,),
    optional=("config.json", "checkpoints", "eval"),
)


# Number of arrays that a checkpoint is taken to have if its metadata cannot be read.
_UNREADABLE = 1000


def load(directory: pathlib.Path, config: ConfigDict, *, ema: bool, step: Step) -> Weights:
    """Reads a directory with this ``config.json``, see :func:`lcdnet_jax.weights.load`."""
    stored = _read_card(config, directory) if config_lib.describes_network_alone(config) else None
    module = config_lib.network(config)
    with contextlib.closing(checkpoints.Checkpoints(directory)) as reader:

        def read(step: int) -> tuple[dict[str, PyTree], Card]:
            expected = _list_variables(reader, module, step)
            variables = reader.restore_variables(step, expected, ema=ema)
            return variables, stored or _make_card(reader, config, expected, ema=ema, step=step)

        variables, card = _read_step(reader, config, step, read)
    return Weights(module, variables, card, is_workdir=stored is None)


def load_card(directory: pathlib.Path, *, ema: bool, step: Step) -> Card:
    """The card of a directory, see :func:`lcdnet_jax.weights.load_card`."""
    config = config_lib.load(directory / "config.json")
    if config_lib.describes_network_alone(config):
        card = _read_card(config, directory)
        if step not in (None, card["step"]):
            raise CheckpointError(
                f"{directory} has no step {step}, only {card['step']}; leave the step off"
            )
        return card
    module = config_lib.network(config)
    with contextlib.closing(checkpoints.Checkpoints(directory)) as reader:

        def read(step: int) -> Card:
            expected = _list_variables(reader, module, step)
            return _make_card(reader, config, expected, ema=ema, step=step)

        return _read_step(reader, config, step, read)


def _read_step(
    reader: checkpoints.Checkpoints, config: ConfigDict, step: Step, read: Callable[[int], T]
) -> T:
    """Calls a function with the step that ``step`` means."""
    if step is None:
        return reader.read_newest(read)[1]
    if step != "best":
        return read(step)
    while True:
        best = _find_best(reader, config)
        try:
            return read(best)
        except CheckpointError:
            # A training in the directory deletes a step when another one becomes the best.
            if best in reader.steps() or _find_best(reader, config) == best:
                raise


def _find_best(reader: checkpoints.Checkpoints, config: ConfigDict) -> int:
    directory = reader.directory.parent
    if config_lib.describes_network_alone(config):
        raise CheckpointError(f"{directory} has one step, and no best one; leave the step off")
    if not config.best_metric:
        raise CheckpointError(
            f"the training in {directory} kept no best checkpoint: its config.best_metric is "
            "empty. Give a step, or leave it off for the newest one"
        )
    best = scores.find_best(
        scores.read(directory),
        config.best_metric,
        count=len(config_lib.list_evaluations(config)),
        steps=reader.steps(),
    )
    if best is None:
        raise CheckpointError(
            f"{directory} has no evaluation of a checkpoint yet, so none is the best; wait for "
            "one, or leave the step off for the newest"
        )
    return best


def _list_variables(
    reader: checkpoints.Checkpoints, module: networks.RestorationNetwork, step: int
) -> dict[str, PyTree]:
    """Shapes of a network's variables, if the network is about as large as the checkpoint."""
    try:
        items = reader.items(step)
        variables = [items[name] for name in ("params", "batch_stats") if name in items]
        count = sum(map(_is_array, jax.tree.leaves(variables, is_leaf=_is_array)))
    except CheckpointError:  # reading the arrays will say why
        count = _UNREADABLE
    try:
        return networks.abstract_variables(module, count=count)
    except ValueError as error:
        raise CheckpointError(
            f"config.json does not describe step {step} of {reader.directory}: {error}"
        ) from error


def _is_array(leaf: object) -> bool:
    """Whether a leaf of Orbax's metadata describes an array."""
    return hasattr(leaf, "shape")


def write(output: pathlib.Path, variables: Variables, card: Card, *, force: bool) -> None:
    """Writes a parameters-only directory, all or nothing."""
    with atomic_io.replace_directory(output, KIND, force=force) as made:
        made.mkdir()
        config_lib.save(card_lib.get_network_config(card), made / "config.json")
        card_lib.write(card, made)
        try:
            _write_checkpoint(made, card["step"], variables)
        except CheckpointError as error:  # its message is about training
            reason = " ".join(str(error.__cause__ or error).split())
            raise CheckpointError(
                f"cannot write the checkpoint {output}: {reason}; free disk space or check "
                "permissions"
            ) from error
        # Another process may have written the directory meanwhile.
        atomic_io.check_directory(output, KIND, force=force)


def _write_checkpoint(directory: pathlib.Path, step: int, variables: Variables) -> None:
    with contextlib.closing(checkpoints.Checkpoints(directory, keep=1)) as writer:
        writer.save(step, jax.tree.map(jnp.asarray, variables))
        writer.finish(step)


def _read_card(config: ConfigDict, directory: pathlib.Path) -> Card:
    card = card_lib.read(directory)
    described = config_lib.as_json(card_lib.get_network_config(card).to_dict())
    if config_lib.as_json(config.to_dict()) != described:
        raise CardError(
            f"{directory / card_lib.NAME} describes another network than config.json beside it; "
            "restore both from a backup"
        )
    return card


def _make_card(
    reader: checkpoints.Checkpoints,
    config: ConfigDict,
    variables: Variables,
    *,
    ema: bool,
    step: int,
) -> Card:
    """Makes the card of a working directory. Only the shapes of the variables are used."""
    directory = reader.directory.parent
    has_ema = "ema" in reader.names(step)
    manifest = pathlib.Path("checkpoints", str(step), "manifest.json")
    origin = []
    try:
        digest = hashlib.sha256(strict_json.read_bytes(directory / manifest)).hexdigest()
        origin.append({"file": manifest.as_posix(), "sha256": digest})
    except FileNotFoundError:  # checkpoints of older versions have none
        reader.names(step)  # raises if a training has deleted the step meanwhile
    except (OSError, strict_json.JSONError) as error:
        raise CheckpointError(
            f"cannot read {directory / manifest}: {error}; check permissions"
        ) from error
    return card_lib.create(
        config.network.name,
        config_lib.network(config),
        variables["params"],
        step=step,
        averaged=has_ema and ema,
        training=config.to_dict(),
        # A training run evaluates averaged parameters if it has them.
        metrics=scores.read_newest(directory, step) if ema or not has_ema else [],
        origin=origin,
    )
