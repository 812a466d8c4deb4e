"""Trees of arrays in Orbax directories: what they hold, and how they are compared.

Orbax is imported by the functions that use it: it takes as long as JAX, and most commands of
``lcdnet-jax`` read no checkpoint.
"""

import logging as standard_logging
import os
import pathlib
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import logging
from jax import Array
from jax.tree_util import KeyPath

from lcdnet_jax import storage
from lcdnet_jax.typing import PyTree

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

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

    def unraisablehook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = unraisablehook


def make_literal_path(directory: pathlib.Path) -> tuple[pathlib.Path, Callable[[], object]]:
    r"""Makes a path of a directory that Orbax takes literally.

    Orbax lists what its processes wrote with a pattern that begins with the whole path, so it
    finds nothing in ``runs [v2]`` and leaves a checkpoint that cannot be read. TensorStore takes a
    backslash for a separator.

    Args:
        directory: An existing directory.

    Returns:
        The directory itself, or a symbolic link to it if its path contains one of ``*?[\``. And a
        function that removes the link.

    Raises:
        OSError: If a link is needed and cannot be made.
    """
    if _is_literal(directory):
        if storage.is_bucket(directory):
            _limit_repetitions()
        return directory, lambda: None
    if storage.is_bucket(directory):
        raise OSError("a bucket has no links")
    if jax.process_count() > 1:
        raise OSError("several processes need a path without them")
    folder = tempfile.TemporaryDirectory(prefix="lcdnet_jax-")
    link = pathlib.Path(folder.name, "checkpoints")
    try:
        if not _is_literal(link):
            raise OSError(f"the path of temporary files, {folder.name}, contains them, too")
        link.symlink_to(directory, target_is_directory=True)
    except OSError:
        folder.cleanup()
        raise
    return link, folder.cleanup


def _is_literal(path: pathlib.Path) -> bool:
    special = ("*", "?", "[", ":/") if os.name == "nt" else ("*", "?", "[", ":/", "\\")
    text = str(path).partition("://")[2] if storage.is_bucket(path) else str(path)
    return not any(one in f"{text}/" for one in special)


def _limit_repetitions() -> None:
    """Lets TensorStore give up a request to a bucket after a minute, not a quarter of an hour.

    Orbax makes the context of each save and restore from this dictionary, and has no argument for
    it.
    """
    from orbax.checkpoint._src.serialization import tensorstore_utils

    tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT["gcs_request_retries"] = {"max_retries": 6}


def make_handler() -> "ocp.CompositeCheckpointHandler":
    """Makes what reads and writes a checkpoint, each item in a folder of its own."""
    import orbax.checkpoint as ocp

    return ocp.CompositeCheckpointHandler(
        **{name: ocp.StandardCheckpointHandler() for name in _ITEMS}
    )


def read_metadata(where: pathlib.Path, name: str) -> PyTree:
    """Reads shapes and dtypes of the arrays of an item, without the arrays."""
    import orbax.checkpoint as ocp

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


def compute_checksums(items: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Computes what :func:`read_back` compares.

    Args:
        items: Trees of arrays by name.

    Returns:
        For each array its shape, its dtype, and its CRC-32. The last is None for an array that is
        spread over several hosts.
    """
    return {name: jax.tree.map(_Checksum, tree) for name, tree in items.items()}


class _Checksum:
    """Shape, dtype and CRC-32 of an array. A leaf for ``jax.tree``."""

    def __init__(self, array: Array | np.ndarray):
        self.shape, self.dtype = array.shape, array.dtype
        whole = not isinstance(array, jax.Array) or array.is_fully_addressable
        self.crc = _compute_crc(np.asarray(array)) if whole else None


def _compute_crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_back(where: pathlib.Path, checksums: Mapping[str, PyTree]) -> None:
    """Reads a checkpoint that was just written and compares it with what it should hold.

    Args:
        where: Directory of the checkpoint.
        checksums: From :func:`compute_checksums`.

    Raises:
        Exception: Of many types if the checkpoint cannot be read; ValueError if it holds other
            arrays.
    """
    import orbax.checkpoint as ocp

    handler = ocp.StandardCheckpointHandler()
    for name, tree in checksums.items():  # one by one, which bounds the memory
        wanted = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), tree)
        found = handler.restore(where / name, args=ocp.args.StandardRestore(wanted))
        for (path, expected), array in zip(
            jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(found), strict=True
        ):
            if expected.crc not in (None, _compute_crc(array)):
                raise ValueError(f"{name}{_path(path)} is not as it was saved")


def list_nonfinite(items: Mapping[str, PyTree]) -> list[str]:
    """Lists arrays with a NaN or an infinity, of those parts that this process holds.

    Args:
        items: Trees of arrays by name.

    Returns:
        Their paths, such as "params/conv/kernel".
    """
    leaves = jax.tree_util.tree_leaves_with_path(dict(items))
    return [_path(path).lstrip("/") for path, leaf in leaves if not _is_finite(leaf)]


def _is_finite(array: Array | np.ndarray) -> bool:
    array = take_one_copy(array)
    if not isinstance(array, jax.Array):
        parts = [array]
    else:
        parts = [shard.data for shard in array.addressable_shards]
    return all(np.isfinite(np.asarray(part)).all() for part in parts)


def list_mismatches(name: str, stored: PyTree | None, wanted: PyTree) -> list[str]:
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


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Shapes by path, written alike for live trees and for Orbax's metadata."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {_path(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}


def _path(path: KeyPath) -> str:
    parts = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return "".join(f"/{part}" for part in parts)
