"""Local copies of files that grow during a run whose working directory is in a bucket.

Nothing can be appended to an object of a bucket. So logs, TensorBoard events, pictures and profiler
traces are written into a temporary folder and copied from there when :meth:`LocalCopy.flush` is
called. In a local working directory they are written directly.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Sequence

from lcdnet_jax import storage


class LocalCopy:
    """A local folder whose files become those of a working directory.

    Args:
        workdir: The working directory.

    Attributes:
        folder: The local folder: ``workdir`` itself unless it is in a bucket.
        is_separate: Whether the working directory is in a bucket.
    """

    def __init__(self, workdir: pathlib.Path):
        self._workdir = workdir
        self.folder = workdir
        self.is_separate = storage.is_bucket(workdir)
        self._copied: dict[str, tuple[int, int]] = {}  # size and time of files by name
        if self.is_separate:
            self._temporary = tempfile.TemporaryDirectory(prefix="lcdnet_jax-")
            self.folder = pathlib.Path(self._temporary.name)

    def fetch(self, names: Sequence[str]) -> None:
        """Copies existing files of the working directory into the local folder.

        Raises:
            OSError: If the bucket cannot be read.
        """
        if not self.is_separate:
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                data = storage.read_bytes(self._workdir / name)
                (self.folder / name).write_bytes(data)
                self._copied[name] = self._identify(name)

    def flush(self) -> None:
        """Copies new and changed files into the working directory.

        Raises:
            OSError: If the bucket cannot be written. The next call tries again.
        """
        if not self.is_separate:
            return
        for name in storage.list_files(self.folder):
            identity = self._identify(name)
            if self._copied.get(name) != identity:
                storage.upload_file(self.folder / name, self._workdir / name)
                self._copied[name] = identity

    def close(self) -> None:
        """Deletes the temporary folder."""
        if self.is_separate:
            self._temporary.cleanup()

    def _identify(self, name: str) -> tuple[int, int]:
        status = (self.folder / name).stat()
        return status.st_size, status.st_mtime_ns
