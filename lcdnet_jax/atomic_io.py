"""Writing of files and directories: whole or not at all, replacing others only with ``force``.

:func:`check_file` and :func:`check_directory` find an error before the content is computed. The
functions that write check again, so that a file which appeared in the meantime is kept.
"""

import contextlib
import os
import pathlib
import secrets
import tempfile
from collections.abc import Collection, Iterator
from typing import NamedTuple

Path = str | os.PathLike[str]


class TargetError(ValueError):
    """The target exists and may not be replaced; it is not changed."""


def check_file(path: Path, *, force: bool) -> None:
    """Raises now what :func:`write` would raise later, as far as that can be known.

    Args:
        path: The file to be written.
        force: It may exist.

    Raises:
        TargetError: If it is a directory, or exists without ``force``.
        OSError: If its folder can be neither written to nor made.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise TargetError(f"{path} is a directory; give a file")
    if not force and os.path.lexists(path):
        raise _exists_error(path)
    check_folder(path)


class DirectoryKind(NamedTuple):
    """A kind of results that are directories, so that one may replace an earlier one.

    Attributes:
        name: What messages call it, such as "export".
        required: Names of files and directories that it holds.
        optional: Names that it may hold besides.
    """

    name: str
    required: Collection[str]
    optional: Collection[str]


def check_directory(path: Path, kind: DirectoryKind, *, force: bool) -> None:
    """Raises now what :func:`replacing_directory` would raise later, as far as that can be known.

    Args:
        path: Nothing or an empty directory; with ``force`` also an earlier result.
        kind: What an earlier result looks like.
        force: An earlier result may be replaced; what holds anything else never is.

    Raises:
        TargetError: If something else is there, or an earlier result without ``force``.
        OSError: If its folder can be neither written to nor made.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        _check_content(path, kind, force)
    elif path.exists():
        raise TargetError(f"{path} is a file; give a directory")
    check_folder(path)


def _check_content(path: pathlib.Path, kind: DirectoryKind, force: bool) -> None:
    content = {entry.name for entry in path.iterdir()}
    if content and not force:
        raise TargetError(f"{path} is not empty; choose another directory, or --force")
    unknown = content.difference(kind.required, kind.optional)
    missing = set(kind.required) - content
    if content and (unknown or missing):
        shown = ", ".join(sorted(unknown)[:4]) or f"no {', '.join(sorted(missing))}"
        raise TargetError(
            f"{path} is no earlier {kind.name} ({shown}), and --force replaces nothing else; "
            "choose another directory"
        )


def check_folder(path: Path) -> None:
    """Raises OSError unless the folder that is to hold ``path`` can be written to, or made."""
    folder = pathlib.Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _write_error(path, error) from error


def make_folder(path: Path) -> None:
    """Makes the folder that is to hold ``path`` where it is missing.

    Raises:
        OSError: If it cannot be made or written to; ``errno`` says why.
    """
    check_folder(path)
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _write_error(path, error) from error


def write(path: Path, data: bytes, *, force: bool) -> None:
    """Writes a temporary file beside ``path`` and renames it; the folder must exist.

    Args:
        path: The file.
        data: Its content.
        force: Replace an existing one; a link is replaced, not followed.

    Raises:
        TargetError: If the target exists without ``force``, even if it has just appeared.
        OSError: If writing fails; ``errno`` says why. Nothing has changed then.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # some file systems report a full disk only now
        if force:
            os.replace(temporary, path)
        else:
            _publish(temporary, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
def replacing_directory(path: Path, *, force: bool) -> Iterator[pathlib.Path]:
    """Yields a temporary path that becomes the directory ``path`` if no exception is raised.

    Args:
        path: The directory; its parents are made where they are missing.
        force: Replace an existing one. An empty directory is always replaced.

    Yields:
        A path beside it that does not exist yet; make a directory there.

    Raises:
        TargetError: If the target exists without ``force`` in the end.
        OSError: If writing fails. Nothing has changed then, or, where the old directory cannot be
            put back either, the message says where it is.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            made = pathlib.Path(scratch) / "new"
            yield made
            # Not in the scratch directory, which is deleted whatever happens.
            old = path.with_name(f".{path.name}-{secrets.token_hex(8)}.old")
            try:
                if force and path.exists():
                    path.rename(old)
                _rename_directory(made, path)
            finally:
                if old.exists():
                    if path.exists() and not made.exists():
                        old.rename(made.with_name("old"))  # goes with the scratch directory
                    else:
                        _put_back(old, path)
    except OSError as error:
        raise _write_error(path, error) from error


def _put_back(old: pathlib.Path, path: pathlib.Path) -> None:
    try:
        old.rename(path)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; what was there is now {old}") from error


def _rename_directory(made: pathlib.Path, path: pathlib.Path) -> None:
    """The system refuses to rename to an existing file or a directory that is not empty."""
    try:
        made.rename(path)
    except OSError as error:
        if os.path.lexists(path):
            raise _exists_error(path) from error
        raise


def _exists_error(path: pathlib.Path) -> TargetError:
    return TargetError(f"{path} exists; choose another name, or --force")


def _write_error(path: Path, error: OSError) -> OSError:
    explanation = OSError(
        f"cannot write {path}: {error.strerror or error}; choose a writable directory on a disk "
        "with free space"
    )
    explanation.errno = error.errno
    return explanation
