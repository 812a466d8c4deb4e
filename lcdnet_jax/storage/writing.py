"""Writing and deleting of objects in buckets.

:mod:`lcdnet_jax.atomic_io` writes files of both kinds.

An object is written whole or not at all, by one request, but several are not. What several objects
hold together is complete when its marker exists, which is written last and deleted first. Nothing
can be appended or renamed.
"""

import contextlib
import pathlib

from lcdnet_jax.storage.buckets import StorageError, convert_errors, get_filesystem
from lcdnet_jax.storage.listing import list_files
from lcdnet_jax.storage.paths import is_bucket


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
    filesystem = get_filesystem(path)
    mode = "overwrite" if replace else "create"
    with convert_errors(path):
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
    filesystem = get_filesystem(path)
    names = sorted(list_files(path), key=lambda name: (name != marker, name))
    with convert_errors(path):
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
    with convert_errors(path):
        get_filesystem(path).rm_file(str(path))


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and those above it, if they do not exist. A bucket needs none.

    Args:
        folder: The folder.

    Raises:
        OSError: If it cannot be made.
    """
    if not is_bucket(folder):
        folder.mkdir(parents=True, exist_ok=True)


def copy(folder: pathlib.Path, to: pathlib.Path) -> None:
    """Copies the objects of a folder in a bucket to another folder of the bucket.

    Args:
        folder: The folder.
        to: The other folder.

    Raises:
        OSError: If an object cannot be copied. Those before it are copied then.
    """
    filesystem = get_filesystem(folder)
    for name in list_files(folder):
        with convert_errors(folder / name):
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
    filesystem = get_filesystem(path)
    with convert_errors(path):
        filesystem.put_file(str(file), str(path), consistency="md5")
