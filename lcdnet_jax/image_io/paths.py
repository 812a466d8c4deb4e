"""Paths of image files: the images of a folder, and what suffixes say."""

import os
import pathlib
from collections.abc import Sequence

from lcdnet_jax import storage
from lcdnet_jax.image_io import heic, raw
from lcdnet_jax.image_io._types import IMAGE_FORMATS, IMAGE_SUFFIXES, RAW_SUFFIXES, ImageError
from lcdnet_jax.image_io.headers import make_read_error


def find_images(
    folder: str | os.PathLike[str], *, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """Finds the image files of a folder by suffix, without subfolders and hidden files.

    Args:
        folder: The folder.
        suffixes: Suffixes of images, in small letters.

    Returns:
        The files, sorted by name.

    Raises:
        ImageError: If the folder is missing, is a file, cannot be listed, or contains no image.
    """
    folder = storage.to_path(folder)
    try:
        folder = storage.list_once(folder)
        if not folder.is_dir():
            cause = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ImageError(f"{folder}: {cause}; give the folder that holds the images")
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise make_read_error(str(folder), error) from error
    found = [
        entry
        for entry in entries
        if entry.suffix.lower() in suffixes
        and not entry.name.startswith(".")
        # A link that leads nowhere is found, so that reading it says so.
        and (entry.is_file() or (entry.is_symlink() and not entry.exists()))
    ]
    if not found:
        raise ImageError(
            f"{folder}: contains no image; put files with the suffix {', '.join(suffixes)} "
            "directly into it (subfolders are not searched)"
        )
    return found


def name_result(path: pathlib.Path) -> pathlib.Path:
    """Names the result of restoring a file.

    Args:
        path: The name of the file.

    Returns:
        The same name; with the suffix ``.tif`` for a raw file of a camera, which is not written.
    """
    return path.with_suffix(".tif") if path.suffix.lower() in RAW_SUFFIXES else path


def find_missing_package(path: str | os.PathLike[str]) -> str | None:
    """Tells which package must be installed before a file with this suffix can be read.

    Args:
        path: The name of the file.

    Returns:
        What to give to ``pip install``, or None if nothing is missing.
    """
    suffix = pathlib.Path(path).suffix.lower()
    readers = {"HEIC": heic.import_pillow_heif, "RAW": raw.import_rawpy}
    importer = readers.get("RAW" if suffix in RAW_SUFFIXES else IMAGE_FORMATS.get(suffix, ""))
    try:
        if importer is not None:
            importer(os.fspath(path))
    except ImageError:
        return "lcdnet-jax[photo]"
    return None
