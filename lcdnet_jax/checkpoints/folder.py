"""The folder of checkpoints on disk: its layout, its lock, and what happens to old checkpoints.

A working directory holds ``config.json`` and ``checkpoints/`` with

- ``<step>/``: a complete checkpoint, with the items ``params``, ``opt_state`` and, where they
  exist, ``ema``, ``batch_stats`` and ``critic`` (parameters, optimizer state and batch statistics
  of the second network in adversarial training), and ``manifest.json``, which has the size and
  SHA-256 of every file. Each item has its own folder, so that inference reads and verifies
  parameters alone. Arrays are restored onto the current devices, whatever number of devices saved
  them.
- ``saving-<step>/``, ``saving-<step>.orbax-checkpoint-tmp/``: a save that is not complete yet.
- ``trash/``: old checkpoints that are being deleted.
- ``damaged-<step>/``: a checkpoint that failed verification when a training run tried to continue
  from it. The library does not read or delete it.

Only a directory whose name is a plain number counts as a checkpoint. A save copies the arrays to
the host and returns. The steps below follow in the background. A killed process leaves earlier
checkpoints intact, and incomplete files that the next training run in the directory deletes:

1. Orbax writes ``saving-<step>.orbax-checkpoint-tmp`` (if killed: incomplete).
2. Orbax renames it to ``saving-<step>`` (if killed: incomplete).
3. It is read back and compared with what was to be saved, and the manifest is written into it,
   from the files as they are on disk (if killed: incomplete).
4. It is renamed to ``<step>`` (if killed: complete, with one checkpoint too many until the next
   save).
5. Checkpoints beyond the newest ``keep``, except the best one where the run keeps it, are renamed
   into ``trash`` and deleted there (if killed: incomplete).

Several hosts share the file system, and every process calls the same methods in the same order.
Process 0 alone hashes, renames and deletes, and decides what is restored. A failure in one process
is raised in all. If a failure keeps a process from a barrier of Orbax, the others notice when that
barrier times out (20 minutes), or when JAX ends them because a process is missing.
"""

import os
import pathlib
import re
import shutil
import weakref
from collections.abc import Callable
from typing import TypeVar

from absl import logging

from lcdnet_jax import atomic_io, multihost

T = TypeVar("T")

_TRASH = "trash"

# The state counts its steps in 32 bits.
_LARGEST_STEP = 2**31 - 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message names the directory and the fix."""


class DamagedCheckpointError(CheckpointError):
    """Files of a checkpoint are not as they were saved.

    Attributes:
        problem: Which directory and file, and what is wrong, in one line; the message adds the fix.
    """

    def __init__(self, problem: str):
        super().__init__(
            f"{problem}\nRestore the damaged files from a backup, or use another step or working "
            "directory."
        )
        self.problem = problem


def is_step(name: str) -> bool:
    """Tells whether a directory of this name may be a checkpoint.

    Args:
        name: The name.

    Returns:
        True for a plain number of steps.
    """
    return re.fullmatch("0|[1-9][0-9]{0,9}", name) is not None and int(name) <= _LARGEST_STEP


class CheckpointFolder:
    """The folder ``checkpoints/`` of a working directory.

    Args:
        path: The folder.
        writable: Whether checkpoints may be saved in it.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: pathlib.Path, *, writable: bool):
        self.path = path
        self._writable = writable
        self._unlock: Callable[[], object] = lambda: None
        self._identity: tuple[int, int] | None = None  # of the folder, on process 0

    def open(self) -> None:
        """Makes and locks the folder and deletes incomplete files in it; on process 0.

        A folder that is only read must exist.

        Raises:
            CheckpointError: If it does not exist, cannot be used, or is in use.
        """
        if not self._writable:
            if not self.path.is_dir():
                raise CheckpointError(
                    f"{self.path} does not exist; give a working directory of train.py"
                )
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot use {self.path}: {error.strerror or error}; use a writable --workdir"
            ) from error
        self._lock()
        self._identity = self._read_identity()
        self.remove(_TRASH, "saving-*", "*.orbax-checkpoint-tmp*")

    def _lock(self) -> None:
        """Locks the directory. Two runs in it would delete files that the other one writes."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        self._unlock = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{self.path} is in use by another training; stop it or wait for its end, or "
                "use another --workdir"
            ) from error
        except OSError as error:  # some network file systems have no such locks
            logging.debug("%s is not locked: %s", self.path, error)

    def _read_identity(self) -> tuple[int, int]:
        """Device and inode of the directory, which stay the same when it is moved."""
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def check_identity(self) -> None:
        """Notices a folder that was moved, deleted or unmounted since it was opened.

        Raises:
            CheckpointError: If it was.
        """
        try:
            good = self._read_identity() == self._identity
        except OSError:
            good = False
        if not good:
            raise CheckpointError(
                f"{self.path} is not the directory any more that this run has opened: it was "
                "moved, deleted or unmounted, so nothing is saved there. Put it back, then run the "
                "same command again; it continues after the last step that was saved"
            )

    def unlock(self) -> None:
        """Releases the lock."""
        self._unlock()

    def saving_name(self, step: int) -> str:
        """Names the directory in which Orbax writes a step.

        Args:
            step: The step.

        Returns:
            Its name in this folder.
        """
        return f"saving-{step}"

    def discard(self, step: int) -> None:
        """Deletes a save that failed.

        Args:
            step: The step.
        """
        self.remove(f"saving-{step}*")

    def has_damaged(self) -> bool:
        """Checks whether a damaged checkpoint was moved aside.

        Returns:
            True if there is one.
        """
        return any(self.path.glob("damaged-*"))

    def steps(self) -> list[int]:
        """Lists the complete checkpoints.

        Returns:
            Their steps, ascending.

        Raises:
            CheckpointError: If the directory cannot be listed.
        """
        try:
            names = [path.name for path in self.path.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"cannot list {self.path}: {error.strerror or error}; check permissions"
            ) from error
        return sorted(int(name) for name in names if is_step(name))

    def complete(self, step: int) -> None:
        """Makes a written save a checkpoint.

        Args:
            step: The step of ``saving-<step>``.

        Raises:
            OSError: If the save cannot be renamed.
        """
        (self.path / f"saving-{step}").rename(self.path / str(step))

    def delete_old(self, *, keep: int, protected: int | None) -> None:
        """Deletes old checkpoints. One that cannot be deleted gives a warning.

        Args:
            keep: Number of newest checkpoints to keep.
            protected: Step of another checkpoint to keep, or None.
        """
        trash = self.path / _TRASH
        for old in self.steps()[:-keep]:
            if old == protected:
                continue
            try:
                trash.mkdir(exist_ok=True)
                (self.path / str(old)).rename(atomic_io.find_free_path(trash / str(old)))
            except OSError as error:  # the newer checkpoints are complete anyway
                logging.warning("cannot remove the old checkpoint of step %d: %s", old, error)
            shutil.rmtree(trash, ignore_errors=True)

    def move_aside(self, step: int, problem: str) -> str:
        """Renames a damaged checkpoint, so that its step can be saved again.

        Args:
            step: The step.
            problem: The damage, for messages.

        Returns:
            The new name.

        Raises:
            CheckpointError: If it cannot be renamed.
        """
        aside = atomic_io.find_free_path(self.path / f"damaged-{step}")
        try:
            (self.path / str(step)).rename(aside)
        except OSError as error:
            raise CheckpointError(
                f"{problem}; it cannot be moved aside: {error}. Check permissions, or move it away "
                "yourself"
            ) from error
        return aside.name

    def remove(self, *patterns: str) -> None:
        """Deletes incomplete files. Those that cannot be deleted never count as checkpoints.

        Args:
            *patterns: Patterns of their names.
        """
        for pattern in patterns:
            for path in self.path.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)


def on_first_process(action: Callable[[], T]) -> T:
    """Calls an action in process 0, see :func:`lcdnet_jax.multihost.run_on_first_process`.

    Args:
        action: A function whose result is JSON.

    Returns:
        Its result, in every process.

    Raises:
        CheckpointError: As the action raises it, in every process.
    """
    return multihost.run_on_first_process(action, CheckpointError, DamagedCheckpointError)
