"""Trains on a machine that is lent for minutes at a time, one piece after another.

    python -m benchmarks.train_in_pieces configs/sadnet_base.py:50 --minutes 8 --pieces runs/pieces

trains for 8 minutes of wall time, compilation included, and writes ``runs/pieces/piece-001``. The
same command makes piece 2 from it, and so on, to ``config.steps``, which is the number of steps of
all pieces together: the schedule and the batches go on where the last piece ended. ``--output``
writes the new piece elsewhere, such as a folder whose files are copied back. Other arguments
(``--config.data.train.path=...``) are those of train.py; give all pieces the same. Training images
are in device memory (``config.data.where`` "device").

A piece holds piece.json, with its history and checksums, and state.000, state.001, ..., each below
16 MiB: one file of arrays by name, cut into parts, with the logs of all pieces. If parameters, EMA
and optimizer state take more than ``--limit`` MiB together, the optimizer state is left out. The
next piece is then a *warm restart*, not the same training as without interruption: Adam's moments
start at zero, and the learning rate has a warm-up of ``config.optimizer.reset_warmup_steps``.
piece.json, config.json (``config.optimizer.resets``) and every line of output say so.

    python -m benchmarks.train_in_pieces --unpack runs/pieces --output runs/whole

makes a working directory of the newest piece, for eval.py and lcdnet-jax. Without the optimizer
state train.py cannot continue it. A checkpoint that ``config.best_metric`` keeps does not travel;
the scores of each evaluation do.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

import input_pipeline
from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import strict_json
from lcdnet_jax.messages import format_count
from lcdnet_jax.training import objectives, train_and_evaluate
from lcdnet_jax.training.optimizer import make_optimizer, reset_optimizer
from lcdnet_jax.training.preemption import Preempted
from lcdnet_jax.training.state import TrainState, abstract_state
from lcdnet_jax.typing import PyTree

_MIB = 2**20

# Bytes of a part, below 16 MiB.
_PART = 15 * _MIB

# Files of a working directory that grow over all pieces.
_LOGS = ("metrics.jsonl", "scores.jsonl", "data.json")


class PieceError(Exception):
    """A piece cannot be made or read. The message names the cause and the fix."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a piece holds.

    Attributes:
        history: How each piece so far was made: "first_step", "last_step", "start" (from scratch,
            exact or warm restart), "seconds" of wall time and "device".
        config: Fields of the configuration, as config.json has them.
        arrays: Arrays by name: "params/0", "ema/0", "opt_state/0" and so on, in the order of the
            leaves of the state; logs as bytes in "files/NAME".
    """

    history: Sequence[Mapping[str, Any]]
    config: bytes
    arrays: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """Number of steps made."""
        return int(self.history[-1]["last_step"])


def write(folder: pathlib.Path, piece: Piece) -> None:
    """Writes piece.json and the parts of the state, piece.json last."""
    folder.mkdir(parents=True)
    stream = io.BytesIO()
    arrays = {**piece.arrays, "files/config.json": np.frombuffer(piece.config, np.uint8)}
    np.savez(stream, allow_pickle=False, **arrays)
    content, parts = stream.getvalue(), {}
    for number, start in enumerate(range(0, len(content), _PART)):
        part, name = content[start : start + _PART], f"state.{number:03d}"
        (folder / name).write_bytes(part)
        parts[name] = hashlib.sha256(part).hexdigest()
    text = json.dumps({"pieces": list(piece.history), "sha256": parts}, indent=1)
    (folder / "piece.json").write_text(text + "\n")


def read(folder: pathlib.Path) -> Piece:
    """Reads a piece that :func:`write` made.

    Raises:
        PieceError: If a file is missing or damaged.
    """
    try:
        described = strict_json.parse((folder / "piece.json").read_bytes())
        content = b""
        for name, wanted in described["sha256"].items():
            part = (folder / name).read_bytes()
            if hashlib.sha256(part).hexdigest() != wanted:
                raise PieceError(f"{folder / name} is damaged; copy the piece again")
            content += part
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PieceError(f"cannot read the piece {folder}: {error}; copy it again") from error
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    return Piece(described["pieces"], arrays.pop("files/config.json").tobytes(), arrays)


def find_newest(folder: pathlib.Path) -> tuple[int, pathlib.Path | None]:
    """Finds the number and the folder of the newest piece; 0 and None if there is none."""
    numbers = [
        int(path.name.removeprefix("piece-"))
        for path in folder.glob("piece-*")
        if re.fullmatch(r"piece-\d{3}", path.name) and (path / "piece.json").exists()
    ]
    newest = max(numbers, default=0)
    return newest, folder / f"piece-{newest:03d}" if newest else None


def unpack(
    piece: Piece, workdir: pathlib.Path, config: ConfigDict | None = None
) -> tuple[ConfigDict, str]:
    """Makes a working directory of a piece.

    Args:
        piece: The piece.
        workdir: The directory, which must not exist.
        config: Configuration of the command that continues it, compared with that of the piece.
            None if it is not continued.

    Returns:
        The configuration of the next piece, and how that starts.

    Raises:
        PieceError: If the directory exists.
        ConfigError: If the configurations differ in a field that must stay.
    """
    try:
        workdir.mkdir(parents=True)
    except FileExistsError:
        raise PieceError(f"{workdir} exists; give another --output") from None
    (workdir / "config.json").write_bytes(piece.config)
    for name in _LOGS:
        if f"files/{name}" in piece.arrays:
            (workdir / name).write_bytes(piece.arrays[f"files/{name}"].tobytes())
    stored = config_lib.load(workdir / "config.json")
    continued = config is not None
    config = (config or stored).copy_and_resolve_references()
    config.optimizer.resets = stored.optimizer.resets
    if changed := config_lib.differences(stored, config):
        raise config_lib.ConfigError(
            "the pieces so far have another configuration:\n  "
            + "\n  ".join(changed)
            + "\nSet these fields back, or give another --pieces folder."
        )
    start = f"exact continuation after step {piece.step}"
    items = _make_items(config, piece)
    if continued and "opt_state" not in items:
        config.optimizer.resets = (*config.optimizer.resets, piece.step)
        warmup = config.optimizer.reset_warmup_steps
        start = f"warm restart after step {piece.step}, warm-up of {format_count(warmup, 'step')}"
        items["opt_state"] = reset_optimizer(make_optimizer(config), items["params"], piece.step)
        config_lib.save(config, workdir / "config.json")
    checkpoints = checkpoints_lib.Checkpoints(workdir, keep=1)
    try:
        checkpoints.save(piece.step, jax.tree.map(np.asarray, items))
        checkpoints.finish(piece.step)
    finally:
        checkpoints.close()
    return config, start


def train(
    config: ConfigDict, pieces: pathlib.Path, output: pathlib.Path, *, minutes: float, limit: float
) -> pathlib.Path:
    """Makes the next piece.

    Args:
        config: The experiment. ``config.steps`` counts the steps of all pieces.
        pieces: Folder of the earlier pieces.
        output: Folder in which the new piece is written.
        minutes: Wall time of the training, with its compilation.
        limit: Largest size of the state, MiB. The optimizer state is left out if it exceeds it.

    Returns:
        The folder of the new piece.

    Raises:
        PieceError: If a piece cannot be read, all steps are made, or the time is too short.
        ConfigError, CheckpointError: As :func:`train_and_evaluate`.
    """
    begin = time.monotonic()
    config = config.copy_and_resolve_references()
    config.data.where = "device"
    shapes = _shapes(config)
    if shapes.critic is not None:
        raise PieceError(
            f"config.objective {config.objective!r} trains a second network, which a piece does "
            "not hold; use train.py"
        )
    sizes = {name: _count_bytes(tree) for name, tree in shapes.items().items()}
    # A little is left for names and logs.
    names = [name for name in sizes if name != "opt_state" or sum(sizes.values()) < limit * _MIB]
    number, newest = find_newest(pieces)
    history: list[Mapping[str, Any]] = []
    first_step, start = 0, "from scratch"
    with tempfile.TemporaryDirectory(prefix="train_in_pieces-") as folder:
        workdir = pathlib.Path(folder, "run")
        if newest is not None:
            piece = read(newest)
            if piece.step >= config.steps:
                raise PieceError(
                    f"nothing to do: {newest} has all {format_count(config.steps, 'step')}"
                )
            config, start = unpack(piece, workdir, config)
            history, first_step = list(piece.history), piece.step
        print(f"piece {number + 1}: {start}", flush=True)
        datasets = input_pipeline.create_datasets(config)
        rest = max(1.0, minutes * 60 - (time.monotonic() - begin))
        timer = threading.Timer(rest, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        # The training handles the signal itself once the state is created.
        previous = signal.signal(signal.SIGTERM, _end_without_step)
        timer.start()
        try:
            train_and_evaluate(config, workdir, datasets=datasets)
        except Preempted as stop:
            print(stop, flush=True)
        finally:
            timer.cancel()
            signal.signal(signal.SIGTERM, previous)
        checkpoints = checkpoints_lib.Checkpoints(workdir)
        try:
            expected = {name: tree for name, tree in shapes.items().items() if name in names}
            step, items = checkpoints.restore_latest(expected)
        finally:
            checkpoints.close()
        arrays = {
            f"{name}/{i}": np.asarray(leaf)
            for name, tree in items.items()
            for i, leaf in enumerate(jax.tree.leaves(tree))
        }
        for name in _LOGS:
            if (workdir / name).exists():
                arrays[f"files/{name}"] = np.frombuffer((workdir / name).read_bytes(), np.uint8)
        device = jax.devices()[0]
        history.append(
            {
                "first_step": first_step,
                "last_step": step,
                "start": start,
                "seconds": round(time.monotonic() - begin, 1),
                "device": f"{jax.device_count()} x {device.device_kind}",
            }
        )
        made = output / f"piece-{number + 1:03d}"
        write(made, Piece(history, (workdir / "config.json").read_bytes(), arrays))
    left_out = "" if "opt_state" in items else "; without optimizer state, the next is a warm one"
    print(f"written: {made}, steps {first_step} to {step} of {config.steps}{left_out}", flush=True)
    return made


def _end_without_step(number: int, frame: FrameType | None) -> NoReturn:
    raise PieceError(
        "the time ended before the first step, so no piece is written; give more --minutes"
    )


def _shapes(config: ConfigDict) -> TrainState:
    return abstract_state(
        config_lib.network(config),
        make_optimizer(config),
        ema=config.ema_decay > 0,
        init_extra_state=objectives.get(config).make_extra_state_init(config),
    )


def _make_items(config: ConfigDict, piece: Piece) -> dict[str, PyTree]:
    """The items of a checkpoint that a piece holds."""
    items = {}
    for name, tree in _shapes(config).items().items():
        leaves, structure = jax.tree.flatten(tree)
        if f"{name}/0" in piece.arrays:
            found = [piece.arrays[f"{name}/{i}"] for i in range(len(leaves))]
            items[name] = jax.tree.unflatten(structure, found)
    return items


def _count_bytes(tree: PyTree) -> int:
    def count(leaf: Array | jax.ShapeDtypeStruct) -> int:
        return int(np.prod(leaf.shape)) * leaf.dtype.itemsize

    return sum(map(count, jax.tree.leaves(tree)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads arguments and makes a piece, or unpacks one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", nargs="?", help="value of --config of train.py")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall time of the piece")
    parser.add_argument("--pieces", type=pathlib.Path, help="folder of the pieces")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the new piece")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="largest state with its optimizer state, MiB"
    )
    parser.add_argument("--unpack", type=pathlib.Path, metavar="PIECES", help="see above")
    options, others = parser.parse_known_args(arguments)
    try:
        if options.unpack is not None:
            newest = find_newest(options.unpack)[1]
            if newest is None or options.output is None:
                parser.error("--unpack needs a folder with pieces, and --output, a new folder")
            unpack(read(newest), options.output)
            print(f"written: {options.output}, from {newest}")
            return
        if options.config is None or options.pieces is None:
            parser.error("give a configuration, and --pieces, the folder of the pieces")
        config = config_lib.read_config(["--config", options.config, *others])
        output = options.output or options.pieces
        train(config, options.pieces, output, minutes=options.minutes, limit=options.limit)
    except (PieceError, config_lib.ConfigError, checkpoints_lib.CheckpointError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
