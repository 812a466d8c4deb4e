"""What a path that a user gives means: a file on this machine, or an object in a bucket."""

import importlib.util
import os
import pathlib
import re

from lcdnet_jax.storage.buckets import BACKENDS, StorageError, prepare

Path = str | os.PathLike[str]


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
    if match is None or not (match[2] or match[1] in BACKENDS):
        return pathlib.Path(path)
    scheme, slashes, bucket = match.groups()
    if scheme not in BACKENDS:
        known = ", ".join(f"{name}:// ({about})" for name, (_, _, about) in BACKENDS.items())
        raise StorageError(f"{text}: {scheme}:// is not supported; use a local path, {known}")
    if not slashes or not bucket:
        raise StorageError(f"{text} names no bucket; write {scheme}://BUCKET/PATH")
    package, requirement, about = BACKENDS[scheme]
    if importlib.util.find_spec(package) is None:
        raise StorageError(
            f'{text}: {about} needs the package {package}; pip install "{requirement}"'
        )
    prepare()
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
    return text.startswith(tuple(f"{scheme}:/" for scheme in BACKENDS))


def is_bucket(path: Path) -> bool:
    """Tells whether a path object is of a bucket.

    Args:
        path: A path.

    Returns:
        True for such an object from :func:`to_path`. False for a text.
    """
    return isinstance(path, pathlib.PurePath) and os.fspath(path).startswith(
        tuple(f"{scheme}://" for scheme in BACKENDS)
    )


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
