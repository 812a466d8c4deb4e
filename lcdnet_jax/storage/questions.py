"""Whether a file, a folder or a bucket exists, and what is known about it."""

import os
import pathlib
import secrets
import stat

from lcdnet_jax.storage.buckets import StorageError, convert_errors, get_filesystem
from lcdnet_jax.storage.paths import is_bucket

# Buckets that this process could read, and those to which it could write, when it asked.
_readable: set[str] = set()
_writable: set[str] = set()


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
    filesystem = get_filesystem(path)
    bucket = "/".join(os.fspath(path).split("/")[:3])
    try:
        with convert_errors(path):
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
        raise missing_bucket_error(path) from None


def missing_bucket_error(path: pathlib.Path) -> StorageError:
    """The error for a path whose bucket does not exist."""
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
    if not is_bucket(path) or is_listed(path):
        return path.exists()
    with convert_errors(path):
        return bool(get_filesystem(path).exists(str(path)))


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
    if not is_bucket(path) or is_listed(path):
        return path.is_dir()
    with convert_errors(path):
        return bool(get_filesystem(path).isdir(str(path)))


def is_file(path: pathlib.Path) -> bool:
    """Tells whether a path is a file, not a folder, pipe or device.

    Args:
        path: Any path.

    Returns:
        True for an existing file.

    Raises:
        OSError: If the bucket cannot be asked.
    """
    if not is_bucket(path) or is_listed(path):
        return path.is_file()
    with convert_errors(path):
        return bool(get_filesystem(path).isfile(str(path)))


def is_listed(path: pathlib.Path) -> bool:
    """Whether a path in a bucket is below a folder from :func:`list_once`."""
    from lcdnet_jax.storage.listed_paths import ListedPath

    return isinstance(path, ListedPath) and path.name_below is not None


def find_size(path: pathlib.Path) -> int | None:
    """Finds the size of a file without a request.

    Args:
        path: The file.

    Returns:
        Bytes; None if it does not exist, or is an object that :func:`list_once` has not listed.
    """
    if is_bucket(path):
        return path.size if is_listed(path) else None  # type: ignore[attr-defined]
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
