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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lcdnet_jax import protocols, storage
from lcdnet_jax.data_sets import DATA_SETS, DataSet
from lcdnet_jax.evaluation.evaluator import Evaluator, ScoredImage, summarize
from lcdnet_jax.evaluation.ground_truth import (
    FolderError,
    Picture,
    Truth,
    list_images,
    list_truth,
    name_files,
    open_picture,
    read_blocks,
)
from lcdnet_jax.evaluation.sweep import Row, add_means
from lcdnet_jax.image_io import IMAGE_FORMATS, BucketError, Header, ImageError
from lcdnet_jax.messages import format_count
from lcdnet_jax.metrics import niqe
from lcdnet_jax.protocols import Protocol

# Folders that hold the inputs in published layouts. Results may keep them in their paths.
_INPUT_FOLDERS = ("blur", "blur_gamma", "blurred", "input", "noisy", "degraded", "source")

_JPEG = tuple(suffix for suffix, kind in IMAGE_FORMATS.items() if kind == "JPEG")
_SEPARATORS = "-_. "
_SIDD_RESULT = "Idenoised"


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
        results: Folders of restored images, here or in buckets. Each in a bucket is listed once.
        truth: Folder of the ground truth: images, images in subfolders, or a published layout of
            GoPro, HIDE, RealBlur, DPDD or the validation blocks of SIDD.
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
        StorageError: If a bucket cannot be used or does not answer.
    """
    folders = _name_folders([storage.list_once(storage.to_path(one)) for one in results])
    root = storage.list_once(storage.to_path(truth))
    problems: dict[str, list[str]] = {}
    pairs: dict[str, dict[str, list[Pair]]] = {}
    lines, notes = [], []
    groups: dict[str, tuple[str, ...]] = {}
    if data_set is None:
        _refuse_sets(root)
        places = {storage.make_absolute(root).name: (root, folders)}
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
    absolute = [storage.make_absolute(folder) for folder in folders]
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
                f"{root} holds the {format_count(len(sets), 'set')} of {row.name}, whose scores "
                f"papers average; use --protocol {row.name}, or give the folder of one set"
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
            problems[
                f"{folder} has no folder for {len(missing)} of {format_count(len(sets), 'set')}"
            ] = missing
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
        expected = format_count(len(truth.pictures), "image")
        problems[f"{folder} has no result for {len(missing)} of {expected}"] = missing
    if extra:
        hint = "; add it, or leave such images out"
        if len(endings) > 1:
            shown = ", ".join(map(repr, endings[:3]))
            hint = f" (names end in {shown}; keep one ending in a folder)"
        surplus = format_count(len(extra), "image")
        problems[f"{folder} has {surplus} without ground truth{hint}"] = extra
    pairs = [
        Pair(name, found[matched[name]], picture)
        for name, picture in truth.pictures.items()
        if name in matched
    ]
    lossy = any(picture.label.lower().endswith(_JPEG) for picture in found.values())
    return pairs, lossy


def _list_results(folder: pathlib.Path) -> dict[str, Picture]:
    for path in (folder / f"{_SIDD_RESULT}.mat", folder / "mat" / f"{_SIDD_RESULT}.mat"):
        if path.is_file():
            return read_blocks(path, ("uint8", "float32", "float64"))
    files = name_files(list_images(folder), folder, _INPUT_FOLDERS)
    return {name: open_picture(path) for name, path in files.items()}


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
            except BucketError:  # each further attempt would take half a minute
                raise
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
                "images with an alpha channel, which is never dropped silently; save them without",
                [],
            ).append(line)
        elif sizes[0] not in (sizes[1], cut):
            problems.setdefault(
                "images of another size than their ground truth; crop them to the same pixels", []
            ).append(line)
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
