"""Helpers of the layouts: list folders, match files of pairs, report a wrong layout."""

import contextlib
import pathlib
from collections.abc import Iterator

from lcdnet_jax import file_names, image_io
from lcdnet_jax.image_io import BucketError, ImageError
from lcdnet_jax.messages import join_some


def list_entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """Entries of a folder, sorted, without hidden files.

    Raises:
        ImageError: The folder does not exist or cannot be read.
    """
    if not folder.is_dir():
        cause = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"{folder}: {cause}; give the folder that holds the data set")
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ImageError(
            f"{folder}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files of a folder by suffix, sorted; may be empty. Raises as ``list_entries``."""
    return [
        entry
        for entry in list_entries(folder)
        if entry.suffix.lower() in image_io.DATA_SET_SUFFIXES
        # A link that leads nowhere is found, so that reading it says so.
        and (entry.is_file() or (entry.is_symlink() and not entry.exists()))
    ]


def index_by_stem(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Image files of a folder by name without suffix, in one form of Unicode.

    Raises:
        ImageError: There is no folder or no image in it, or two images have equal names.
    """
    found: dict[str, pathlib.Path] = {}
    for path in image_io.find_images(folder, suffixes=image_io.DATA_SET_SUFFIXES):
        stem = file_names.normalize(path.stem)
        if stem in found:
            raise ImageError(
                f"{folder}: {found[stem].name} and {path.name} have equal names, so their "
                "partner is not clear; remove or rename one"
            )
        found[stem] = path
    return found


def match_by_stem(
    degraded_folder: pathlib.Path,
    clean_folder: pathlib.Path,
    *,
    allow_unmatched_clean: bool = False,
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Degraded and clean file of two folders by their common name.

    Suffixes and forms of Unicode may differ. The name is that of the degraded file.

    Args:
        degraded_folder: Folder of the degraded files, below the parent of ``clean_folder``.
        clean_folder: Folder of the clean files.
        allow_unmatched_clean: Whether clean files may lack a degraded one.

    Raises:
        ImageError: See ``index_by_stem``; or a file lacks its other half.
    """
    degraded, clean = index_by_stem(degraded_folder), index_by_stem(clean_folder)
    alone = [path for stem, path in degraded.items() if stem not in clean]
    if not allow_unmatched_clean:
        alone += [path for stem, path in clean.items() if stem not in degraded]
    if alone:
        names = [f"{path.parent.name}/{path.name}" for path in sorted(alone)]
        raise ImageError(
            f"{clean_folder.parent}: files without a partner: {join_some(names, 5)}; "
            f"files in {degraded_folder.name}/ and {clean_folder.name}/ must have equal names, "
            "also in capitals (the suffix may differ; subfolders, HEIC and raw files are not read)"
        )
    # By the name as it is on disk, which orders the examples.
    return {path.stem: (path, clean[stem]) for stem, path in degraded.items()}


class Errors:
    """Errors of parts of a data set, which are raised together, so that one run names them all."""

    def __init__(self) -> None:
        self._found: list[ImageError] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Keeps an ImageError, except of a bucket that does not answer."""
        try:
            yield
        except BucketError:
            raise
        except ImageError as error:
            self._found.append(error)

    def raise_if_any(self) -> None:
        """Raises ImageError if there is one. Its message has a line for each."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise ImageError("\n  ".join(["several parts are wrong:", *map(str, self._found)]))


def layout_error(folder: pathlib.Path, wanted: str, advice: str) -> ImageError:
    """The error for a folder with another layout. It lists what the folder holds."""
    found = [entry.name + "/" * entry.is_dir() for entry in list_entries(folder)]
    return ImageError(
        f"{folder}: looked for {wanted}, found {join_some(found, 5) or 'an empty folder'}; {advice}"
    )
