"""Paths that users give: files on this machine, and objects in buckets.

A path in a bucket is a URL: ``gs://bucket/name`` (Google Cloud Storage, tested), ``s3://`` or
``az://``. :func:`to_path` makes a path object of it by ``etils.epath``. ``fsspec`` and its package
for the bucket read and write the objects; TensorFlow is never used for that, although epath would
prefer it. The functions below take both kinds of paths. Those that write are for buckets only:
:mod:`lcdnet_jax.atomic_io` writes both kinds.

What a bucket cannot do decides how this library uses it:

- An object is written whole or not at all, by one request, but several are not. What several
  objects hold together is complete when its marker exists, which is written last and deleted first.
- Nothing can be appended or renamed.
- A list of objects is one request for each thousand; a question about one object is a request, too.

Every request that fails for a reason that may pass is repeated, after longer and longer waits, for
about half a minute. Each repetition logs a line.
"""

import contextlib
import errno
import functools
import hashlib
import importlib.util
import io
import logging as standard_logging
import os
import pathlib
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from absl import logging

Path = str | os.PathLike[str]

# What reads each kind of bucket: the package, what to give to pip, and its name for a user.
_BACKENDS = {
    "gs": ("gcsfs", "lcdnet-jax[gcs]", "Google Cloud Storage"),
    "s3": ("s3fs", "s3fs", "Amazon S3"),
    "az": ("adlfs", "adlfs", "Azure Blob Storage"),
}

# Lines of gcsfs and google.auth that say nothing new: credentials are missing, an error follows.
_HIDDEN = (
    "Could not determine bucket type",
    "Authentication failed using Compute Engine authentication",
    "out of retries on exception",
    "non-retriable exception",
)
# Packages whose errors are of requests.
_REMOTE_PACKAGES = (
    *("gcsfs", "s3fs", "adlfs", "fsspec", "aiohttp", "requests", "urllib3"),
    *("google", "botocore", "azure"),
)

_RETRIED = "retrying after exception: "

_down = False  # see is_down

# Bytes of an object that one request reads at least. Most headers of images are in them.
_BLOCK = 2**20

# Buckets that this process could read, and those to which it could write, when it asked.
_readable: set[str] = set()
_writable: set[str] = set()


class StorageError(OSError):
    """A bucket cannot be used or does not answer; the message names the path, cause and fix.

    Attributes:
        strerror: The cause alone, if the bucket was asked.
    """


class UnreachableError(StorageError):
    """A bucket does not answer, even after repetitions. This says nothing about the object."""


def to_path(path: Path) -> pathlib.Path:
    """Makes a path object of what a user gave. No request is made.

    Args:
        path: A local path or the URL of an object or folder in a bucket.

    Returns:
        A ``pathlib.Path``, or ``epath.Path`` for a URL, which has the same attributes and
        operators. Use the functions of this module instead of its methods that read or write.

    Raises:
        StorageError: For a URL of an unknown kind or without a bucket, for one that leads out of
            its bucket by "..", or if the package that reads such buckets is not installed.
    """
    if is_bucket(path):
        return path  # type: ignore[return-value]
    text = os.fspath(path)
    match = re.match("([A-Za-z][A-Za-z0-9+.-]+):/(/?)([^/]*)", text)
    if match is None or not (match[2] or match[1] in _BACKENDS):
        return pathlib.Path(path)
    scheme, slashes, bucket = match.groups()
    if scheme not in _BACKENDS:
        known = ", ".join(f"{name}:// ({about})" for name, (_, _, about) in _BACKENDS.items())
        raise StorageError(f"{text}: {scheme}:// is not supported; use a local path, {known}")
    if not slashes or not bucket:
        raise StorageError(f"{text} names no bucket; write {scheme}://BUCKET/PATH")
    package, requirement, about = _BACKENDS[scheme]
    if importlib.util.find_spec(package) is None:
        raise StorageError(
            f'{text}: {about} needs the package {package}; pip install "{requirement}"'
        )
    _prepare()
    from etils import epath

    return epath.Path(_remove_dots(text))


def _remove_dots(text: str) -> str:
    """Removes ".." from a URL as if its folders had no links. A bucket would take it for a name."""
    scheme, _, rest = text.partition("://")
    bucket, *parts = rest.split("/")
    kept: list[str] = []
    for part in parts:
        if part != "..":
            kept += [part] if part not in ("", ".") else []
        elif kept:
            kept.pop()
        else:
            raise StorageError(f"{text} leads out of its bucket; write {scheme}://BUCKET/PATH")
    return f"{scheme}://{'/'.join([bucket, *kept])}"


def names_bucket(text: str) -> bool:
    """Tells whether a text is meant as a URL of a bucket.

    Args:
        text: What a user gave.

    Returns:
        True if it begins with ``gs:``, ``s3:`` or ``az:`` and a slash.
    """
    return text.startswith(tuple(f"{scheme}:/" for scheme in _BACKENDS))


def is_bucket(path: Path) -> bool:
    """Tells whether a path object is of a bucket.

    Args:
        path: A path.

    Returns:
        True for such an object from :func:`to_path`. False for a text.
    """
    return isinstance(path, pathlib.PurePath) and os.fspath(path).startswith(
        tuple(f"{scheme}://" for scheme in _BACKENDS)
    )


@functools.cache
def _prepare() -> None:
    """Lets epath, and Orbax by it, use fsspec for buckets, and sets up fsspec."""
    os.environ["EPATH_USE_TF"] = "false"
    import fsspec
    from etils.epath import gpath

    gpath._is_tf_installed.cache_clear()  # read the variable again
    for scheme in (*_BACKENDS, "gcs"):  # epath calls it gcs
        # TensorStore and other processes write, too: a list that was kept would be out of date.
        fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    for name in ("gcsfs", "google.auth._default"):
        logger = standard_logging.getLogger(name)
        logger.addFilter(functools.partial(_show, logger.getEffectiveLevel()))
    repetitions, other = map(standard_logging.getLogger, ("gcsfs", "gcsfs.credentials"))
    other.setLevel(other.getEffectiveLevel())  # before it follows the next line
    repetitions.setLevel(standard_logging.DEBUG)


def _show(level: int, record: standard_logging.LogRecord) -> bool:
    """Whether a record of gcsfs is logged. Reports each repeated request in a line of our own."""
    text = record.getMessage()
    if _RETRIED in text:
        reason = _first_line(text.partition(_RETRIED)[2])
        logging.warning("the bucket does not answer (%s); the request is repeated", reason)
        return False
    return record.levelno >= level and not any(hidden in text for hidden in _HIDDEN)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _filesystem(path: pathlib.Path) -> Any:
    """The fsspec filesystem of a path in a bucket. fsspec keeps it."""
    import fsspec

    with _convert_errors(path):
        return fsspec.filesystem(os.fspath(path).partition(":")[0])


@contextlib.contextmanager
def _convert_errors(path: pathlib.Path) -> Iterator[None]:
    """Converts the errors of fsspec, which are of many types, to OSErrors that name the path."""
    global _down
    try:
        yield
        _down = False
    except StorageError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except Exception as error:
        if not _is_remote(error):
            raise
        code, text = getattr(error, "code", None), str(error)
        if code in (401, 403) or text.startswith("Forbidden"):
            advice = (
                "ask for access to the bucket, or log in: gcloud auth application-default login"
            )
            reason = f"access is denied ({text.splitlines()[-1]})"
            kind: type[StorageError] = StorageError
        else:
            kind, _down = UnreachableError, True
            advice = "check the name and the network, then run the same command again"
            reason = f"the bucket does not answer ({_first_line(error)})"
        converted = kind(f"{path}: {reason}; {advice}")
        converted.strerror = reason
        raise converted from error


def _is_remote(error: Exception) -> bool:
    """Whether an error is of a request, not of this machine or of the code that asks."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if type(error).__module__ != "builtins":
        return type(error).__module__.partition(".")[0] in _REMOTE_PACKAGES
    # What gcsfs raises without a type of its own.
    return str(error).startswith(("Forbidden", "Bad Request"))


def is_down() -> bool:
    """Tells whether the last request to a bucket got no answer, in spite of its repetitions.

    Returns:
        True if so: what only cleans up need not wait for as many repetitions again.
    """
    return _down


def check_bucket(path: pathlib.Path, *, write: bool = False) -> None:
    """Checks that the bucket of a path exists and can be used. Does nothing for a local path.

    Args:
        path: A path from :func:`to_path`.
        write: Whether objects must be written: a small one is written beside ``path`` and deleted.
            Either is asked once for each bucket.

    Raises:
        StorageError: If the bucket does not exist, denies access or does not answer.
    """
    if not is_bucket(path):
        return
    filesystem = _filesystem(path)
    bucket = "/".join(os.fspath(path).split("/")[:3])
    try:
        with _convert_errors(path):
            if write and bucket not in _writable:
                folder = path if str(path) == bucket else path.parent
                probe = str(folder / f".{secrets.token_hex(8)}.tmp")
                filesystem.pipe_file(probe, b"")
                filesystem.rm_file(probe)
                _writable.add(bucket)
            elif not write and bucket not in _readable:
                if not filesystem.exists(bucket):
                    raise FileNotFoundError
                _readable.add(bucket)
    except FileNotFoundError:
        raise _missing_bucket_error(path) from None


def _missing_bucket_error(path: pathlib.Path) -> StorageError:
    bucket = "/".join(os.fspath(path).split("/")[:3])
    return StorageError(
        f"{path}: the bucket {bucket} does not exist; check its name, or create it first"
    )


def exists(path: pathlib.Path) -> bool:
    """Tells whether a file or folder exists.

    Args:
        path: The file or folder.

    Returns:
        True if it exists. A folder of a bucket exists if it holds an object.

    Raises:
        OSError: If the bucket cannot be asked.
    """
    if not is_bucket(path) or _is_listed(path):
        return path.exists()
    with _convert_errors(path):
        return bool(_filesystem(path).exists(str(path)))


def lexists(path: pathlib.Path) -> bool:
    """Tells whether a path exists, as a file, folder or link, even a broken one.

    Args:
        path: The path.

    Returns:
        True if it exists.

    Raises:
        OSError: If the bucket cannot be asked.
    """
    return exists(path) if is_bucket(path) else os.path.lexists(path)


def is_dir(path: pathlib.Path) -> bool:
    """Tells whether a path is a folder.

    Args:
        path: Any path.

    Returns:
        True for an existing folder. A folder of a bucket exists if it holds an object.

    Raises:
        OSError: If the bucket cannot be asked.
    """
    if not is_bucket(path) or _is_listed(path):
        return path.is_dir()
    with _convert_errors(path):
        return bool(_filesystem(path).isdir(str(path)))


def is_file(path: pathlib.Path) -> bool:
    """Tells whether a path is a file, not a folder, pipe or device.

    Args:
        path: Any path.

    Returns:
        True for an existing file.

    Raises:
        OSError: If the bucket cannot be asked.
    """
    if not is_bucket(path) or _is_listed(path):
        return path.is_file()
    with _convert_errors(path):
        return bool(_filesystem(path).isfile(str(path)))


def _is_listed(path: pathlib.Path) -> bool:
    """Whether a path in a bucket is below a folder from :func:`list_once`."""
    from lcdnet_jax._listed_paths import ListedPath

    return isinstance(path, ListedPath) and path.name_below is not None


def is_same_file(path: pathlib.Path, other: pathlib.Path) -> bool:
    """Tells whether two paths name the same file.

    Args:
        path: A file.
        other: A file.

    Returns:
        True if so. Links on this machine are followed, and both files must exist.

    Raises:
        OSError: If a local file does not exist.
    """
    if is_bucket(path) or is_bucket(other):
        return str(path) == str(other)
    return path.samefile(other)


def find_size(path: pathlib.Path) -> int | None:
    """Finds the size of a file without a request.

    Args:
        path: The file.

    Returns:
        Bytes; None if it does not exist, or is an object that :func:`list_once` has not listed.
    """
    if is_bucket(path):
        return path.size if _is_listed(path) else None  # type: ignore[attr-defined]
    try:
        return path.stat().st_size
    except OSError:
        return None


def read_permissions(path: pathlib.Path) -> int:
    """Reads the permissions of a file.

    Args:
        path: The file.

    Returns:
        Their bits. An object has no permissions of its own: all may read and write.

    Raises:
        OSError: If a local file does not exist.
    """
    return 0o666 if is_bucket(path) else stat.S_IMODE(path.stat().st_mode)


def resolve(path: pathlib.Path) -> pathlib.Path:
    """Makes a path absolute and follows links in it, even if they lead back to themselves.

    Args:
        path: Any path.

    Returns:
        The path. One in a bucket stays as it is.
    """
    return path if is_bucket(path) else pathlib.Path(os.path.realpath(path))


def make_absolute(path: pathlib.Path) -> pathlib.Path:
    """Makes a path absolute without "..", not following links.

    Args:
        path: Any path.

    Returns:
        The path. One in a bucket stays as it is.
    """
    return path if is_bucket(path) else pathlib.Path(os.path.abspath(path))


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
    filesystem = _filesystem(path)
    with _convert_errors(path):
        if most is None:
            return bytes(filesystem.cat_file(str(path)))
        with filesystem.open(str(path), "rb") as file:
            return bytes(file.read(most))


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
        with _convert_errors(path):
            size = int(_filesystem(path).size(str(path)))
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
            with _convert_errors(self._path):
                filesystem = _filesystem(self._path)
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
        with _convert_errors(path), _filesystem(path).open(str(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: pathlib.Path) -> dict[str, int]:
    """Lists the files below a folder, by one request for each thousand objects of a bucket.

    Args:
        folder: The folder.

    Returns:
        Sizes in bytes by path relative to the folder, sorted. Empty if there is no such folder.

    Raises:
        OSError: If the folder cannot be listed.
    """
    if not is_bucket(folder):
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    filesystem = _filesystem(folder)
    start = str(folder).partition("://")[2].rstrip("/") + "/"
    with _convert_errors(folder):
        found = filesystem.find(str(folder), detail=True)
    return {
        name.removeprefix(start): int(about["size"])
        for name, about in sorted(found.items())
        if name.startswith(start) and not name.endswith("/")  # what a console shows as a folder
    }


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and those above it, if they do not exist. A bucket needs none.

    Args:
        folder: The folder.

    Raises:
        OSError: If it cannot be made.
    """
    if not is_bucket(folder):
        folder.mkdir(parents=True, exist_ok=True)


def list_once(folder: pathlib.Path) -> pathlib.Path:
    """Lists a folder that is read, so that no question about its files needs a request.

    Args:
        folder: The folder.

    Returns:
        For a local folder the path itself. For a folder in a bucket a path whose methods, and those
        of paths made from it, answer from a list that was made now, or when this function returned
        the given path. If it is an object and no folder, they say so.

    Raises:
        OSError: If the bucket does not exist or cannot be listed.
    """
    if not is_bucket(folder) or _is_listed(folder):
        return folder
    from lcdnet_jax._listed_paths import make_listed_path

    text = str(folder).rstrip("/")
    start = text.partition("://")[2]
    try:
        with _convert_errors(folder):
            found = _filesystem(folder).find(text, detail=True)
    except FileNotFoundError:
        raise _missing_bucket_error(folder) from None
    sizes = {name: int(about["size"]) for name, about in found.items()}
    if start in sizes and not any(name.startswith(f"{start}/") for name in sizes):
        parent, _, name = text.rpartition("/")
        return make_listed_path(parent, {name: sizes[start]}) / name
    below = {
        name[len(start) + 1 :]: size
        for name, size in sizes.items()
        if name.startswith(f"{start}/") and not name.endswith("/")
    }
    return make_listed_path(text, below)


def walk(
    folder: pathlib.Path, *, on_error: Callable[[OSError], object] | None = None
) -> Iterator[tuple[pathlib.Path, list[str], list[str]]]:
    """Goes through a folder and those below it, as ``os.walk`` does.

    Args:
        folder: A local folder, or one from :func:`list_once`.
        on_error: Called with the error of a local folder that cannot be listed.

    Yields:
        Each folder, and the names of its folders and of its other entries. The caller may sort the
        names of folders, and remove those into which the walk shall not go.
    """
    if is_bucket(folder):
        yield from folder.walk()  # type: ignore[attr-defined]
        return
    for here, folders, names in os.walk(folder, onerror=on_error):
        yield pathlib.Path(here), folders, names


def write(path: pathlib.Path, data: bytes, *, replace: bool = True) -> None:
    """Writes an object of a bucket, whole or not at all.

    The MD5 that Google Cloud Storage computes is compared; from other buckets the object is read
    back.

    Args:
        path: The object.
        data: Its content.
        replace: Whether an existing object is replaced.

    Raises:
        FileExistsError: If the object exists without ``replace``, even if it has just appeared.
        StorageError: If it cannot be written.
    """
    filesystem = _filesystem(path)
    mode = "overwrite" if replace else "create"
    with _convert_errors(path):
        if _has_checksums(path):
            filesystem.pipe_file(str(path), data, mode=mode, consistency="md5")
            return
        filesystem.pipe_file(str(path), data, mode=mode)
        if filesystem.cat_file(str(path)) != data:
            raise StorageError(f"{path} is not as it was written; run the same command again")


def _has_checksums(path: pathlib.Path) -> bool:
    """Whether gcsfs can compare the MD5 of what the server has stored."""
    return str(path).startswith("gs:")


def remove(path: pathlib.Path, *, marker: str | None = None) -> None:
    """Deletes an object of a bucket, or a folder with all objects below it, if it exists.

    Args:
        path: The object or folder.
        marker: Name in the folder of the object that is deleted first.

    Raises:
        OSError: If it cannot be deleted.
    """
    filesystem = _filesystem(path)
    names = sorted(list_files(path), key=lambda name: (name != marker, name))
    with _convert_errors(path):
        for one in [path / name for name in names] or [path]:
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(str(one))  # rm takes [, * and ? for a pattern


def remove_file(path: pathlib.Path) -> None:
    """Deletes a local file or an object.

    Args:
        path: The file.

    Raises:
        OSError: If it does not exist or cannot be deleted.
    """
    if not is_bucket(path):
        path.unlink()
        return
    with _convert_errors(path):
        _filesystem(path).rm_file(str(path))


def copy(folder: pathlib.Path, to: pathlib.Path) -> None:
    """Copies the objects of a folder in a bucket to another folder of the bucket.

    Args:
        folder: The folder.
        to: The other folder.

    Raises:
        OSError: If an object cannot be copied. Those before it are copied then.
    """
    filesystem = _filesystem(folder)
    for name in list_files(folder):
        with _convert_errors(folder / name):
            filesystem.cp_file(str(folder / name), str(to / name))


def upload(folder: pathlib.Path, path: pathlib.Path, *, marker: str | None = None) -> None:
    """Copies the files of a local folder into a bucket.

    Args:
        folder: The local folder.
        path: The folder in the bucket.
        marker: Name of the file that is copied last.

    Raises:
        OSError: If a file cannot be read or written. Those before it are written then.
    """
    for name in sorted(list_files(folder), key=lambda name: (name == marker, name)):
        upload_file(folder / name, path / name)


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


def upload_file(file: pathlib.Path, path: pathlib.Path) -> None:
    """Copies a local file into a bucket.

    Args:
        file: The local file.
        path: The object. An existing one is replaced.

    Raises:
        OSError: If it cannot be read or written.
    """
    if not _has_checksums(path):
        write(path, file.read_bytes())
        return
    filesystem = _filesystem(path)
    with _convert_errors(path):
        filesystem.put_file(str(file), str(path), consistency="md5")


def download_file(path: pathlib.Path, file: pathlib.Path) -> None:
    """Copies an object of a bucket to a local file.

    Args:
        path: The object.
        file: The local file. An existing one is replaced.

    Raises:
        OSError: If it cannot be read or written.
    """
    filesystem = _filesystem(path)
    with _convert_errors(path):
        filesystem.get_file(str(path), str(file))
