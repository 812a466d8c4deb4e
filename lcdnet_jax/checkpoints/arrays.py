"""Trees of arrays in Orbax directories: what they hold, and how they are compared."""

import logging as standard_logging
import pathlib
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

Tree = Any

# All items that a checkpoint may hold. The run decides which of them exist.
_ITEMS = ("params", "opt_state", "ema", "batch_stats", "critic")


def silence_orbax() -> None:
    """Keeps Orbax from printing hundreds of tracebacks for one failed save; for programs.

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


def make_handler() -> ocp.CompositeCheckpointHandler:
    """Makes what reads and writes a checkpoint, each item in a folder of its own."""
    return ocp.CompositeCheckpointHandler(
        **{name: ocp.StandardCheckpointHandler() for name in _ITEMS}
    )


def read_metadata(where: pathlib.Path, name: str) -> Tree:
    """Reads shapes and dtypes of the arrays of an item, without the arrays."""
    return ocp.StandardCheckpointHandler().metadata(where / name)


def take_one_copy(leaf: Any) -> Any:
    """One device's copy of an array that all devices of this process hold whole.

    Orbax would let each device write a part of such arrays, with a compiled program for each
    shape. The first save of a few megabytes would then take seconds.
    """
    copied = isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated
    return leaf.addressable_data(0) if copied else leaf


def add_sharding(leaf: Any) -> Any:
    """Adds a sharding to shapes without one. Orbax would need the devices that saved them."""
    if not isinstance(leaf, jax.ShapeDtypeStruct) or leaf.sharding is not None:
        return leaf
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


def list_mismatches(name: str, stored: Tree | None, wanted: Tree) -> list[str]:
    """Lists arrays that are missing, unknown or of another shape.

    Args:
        name: The item.
        stored: Metadata of its arrays in a checkpoint; None if the checkpoint has no such item.
        wanted: The expected arrays.

    Returns:
        One line for each.
    """
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
