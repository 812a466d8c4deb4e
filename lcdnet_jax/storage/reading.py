"""Reading of files on this machine and of objects in buckets."""

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from lcdnet_jax.storage.buckets import convert_errors, get_filesystem
from lcdnet_jax.storage.paths import is_bucket
from lcdnet_jax.storage.questions import find_size

# Bytes of an object that one request reads at least. Most headers of images are in them.
_BLOCK = 2**20


def read_bytes(path: pathlib.Path, *, most: int | None = None) -> bytes:
    """Reads a file.

    Args:
        path: The file.
        most: Number of bytes to read. None reads all.

    Returns:
        The bytes.

    Raises:
        OSError: If it does not exist or cannot be read.
    """
    if not is_bucket(path):
        with open(path, "rb") as file:
            return file.read(-1 if most is None else most)
    filesystem = get_filesystem(path)
    with convert_errors(path):
        if most is None:
            return bytes(filesystem.cat_file(str(path)))
        with filesystem.open(str(path), "rb") as file:
            return bytes(file.read(most))


def read_parts(path: pathlib.Path, parts: Sequence[tuple[int, int]]) -> list[bytes]:
    """Reads parts of a file. Those of an object are requested at the same time.

    Args:
        path: The file.
        parts: Place of the first byte of each part, and its number of bytes.

    Returns:
        The bytes of each part, fewer if the file ends before.

    Raises:
        OSError: If it does not exist or cannot be read.
    """
    if not is_bucket(path):
        with open(path, "rb", buffering=0) as file:
            return [os.pread(file.fileno(), size, start) for start, size in parts]
    filesystem = get_filesystem(path)
    starts = [start for start, _ in parts]
    ends = [start + size for start, size in parts]
    with convert_errors(path):
        found = filesystem.cat_ranges([str(path)] * len(parts), starts, ends)
        for part in found:
            if isinstance(part, Exception):
                raise part
    return [bytes(part) for part in found]


@contextlib.contextmanager
def open_file(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a file, to read parts of it.

    Args:
        path: The file.

    Yields:
        A stream of bytes with ``read``, ``seek`` and ``tell``.

    Raises:
        OSError: If it does not exist or cannot be read. If a request for an object fails, it is
            raised at the end in place of any other error, since decoders hide errors of streams.
    """
    if not is_bucket(path):
        with open(path, "rb") as file:
            yield file
        return
    size = find_size(path)
    if size is None:
        with convert_errors(path):
            size = int(get_filesystem(path).size(str(path)))
    stream = _Object(path, size)
    try:
        yield cast(BinaryIO, stream)
    except Exception:
        if stream.error is None:
            raise
    if stream.error is not None:
        raise stream.error


class _Object(io.RawIOBase):
    """An object as a stream. It keeps one block, and the error of a request."""

    def __init__(self, path: pathlib.Path, size: int):
        self._path = path
        self._size = size
        self._place = 0
        self._start, self._block = 0, b""
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        begin, end = self._place, min(self._place + len(buffer), self._size)
        if begin >= end:
            return 0
        if not self._start <= begin < end <= self._start + len(self._block):
            self._start, self._block = begin, self._fetch(begin, max(end, begin + _BLOCK))
        data = self._block[begin - self._start : end - self._start]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Reads the rest. A whole object comes from one request, so that it is of one version."""
        begin = self._place
        if not (self._start <= begin and self._size <= self._start + len(self._block)):
            self._start, self._block = begin, self._fetch(begin, self._size)
        self._place = max(begin, self._size)
        return self._block[begin - self._start :]

    def _fetch(self, begin: int, end: int) -> bytes:
        if begin >= min(end, self._size):
            return b""
        try:
            with convert_errors(self._path):
                filesystem = get_filesystem(self._path)
                return bytes(
                    filesystem.cat_file(str(self._path), start=begin, end=min(end, self._size))
                )
        except OSError as error:
            self.error = error
            raise


def compute_sha256(path: pathlib.Path) -> str:
    """Computes the SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        Hexadecimal digits.

    Raises:
        OSError: If it does not exist or cannot be read.
    """
    if is_bucket(path):
        with convert_errors(path), get_filesystem(path).open(str(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def local_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a file to code that reads local files only.

    Args:
        path: The file.

    Yields:
        The path itself, or that of a temporary copy with the same name of an object.

    Raises:
        OSError: If the bucket cannot be read.
    """
    if not is_bucket(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lcdnet_jax-") as folder:
        copied = pathlib.Path(folder, path.name)
        download_file(path, copied)
        yield copied


def download_file(path: pathlib.Path, file: pathlib.Path) -> None:
    """Copies an object of a bucket to a local file.

    Args:
        path: The object.
        file: The local file. An existing one is replaced.

    Raises:
        OSError: If it cannot be read or written.
    """
    filesystem = get_filesystem(path)
    with convert_errors(path):
        filesystem.get_file(str(path), str(file))
