"""Folder of temporary files: deleted at the end; by the next server if this process is killed.

On Windows, folders of killed servers stay.
"""

import contextlib
import os
import pathlib
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

_PREFIX = "lcdnet-jax-serve-"

# A folder that is younger may belong to a server that has not locked it yet.
_YOUNGEST_SECONDS = 60.0


@contextlib.contextmanager
def create_folder() -> Iterator[pathlib.Path]:
    """Makes a folder for this process alone, and deletes those of servers that were killed.

    Yields:
        The folder. It is deleted at the end, whatever it holds.

    Raises:
        OSError: If no folder can be made.
    """
    _delete_leftovers(pathlib.Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        lock = _lock(name)
        try:
            yield pathlib.Path(name)
        finally:
            if lock is not None:
                os.close(lock)


def _delete_leftovers(parent: pathlib.Path) -> None:
    """Deletes folders of this user that no process holds any more."""
    if sys.platform == "win32":
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # deleted by another process
            found = folder.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if is_ours and time.time() - found.st_mtime > _YOUNGEST_SECONDS:
                lock = _lock(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _lock(folder: str | os.PathLike[str]) -> int | None:
    """Locks a folder until the process ends; returns None if another process has."""
    if sys.platform == "win32":
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened
