"""Checkpoints of training state: Orbax directories and their checksums."""

import importlib
from typing import TYPE_CHECKING, Any

from lcdnet_jax.checkpoints.arrays import list_nonfinite, silence_orbax
from lcdnet_jax.checkpoints.folder import CheckpointError, DamagedCheckpointError

if TYPE_CHECKING:
    from lcdnet_jax.checkpoints.manager import Checkpoints, restore_variables

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpointError",
    "list_nonfinite",
    "restore_variables",
    "silence_orbax",
]


def __getattr__(name: str) -> Any:
    """Imports what uses Orbax on first use; Orbax takes as long to import as JAX."""
    if name in ("Checkpoints", "restore_variables"):
        return getattr(importlib.import_module("lcdnet_jax.checkpoints.manager"), name)
    raise AttributeError(f"module 'lcdnet_jax.checkpoints' has no attribute {name!r}")
