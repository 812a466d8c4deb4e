"""Restoring files: which to read, what to call the results, and scores against references.

Used by ``lcdnet-jax restore``. Everything is decided by :func:`plan` before anything is read, and
:func:`restore` goes through the files one by one, whatever becomes of any one of them.
"""

import dataclasses
import errno
import functools
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lcdnet_jax import atomic_io, image_io, metrics
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import Restorer

_Named = tuple[pathlib.Path, pathlib.Path]  # an image, and its name below the output

# What concerns the disk, not one file: the files that follow would fail alike.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to restore."""

    source: pathlib.Path
    target: pathlib.Path
    reference: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        height: Of the written image, pixels.
        width: The same.
        psnr: Of the written file against the reference, dB; None without a reference.
        ssim: The same, in [-1, 1]; NaN for images smaller than its window.
    """

    height: int
    width: int
    psnr: float | None = None
    ssim: float | None = None


class DiskError(ImageError):
    """No further image can be written either."""


def plan(
    inputs: Sequence[str],
    output: str,
    *,
    listed: Iterable[str] = (),
    reference: str | None = None,
) -> list[Job]:
    """Finds the images and the names of their results; reads and writes nothing.

    Args:
        inputs: Files, folders, glob patterns, and "-" for ``listed``. Of a folder come all files
            in it and below it that have the suffix of an image, but no hidden ones, no pipes or
            devices, and none that lie in ``output``; of a pattern the files with such a suffix and
            the folders that it matches. A file that comes twice counts once, as it comes first.
        output: A folder (with a slash at its end, existing, without a suffix, or for several
            images), which gets the files under their names, those of a folder in its structure; or
            a file, for one image that is given as a file.
        listed: Paths, one each; empty ones do not count.
        reference: A file, for one image; or a folder that has, for each image, one under the name
            of the result, perhaps with another suffix.

    Returns:
        One job for each image, in the order of the inputs, those of a folder by name.

    Raises:
        ValueError: If there is no image, two results would have the same name, the output is of
            the wrong kind, or a reference is missing.
    """
    if not (output and all(inputs)) or reference == "":
        raise ValueError("a path is empty, as an unset variable is; give names")
    found: dict[pathlib.Path, pathlib.Path] = {}  # name of a result below the output: source
    seen: set[pathlib.Path] = set()
    several = len(inputs) > 1
    for argument in inputs:
        several |= argument == "-" or _is_pattern(argument) or os.path.isdir(argument)
        for source, name in _images(argument, listed, pathlib.Path(output)):
            if source.absolute() in seen:
                continue
            seen.add(source.absolute())
            if name in found:
                raise ValueError(
                    f"{found[name]} and {source} would both become {name} in {output}; restore "
                    "them into different folders"
                )
            found[name] = source
    if not found:
        raise ValueError("no image was named; give files, folders, patterns, or - and a list")
    folder = _output_folder(output, several)
    references = _References(reference, single=not several)
    jobs = []
    for name, source in found.items():
        target = pathlib.Path(output) if folder is None else folder / name
        jobs.append(Job(source, target, references.find(name)))
    return jobs


def restore(
    restorer: Restorer,
    jobs: Sequence[Job],
    *,
    force: bool = False,
    quality: int = 95,
) -> Iterator[tuple[Job, Result | Exception]]:
    """Restores one image after the other; each is written whole or not at all.

    Args:
        restorer: What restores them.
        jobs: As :func:`plan` gives them.
        force: Replace files that exist.
        quality: Of JPEG files, 1 to 100.

    Yields:
        Each job and what came of it: an exception whose message is one line, with the name of the
        file, if it failed. After a :class:`DiskError` nothing follows.
    """
    for job in jobs:
        try:
            outcome: Result | Exception = _restore(restorer, job, force, quality)
        except Exception as error:  # a library may fail in any way on a strange file
            outcome = error if isinstance(error, ImageError) else _named(job.source, error)
        yield job, outcome
        if isinstance(outcome, DiskError):
            return


def score_pair(restored: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of two images as :mod:`~lcdnet_jax.image_io` reads them.

    Both as floats in [0, 1] without alpha, see :func:`lcdnet_jax.metrics.psnr_and_ssim`.

    Args:
        restored: ``[H, W]`` or ``[H, W, C]``, uint8, uint16 or floating point.
        reference: The same size and colors; type and alpha do not matter.

    Returns:
        PSNR, SSIM.

    Raises:
        ImageError: If the sizes or the channels differ.
    """
    a, b = (_without_alpha(image_io.to_float(image)) for image in (restored, reference))
    _check_alike(a.shape, b.shape, "the reference")
    return metrics.psnr_and_ssim(a, b)


# What to restore


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _images(argument: str, listed: Iterable[str], output: pathlib.Path) -> list[_Named]:
    """The images of an argument, each with its name below the output; none only of "-"."""
    if argument == "-":
        paths = [pathlib.Path(line.rstrip("\r\n")) for line in listed if line.strip()]
        return [image for path in paths for image in _images_at(path, output)]
    if not _is_pattern(argument):
        return _images_at(pathlib.Path(argument), output)
    found: list[_Named] = []
    for path in map(pathlib.Path, sorted(glob.glob(argument, recursive=True))):
        if path.is_dir():
            found += _images_below(path, output)
        elif _is_image(path):
            found.append((path, pathlib.Path(path.name)))
    if not found:
        raise ValueError(f"no image matches {argument}; check the pattern")
    return found


def _images_at(path: pathlib.Path, output: pathlib.Path) -> list[_Named]:
    if not path.is_dir():
        return [(path, pathlib.Path(path.name))]
    found = list(_images_below(path, output))
    if not found:
        raise ValueError(
            f"{path}: holds no image; put files with the suffix "
            f"{', '.join(image_io.IMAGE_SUFFIXES)} into it"
        )
    return found


def _images_below(path: pathlib.Path, output: pathlib.Path) -> Iterator[_Named]:
    results = os.path.realpath(output)  # unlike resolve, also of a loop of links
    for folder, folders, names in os.walk(path, onerror=_raise):
        here = pathlib.Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(here / name) != results
        )
        for name in sorted(names):
            if _is_image(here / name) and not name.startswith("."):
                yield here / name, (here / name).relative_to(path)


def _is_image(path: pathlib.Path) -> bool:
    """By suffix; no pipe or device."""
    special = os.path.exists(path) and not os.path.isfile(path)
    return path.name.lower().endswith(image_io.IMAGE_SUFFIXES) and not special


def _raise(error: OSError) -> None:
    raise ImageError(f"{error.filename}: cannot be listed ({error.strerror}); check permissions")


def _output_folder(output: str, several: bool) -> pathlib.Path | None:
    """The folder for the results; None where the output is the one file itself."""
    path = pathlib.Path(output)
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
            "the end if it is called so"
        )
    if not (slash or several or path.is_dir() or not path.suffix):
        return None
    if path.exists() and not path.is_dir():
        raise ValueError(f"{output} is a file; give a folder, or the name of an image file")
    return path


class _References:
    """The references of images, by the names of their results.

    Args:
        given: As for :func:`plan`.
        single: There is one image.
    """

    def __init__(self, given: str | None, *, single: bool):
        self._given = given
        self._single = single
        self._stems = functools.cache(_by_stem)  # a folder is listed once

    def find(self, name: pathlib.Path) -> pathlib.Path | None:
        """The reference of a result; None if there are none."""
        if self._given is None:
            return None
        given = pathlib.Path(self._given)
        if not given.is_dir():
            if not self._single:
                raise ValueError(f"{given} is no folder; give one with a reference for each image")
            if not given.exists():
                raise ValueError(f"{given} does not exist; give the reference of the image")
            return given
        exact = given / name
        found = exact if exact.is_file() else self._stems(exact.parent).get(exact.stem)
        if found is None:
            raise ValueError(
                f"{given} has no reference called {name} or with another suffix; add it"
            )
        return found


def _by_stem(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Images of a folder by their names without suffix, of several the usual format first."""
    try:
        found = image_io.find_images(folder)
    except ImageError:  # no folder, or none in it
        return {}
    found.sort(key=lambda path: image_io.IMAGE_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in found}


# One image


def _restore(restorer: Restorer, job: Job, force: bool, quality: int) -> Result:
    _check_target(job, force)
    image, metadata = image_io.read_with_metadata(job.source)
    image_io.check_format(job.target, image)
    reference = None
    if job.reference is not None:
        reference, _ = image_io.read_with_metadata(job.reference)
        expected = _written_shape(image, job.target, restorer.module.scale)
        _check_alike(expected, _without_alpha(reference).shape, str(job.reference))
    try:
        atomic_io.make_folder(job.target)
    except OSError as error:
        raise _refused(error) from error
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            restored = restorer(image)
    except Exception as error:
        raise _named(job.source, error) from error
    if restored.dtype.kind == "f" and not np.isfinite(restored).all():
        raise ImageError(
            f"{job.source}: its result holds NaN or infinity; scale the values to [0, 1], as the "
            "network was trained"
        )
    try:
        image_io.write(job.target, restored, quality=quality, metadata=metadata, force=force)
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            raise _refused(error.__cause__) from error
        raise
    result = Result(*restored.shape[:2])
    if reference is None:
        return result
    written, _ = image_io.read_with_metadata(job.target)
    psnr, ssim = score_pair(written, reference)
    return dataclasses.replace(result, psnr=psnr, ssim=ssim)


def _written_shape(image: np.ndarray, target: pathlib.Path, scale: int) -> tuple[int, ...]:
    """Height, width and colours of the written result, as it will be read back."""
    height, width, colours = _without_alpha(image).shape
    webp = target.suffix.lower() == ".webp"  # knows no grey
    return height * scale, width * scale, 3 if webp else colours


def _check_alike(ours: tuple[int, ...], theirs: tuple[int, ...], name: str) -> None:
    """Raises ImageError unless a result and its reference have one shape ``[H, W, C]``."""
    if ours != theirs:
        result, reference = ("{1}x{0} with {2} channels".format(*shape) for shape in (ours, theirs))
        raise ImageError(
            f"{name}: it is {reference}, the restored image {result}; give an image that matches"
        )


def _check_target(job: Job, force: bool) -> None:
    if job.target.is_dir():
        raise ImageError(f"{job.target} is a directory; move it away or choose another output")
    if force or not os.path.lexists(job.target):
        return
    if job.target.exists() and job.source.exists() and job.target.samefile(job.source):
        raise ImageError(
            f"{job.target} is the input itself; choose another output, or --force to replace it"
        )
    raise ImageError(f"{job.target} exists and is left as it is; --force replaces it")


def _refused(error: OSError) -> ImageError:
    kind = DiskError if error.errno in _DISK_ERRORS else ImageError
    return kind(str(error))


def _named(source: pathlib.Path, error: Exception) -> ImageError:
    """An error about an image, with the name of its file and in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return ImageError(f"{source}: does not fit into memory; use --tile 512 or less")
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return ImageError(f"{source}: {text}")


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """``[H, W, 1]`` or ``[H, W, 3]``."""
    if image.ndim == 2:
        return image[..., None]
    return image[..., :-1] if image.shape[2] in (2, 4) else image
