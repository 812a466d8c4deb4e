"""The folder of checkpoints in a bucket of Google Cloud Storage, and its lock.

A bucket can neither rename nor lock. So the layout is that of
:mod:`lcdnet_jax.checkpoints.folder` with these differences:

- Orbax writes ``<step>/`` itself. It is a checkpoint if it has ``manifest.json``, which is written
  last, after all arrays were read back, and deleted first. Without it, the next training run in the
  directory deletes ``<step>/``.
- A damaged checkpoint is copied to ``damaged-<step>/`` and then deleted.
- ``lock.json`` names the process that writes. It is created only if it does not exist, and written
  again every :data:`BEAT` seconds. A lock that does not change for :data:`STALE` seconds, or whose
  process is known to be dead, is taken over. Its owner notices that before the next save.
"""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from typing import Any

from absl import logging

from lcdnet_jax import atomic_io, storage, strict_json
from lcdnet_jax.checkpoints import manifest
from lcdnet_jax.checkpoints.folder import CheckpointError, CheckpointFolder, is_step

LOCK = "lock.json"

# Seconds between two signs of life of the owner of a lock, without one until it is taken over, and
# until whoever takes it over looks whether another one did so at the same time.
BEAT, STALE, SETTLE = 10.0, 45.0, 2.0

_held: set[str] = set()  # tokens of the locks of this process


class BucketFolder(CheckpointFolder):
    """The folder ``checkpoints/`` of a working directory in a bucket."""

    def __init__(self, path: pathlib.Path, *, writable: bool):
        super().__init__(path, writable=writable)
        self._bucket_lock = BucketLock(path / LOCK)

    def open(self) -> None:
        """Locks the folder and deletes incomplete checkpoints in it; on process 0.

        Raises:
            CheckpointError: If the folder is only read and does not exist, cannot be used, or is in
                use.
        """
        if not self._writable:
            if not storage.exists(self.path):
                raise CheckpointError(
                    f"{self.path} does not exist; give a working directory of train.py"
                )
            return
        try:
            self._bucket_lock.acquire()
            complete = set(map(str, self.steps()))
            for name in {file.partition("/")[0] for file in storage.list_files(self.path)}:
                if is_step(name) and name not in complete:
                    storage.remove(self.path / name)
        except OSError as error:
            raise CheckpointError(
                f"cannot use {self.path}: {error.strerror or error}; use a writable --workdir"
            ) from error

    def check_identity(self) -> None:
        """Notices that another run took over the lock, or that the folder was deleted.

        Raises:
            CheckpointError: If so, or if the bucket does not answer.
        """
        try:
            owned = self._bucket_lock.is_owned()
        except OSError as error:
            raise CheckpointError(
                f"cannot read {self.path / LOCK}: {error.strerror or error}"
            ) from error
        if not owned:
            raise CheckpointError(
                f"{self.path} is not this run's any more: its {LOCK} was deleted, or another "
                "training has taken it over. Nothing is saved there. Stop the other one, then run "
                "the same command again; it continues after the last step that was saved"
            )

    def unlock(self) -> None:
        """Deletes the lock."""
        self._bucket_lock.release()

    def saving_name(self, step: int) -> str:
        """The name under which Orbax writes a step."""
        return str(step)

    def discard(self, step: int) -> None:
        """Leaves a failed save, which has no manifest, to the next training run."""

    def steps(self) -> list[int]:
        """Lists the complete checkpoints by one request.

        Returns:
            Their steps, ascending.

        Raises:
            CheckpointError: If the bucket does not answer.
        """
        try:
            files = storage.list_files(self.path)
        except OSError as error:
            raise CheckpointError(f"cannot list {self.path}: {error.strerror or error}") from error
        folders = [name.removesuffix(f"/{manifest.NAME}") for name in files]
        return sorted(int(name) for name in folders if is_step(name))

    def has_damaged(self) -> bool:
        """Whether a damaged checkpoint was moved aside."""
        return any(name.startswith("damaged-") for name in storage.list_files(self.path))

    def complete(self, step: int) -> None:
        """Does nothing: the manifest has made the checkpoint complete."""

    def delete_old(self, *, keep: int, protected: int | None) -> None:
        """Deletes old checkpoints, see :class:`CheckpointFolder`."""
        for old in self.steps()[:-keep]:
            if old == protected:
                continue
            try:
                storage.remove(self.path / str(old), marker=manifest.NAME)
            except OSError as error:  # the newer checkpoints are complete anyway
                logging.warning("cannot remove the old checkpoint of step %d: %s", old, error)

    def move_aside(self, step: int, problem: str) -> str:
        """Copies a damaged checkpoint and deletes it, see :class:`CheckpointFolder`."""
        try:
            aside = atomic_io.find_free_path(self.path / f"damaged-{step}")
            storage.copy(self.path / str(step), aside)
            storage.remove(self.path / str(step), marker=manifest.NAME)
        except OSError as error:
            raise CheckpointError(
                f"{problem}; it cannot be moved aside: {error}. Move it away yourself"
            ) from error
        return aside.name


class BucketLock:
    """An object that names its owner, who writes it again and again.

    Args:
        path: The object.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._owner: dict[str, Any] = {
            "token": secrets.token_hex(16),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "system": _describe_system(),
        }
        self._beats = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Creates the object, or takes it over from an owner that is dead.

        Raises:
            CheckpointError: If its owner is alive.
            OSError: If it cannot be written.
        """
        try:
            storage.write(self._path, self._render(), replace=False)
        except FileExistsError:
            self._take_over()
        _held.add(self._owner["token"])
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def _take_over(self) -> None:
        before = self._read()
        owner = f"process {before.get('process')} on {before.get('host')}"
        in_use = CheckpointError(
            f"{self._path.parent} is in use by another training ({owner}); stop it or wait for its "
            "end, or use another --workdir"
        )
        if not _is_dead(before):
            logging.warning(
                "%s is locked by %s; waiting %.0f s for a sign of life", self._path, owner, STALE
            )
            end = time.monotonic() + STALE
            while time.monotonic() < end:
                time.sleep(min(BEAT / 2, STALE / 4))
                if self._read() != before:
                    raise in_use
        storage.write(self._path, self._render())
        time.sleep(SETTLE)
        if not self.is_owned():
            raise in_use

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            try:
                # Not atomic: who takes over at this moment waits, and looks again.
                if self.is_owned():
                    storage.write(self._path, self._render())
            except OSError as error:
                if not self._end.is_set():
                    logging.warning("cannot renew %s: %s", self._path, error.strerror or error)

    def is_owned(self) -> bool:
        """Whether the object names this owner.

        Raises:
            OSError: If it cannot be read.
        """
        return self._read().get("token") == self._owner["token"]

    def release(self) -> None:
        """Deletes the object, if it was acquired. Does not wait for a bucket that is down."""
        if self._thread is None:
            return
        _held.discard(self._owner["token"])
        self._end.set()
        thread, self._thread = self._thread, None
        if storage.is_down():
            return
        thread.join()  # or it would write once more
        with contextlib.suppress(OSError):
            if self.is_owned():
                storage.remove(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            content = strict_json.read(self._path)
        except (FileNotFoundError, strict_json.JSONError):
            return {}
        return content if isinstance(content, dict) else {}

    def _render(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._owner, "beats": self._beats}).encode()


def _describe_system() -> str | None:
    """The running system and the space of its process numbers; None where it does not tell."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether an owner was a process of this system that has ended."""
    system, process = owner.get("system"), owner.get("process")
    if system is None or system != _describe_system() or type(process) is not int:
        return False
    if process == os.getpid():
        return owner.get("token") not in _held
    return not pathlib.Path(f"/proc/{process}").exists()
