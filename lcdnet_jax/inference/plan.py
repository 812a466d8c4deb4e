"""Plan of a run over image files: inputs, names of the results, and references.

The plan is complete before any image is read or written. Each folder in a bucket is listed once.
"""

import collections
import dataclasses
import fnmatch
import functools
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from lcdnet_jax import file_names, image_io, storage
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.messages import join_some

_Image = tuple[pathlib.Path, pathlib.Path]  # an image, and its name below the output

_LIST = "-"  # the argument that stands for a list of paths


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
        source: The image file.
        target: The file for the result.
        reference: The file of the ground truth, or None.
    """

    source: pathlib.Path
    target: pathlib.Path
    reference: pathlib.Path | None = None


def plan_jobs(
    inputs: Sequence[str],
    output: str | None,
    *,
    stdin_paths: Iterable[str] = (),
    reference: str | None = None,
    others: list[pathlib.Path] | None = None,
) -> list[Job]:
    """Finds the images and the names of their results; reads and writes nothing.

    Args:
        inputs: Files, folders, glob patterns, and "-" for ``stdin_paths``. A folder means all files
            in it and its subfolders with the suffix of an image, except hidden files, pipes,
            devices and files in ``output``. Symbolic links to folders are not followed. A path
            that does not exist may be a pattern; its leading folders that exist are literal. It
            means the files with such a suffix and the folders that match it, with the same
            exceptions. A symbolic link to a folder is followed only if a part of the pattern other
            than "**" matches it, and never to a folder that contains the link. A file that occurs
            twice is used once, at its first place. All of them may be URLs of buckets, whose
            folders and files have no links.
        output: A folder or a file. It is a folder if it ends with a slash, exists as one, has no
            suffix, or if there are several images. Results keep their names, and those from a
            folder also keep its subfolders. The files that a pattern matches lie in the output
            itself, and a folder that it matches keeps its subfolders. For a single image that is
            given as a file it may be a file. None, for such an image only, means a file beside
            it: the result of "photo.jpg" is "photo.restored.jpg".
        stdin_paths: Paths, one per line; empty lines are ignored.
        reference: A file for a single image, or a folder. The folder has one file for each image,
            with the name of the result (of the image if ``output`` is None); the suffix may differ.
            None means no references.
        others: A list to which all files of folders and patterns are added that are skipped,
            because they are no images or their reader is not installed (HEIC and raw files), and
            links to folders that are not followed. :func:`describe_kinds` counts them.

    Returns:
        One job for each image, in the order of the inputs. The images of a folder are sorted by
        name. The result of a raw file of a camera is a TIFF: "a.tif" for "a.nef", or "a.nef.tif"
        if another image has that name.

    Raises:
        ValueError: If there is no image, two results would have the same name, the output is of
            the wrong kind, or a reference is missing.
        StorageError: If a bucket cannot be used or does not answer.
    """
    if output == "" or not all(inputs) or reference == "":
        raise ValueError("a path is empty, as an unset variable is; give names")
    if output == "-":
        raise ValueError(
            "results cannot be written to standard output; name a file or folder (./- for a folder "
            "of this name)"
        )
    others = [] if others is None else others
    arguments = [_Argument(text) for text in inputs]
    if output is None:
        return [_plan_beside(arguments, reference)]
    images: dict[pathlib.Path, _Image] = {}  # by absolute path, each once
    for argument in arguments:
        for image in _find_images(argument, stdin_paths, storage.to_path(output), others):
            images.setdefault(image[0].absolute(), image)
    several = len(arguments) > 1 or any(argument.may_be_several for argument in arguments)
    found: dict[pathlib.Path, pathlib.Path] = {}  # name of a result below the output: source
    for source, name in _name_results(list(images.values())):
        if name in found:
            raise ValueError(
                f"{found[name]} and {source} would both become {name} in {output}; restore "
                "them into different folders"
            )
        found[name] = source
    if not found:
        raise ValueError("no image was named; give files, folders, patterns, or - and a list")
    folder = _find_output_folder(output, several)
    references = _References(reference, single=not several)
    jobs = []
    for name, source in found.items():
        target = storage.to_path(output) if folder is None else folder / name
        jobs.append(Job(source, target, references.find(name)))
    return jobs


class _Argument:
    """One of the inputs.

    Args:
        text: As given.

    Attributes:
        text: As given.
        path: Its path. Below a folder in a bucket it knows the objects of that folder.
        is_pattern: Whether it names no file and has a pattern after its existing folders.
    """

    def __init__(self, text: str):
        self.text = text
        self.path = pathlib.Path(_LIST) if text == _LIST else _open(storage.to_path(text))
        self.is_pattern = not storage.lexists(self.path) and any(
            map(glob.has_magic, _split_pattern(self.path)[1])
        )

    @property
    def may_be_several(self) -> bool:
        """Whether it may stand for several images."""
        is_folder = self.path.is_dir() if storage.is_bucket(self.path) else os.path.isdir(self.path)
        return self.text == _LIST or self.is_pattern or is_folder


def _open(path: pathlib.Path) -> pathlib.Path:
    """Lists the folder in a bucket that a path names, or that a pattern begins with."""
    if not storage.is_bucket(path):
        return path
    if glob.has_magic(path.parts[2]):
        raise ValueError(f"{path}: the name of a bucket cannot be a pattern; give each bucket")
    folder = path
    parts: list[str] = []
    while glob.has_magic(str(folder)):
        parts.insert(0, folder.name)
        folder = folder.parent
    return storage.list_once(folder).joinpath(*parts)


def _name_results(images: Sequence[_Image]) -> list[_Image]:
    """Names the results of images below the output.

    The result of DSC1.NEF is DSC1.tif, and DSC1.NEF.tif if another image has that name.
    """
    counts = collections.Counter(image_io.name_result(name) for _, name in images)
    named = []
    for source, name in images:
        result = image_io.name_result(name)
        if result != name and counts[result] > 1:
            result = name.with_name(f"{name.name}{result.suffix}")
        named.append((source, result))
    return named


def _plan_beside(arguments: Sequence[_Argument], reference: str | None) -> Job:
    """Plans the result of one image beside it."""
    if len(arguments) != 1 or arguments[0].may_be_several:
        for argument in arguments:
            if argument.is_pattern:
                _find_images(argument, (), argument.path, [])  # an error if it matches none
        raise ValueError(
            "without -o one image file can be restored; give the folder for the results, as "
            "-o restored/"
        )
    source = arguments[0].path
    if not _has_image_suffix(source):
        raise ValueError(
            f"{source} has no suffix of a format in which its result could be written; name the "
            "result, as -o restored.png"
        )
    target = _name_beside(source)
    references = _References(reference, single=True)
    # A path of its own: the list for the source does not have it.
    return Job(source, storage.to_path(str(target)), references.find(pathlib.Path(source.name)))


def _name_beside(source: pathlib.Path) -> pathlib.Path:
    """The result of an image without ``-o``."""
    return image_io.name_result(source.with_name(f"{source.stem}.restored{source.suffix}"))


def describe_kinds(paths: Iterable[pathlib.Path]) -> str:
    """Counts files by kind.

    Args:
        paths: Files that are no images, as ``plan_jobs`` lists them.

    Returns:
        Text such as "3 .txt, 1 .mp4, 1 without a suffix"; the most frequent kinds first.
    """
    counts = collections.Counter(map(_describe_kind, paths))
    entries = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return join_some([f"{count} {kind}" for kind, count in entries], 12)


def describe_missing_package(paths: Iterable[pathlib.Path]) -> str | None:
    """Tells what to install to read files that were skipped.

    Args:
        paths: Files that are no images, as ``plan_jobs`` lists them.

    Returns:
        Text such as ".heic, .nef: pip install 'lcdnet-jax[photo]'", or None.
    """
    missing = [path for path in paths if _lacks_package(path)]
    if not missing:
        return None
    suffixes = ", ".join(sorted({path.suffix.lower() for path in missing}))
    return f"{suffixes}: pip install '{image_io.find_missing_package(missing[0])}'"


def _describe_kind(path: pathlib.Path) -> str:
    if path.is_dir():
        return "linked folder"
    if _is_image(path):
        return "earlier result"
    if _is_special(path):
        return "pipe or device"
    return path.suffix.lower() or "without a suffix"


def skip_existing(jobs: Sequence[Job]) -> list[Job]:
    """Selects the jobs whose results do not exist, to continue an earlier run.

    Args:
        jobs: The jobs, as from :func:`plan_jobs`.

    Returns:
        Those without a result. A job whose result would be its input stays, which is an error when
        it runs.
    """
    listed = functools.cache(storage.list_once)

    def is_done(job: Job) -> bool:
        if not (listed(job.target.parent) / job.target.name).is_file():
            return False
        exists = storage.is_bucket(job.source) or job.source.exists()
        return not (exists and storage.is_same_file(job.target, job.source))

    return [job for job in jobs if not is_done(job)]


def select_share(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """Selects the jobs of one process of several, which have the same jobs.

    Args:
        jobs: All jobs, as from :func:`plan_jobs`.
        index: Which share, from 0 to ``count - 1``.
        count: Number of shares.

    Returns:
        Every ``count``-th job, beginning with job ``index``. Each job is in one share.
    """
    return list(jobs[index::count])


def _find_images(
    argument: _Argument,
    stdin_paths: Iterable[str],
    output: pathlib.Path,
    others: list[pathlib.Path],
) -> list[_Image]:
    """Finds the images of an argument and their names below the output; only "-" may be empty.

    Other files are added to ``others``.
    """
    if argument.text == _LIST:
        paths = _open_all(_check_line(line) for line in stdin_paths if line.strip())
        return [image for path in paths for image in _find_images_at(path, output, others)]
    if not argument.is_pattern:
        return _find_images_at(argument.path, output, others)
    found: list[_Image] = []
    skipped: list[pathlib.Path] = []
    for path in sorted(_match(argument, output)):
        if path.is_dir():
            found += _walk_folder(path, output, skipped)
        elif _is_image(path):
            found.append((path, pathlib.Path(path.name)))
        else:
            skipped.append(path)
    if not found:
        raise ValueError(
            f"no image matches {argument.text}{_describe_others(skipped)}; check the pattern"
        )
    others += skipped
    return found


def _open_all(texts: Iterable[str]) -> Iterator[pathlib.Path]:
    """The paths of a list. Many are of images in few folders, so these folders are listed."""
    listed = functools.cache(storage.list_once)
    for text in texts:
        path = storage.to_path(text)
        yield listed(path.parent) / path.name if _has_image_suffix(path) else listed(path)


def _check_line(line: str) -> str:
    """The path on a line of a list."""
    if "\0" in line:
        raise ValueError(
            "the list of paths has null bytes, as find -print0 writes them; leave out -print0, and "
            "give one path per line"
        )
    return line.rstrip("\r\n")


def _split_pattern(path: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """The leading folders that exist, whatever characters are in their names, and other parts."""
    parts: list[str] = []
    while glob.has_magic(str(path)) and not storage.lexists(path):
        parts.insert(0, path.name)
        path = path.parent
    return path, parts


def _match(argument: _Argument, output: pathlib.Path) -> set[pathlib.Path]:
    """The files and folders that match a pattern, by the rules of :func:`_walk_folder`."""
    start, parts = _split_pattern(argument.path)
    found = {start}
    for part in parts:
        found = {entry for path in found for entry in _match_part(path, part, output)}
    if argument.text.endswith(os.sep):
        found = {path for path in found if path.is_dir()}
    return found


def _match_part(folder: pathlib.Path, part: str, output: pathlib.Path) -> Iterator[pathlib.Path]:
    """The entries of a folder that match one part of a pattern; "**" is the folders in it."""
    if not folder.is_dir():
        return
    if part == "**":
        for place, folders, _ in storage.walk(folder, on_error=_raise_listing_error):
            _remove_hidden(place, folders, output)
            yield place
        return
    if not glob.has_magic(part):
        if storage.lexists(folder / part):
            yield folder / part
        return
    results, here = storage.resolve(output), storage.resolve(folder)
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        _raise_listing_error(error)
    for name in fnmatch.filter(names, part):
        real = storage.resolve(folder / name)
        hidden = name.startswith(".") and not part.startswith(".")
        # A link to a folder above would give every file again.
        loops = (folder / name).is_symlink() and here.is_relative_to(real)
        if not hidden and not loops and real != results:
            yield folder / name


def _find_images_at(
    path: pathlib.Path, output: pathlib.Path, others: list[pathlib.Path]
) -> list[_Image]:
    if not path.is_dir():
        return [(path, pathlib.Path(path.name))]
    skipped: list[pathlib.Path] = []
    found = list(_walk_folder(path, output, skipped))
    if not found:
        raise ValueError(
            f"{path}: contains no image{_describe_others(skipped)}; put files with the suffix "
            f"{', '.join(image_io.IMAGE_SUFFIXES)} into it"
        )
    others += skipped
    return found


def _describe_others(others: Sequence[pathlib.Path]) -> str:
    if not others:
        return ""
    missing = describe_missing_package(others)
    return f", only {describe_kinds(others)}" + (f" (to read {missing})" if missing else "")


def _walk_folder(
    path: pathlib.Path, output: pathlib.Path, others: list[pathlib.Path]
) -> Iterator[_Image]:
    for here, folders, names in storage.walk(path, on_error=_raise_listing_error):
        _remove_hidden(here, folders, output)
        others += [here / name for name in folders if (here / name).is_symlink()]
        # To restore a photo, look at the result, and then restore the folder is common.
        results = {
            _name_beside(here / name).name for name in names if _has_image_suffix(here / name)
        }
        for name in sorted(names):
            if name.startswith("."):
                continue
            if _is_image(here / name) and name not in results:
                yield here / name, pathlib.Path(*(here / name).relative_to(path).parts)
            else:
                others.append(here / name)


def _remove_hidden(here: pathlib.Path, folders: list[str], output: pathlib.Path) -> None:
    """Removes hidden folders and that of the results from the folders that a walk enters next."""
    results = storage.resolve(output)
    folders[:] = sorted(
        name
        for name in folders
        if not name.startswith(".") and storage.resolve(here / name) != results
    )


def _is_image(path: pathlib.Path) -> bool:
    """Tells whether a path has the suffix of an image that can be read; no pipe or device."""
    return _has_image_suffix(path) and not _is_special(path) and not _lacks_package(path)


def _is_special(path: pathlib.Path) -> bool:
    """Tells whether a path is a folder, pipe or device of this machine."""
    return not storage.is_bucket(path) and os.path.exists(path) and not os.path.isfile(path)


def _lacks_package(path: pathlib.Path) -> bool:
    """Tells whether a path has the suffix of an image whose reader is not installed."""
    return _has_image_suffix(path) and image_io.find_missing_package(path.name) is not None


def _has_image_suffix(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(image_io.IMAGE_SUFFIXES)


def _raise_listing_error(error: OSError) -> NoReturn:
    raise ImageError(f"{error.filename}: cannot be listed ({error.strerror}); check permissions")


def _find_output_folder(output: str, several: bool) -> pathlib.Path | None:
    """Finds the folder for the results; None if the output is a file."""
    path = storage.list_once(storage.to_path(output))
    slash = output.endswith(tuple(filter(None, (os.sep, os.altsep))))
    image_name = path.suffix.lower() in image_io.IMAGE_SUFFIXES and not slash
    if image_name and path.is_dir():
        raise ValueError(
            f"{output} is a directory, though named as an image; give the name of a file, or a "
            "slash at the end to write into it"
        )
    if image_name and several:
        raise ValueError(
            f"{output} is the name of one image; give a folder for several images, with a slash at "
            "the end if the folder has this name"
        )
    if not (slash or several or path.is_dir() or not path.suffix):
        return None
    if path.exists() and not path.is_dir():
        raise ValueError(f"{output} is a file; give a folder, or the name of an image file")
    return path


class _References:
    """The references of images, by the names of their results.

    Args:
        given: The argument ``reference`` of :func:`plan_jobs`.
        single: Whether there is only one image.
    """

    def __init__(self, given: str | None, *, single: bool):
        self._given = None if given is None else storage.list_once(storage.to_path(given))
        self._single = single
        self._stems = functools.cache(_index_by_stem)  # a folder is listed once

    def find(self, name: pathlib.Path) -> pathlib.Path | None:
        """Finds the reference of a result; None if no references are given."""
        given = self._given
        if given is None:
            return None
        if not given.is_dir():
            if not self._single:
                raise ValueError(
                    f"{given} is not a folder; give one with a reference for each image"
                )
            if not given.exists():
                raise ValueError(f"{given} does not exist; give the reference of the image")
            return given
        exact = given / name
        found = (
            exact
            if exact.is_file()
            else self._stems(exact.parent).get(file_names.normalize(exact.stem))
        )
        if found is None:
            raise ValueError(
                f"{given} has no reference called {name} or with another suffix; add it"
            )
        return found


def _index_by_stem(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Indexes the images of a folder by name without suffix; the most common format wins."""
    try:
        found = image_io.find_images(folder)
    except ImageError:  # no folder, or none in it
        return {}
    found.sort(key=lambda path: image_io.IMAGE_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {file_names.normalize(path.stem): path for path in found}
