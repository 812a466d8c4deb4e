"""Pairs for deblurring and deraining, in the folders as published.

The rows of ``lcdnet_jax/data_sets.py`` describe the data sets and have their splits. Each function
takes the folder and a split and returns the examples, sorted by name. Headers are read at once,
pixels on demand.

Reconstruction: the layouts follow the documentation and code of the authors' repositories. They
were not compared with the published pictures. Each function says which parts are inferred.
"""

import pathlib
import re
import string

from input_pipeline.examples import Example, pairs_from_files
from input_pipeline.layouts.folders import (
    Errors,
    index_by_stem,
    layout_error,
    list_entries,
    match_by_stem,
)
from lcdnet_jax import storage
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.messages import format_count, join_some

# Degraded and clean file of each name, or left, right and clean file.
_Files = dict[str, tuple[pathlib.Path, ...]]


def read_gopro(root: pathlib.Path, split: str, *, blur: str = "blur") -> tuple[Example, ...]:
    """Pairs of GOPRO_Large.

    The authors trained and scored on ``blur_gamma``. The benchmark of later papers (DMPHN, MPRNet,
    MIMO-UNet and papers that use their data) is ``blur``, according to their code and to answers of
    their authors. The two give different scores.

    Args:
        root: Holds ``train/<sequence>/`` and ``test/<sequence>/``, each with ``blur/*.png``,
            ``blur_gamma/*.png`` and ``sharp/*.png`` of equal names.
        split: "train" or "test".
        blur: "blur" or "blur_gamma".

    Returns:
        Examples named ``<sequence>_<frame>``, ``GOPR0384_11_00_000001``.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    advice = "give the folder GOPRO_Large"
    _require_folders(root, split, advice=advice)
    sequences = [entry for entry in list_entries(root / split) if entry.is_dir()]
    if not sequences:
        raise layout_error(root / split, "folders of sequences such as GOPR0372_07_00/", advice)
    files: _Files = {}
    errors = Errors()
    for sequence in sequences:
        with errors.collect():
            _require_folders(sequence, blur, "sharp", advice="extract the archive again")
            pairs = match_by_stem(sequence / blur, sequence / "sharp")
            files.update({f"{sequence.name}_{stem}": pair for stem, pair in pairs.items()})
    errors.raise_if_any()
    return pairs_from_files(files, where=str(root / split), halves=(blur, "sharp"))


def read_hide(root: pathlib.Path, split: str) -> tuple[Example, ...]:
    """Pairs of HIDE.

    The benchmark scores networks that were trained on GOPRO_Large on the split "test". The layout
    is inferred from programs of many users, which agree. The authors do not describe it.

    Args:
        root: Holds ``train/*.png``, ``test/test-close-ups/*.png`` or ``test/test-long-shot/*.png``
            or both, and ``GT/`` with the sharp images of all of them, under the same names.
        split: "train" or "test".

    Returns:
        Examples named as the file, in the split "test" with their folder as prefix:
        ``test-long-shot_<file>``.

    Raises:
        ImageError: The folder has another layout, a blurred image lacks a sharp one, or a file
            cannot be read.
    """
    names = ["train"] if split == "train" else ["test/test-close-ups", "test/test-long-shot"]
    there = [name for name in names if (root / name).is_dir()]
    _require_folders(root, *(there or names[:1]), "GT", advice="give the folder HIDE_dataset")
    files: _Files = {}
    for name in there:
        prefix = "" if split == "train" else f"{pathlib.PurePath(name).name}_"
        pairs = match_by_stem(root / name, root / "GT", allow_unmatched_clean=True)
        files.update({f"{prefix}{stem}": pair for stem, pair in pairs.items()})
    return pairs_from_files(files, where=str(root), halves=("blurred", "sharp"))


def read_reds(root: pathlib.Path, split: str, *, blur: str = "blur") -> tuple[Example, ...]:
    """Pairs of REDS, frames of 1280x720 pixels.

    The layout is inferred from programs of many users, which agree.

    Args:
        root: Holds ``train/train_blur/000/00000000.png`` with
            ``train/train_sharp/000/00000000.png`` and so on, and the same of ``val``; or holds
            ``train_blur/`` and the other folders themselves.
        split: "train" or "val".
        blur: "blur", or "blur_jpeg" for frames that are also compressed as JPEG.

    Returns:
        Examples named ``<sequence>_<frame>``, ``000_00000000``.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    part = root / split if (root / split).is_dir() else root
    blurred, sharp = f"{split}_{blur}", f"{split}_sharp"
    _require_folders(part, blurred, sharp, advice="give the folder with the extracted archives")
    names = {
        entry.name
        for folder in (blurred, sharp)
        for entry in list_entries(part / folder)
        if entry.is_dir()
    }
    if not names:
        raise layout_error(part / sharp, "folders of sequences such as 000/", "extract it again")
    files: _Files = {}
    errors = Errors()
    for name in sorted(names):
        places = [f"{folder}/{name}" for folder in (blurred, sharp)]
        with errors.collect():
            _require_folders(part, *places, advice="extract the archive again")
            pairs = match_by_stem(*(part / place for place in places))
            files.update({f"{name}_{stem}": pair for stem, pair in pairs.items()})
    errors.raise_if_any()
    return pairs_from_files(files, where=str(part), halves=(blurred, sharp))


def read_realblur(root: pathlib.Path, split: str, *, version: str) -> tuple[Example, ...]:
    """Pairs of RealBlur-J or RealBlur-R, from the lists of the authors.

    The benchmark scores a restored image after aligning it with the sharp one. The lists are in the
    authors' repositories (``datalist/`` of their SRN-Deblur), with paths as below. That the archive
    also has them, next to the images, is inferred from programs of users.

    Args:
        root: Holds ``RealBlur_J_train_list.txt``, ``RealBlur_J_test_list.txt`` (or ``_R_``) and the
            folders with which their lines begin, such as
            ``RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene230/gt/gt_7.png``. A line has the
            sharp and the blurred file. A pair of which both files are missing is skipped; only the
            number of pairs shows it.
        split: "train" or "test".
        version: "J" or "R".

    Returns:
        Examples named ``<scene>_<number>``, ``scene230_7``.

    Raises:
        ImageError: There is no list or none of its images, a file lacks its other half, or a file
            cannot be read.
    """
    listing = root / f"RealBlur_{version}_{split}_list.txt"
    advice = "give the folder into which the archive of RealBlur was extracted"
    if not listing.is_file():
        raise layout_error(root, listing.name, advice)
    files: _Files = {}
    alone = []
    lines = storage.read_bytes(listing).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        paths = [root / word for word in line.split()]
        if len(paths) != 2:
            raise ImageError(
                f'{listing}: line {number} is "{line.strip()[:80]}", not the names of a sharp and '
                "a blurred file; extract the archive again"
            )
        sharp, blurred = paths
        there = [path for path in paths if path.is_file()]
        if len(there) == 1:
            alone += there
        elif there:
            scene = sharp.parent.parent.name
            files[f"{scene}_{sharp.stem.removeprefix('gt_')}"] = blurred, sharp
    if alone:
        names = [str(path.relative_to(root)) for path in sorted(alone)]
        raise ImageError(
            f"{root}: {listing.name} names files without a partner: "
            f"{join_some(names, 5)}; copy what is missing or remove the rest"
        )
    if not files:
        raise layout_error(root, f"the images that {listing.name} names", advice)
    return pairs_from_files(files, where=str(root), halves=("blurred", "sharp"))


# Blurred pictures of the test set that were taken indoors. Restormer's test data has files with
# their indices among all 76 pictures. The indices here are those that a program of one of its users
# prints. That Restormer's data is in the order of the names in DPDD is inferred.
_INDOOR = frozenset(
    f"1P0A{number}"
    for number in (
        *(1046, 1063, 1067, 1112, 1434, 1442, 1488, 1734, 1890, 1910, 1916, 1924, 1932, 1973),
        *(1979, 1983, 1987, 1992, 2003, 2014, 2030, 2066, 2074, 2098, 2151, 2154, 2177, 2202),
        *(2206, 2239, 2258, 2261, 2317, 2350, 2357, 2513, 2521),
    )
)


def read_dpdd(root: pathlib.Path, split: str, *, dual: bool = False) -> tuple[Example, ...]:
    """Pairs of DPDD, 1120x1680 pixels of 16 bits: a wide aperture (blurred) and a narrow one.

    The two pictures of a scene have different numbers. As in the authors' code they are paired by
    their order. Numbers that differ by more than two raise an error; no published pair has them.
    That the two views differ along rows, on which flips rely, is inferred: it holds for a camera
    held upright, and the known pictures of the test set are all wide.

    Args:
        root: Holds ``train_c/``, ``val_c/`` and ``test_c/`` with ``source/*.png`` (blurred) and
            ``target/*.png`` (sharp), and for ``dual`` ``train_l/source/*_L.png``,
            ``train_r/source/*_R.png`` and so on.
        split: "train", "val", "test", or one of its parts "test_indoor" and "test_outdoor".
        dual: Whether the degraded half is the left and the right view instead of one picture.

    Returns:
        Examples named as the blurred picture, ``1P0A0917``. Degraded halves of two views have six
        channels.

    Raises:
        ImageError: The folder has another layout, a scene lacks a picture, pictures of a scene
            differ in size or depth, or a file cannot be read.
    """
    part, _, place = split.partition("_")
    views = ("l", "r") if dual else ("c",)
    sources = [f"{part}_{view}/source" for view in views]
    target = f"{part}_c/target"
    _require_folders(root, *sources, target, advice="give the folder dd_dp_dataset_canon")
    blurred = [
        {
            stem.removesuffix(f"_{view.upper()}"): path
            for stem, path in index_by_stem(root / name).items()
        }
        for view, name in zip(views, sources, strict=True)
    ]
    if alone := sorted(blurred[0].keys() ^ blurred[-1].keys()):
        raise ImageError(
            f"{root}: scenes with only one of their files in {sources[0]}/ and "
            f"{sources[-1]}/: {join_some(alone, 5)}; copy what is missing or remove the rest"
        )
    sharp = index_by_stem(root / target)
    names, partners = sorted(blurred[0]), sorted(sharp)
    if len(names) != len(partners):
        raise ImageError(
            f"{root}: {sources[0]}/ has {format_count(len(names), 'picture')} and "
            f"{target}/ {len(partners)}; "
            "they are matched by their order, so copy what is missing or remove the rest"
        )
    for name, partner in zip(names, partners, strict=True):
        if not _are_neighbors(name, partner):
            raise ImageError(
                f"{root}: by their order {name} in {sources[0]}/ and {partner} in {target}/ are "
                "pictures of one scene, but their numbers differ by more than two; copy what is "
                "missing or remove the rest"
            )
    if place and not all(re.fullmatch(r"1P0A\d{4}", name) for name in names):
        raise layout_error(
            root / sources[0],
            "names as published, such as 1P0A0917, which identify indoor and outdoor scenes",
            'set the split to "test" for all of them',
        )
    files: _Files = {
        name: (*(half[name] for half in blurred), sharp[partner])
        for name, partner in zip(names, partners, strict=True)
        if not place or (name in _INDOOR) == (place == "indoor")
    }
    if not files:
        raise layout_error(root / sources[0], f"{place} scenes", 'set the split to "test"')
    return pairs_from_files(files, where=str(root), halves=("blurred", "sharp"))


def _are_neighbors(a: str, b: str) -> bool:
    """Whether two names are equal except for final numbers, which differ by at most two."""
    start_a, start_b = (name.rstrip(string.digits) for name in (a, b))
    end_a, end_b = (int(name[len(start_a) :] or 0) for name in (a, b))
    return start_a == start_b and abs(end_a - end_b) <= 2


def read_rain13k(root: pathlib.Path, split: str) -> tuple[Example, ...]:
    """Pairs of Rain13K or of its test sets.

    Args:
        root: Holds ``train/Rain13K/`` and ``test/Test100/``, ``test/Rain100H/``,
            ``test/Rain100L/``, ``test/Test2800/``, ``test/Test1200/``, each with ``input/`` and
            ``target/`` with files of equal names.
        split: "train", the name of a test set, or "test" for all five together. Papers average the
            scores of the five sets instead.

    Returns:
        Examples named as the files, in the split "test" with their set as prefix:
        ``Rain100H_<file>``.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    places = {
        f"{name}_" if split == "test" else "": f"test/{name}"
        for name in DATA_SETS["rain13k"].groups.get(split, [split])
    }
    if split == "train":
        places = {"": "train/Rain13K"}
    _require_folders(
        root,
        *(f"{place}/{half}" for place in places.values() for half in ("input", "target")),
        advice="give the folder that train.zip and test.zip were extracted into",
    )
    files: _Files = {}
    for prefix, place in places.items():
        pairs = match_by_stem(root / place / "input", root / place / "target")
        files.update({f"{prefix}{stem}": pair for stem, pair in pairs.items()})
    return pairs_from_files(files, where=str(root), halves=("input", "target"))


def _require_folders(root: pathlib.Path, *names: str, advice: str) -> None:
    """Raises ImageError if ``root`` lacks one of these folders."""
    for name in names:
        if not (root / name).is_dir():
            there = root
            for part in pathlib.PurePath(name).parts[:-1]:  # the deepest folder that exists
                there = there / part if (there / part).is_dir() else there
            raise layout_error(there, f"{(root / name).relative_to(there)}/", advice)
