"""Scores of folders of restored images of any origin, by the code that ``eval.py`` uses.

    protocol, data_set = choose_protocol("gopro")
    comparison = compare_folders(["results/A", "results/B"], "GOPRO_Large", data_set=data_set)
    for row in comparison.score(protocol):
        print(row.mode, row.summary.psnr)

All names, sizes and depths are checked before the first image is scored. A file that has no partner
is an error, and the error lists all of them.
"""

import functools
import math
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.io

from lcdnet_jax import image_io, protocols
from lcdnet_jax.data_sets import DATA_SETS, DataSet
from lcdnet_jax.evaluation.evaluator import Evaluator, ScoredImage, summarize
from lcdnet_jax.evaluation.sweep import Row, add_means
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.metrics import niqe
from lcdnet_jax.protocols import Protocol

# Folders of published layouts that hold the ground truth, and folders that hold the inputs. The
# latter remain in the paths of results if the results keep the subfolders of the inputs.
_TRUTH_FOLDERS = ("sharp", "gt", "target", "clean", "groundtruth", "ground_truth", "reference")
_INPUT_FOLDERS = ("blur", "blur_gamma", "blurred", "input", "noisy", "degraded", "source")

# Endings of the names of ground truth.
_TRUTH_ENDING = re.compile(r"[-_. ](gt|clean|target|sharp|mean|reference|groundtruth)", re.I)

_SEPARATORS = "-_. "
_SIDD_TRUTH, _SIDD_RESULT = "ValidationGtBlocksSrgb", "Idenoised"
_HIDE_FOLDERS = ("test-close-ups", "test-long-shot")


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


@dataclass(frozen=True)
class Pair:
    """A restored image and its ground truth.

    Attributes:
        name: Name of the ground truth.
        restored: The restored image.
        clean: The ground truth.
    """

    name: str
    restored: Picture
    clean: Picture


@dataclass(frozen=True)
class Comparison:
    """Result folders and the ground truth with which they are compared.

    Attributes:
        pairs: Pairs by name of the set, then by name of the result folder, in the order of the
            ground truth.
        groups: Sets whose scores are averaged, by the name of the group. Empty without sets.
        truth: Line about the ground truth of each set.
        notes: Remarks about files whose scores may be lower than those of the network.
    """

    pairs: Mapping[str, Mapping[str, Sequence[Pair]]]
    groups: Mapping[str, Sequence[str]]
    truth: Sequence[str]
    notes: Sequence[str]

    def score(
        self,
        protocol: Protocol,
        *,
        with_niqe: bool = False,
        on_image: Callable[[str, str, ScoredImage], None] | None = None,
    ) -> Iterator[Row]:
        """Scores all images.

        Args:
            protocol: How images are scored. Degradations of the protocol have no effect.
            with_niqe: Adds the score "niqe" of the restored image, see ``metrics.niqe``.
            on_image: Called with the name of the set, that of the result folder, and the image.

        Yields:
            Rows with ``mode`` and ``restorer_mode`` as the name of the result folder, and
            ``input_psnr`` NaN. After the last set of a group its means, see :func:`add_means`.

        Raises:
            ValueError: If an image cannot be decoded or scored. The message names it.
        """
        yield from add_means(self._rows(protocol, with_niqe, on_image), self.groups)

    def _rows(
        self,
        protocol: Protocol,
        with_niqe: bool,
        on_image: Callable[[str, str, ScoredImage], None] | None,
    ) -> Iterator[Row]:
        evaluator = Evaluator(replace(protocol, degradation=None))
        for name, folders in self.pairs.items():
            for results, pairs in folders.items():
                images = _score_pairs(evaluator, pairs, with_niqe=with_niqe)
                if on_image is not None:
                    images = _report(images, functools.partial(on_image, name, results))
                summary = summarize(images)
                yield Row(name, protocol, None, results, results, summary)


def choose_protocol(name: str, *, scale: int = 1) -> tuple[Protocol, DataSet | None]:
    """Finds the protocol of a name: that of a protocol, or of a data set with its own protocol.

    Args:
        name: A key of ``PROTOCOLS`` or ``DATA_SETS``, such as "gopro", "rain13k" or "8bit".
        scale: Factor of super-resolution, which sets the border of "sr" and "sr-pairs".

    Returns:
        The protocol, without noise, and the data set if its scores are means over several sets.

    Raises:
        ValueError: For an unknown name, listing the known ones, or a missing scale.
    """
    row = None
    if name not in protocols.PROTOCOLS:
        row = DATA_SETS.get(name)
        if row is None or row.protocol == "pairs":
            known = [one.name for one in DATA_SETS.values() if one.protocol != "pairs"]
            known = list(dict.fromkeys([*protocols.PROTOCOLS, *known]))
            raise ValueError(f"no protocol {name!r}; known names: {', '.join(known)}")
        if not row.averages_sets:
            return choose_protocol(row.protocol, scale=scale)
        name = row.protocol
    protocol = protocols.get(name)
    if protocol.shaved and scale == 1:
        raise ValueError(
            f"protocol {name!r} cuts a border as wide as images were enlarged; give --scale, such "
            "as 4"
        )
    return replace(protocol.with_scale(scale), noise=None), row


def compare_folders(
    results: Sequence[str | os.PathLike[str]],
    truth: str | os.PathLike[str],
    *,
    data_set: DataSet | None = None,
    scale: int = 1,
    any_depth: bool = False,
) -> Comparison:
    """Finds the ground truth of each restored image, and checks sizes, channels and depths.

    The names of results may have one ending more than those of the ground truth, the same for all
    images of a folder: ``0001_restored.png``, ``0001-NAFNet.png``. Names of ground truth may end
    in ``_gt``, ``_clean``, ``_target`` and the like. Subfolders count, and may be joined to the
    name by ``_`` or ``-``.

    Args:
        results: Folders of restored images.
        truth: Folder of the ground truth: images, images in subfolders, or a published layout of
            GoPro, HIDE, DPDD or the validation blocks of SIDD.
        data_set: Data set whose sets are scored one by one and then averaged. ``results`` and
            ``truth`` then hold a folder for each of its sets.
        scale: Factor of super-resolution. Results may have the size of their ground truth cut to
            multiples of it.
        any_depth: Whether the bit depth of a result may differ from that of its ground truth.

    Returns:
        The comparison.

    Raises:
        FolderError: If files are missing, extra, unreadable, or differ from the ground truth.
        ImageError: If a folder is missing or contains no images.
    """
    folders = _name_folders([pathlib.Path(one) for one in results])
    root = pathlib.Path(truth)
    problems: dict[str, list[str]] = {}
    pairs: dict[str, dict[str, list[Pair]]] = {}
    lines, notes = [], []
    groups: dict[str, tuple[str, ...]] = {}
    if data_set is None:
        _refuse_sets(root)
        places = {pathlib.Path(os.path.abspath(root)).name: (root, folders)}
    else:
        sets = data_set.groups["test"]
        places = _find_sets(root, folders, sets, problems)
        groups[data_set.name] = sets
    for name, (truth_folder, result_folders) in places.items():
        expected = list_truth(truth_folder)
        lines.append(expected.where)
        pairs[name] = {}
        for result_name, folder in result_folders.items():
            pairs[name][result_name], is_lossy = _match(folder, expected, problems)
            if is_lossy:
                notes.append(f"{folder}: JPEG files; their compression lowers the scores")
    for by_folder in pairs.values():
        for one in by_folder.values():
            _check_headers(one, problems, scale=scale, any_depth=any_depth)
    if problems:
        raise FolderError(problems)
    return Comparison(pairs, groups, lines, notes)


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
    for read in (_read_sidd, _read_hide, _read_dpdd):
        if (found := read(folder)) is not None:
            return found
    if (folder / "test").is_dir() and (folder / "train").is_dir():
        folder = folder / "test"
    paths = _walk(folder)
    marked = [path for path in paths if _has_part(path, folder, _TRUTH_FOLDERS)]
    names = _name_files(marked or paths, folder, _TRUTH_FOLDERS)
    names = _strip_endings(names)
    kind = f", only those in folders {_list_parts(marked, folder)}" if marked else ""
    return Truth(
        {name: _open(path) for name, path in names.items()},
        lambda name: name,
        f"{folder}: {len(names)} images{kind}",
    )


def _score_pairs(
    evaluator: Evaluator, pairs: Iterable[Pair], *, with_niqe: bool
) -> Iterator[ScoredImage]:
    cut = evaluator.protocol.cut
    for pair in pairs:
        try:
            restored, clean = (
                np.ascontiguousarray(cut(picture.decode()))
                for picture in (pair.restored, pair.clean)
            )
            scores = evaluator.score(restored, clean)
            if with_niqe:
                scores["niqe"] = niqe.niqe(np.clip(restored, 0, 1))
        except ImageError:
            raise  # names the file
        except ValueError as error:
            raise ValueError(f"{pair.restored.label}: {error}") from error
        psnr, ssim = scores.pop("psnr"), scores.pop("ssim")
        # There is no degraded image; its place holds the restored one.
        yield ScoredImage(pair.name, clean, restored, restored, psnr, ssim, math.nan, scores)


def _report(
    images: Iterable[ScoredImage], on_image: Callable[[ScoredImage], None]
) -> Iterator[ScoredImage]:
    for image in images:
        on_image(image)
        yield image


# Sets and folders


def _name_folders(folders: Sequence[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Short names of result folders: the last parts of their paths that tell them apart."""
    absolute = [pathlib.Path(os.path.abspath(folder)) for folder in folders]
    if len(set(absolute)) < len(absolute):
        raise ValueError("a folder of results is given twice; give each once")
    depth = 1
    while len({one.parts[-depth:] for one in absolute}) < len(absolute):
        depth += 1
    return {
        "/".join(one.parts[-depth:]): folder for one, folder in zip(absolute, folders, strict=True)
    }


def _refuse_sets(root: pathlib.Path) -> None:
    """Raises ValueError if a folder holds sets whose scores papers average."""
    for row in DATA_SETS.values():
        sets = row.groups.get("test", ())
        if row.averages_sets and sets and all(_find_set(root, name) for name in sets):
            raise ValueError(
                f"{root} holds the {len(sets)} sets of {row.name}, whose scores papers average; "
                f"use --protocol {row.name}, or give the folder of one set"
            )


def _find_sets(
    root: pathlib.Path,
    folders: Mapping[str, pathlib.Path],
    sets: Sequence[str],
    problems: dict[str, list[str]],
) -> dict[str, tuple[pathlib.Path, dict[str, pathlib.Path]]]:
    """Finds the folder of each set in the ground truth and in the results."""
    places: dict[str, tuple[pathlib.Path, dict[str, pathlib.Path]]] = {}
    for folder in (root, *folders.values()):
        if not folder.is_dir():
            cause = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ImageError(f"{folder}: {cause}; give the folder that holds the sets")
        missing = [name for name in sets if _find_set(folder, name) is None]
        if missing:
            problems[f"{folder} has no folder for {len(missing)} of {len(sets)} sets"] = missing
    for name in sets:
        truth = _find_set(root, name)
        results = {key: _find_set(folder, name) for key, folder in folders.items()}
        if truth is not None:
            places[name] = truth, {key: one for key, one in results.items() if one is not None}
    return places


def _find_set(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    for place in (folder / name, folder / "test" / name):
        if place.is_dir():
            return place
    return None


# Names


def _walk(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files of a folder and its subfolders, sorted, without hidden ones."""
    if not folder.is_dir():
        cause = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"{folder}: {cause}; give the folder that holds the images")

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be listed ({error.strerror}); check its rights")

    found = []
    for here, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            pathlib.Path(here, name)
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


def _name_files(
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


def _open(path: pathlib.Path) -> Picture:
    return Picture(
        str(path),
        functools.partial(image_io.read_header, path),
        functools.partial(image_io.read, path),
    )


# Matching


def _match(
    folder: pathlib.Path, truth: Truth, problems: dict[str, list[str]]
) -> tuple[list[Pair], bool]:
    """Finds the result of each ground truth.

    Returns:
        The pairs, and whether some results are JPEG files.
    """
    found = _list_results(folder)
    tries = [_match_names(found, truth, style) for style in (_keep, _flatten)]
    matched, endings = max(tries, key=lambda one: len(one[0]))
    used = set(matched.values())
    extra = [picture.label for name, picture in found.items() if name not in used]
    missing = [picture.label for name, picture in truth.pictures.items() if name not in matched]
    if missing:
        problems[f"{folder} has no result for {len(missing)} of {len(truth.pictures)} images"] = (
            missing
        )
    if extra:
        hint = ""
        if len(endings) > 1:
            shown = ", ".join(map(repr, endings[:3]))
            hint = f" (names end in {shown}; keep one ending in a folder)"
        problems[f"{folder} has {len(extra)} images without ground truth{hint}"] = extra
    pairs = [
        Pair(name, found[matched[name]], picture)
        for name, picture in truth.pictures.items()
        if name in matched
    ]
    lossy = any(picture.label.lower().endswith((".jpg", ".jpeg")) for picture in found.values())
    return pairs, lossy


def _list_results(folder: pathlib.Path) -> dict[str, Picture]:
    for path in (folder / f"{_SIDD_RESULT}.mat", folder / "mat" / f"{_SIDD_RESULT}.mat"):
        if path.is_file():
            return _read_blocks(path, ("uint8", "float32", "float64"))
    files = _name_files(_walk(folder), folder, _INPUT_FOLDERS)
    return {name: _open(path) for name, path in files.items()}


def _match_names(
    results: Iterable[str], truth: Truth, style: Callable[[str], str]
) -> tuple[dict[str, str], list[str]]:
    """Matches names of results, which may have one ending more than those of the ground truth.

    The ending is the one with which most names match.

    Returns:
        Names of results by names of ground truth, and the endings that were found.
    """
    originals = {style(name): name for name in truth.pictures}
    if len(originals) < len(truth.pictures):  # two names are equal in this style
        return {}, []
    by_ending: dict[str, dict[str, str]] = {}
    for result in results:
        name = style(truth.rename(result))
        for end in range(1, len(name) + 1):
            is_border = end == len(name) or name[end] in _SEPARATORS
            if is_border and name[:end] in originals:
                found = by_ending.setdefault(name[end:], {})
                found.setdefault(originals[name[:end]], result)
    endings = sorted(by_ending, key=lambda ending: (-len(by_ending[ending]), ending))
    return (by_ending[endings[0]], endings) if endings else ({}, [])


def _keep(name: str) -> str:
    return name


def _flatten(name: str) -> str:
    """A form that is equal for "scene/0001", "scene_0001" and "scene-0001"."""
    return name.replace("/", "_").replace("-", "_")


def _check_headers(
    pairs: Iterable[Pair], problems: dict[str, list[str]], *, scale: int, any_depth: bool
) -> None:
    """Adds pairs that cannot be read or differ in size, channels or depth to ``problems``."""
    for pair in pairs:
        headers = []
        for picture in (pair.restored, pair.clean):
            try:
                headers.append(picture.header())
            except ImageError as error:
                problems.setdefault("images that cannot be read", []).append(str(error))
        if len(headers) < 2:
            continue
        restored, clean = headers
        line = f"{pair.restored.label}: {_describe(restored)}, ground truth {_describe(clean)}"
        sizes = [(side.height, side.width) for side in headers]
        cut = tuple(side - side % scale for side in sizes[1])
        if 2 in (restored.channels, clean.channels) or 4 in (restored.channels, clean.channels):
            problems.setdefault(
                "images with an alpha channel, which is never dropped silently; remove it", []
            ).append(line)
        elif sizes[0] not in (sizes[1], cut):
            problems.setdefault("images of another size than their ground truth", []).append(line)
        elif restored.channels != clean.channels:
            problems.setdefault(
                "color images with gray ground truth or the reverse; convert one of them", []
            ).append(line)
        elif restored.bits != clean.bits and not any_depth:
            problems.setdefault(
                "images of another bit depth than their ground truth; write them again, or score "
                "them as they are with --any-depth",
                [],
            ).append(line)


def _describe(header: Header) -> str:
    kind = {1: "gray", 2: "gray and alpha", 3: "color", 4: "color and alpha"}[header.channels]
    return f"{header.width}x{header.height} {kind}, {header.bits} bits"


# Published layouts of ground truth. Each returns None for another layout.


def _read_sidd(folder: pathlib.Path) -> Truth | None:
    """Validation blocks of SIDD, named "01_01" to "40_32"; results also as "0001_01"."""
    path = folder / f"{_SIDD_TRUTH}.mat"
    if not path.is_file():
        return None
    pictures = _read_blocks(path, ("uint8",))

    def rename(name: str) -> str:
        return re.sub(r"^0*(\d+)_0*(\d+)", lambda m: f"{int(m[1]):02d}_{int(m[2]):02d}", name)

    return Truth(pictures, rename, f"{path}: {len(pictures)} blocks")


def _read_blocks(path: pathlib.Path, dtypes: Sequence[str]) -> dict[str, Picture]:
    """Reads ``[images, blocks, height, width, 3]`` from a variable named as the file.

    Floating-point blocks are in [0, 1], as networks give them. They count as 8 bits, because the
    official evaluation compares them with ground truth of 8 bits.
    """
    try:
        blocks = scipy.io.loadmat(path)[path.stem]
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
    sharp = _name_files(_walk(folder / "GT"), folder / "GT", ())
    blurred = [name for test in tests for name in _name_files(_walk(test), test, ())]
    missing = [f"{name}.*" for name in blurred if name not in sharp]
    if missing:
        raise FolderError({f"{folder / 'GT'} lacks the sharp image of": missing})

    def rename(name: str) -> str:
        return re.sub(rf"^(test[-_/])?({'|'.join(_HIDE_FOLDERS)})[-_/]", "", name)

    pictures = {name: _open(sharp[name]) for name in sorted(blurred)}
    return Truth(pictures, rename, f"{folder / 'GT'}: {len(pictures)} images of test/")


def _read_dpdd(folder: pathlib.Path) -> Truth | None:
    """Test images of DPDD, whose sharp and blurred files are matched by their order."""
    source, target = folder / "test_c" / "source", folder / "test_c" / "target"
    if not source.is_dir() or not target.is_dir():
        return None
    blurred = sorted(_name_files(_walk(source), source, ()))
    sharp = sorted(_name_files(_walk(target), target, ()).items())
    if len(blurred) != len(sharp):
        raise FolderError(
            {
                f"{source} has {len(blurred)} images and {target} {len(sharp)}; they are matched "
                "by their order, so copy what is missing": []
            }
        )
    pictures = {name: _open(path) for name, (_, path) in zip(blurred, sharp, strict=True)}
    return Truth(
        pictures, lambda name: name, f"{target}: {len(pictures)} images, with names of {source}"
    )
