"""Checkpoints: Orbax directories of training state, with the configuration beside them.

A working directory holds ``config.json`` and ``checkpoints/<step>/`` with the items ``params``,
``opt_state`` and, where they exist, ``ema`` and ``batch_stats``. The items are saved apart, so
that inference reads parameters alone. Arrays are restored onto the devices at hand, whatever
number of devices saved them.
"""

import contextlib
import logging as standard_logging
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from lcdnet_jax import config as config_lib

Tree = Any

# Everything that a checkpoint may hold; which of it does depends on the run.
_ITEMS = ("params", "opt_state", "ema", "batch_stats")

_TRASH = "trash"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message names the directory and the fix."""


def silence_orbax() -> None:
    """For programs: keeps Orbax from printing hundreds of tracebacks of one failed save.

    :class:`CheckpointError` says what failed. Orbax logs it too, asyncio logs each array that was
    not written, and the writing threads report a closed event loop to ``sys.unraisablehook``.
    """
    logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    show = sys.unraisablehook

    def unraisablehook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = unraisablehook


class Checkpoints:
    """The checkpoints of one working directory.

    Args:
        workdir: Working directory of a run.
        keep: Number of checkpoints kept, newest first; None to only read.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int | None = None):
        self.directory = pathlib.Path(workdir).absolute() / "checkpoints"
        if keep is None and not self.directory.is_dir():
            raise CheckpointError(
                f"{self.directory} does not exist; give a working directory of train.py"
            )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=keep is not None,
            cleanup_tmp_directories=keep is not None,
            # Old checkpoints are renamed, then deleted: a kill in between leaves no half one.
            todelete_subdir=_TRASH if keep is not None else None,
        )
        if keep is not None:
            shutil.rmtree(self.directory / _TRASH, ignore_errors=True)
        handlers = {name: ocp.StandardCheckpointHandler() for name in _ITEMS}
        try:
            self._manager = ocp.CheckpointManager(
                self.directory, options=options, item_handlers=handlers
            )
        except OSError as error:
            raise CheckpointError(
                f"cannot use {self.directory}: {error.strerror or error}; use a writable --workdir"
            ) from error

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def saved(self) -> str:
        """What is safely on disk now, in words for a message; waits for a save under way."""
        with contextlib.suppress(Exception):  # a failed save counts for nothing
            self._manager.wait_until_finished()
        steps = self._steps_on_disk()
        return f"step {max(steps)} is saved" if steps else "there is no checkpoint yet"

    def _steps_on_disk(self) -> list[int]:
        # Orbax gives a directory its final name when it is complete.
        return [int(p.name) for p in self.directory.glob("[0-9]*") if p.name.isdigit()]

    def save(self, step: int, items: Mapping[str, Tree]) -> None:
        """Starts to save ``items``; an earlier save is finished first.

        Raises:
            CheckpointError: If the disk refuses; earlier checkpoints are untouched.
        """
        if step in self._manager.all_steps():
            return
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        self._guard(step, lambda: self._manager.save(step, args=ocp.args.Composite(**args)))

    def finish(self, step: int) -> None:
        """Waits until the save of ``step`` is on disk; errors as :meth:`save`."""
        self._guard(step, self._manager.wait_until_finished)

    def close(self) -> None:
        """Releases Orbax's threads; a save that :meth:`finish` has not awaited may be lost."""
        try:
            self._manager.close()
        except Exception as error:  # of a save under way; must not hide why the run ends
            logging.warning("the newest checkpoint was not completed: %s", error)

    def restore(self, step: int, items: Mapping[str, Tree]) -> dict[str, Tree]:
        """Reads the named items.

        Args:
            step: A step that :meth:`latest_step` gave.
            items: Names and trees of arrays or ``jax.ShapeDtypeStruct`` that say what is
                expected; arrays come back with the sharding given there, if any.

        Raises:
            CheckpointError: If the checkpoint holds other arrays; every missing, unknown and
                mis-shaped one is listed.
        """
        where = self.directory / str(step)
        stored = self.items(step)
        problems: list[str] = []
        for name, tree in items.items():
            problems += _mismatches(name, stored.get(name), tree)
        if problems:
            shown = "\n  ".join(problems[:20])
            more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise CheckpointError(
                f"the checkpoint {where} belongs to another network or optimiser:\n  "
                f"{shown}{more}\n"
                "Use the configuration it was trained with, or another working directory."
            )
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
        try:
            return dict(self._manager.restore(step, args=ocp.args.Composite(**args)).items())
        except Exception as error:  # Orbax raises bare Exceptions for damaged files
            raise self._unreadable(step, error) from error

    def items(self, step: int) -> dict[str, Tree]:
        """Names of the items of a checkpoint, with trees of their arrays' metadata."""
        try:
            metadata = self._manager.item_metadata(step)
        except Exception as error:  # any kind, for damaged files
            raise self._unreadable(step, error) from error
        return {name: tree for name, tree in metadata.items() if tree is not None}

    def _unreadable(self, step: int, error: Exception) -> CheckpointError:
        where = self.directory / str(step)
        return CheckpointError(
            f"cannot read the checkpoint {where}: {error}\nIf it is damaged, delete that "
            "directory; the next older checkpoint is then used."
        )

    def _guard(self, step: int, action: Any) -> None:
        try:
            action()
        except Exception as error:  # Orbax wraps a full disk in several kinds
            raise CheckpointError(
                f"cannot write the checkpoint of step {step} to {self.directory}: {error}\n"
                f"Nothing saved before is lost: {self.saved()}. Free disk space or check "
                "permissions, then run the same command again."
            ) from error


def load_variables(
    workdir: str | pathlib.Path, *, ema: bool = True, step: int | None = None
) -> tuple[Any, dict[str, Tree], int]:
    """Network and weights of a trained model.

    Args:
        workdir: Working directory of a run.
        ema: Use averaged parameters where the checkpoint has them.
        step: Step to load; None for the newest.

    Returns:
        The module, its variables and the step.

    Raises:
        CheckpointError, ConfigError: If the directory holds no usable checkpoint.
    """
    workdir = pathlib.Path(workdir)
    config = config_lib.load(workdir / "config.json")
    module = config_lib.network(config)
    variables, step = restore_variables(workdir, abstract_variables(module), ema=ema, step=step)
    return module, variables, step


def restore_variables(
    workdir: str | pathlib.Path,
    expected: Mapping[str, Tree],
    *,
    ema: bool = True,
    step: int | None = None,
) -> tuple[dict[str, Tree], int]:
    """Variables of a checkpoint for a network whose variables look like ``expected``."""
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(
                f"{checkpoints.directory} holds no complete checkpoint; train first"
            )
        averaged = ema and "ema" in checkpoints.items(step)
        names = {"ema" if averaged and k == "params" else k: v for k, v in expected.items()}
        restored = checkpoints.restore(step, names)
    finally:
        checkpoints.close()
    logging.info("weights of step %d%s from %s", step, " (EMA)" if averaged else "", workdir)
    return {"params" if name == "ema" else name: tree for name, tree in restored.items()}, step


def abstract_variables(module: Any) -> dict[str, Tree]:
    """Shapes and types of a network's variables, without computing them; for one device."""

    def init() -> Tree:
        return module.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, module.channels)))

    # Without a placement Orbax would want the devices that saved the checkpoint.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        dict(jax.eval_shape(init)),
    )


def _mismatches(name: str, stored: Tree | None, wanted: Tree) -> list[str]:
    if stored is None:
        return [f"{name}: not in the checkpoint"]
    old, new = _shapes(stored), _shapes(wanted)
    problems = [f"{name}{key}: missing in the checkpoint" for key in sorted(set(new) - set(old))]
    problems += [f"{name}{key}: unknown to this run" for key in sorted(set(old) - set(new))]
    problems += [
        f"{name}{key}: shape {old[key]} there, {new[key]} needed"
        for key in sorted(set(old) & set(new))
        if old[key] != new[key]
    ]
    return problems


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """Shapes by path, written alike for live trees and for Orbax's metadata."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {_path(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}


def _path(path: Any) -> str:
    parts = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return "".join(f"/{part}" for part in parts)


__all__ = [
    "CheckpointError",
    "Checkpoints",
    "abstract_variables",
    "load_variables",
    "restore_variables",
    "silence_orbax",
]
