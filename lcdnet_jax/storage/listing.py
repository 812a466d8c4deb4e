"""Lists of folders on this machine and in buckets."""

import os
import pathlib
from collections.abc import Callable, Iterator

from lcdnet_jax.storage.buckets import convert_errors, get_filesystem
from lcdnet_jax.storage.paths import is_bucket
from lcdnet_jax.storage.questions import is_listed, missing_bucket_error


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
    filesystem = get_filesystem(folder)
    start = str(folder).partition("://")[2].rstrip("/") + "/"
    with convert_errors(folder):
        found = filesystem.find(str(folder), detail=True)
    return {
        name.removeprefix(start): int(about["size"])
        for name, about in sorted(found.items())
        if name.startswith(start) and not name.endswith("/")  # what a console shows as a folder
    }


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
    if not is_bucket(folder) or is_listed(folder):
        return folder
    from lcdnet_jax.storage.listed_paths import make_listed_path

    text = str(folder).rstrip("/")
    start = text.partition("://")[2]
    try:
        with convert_errors(folder):
            found = get_filesystem(folder).find(text, detail=True)
    except FileNotFoundError:
        raise missing_bucket_error(folder) from None
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
