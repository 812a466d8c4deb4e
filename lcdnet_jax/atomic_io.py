"""Atomic writing: a file or directory is written completely, or not at all.

An existing target is replaced only with ``force``. :func:`check_file` and :func:`check_directory`
find an error before the content is computed. The functions that write check again, so that a file
which appeared in the meantime is kept.

Paths may be of buckets, see :mod:`lcdnet_jax.storage`. There a file is one object, which is written
whole or not at all. A directory is complete when its marker exists, a file that is written last and
deleted first; replacing a directory is therefore not all or nothing.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import stat
import tempfile
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from lcdnet_jax import storage
from lcdnet_jax.storage import Path


class TargetError(ValueError):
    """The target exists and may not be replaced; it is not changed."""


def check_file(path: Path, *, force: bool) -> None:
    """Checks that :func:`write` can write a file, before its content is computed.

    Args:
        path: The file that will be written.
        force: Whether an existing file may be replaced.

    Raises:
        TargetError: If the path is a directory, or exists without ``force``.
        OSError: If its folder cannot be written to or made.
    """
    path = storage.to_path(path)
    if storage.is_dir(path):
        raise TargetError(f"{path} is a directory; give a file")
    if not force and storage.lexists(path):
        raise _exists_error(path)
    check_folder(path)


class DirectoryKind(NamedTuple):
    """What a directory of results contains, so that an earlier one can be recognized.

    Attributes:
        name: The name of the kind in messages, such as "export".
        required: Names of files and directories that every such directory contains. In a bucket,
            the first is the marker of a complete directory.
        optional: Names of files and directories that it may also contain.
    """

    name: str
    required: Sequence[str]
    optional: Collection[str]


def check_directory(path: Path, kind: DirectoryKind, *, force: bool) -> None:
    """Checks that :func:`replace_directory` can write, before the content is computed.

    Args:
        path: A path that does not exist or an empty directory. With ``force`` it may also be an
            earlier result.
        kind: What an earlier result contains.
        force: Whether an earlier result may be replaced. A directory with other content is never
            replaced.

    Raises:
        TargetError: If the path is a file, a directory with other content, or an earlier result
            without ``force``.
        OSError: If its parent folder cannot be written to or made.
    """
    path = storage.to_path(path)
    if storage.is_dir(path):
        _check_content(path, kind, force)
    elif storage.exists(path):
        raise TargetError(f"{path} is a file; give a directory")
    check_folder(path)


def _check_content(path: pathlib.Path, kind: DirectoryKind, force: bool) -> None:
    if storage.is_bucket(path):
        content = {name.partition("/")[0] for name in storage.list_files(path)}
    else:
        content = {entry.name for entry in path.iterdir()}
    if content and not force:
        raise TargetError(f"{path} is not empty; choose another directory, or --force")
    unknown = content.difference(kind.required, kind.optional)
    # In a bucket, a process that was killed leaves a part of a result without its marker.
    missing = set() if storage.is_bucket(path) else set(kind.required) - content
    if content and (unknown or missing):
        shown = ", ".join(sorted(unknown)[:4]) or f"no {', '.join(sorted(missing))}"
        raise TargetError(
            f"{path} is not an earlier {kind.name} ({shown}), and --force replaces nothing else; "
            "choose another directory"
        )


def check_folder(path: Path) -> None:
    """Checks that the folder of a path can be written to, or can be made.

    Args:
        path: A file or directory in that folder.

    Raises:
        OSError: If the folder cannot be written to or made; ``errno`` says why.
    """
    path = storage.to_path(path)
    if storage.is_bucket(path):
        storage.check_bucket(path, write=True)
        return
    folder = _first_existing(path.absolute().parent)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _write_error(path, error) from error


def _first_existing(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the first one above it that exists."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def make_folder(path: Path) -> None:
    """Makes the folder of a path if it does not exist.

    Args:
        path: A file or directory in that folder.

    Raises:
        OSError: If the folder cannot be made or written to; ``errno`` says why.
    """
    path = storage.to_path(path)
    check_folder(path)
    try:
        storage.make_folder(path.parent)
    except OSError as error:
        raise _write_error(path, error) from error


def find_free_path(path: Path) -> pathlib.Path:
    """Finds a path that does not exist.

    Args:
        path: The path to use if it is free.

    Returns:
        The path, with -2, -3, ... added to its name if it exists.
    """
    free = path = storage.to_path(path)
    number = 1
    while storage.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def write(path: Path, data: bytes, *, force: bool, mode: int = 0o666) -> None:
    """Writes a temporary file in the same folder and renames it, or writes an object of a bucket.

    Args:
        path: The file. Its folder must exist.
        data: The content of the file.
        force: Whether an existing file is replaced. Its permissions are kept. A link is replaced,
            not followed.
        mode: Permissions of a new local file. The umask restricts them.

    Raises:
        TargetError: If the target exists without ``force``, even if it has just appeared.
        OSError: If writing fails; ``errno`` says why. The target is unchanged then.
    """
    path = storage.to_path(path)
    if storage.is_bucket(path):
        try:
            storage.write(path, data, replace=force)
        except FileExistsError as error:
            raise _exists_error(path) from error
        return
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # The file has no other permissions at any moment.
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # some file systems report a full disk only now
        _copy_mode(path, temporary)
        if force:
            os.replace(temporary, path)
        else:
            _publish(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOENT and not path.parent.exists():
            missing = OSError(
                f"cannot write {path}: the folder {path.parent} does not exist; make it, or choose "
                "another one"
            )
            missing.errno = error.errno
            raise missing from error
        raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _copy_mode(old: pathlib.Path, new: pathlib.Path) -> None:
    """Gives the permissions of what is replaced to what replaces it. New files have the umask's."""
    with contextlib.suppress(OSError):  # there is none; or a file system without permissions
        mode = old.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            new.chmod(stat.S_IMODE(mode))


def _publish(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Renames a file unless the target exists, atomically."""
    try:
        os.link(temporary, path)
        return
    except FileExistsError as error:
        raise _exists_error(path) from error
    except OSError:  # a file system without hard links: an empty file takes the name first
        pass
    try:
        open(path, "xb").close()
    except FileExistsError as error:
        raise _exists_error(path) from error
    try:
        os.replace(temporary, path)
    except BaseException:
        path.unlink()
        raise


@contextlib.contextmanager
def replace_directory(path: Path, kind: DirectoryKind, *, force: bool) -> Iterator[pathlib.Path]:
    """Yields a temporary path that becomes the directory ``path`` if no exception is raised.

    Args:
        path: The directory. Missing parents are made.
        kind: What the directory contains.
        force: Whether an existing directory is replaced. An empty one is always replaced. The
            permissions of the directory are kept.

    Yields:
        A local path that does not exist yet. The caller makes a directory there.

    Raises:
        TargetError: If the target exists without ``force`` when the content is complete.
        OSError: If writing fails. The target is unchanged then, or missing in a bucket. If the old
            directory cannot be restored, the message says where it is.
    """
    path = storage.to_path(path)
    if storage.is_bucket(path):
        with tempfile.TemporaryDirectory(prefix="lcdnet_jax-") as scratch:
            made = pathlib.Path(scratch) / "new"
            yield made
            # An object that a console made to show an empty folder is no content.
            if not force and (storage.list_files(path) or storage.is_file(path)):
                raise _exists_error(path)
            storage.remove(path, marker=kind.required[0])
            try:
                storage.upload(made, path, marker=kind.required[0])
            except BaseException:  # an interruption, too
                with contextlib.suppress(OSError):
                    if not storage.is_down():
                        storage.remove(path)
                raise
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}-", dir=path.parent) as scratch:
            made = pathlib.Path(scratch) / "new"
            yield made
            # Not in the scratch directory, which is deleted even after an error.
            old = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}.old")
            try:
                if path.exists():
                    _copy_mode(path, made)
                if force and path.exists():
                    path.rename(old)
                _rename_directory(made, path)
            finally:
                if old.exists():
                    if path.exists() and not made.exists():
                        old.rename(made.with_name("old"))  # is deleted with the scratch directory
                    else:
                        _put_back(old, path)
    except OSError as error:
        raise _write_error(path, error) from error


def _put_back(old: pathlib.Path, path: pathlib.Path) -> None:
    try:
        old.rename(path)
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; the earlier content is now in {old}"
        ) from error


def _rename_directory(made: pathlib.Path, path: pathlib.Path) -> None:
    """Renames a directory; fails if the target is a file or a directory that is not empty."""
    try:
        made.rename(path)
    except OSError as error:
        if os.path.lexists(path):
            raise _exists_error(path) from error
        raise


def _exists_error(path: pathlib.Path) -> TargetError:
    return TargetError(f"{path} exists; choose another name, or --force")


def _write_error(path: Path, error: OSError) -> OSError:
    cause = error.strerror or str(error)
    folder = _first_existing(pathlib.Path(path).absolute().parent)
    if error.errno == errno.ENOENT and folder.is_dir():  # in /proc, and in a removed folder
        cause = f"{folder} takes no new files"
    explanation = OSError(
        f"cannot write {path}: {cause}; choose a writable directory on a disk with free space"
    )
    explanation.errno = error.errno
    return explanation
