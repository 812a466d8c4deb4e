"""Pairs with real noise, in the folders as published.

The rows of ``lcdnet_jax/data_sets.py`` describe the data sets. Each function takes the folder and
returns the examples, sorted by name. Headers are read at once, pixels on demand.
"""

import functools
import pathlib
import re
import threading
from collections.abc import Sequence

import numpy as np
import scipy.io

from input_pipeline.examples import (
    Example,
    Picture,
    check_sizes,
    pairs_from_files,
    pictures_from_files,
)
from input_pipeline.layouts.folders import Errors, layout_error, list_entries, list_images
from lcdnet_jax import file_names, storage
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.messages import join_some


def read_sidd(root: pathlib.Path) -> tuple[Example, ...]:
    """Pairs of SIDD-Medium sRGB: two in each of 160 scenes.

    Args:
        root: Holds ``Data/<scene>/0001_NOISY_SRGB_010.PNG`` with ``0001_GT_SRGB_010.PNG``, or is
            ``Data`` itself.

    Returns:
        Examples named ``<scene>_0001_SRGB_010``.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    data = root / "Data" if (root / "Data").is_dir() else root
    files = {}
    errors = Errors()
    for scene in list_entries(data):
        if scene.is_dir():
            with errors.collect():
                pairs = _match_files(list_images(scene), "noisy", "gt")
                files.update({f"{scene.name}_{name}": pair for name, pair in pairs.items()})
    errors.raise_if_any()
    if not files:
        raise layout_error(
            data,
            "folders of scenes with *_NOISY_SRGB_*.PNG and *_GT_SRGB_*.PNG",
            "give the folder of SIDD-Medium sRGB that holds Data/",
        )
    return pairs_from_files(files, where=str(data))


def read_renoir(root: pathlib.Path) -> tuple[Example, ...]:
    """Pairs of RENOIR, one for each noisy image.

    As in the data preparation of SADNet, the clean half is the mean of the reference image and the
    second image with little noise ("full"), rounded down to 8 bits.

    Args:
        root: Holds any of ``Mi3_Aligned``, ``T3i_Aligned`` and ``S90_Aligned``, or is one of them.
            Each has ``Batch_001/`` and so on with one ``*Reference.bmp``, one ``*full.bmp`` and any
            number of ``*Noisy.bmp``. An archive may lie in a folder of its own name.

    Returns:
        Examples named by the folders and the noisy file, ``Mi3_Aligned_Batch_001_IMG_1Noisy``.

    Raises:
        ImageError: The folder has another layout, images of a scene differ in size, or a file
            cannot be read.
    """
    list_entries(root)  # raises where there is no folder
    patterns = ("Batch_*", "*_Aligned/Batch_*", "*_Aligned/*_Aligned/Batch_*")
    batches = sorted(batch for p in patterns for batch in root.glob(p) if batch.is_dir())
    if not batches:
        raise layout_error(
            root,
            "Mi3_Aligned/, T3i_Aligned/ or S90_Aligned/ with folders Batch_001, Batch_002, ...",
            "give the folder into which the archives of aligned images were extracted",
        )
    examples: list[Example] = []
    for batch in batches:
        kinds: dict[str, list[pathlib.Path]] = {"reference": [], "full": [], "noisy": []}
        for path in list_images(batch):
            if found := re.search(r"(reference|full|noisy)\.bmp$", path.name, re.IGNORECASE):
                kinds[found[1].lower()].append(path)
        if len(kinds["reference"]) != 1 or len(kinds["full"]) != 1 or not kinds["noisy"]:
            raise layout_error(
                batch,
                "one *Reference.bmp, one *full.bmp and at least one *Noisy.bmp",
                "extract the archive again, or remove what does not belong there",
            )
        reference, full, *noisy = pictures_from_files(
            [path for paths in kinds.values() for path in paths]
        )
        problem = reference.problem or full.problem
        if reference.header != full.header and not problem:
            raise ImageError(
                f"{reference.label} and {full.label} differ in size or channels; "
                "extract the archive again"
            )
        clean = Picture(
            f"mean of {reference.label} and {full.label}",
            reference.header,
            functools.partial(_average, reference, full),
            problem=problem,
        )
        place = "_".join(batch.relative_to(root).parts)
        examples += [
            Example(f"{place}_{path.stem}", clean, picture)
            for path, picture in zip(kinds["noisy"], noisy, strict=True)
        ]
    check_sizes(examples, where=str(root))
    return tuple(sorted(examples, key=lambda example: example.name))


def _average(reference: Picture, full: Picture) -> np.ndarray:
    """Mean of two uint8 or uint16 images, rounded down."""
    a, b = (picture.read(picture.header.channels) for picture in (reference, full))
    return ((a.astype(np.uint32) + b) // 2).astype(a.dtype)


def read_polyu(root: pathlib.Path) -> tuple[Example, ...]:
    """The 100 pairs of 512x512 pixels of PolyU.

    Args:
        root: Holds ``CroppedImages/`` with ``*_real.JPG`` (noisy) and ``*_mean.JPG``, or is that
            folder. Any image suffix, in upper or lower case, is found.

    Returns:
        Examples named by the common part of the two file names.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    cropped = root / "CroppedImages"
    return _read_real_and_mean(
        cropped if cropped.is_dir() else root, "give the folder of PolyU that holds CroppedImages/"
    )


def read_nam(root: pathlib.Path) -> tuple[Example, ...]:
    """Pairs of 512x512 pixels cut from the images of Nam et al., in one of two selections.

    Args:
        root: Holds ``*_real.png`` (noisy) and ``*_mean.png``, the 15 patches called CC (with any
            image suffix, in upper or lower case). Or it holds ``Nam_patches/01_noise.png`` with
            ``Nam_patch_GT/01_gt.png`` and so on, the 25 patches of CBDNet, which the SADNet paper
            scores. These are in the folder ``testsets`` of CBDNet's repository.

    Returns:
        Examples named by the common part of the two file names.

    Raises:
        ImageError: The folder has another layout, a file lacks its other half, or cannot be read.
    """
    noisy, clean = root / "Nam_patches", root / "Nam_patch_GT"
    if not noisy.is_dir() and not clean.is_dir():
        return _read_real_and_mean(
            root, "give that folder, or one with Nam_patches/ and Nam_patch_GT/ of CBDNet"
        )
    files = _match_files(list_images(noisy) + list_images(clean), "noise", "gt")
    if not files:
        raise layout_error(
            noisy, "*_noise.png, with *_gt.png in Nam_patch_GT/", "copy testsets/ of CBDNet again"
        )
    return pairs_from_files(files, where=str(root))


def _read_real_and_mean(folder: pathlib.Path, advice: str) -> tuple[Example, ...]:
    files = _match_files(list_images(folder), "real", "mean")
    if not files:
        raise layout_error(folder, "images *_real.* (noisy) and *_mean.* (clean)", advice)
    return pairs_from_files(files, where=str(folder))


def read_sidd_validation(root: pathlib.Path) -> tuple[Example, ...]:
    """The validation blocks of SIDD: 40 images with 32 blocks of 256x256 pixels each.

    Both files, 0.25 GB decoded each, are loaded when the first pixels are read.

    Args:
        root: Holds ``ValidationNoisyBlocksSrgb.mat`` and ``ValidationGtBlocksSrgb.mat``.

    Returns:
        Examples named ``<image>_<block>``, ``01_01`` to ``40_32``.

    Raises:
        ImageError: A file is missing, cannot be read, or holds something else.
    """
    paths = [root / f"Validation{half}BlocksSrgb.mat" for half in ("Noisy", "Gt")]
    missing = [path.name for path in paths if not path.is_file()]
    list_entries(root)  # raises where there is no folder
    if missing:
        raise layout_error(
            root, " and ".join(missing), "give the folder with the validation data of SIDD (sRGB)"
        )
    noisy, clean = (_MatBlocks(path) for path in paths)
    if noisy.shape != clean.shape:
        raise ImageError(
            f"{root}: the blocks differ, {noisy.shape} in {paths[0].name} and {clean.shape} in "
            f"{paths[1].name}; download both again"
        )
    return tuple(
        Example(f"{i + 1:02d}_{j + 1:02d}", clean.picture(i, j), noisy.picture(i, j))
        for i, j in np.ndindex(*noisy.shape[:2])
    )


class _MatBlocks:
    """The array in a MATLAB file, uint8 ``[images, blocks, H, W, 3]``, named as the file."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._lock = threading.Lock()
        self._array: np.ndarray | None = None
        try:
            with storage.open_file(path) as file:
                variables = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(file)}
        except storage.StorageError:
            raise
        except Exception as error:  # SciPy raises many kinds
            raise self._unreadable_error(error) from error
        self.shape, kind = variables.get(path.stem, ((), ""))
        if len(self.shape) != 5 or self.shape[-1] != 3 or kind != "uint8":
            found = [f"{name} {shape} {kind}" for name, (shape, kind) in variables.items()]
            raise ImageError(
                f"{path}: looked for {path.stem}, uint8 [images, blocks, height, width, 3], found "
                f"{join_some(found, 5) or 'nothing'}; download it again"
            )

    def picture(self, image: int, block: int) -> Picture:
        height, width = self.shape[2:4]
        return Picture(
            f"{self._path} block {image + 1}, {block + 1}",
            Header(height, width, channels=3, bits=8),
            lambda: self._load_blocks()[image, block],
        )

    def _load_blocks(self) -> np.ndarray:
        with self._lock:  # one of many threads loads it
            if self._array is None:
                try:
                    with storage.open_file(self._path) as file:
                        self._array = scipy.io.loadmat(file)[self._path.stem]
                except storage.StorageError:
                    raise
                except Exception as error:
                    raise self._unreadable_error(error) from error
            return self._array

    def _unreadable_error(self, error: Exception) -> ImageError:
        return ImageError(
            f"{self._path}: is not a MATLAB file of version 5 to 7, or is damaged ({error}); "
            "download it again"
        )


# Helpers


def _match_files(
    paths: Sequence[pathlib.Path], noisy: str, clean: str
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Noisy and clean file by their name without the word ``noisy`` or ``clean``.

    Underscores separate the word from the rest. Files with neither word are skipped.
    """
    halves: dict[str, dict[str, pathlib.Path]] = {noisy: {}, clean: {}}
    for path in paths:
        found = re.fullmatch(
            rf"(?:(.*)_)?({noisy}|{clean})(_.*)?", file_names.normalize(path.stem), re.IGNORECASE
        )
        if not found:
            continue
        half = halves[found[2].lower()]
        name = ((found[1] or "") + (found[3] or "")).strip("_")
        if name in half:
            raise ImageError(
                f"{half[name]} and {path.name} have equal names, so their partner is not clear; "
                "remove or rename one"
            )
        half[name] = path
    both = halves[noisy].keys() & halves[clean].keys()
    alone = sorted(
        str(path) for half in halves.values() for name, path in half.items() if name not in both
    )
    if alone:
        raise ImageError(
            f"files without a partner: {join_some(alone, 5)}; a file *_{noisy}* needs a "
            f"file *_{clean}* of the same name, so copy what is missing or remove the rest"
        )
    return {name: (halves[noisy][name], halves[clean][name]) for name in both}
