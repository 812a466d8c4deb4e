"""FMD, fluorescence microscopy (Zhang et al., CVPR 2019), as published.

Headers are read at once, pixels on demand.
"""

import pathlib
from collections.abc import Sequence

from input_pipeline.examples import Example, pairs_from_files
from input_pipeline.layouts.folders import layout_error, list_entries, list_images
from lcdnet_jax.image_io import ImageError

# Averaging levels, which are folders of a type: single captures, and means of 2 to 16.
LEVELS = ("raw", "avg2", "avg4", "avg8", "avg16")
_TEST_FIELD = 19
_TEST_MIX = "test_mix"


def read_fmd(root: pathlib.Path, split: str, levels: Sequence[str]) -> tuple[Example, ...]:
    """Pairs of FMD: 12 types of 20 fields of view, 50 captures of 512x512 pixels each, gray.

    Args:
        root: Holds folders of types, such as ``TwoPhoton_MICE/``, or is one of them. A type has
            ``raw/<field>/*.png``, the same in ``avg2/`` to ``avg16/``, and
            ``gt/<field>/avg50.png``, the mean of all captures. ``root`` may also be ``test_mix``,
            images of field 19 of all types, with ``raw/*.png`` and so on and ``gt/*.png`` of equal
            names.
        split: "train" (all fields but 19) pairs a capture with the capture half the list further
            on, of the same field and level. Both halves are noisy, as in Noise2Noise. "test" (field
            19, or test_mix) pairs a capture with the image in ``gt``.
        levels: Some of ``LEVELS``.

    Returns:
        Examples named ``<type>_<level>_<field>_<capture>``, the field with two digits, or
        ``test_mix_<level>_<image>``.

    Raises:
        ImageError: The folder has another layout, fewer than two captures to train on, or lacks an
            image of ``gt``; or a file cannot be read.
    """

    def is_type(folder: pathlib.Path) -> bool:
        return any((folder / name).is_dir() for name in (*LEVELS, "gt"))

    types = [root.absolute()] if is_type(root) else list(filter(is_type, list_entries(root)))
    if split == "train" or len(types) > 1:  # test_mix repeats images of the types
        types = [folder for folder in types if folder.name != _TEST_MIX]
    if not types:
        raise layout_error(
            root,
            "folders such as TwoPhoton_MICE/, with raw/, avg2/, ..., gt/ in them",
            "give the folder into which the archives were extracted, or one such folder in it "
            f"({_TEST_MIX}/ is for the split test only)",
        )
    files = {}
    for folder in types:
        for level in levels:
            if not (folder / level).is_dir():
                raise layout_error(
                    folder, f"{level}/", "extract the archive again, or name other levels"
                )
            files.update(_read_level(folder, level, split))
    return pairs_from_files(files, where=str(root), halves=("capture", "target"))


def _read_level(
    folder: pathlib.Path, level: str, split: str
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Degraded and clean file by name, for one level of a type."""
    name = f"{folder.name}_{level}"
    if folder.name == _TEST_MIX:
        return {
            f"{name}_{path.stem}": (path, _find_truth(folder / "gt" / path.name, path))
            for path in _list_captures(folder / level, 1)
        }
    fields = {
        int(entry.name): entry
        for entry in list_entries(folder / level)
        if entry.is_dir()
        and entry.name.isdecimal()
        and (int(entry.name) == _TEST_FIELD) == (split == "test")
    }
    if not fields:
        wanted = f"a folder {_TEST_FIELD}/" if split == "test" else "folders 1/ to 20/"
        raise layout_error(folder / level, wanted, "extract the archive again")
    files = {}
    for number, field in fields.items():
        captures = _list_captures(field, 2 if split == "train" else 1)
        if split == "train":
            # Means of neighboring captures may share captures.
            half = len(captures) // 2
            targets = captures[half:] + captures[:half]
        else:
            truth = _find_truth(folder / "gt" / field.name / "avg50.png", field)
            targets = [truth] * len(captures)
        for capture, target in zip(captures, targets, strict=True):
            files[f"{name}_{number:02d}_{capture.stem}"] = capture, target
    return files


def _list_captures(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    captures = [path for path in list_images(folder) if path.suffix.lower() == ".png"]
    if len(captures) < count:
        raise layout_error(folder, f"at least {count} *.png", "extract the archive again")
    return captures


def _find_truth(path: pathlib.Path, captures: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise ImageError(
            f"{path}: does not exist, but is the clean image of {captures}; extract the archive "
            "again"
        )
    return path
