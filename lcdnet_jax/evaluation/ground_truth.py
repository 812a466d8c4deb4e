"""The ground truth of a folder: which of its files are meant, and the names they are matched by."""

import functools
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.io

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.messages import format_count

# Folders of published layouts that hold the ground truth.
_TRUTH_FOLDERS = ("sharp", "gt", "target", "clean", "groundtruth", "ground_truth", "reference")

# Endings of the names of ground truth.
_TRUTH_ENDING = re.compile(r"[-_. ](gt|clean|target|sharp|mean|reference|groundtruth)", re.I)

_SIDD_TRUTH = "ValidationGtBlocksSrgb"
_HIDE_FOLDERS = ("test-close-ups", "test-long-shot")
_REALBLUR_LISTS = "RealBlur_[JR]_test_list.txt"
_REALBLUR_RESULT = re.compile(r"(scene\d+(?:_reflect)?)[-_/](?:blur[-_])?(\d+)(.*)")


class FolderError(ValueError):
    """Images and ground truth do not fit together.

    Attributes:
        problems: What is wrong, each with all files that it concerns.
    """

    def __init__(self, problems: Mapping[str, Sequence[str]]):
        self.problems = problems
        super().__init__(self.describe())

    def describe(self, limit: int | None = None) -> str:
        """Describes the problems.

        Args:
            limit: Number of files that are listed of each problem. None lists all.

        Returns:
            One line for each problem, and one for each of its files.
        """
        lines = []
        for problem, names in self.problems.items():
            lines.append(f"{problem}:" if names else problem)
            lines += [f"  {name}" for name in names[:limit]]
            if limit is not None and len(names) > limit:
                lines.append(f"  and {len(names) - limit} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Picture:
    """One image that is not decoded yet.

    Attributes:
        label: The file, for messages.
        header: Reads size, channels and bits.
        read: Decodes ``[H, W]`` or ``[H, W, C]`` uint8, uint16, or float in [0, 1].
    """

    label: str
    header: Callable[[], Header]
    read: Callable[[], np.ndarray]

    def decode(self) -> np.ndarray:
        """Decodes the image as ``[H, W, C]`` float32 in [0, 1]."""
        image = image_io.to_float(self.read())
        return image if image.ndim == 3 else image[..., None]


@dataclass(frozen=True)
class Truth:
    """Ground truth of one set of images.

    Attributes:
        pictures: The images by name. A name has "/" between folder and file, and no suffix.
        rename: Turns the name of a result into the form of these names.
        where: The folder and what was taken from it, for a line of output.
    """

    pictures: Mapping[str, Picture]
    rename: Callable[[str], str]
    where: str


def list_truth(folder: pathlib.Path) -> Truth:
    """Lists the ground truth of a folder.

    Args:
        folder: As ``truth`` of :func:`compare_folders`.

    Returns:
        The ground truth.

    Raises:
        FolderError: If two files have the same name.
        ImageError: If the folder is missing or contains no images.
    """
    for read in (_read_sidd, _read_hide, _read_dpdd, _read_realblur):
        if (found := read(folder)) is not None:
            return found
    if (folder / "test").is_dir() and (folder / "train").is_dir():
        folder = folder / "test"
    paths = list_images(folder)
    marked = [path for path in paths if _has_part(path, folder, _TRUTH_FOLDERS)]
    names = name_files(marked or paths, folder, _TRUTH_FOLDERS)
    names = _strip_endings(names)
    kind = f", only those in folders {_list_parts(marked, folder)}" if marked else ""
    return Truth(
        {name: open_picture(path) for name, path in names.items()},
        lambda name: name,
        f"{folder}: {format_count(len(names), 'image')}{kind}",
    )


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files of a folder and its subfolders, sorted, without hidden ones."""
    if not folder.is_dir():
        cause = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"{folder}: {cause}; give the folder that holds the images")

    def fail(error: OSError) -> None:
        raise ImageError(
            f"{error.filename}: cannot be listed ({error.strerror}); check its permissions"
        )

    found = []
    for here, folders, names in storage.walk(folder, on_error=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            here / name
            for name in sorted(names)
            if name.lower().endswith(image_io.IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    if not found:
        raise ImageError(
            f"{folder}: contains no image; put files with the suffix "
            f"{', '.join(image_io.IMAGE_SUFFIXES)} into it"
        )
    return found


def _has_part(path: pathlib.Path, folder: pathlib.Path, parts: Sequence[str]) -> bool:
    return any(part.lower() in parts for part in path.relative_to(folder).parts[:-1])


def _list_parts(paths: Iterable[pathlib.Path], folder: pathlib.Path) -> str:
    parts = {part for path in paths for part in path.relative_to(folder).parts[:-1]}
    return ", ".join(sorted(f"{part}/" for part in parts if part.lower() in _TRUTH_FOLDERS))


def name_files(
    paths: Iterable[pathlib.Path], folder: pathlib.Path, left_out: Sequence[str]
) -> dict[str, pathlib.Path]:
    """Names files by their path in ``folder`` without suffix, and without the parts ``left_out``.

    macOS and Linux may store accents in different ways; names have the composed form (NFC).
    """
    named: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        *parts, _ = path.relative_to(folder).parts
        parts = [part for part in parts if part.lower() not in left_out]
        name = unicodedata.normalize("NFC", "/".join([*parts, path.stem]))
        named.setdefault(name, []).append(path)
    twice = [", ".join(map(str, some)) for some in named.values() if len(some) > 1]
    if twice:
        raise FolderError({f"{folder}: files with equal names; keep one of each": twice})
    return {name: some[0] for name, some in named.items()}


def _strip_endings(names: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
    """Removes an ending such as "_gt", if all names have the same."""
    endings = set()
    for name in names:
        stem = name.rsplit("/", 1)[-1]
        found = re.search(_TRUTH_ENDING.pattern + "$", stem, re.IGNORECASE)
        endings.add(found[0] if found and found.start() else "")
    if len(endings) > 1 or endings == {""}:
        return dict(names)
    (ending,) = endings
    return {name.removesuffix(ending): path for name, path in names.items()}


def open_picture(path: pathlib.Path) -> Picture:
    """A file as a picture that is read on demand.

    Args:
        path: The file.

    Returns:
        The picture.
    """
    return Picture(
        str(path),
        functools.partial(image_io.read_header, path),
        functools.partial(image_io.read, path),
    )


# Published layouts. Each returns None for another layout.


def _read_sidd(folder: pathlib.Path) -> Truth | None:
    """Validation blocks of SIDD, named "01_01" to "40_32"; results also as "0001_01"."""
    path = folder / f"{_SIDD_TRUTH}.mat"
    if not path.is_file():
        return None
    pictures = read_blocks(path, ("uint8",))

    def rename(name: str) -> str:
        return re.sub(r"^0*(\d+)_0*(\d+)", lambda m: f"{int(m[1]):02d}_{int(m[2]):02d}", name)

    return Truth(pictures, rename, f"{path}: {format_count(len(pictures), 'block')}")


def read_blocks(path: pathlib.Path, dtypes: Sequence[str]) -> dict[str, Picture]:
    """Reads ``[images, blocks, height, width, 3]`` from a variable named as the file.

    Floating-point blocks are in [0, 1], as networks give them. They count as 8 bits, because the
    official evaluation compares them with ground truth of 8 bits.
    """
    try:
        with storage.open_file(path) as file:
            blocks = scipy.io.loadmat(file)[path.stem]
    except storage.StorageError:
        raise
    except Exception as error:  # SciPy raises many kinds
        raise ImageError(
            f"{path}: is not a MATLAB file of version 5 to 7 with {path.stem}, or is damaged "
            f"({error}); download or write it again"
        ) from error
    if blocks.ndim != 5 or blocks.shape[-1] != 3 or blocks.dtype.name not in dtypes:
        raise ImageError(
            f"{path}: holds {blocks.dtype} {list(blocks.shape)} instead of {' or '.join(dtypes)} "
            "[images, blocks, height, width, 3]; download or write it again"
        )
    height, width = blocks.shape[2:4]
    header = Header(height, width, channels=3, bits=8)
    return {
        f"{i + 1:02d}_{j + 1:02d}": Picture(
            f"{path} block {i + 1}, {j + 1}",
            lambda: header,
            functools.partial(blocks.__getitem__, (i, j)),
        )
        for i, j in np.ndindex(*blocks.shape[:2])
    }


def _read_hide(folder: pathlib.Path) -> Truth | None:
    """Test images of HIDE: GT/ has the sharp images of training and test under equal names."""
    tests = [folder / "test" / name for name in _HIDE_FOLDERS]
    tests = [one for one in tests if one.is_dir()]
    if not (folder / "GT").is_dir() or not tests:
        return None
    sharp = name_files(list_images(folder / "GT"), folder / "GT", ())
    blurred = [name for test in tests for name in name_files(list_images(test), test, ())]
    missing = [f"{name}.*" for name in blurred if name not in sharp]
    if missing:
        raise FolderError({f"{folder / 'GT'} lacks the sharp image of": missing})

    def rename(name: str) -> str:
        return re.sub(rf"^(test[-_/])?({'|'.join(_HIDE_FOLDERS)})[-_/]", "", name)

    pictures = {name: open_picture(sharp[name]) for name in sorted(blurred)}
    return Truth(
        pictures, rename, f"{folder / 'GT'}: {format_count(len(pictures), 'image')} of test/"
    )


def _read_dpdd(folder: pathlib.Path) -> Truth | None:
    """Test images of DPDD, whose sharp and blurred files are matched by their order."""
    source, target = folder / "test_c" / "source", folder / "test_c" / "target"
    if not source.is_dir() or not target.is_dir():
        return None
    blurred = sorted(name_files(list_images(source), source, ()))
    sharp = sorted(name_files(list_images(target), target, ()).items())
    if len(blurred) != len(sharp):
        raise FolderError(
            {
                f"{source} has {format_count(len(blurred), 'image')} and {target} {len(sharp)}; "
                "they are matched by their order, so copy what is missing": []
            }
        )
    pictures = {name: open_picture(path) for name, (_, path) in zip(blurred, sharp, strict=True)}
    return Truth(
        pictures,
        lambda name: name,
        f"{target}: {format_count(len(pictures), 'image')}, with names of {source}",
    )


def _read_realblur(folder: pathlib.Path) -> Truth | None:
    """Sharp images of RealBlur-J or RealBlur-R, named ``scene230_7``; those of the test list.

    Results are named as for the authors' ``evaluation_RealBlur_ecc.py``, ``scene230_blur_7``, or as
    ``eval.py`` names them, ``scene230_7``. As in that program, results called ``scene244`` belong
    to the folder ``scene244_reflect``.
    """
    lists = sorted(folder.glob(_REALBLUR_LISTS))
    if len(lists) > 1:
        raise FolderError(
            {
                f"{folder} holds RealBlur-J and RealBlur-R; give the folder of the one that was "
                "restored, which the lines of its list begin with": list(map(str, lists))
            }
        )
    absolute = storage.make_absolute(folder)
    root = absolute
    if not lists and any(absolute.glob("scene*/gt")):
        root = storage.list_once(absolute.parent)
    sharp = _list_test_images(root, within=absolute)
    is_listed = bool(sharp)
    if not sharp:
        sharp = {
            f"{path.parent.parent.name}_{path.stem.removeprefix('gt_')}": path
            for path in sorted(folder.glob("scene*/gt/gt_*"))
            if path.suffix.lower() in image_io.IMAGE_SUFFIXES
        }
    if not sharp:
        return None
    missing = [str(path) for path in sharp.values() if not path.is_file()]
    if missing:
        raise FolderError({f"{folder} lacks images that its test list names": missing})

    def rename(name: str) -> str:
        found = _REALBLUR_RESULT.match(name)
        if found is None:
            return name
        scene, number, rest = found.groups()
        key = f"{scene}_{number}"
        reflected = f"{scene}_reflect_{number}"
        return (reflected if key not in sharp and reflected in sharp else key) + rest

    kind = "of the test list" if is_listed else "in scene*/gt, without a test list"
    pictures = {name: open_picture(path) for name, path in sharp.items()}
    return Truth(pictures, rename, f"{folder}: {format_count(len(pictures), 'image')} {kind}")


def _list_test_images(root: pathlib.Path, *, within: pathlib.Path) -> dict[str, pathlib.Path]:
    """Sharp images below ``within`` by name, from the lists of RealBlur in ``root``."""
    found = {}
    for listing in sorted(root.glob(_REALBLUR_LISTS)):
        for line in storage.read_bytes(listing).decode(errors="replace").splitlines():
            path = root / (line.split() or [""])[0]
            if path.parent.name == "gt" and within in path.parents:
                name = f"{path.parent.parent.name}_{path.stem.removeprefix('gt_')}"
                found[name] = path
    return found
