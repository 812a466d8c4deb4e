"""Checkpoints of training state: Orbax directories and their checksums."""

from lcdnet_jax.checkpoints.arrays import list_nonfinite, silence_orbax
from lcdnet_jax.checkpoints.folder import CheckpointError, DamagedCheckpointError
from lcdnet_jax.checkpoints.manager import Checkpoints, restore_variables

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpointError",
    "list_nonfinite",
    "restore_variables",
    "silence_orbax",
]
