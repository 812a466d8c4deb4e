"""Checkpoints of training state: Orbax directories and their checksums."""

from lcdnet_jax.checkpoints.manager import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpointError,
    Tree,
    restore_variables,
    silence_orbax,
)

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpointError",
    "Tree",
    "restore_variables",
    "silence_orbax",
]
