"""Readers of data sets, by the names of ``lcdnet_jax/data_sets.py``.

``open_source`` lists the examples of a data set and reads their headers. No image is decoded.
``READERS`` has the reader of each data set, and ``layouts/`` reads published folders. Examples are
sorted by name, so that their order does not depend on the file system.
"""

import collections
import contextlib
import dataclasses
import fnmatch
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from input_pipeline.examples import (
    Example,
    Source,
    check_sizes,
    join_views,
    pairs_from_files,
    picture_from_bytes,
    pictures_from_files,
)
from input_pipeline.layouts import LAYOUTS, fmd
from input_pipeline.layouts.folders import match_by_stem
from input_pipeline.shards import read_shards
from lcdnet_jax import file_names, image_io, storage
from lcdnet_jax.data_sets import DATA_SETS, SOURCES
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.messages import escape, format_count, join_some

# Color photographs inside scikit-image's wheel. The two views of the stereo motorcycle show one
# scene, so both are in one split.
PHOTOS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "test": ("chelsea.png", "coffee.png", "rocket.jpg"),
}

_SHOWN = 1000  # images that a message lists

# A section of a configuration that names a source, such as ``config.data.train``.
Spec = Mapping[str, Any]

# Names of the two folders of pairs: degraded, clean.
PAIRS = (("input", "target"), ("noisy", "clean"))


def open_source(spec: Spec, *, field: str, on_bad_image: str | None = None) -> Source:
    """Lists the examples of a source and checks all headers.

    Args:
        spec: ``source`` and, if the source needs them, ``path``, ``split``, ``feature`` and
            ``names``, as in configs/default.py. Several sources and paths may be joined by commas.
        field: Name of ``spec`` in errors, such as "config.data.train".
        on_bad_image: ``config.data.on_bad_image`` in training: with "replace", examples with an
            image that cannot be used are logged and left out. None in evaluation.

    Raises:
        ValueError: An invalid field.
        ImageError: (a ValueError) A folder or file cannot be used. All such files are named.
    """
    kinds = [kind.strip() for kind in _require_value(spec, field, "source").split(",")]
    for kind in kinds:
        if kind not in READERS:
            raise ValueError(
                f'{field}.source is "{kind}"; use one of {", ".join(SOURCES)}, or several of '
                "these, joined by commas"
            )
    if len(kinds) == 1:
        source = READERS[kinds[0]]({**spec, "source": kinds[0]}, field)
    else:
        paths = file_names.split_list(str(spec.get("path") or "")) or [""]
        if len(paths) != len(kinds):
            raise ValueError(
                f"{field}.source names {format_count(len(kinds), 'source')}, but {field}.path "
                f"{format_count(len(paths), 'folder')} "
                f"({', '.join(paths)}); give one for each, joined by commas"
            )
        sources = [
            READERS[kind]({**spec, "source": kind, "path": path}, field)
            for kind, path in zip(kinds, paths, strict=True)
        ]
        source = _join_sources(kinds, sources, field)
    source = _choose_names(source, str(spec.get("names") or ""), field)
    source = _check_pictures(source, field, on_bad_image)
    return dataclasses.replace(
        source, examples=tuple(sorted(source.examples, key=lambda example: example.name))
    )


def _choose_names(source: Source, names: str, field: str) -> Source:
    """Keeps the examples whose names match, or do not match, the patterns of ``spec["names"]``."""
    if not names:
        return source
    patterns = [pattern.strip() for pattern in names.removeprefix("!").split(",")]
    for pattern in patterns:
        if not pattern or pattern.startswith("!"):
            raise ValueError(
                f"{field}.names {names!r} has the pattern {pattern!r}; write patterns as in "
                '"*7,door_*", and for all other images one "!" before the first: "!*7,door_*"'
            )
    matches = {
        pattern: {e.name for e in source.examples if fnmatch.fnmatchcase(e.name, pattern)}
        for pattern in patterns
    }
    shown = f"names are such as {join_some([repr(e.name) for e in source.examples], 3)}"
    if unused := [pattern for pattern, found in matches.items() if not found]:
        raise ValueError(
            f"{field}.names {names!r}: no image of {source.name} matches {unused[0]!r}; {shown}"
        )
    listed = set().union(*matches.values())
    keeps_listed = not names.startswith("!")
    kept = tuple(e for e in source.examples if (e.name in listed) == keeps_listed)
    if not kept:
        raise ValueError(f"{field}.names {names!r} leaves no image of {source.name}; {shown}")
    return dataclasses.replace(
        source, name=f"{source.name}, names {names}", examples=kept, published=None
    )


def _check_pictures(source: Source, field: str, on_bad_image: str | None) -> Source:
    """Leaves out examples whose images cannot be used, or raises ImageError, as configured."""
    found = [
        [problem for picture in example.pictures if (problem := picture.find_problem())]
        for example in source.examples
    ]
    problems = list(dict.fromkeys(problem for some in found for problem in some))
    if not problems:
        return source
    good = tuple(e for e, some in zip(source.examples, found, strict=True) if not some)
    listed = problems[0]
    if len(problems) > 1:
        listed = f"{format_count(len(problems), 'image')} cannot be used:\n  "
        listed += join_some(problems, _SHOWN, separator="\n  ") + "\n"
    if not good:
        raise ImageError(f"{field}: no image is left: {listed}")
    if on_bad_image == "stop":
        listed += "" if len(problems) > 1 else " "
        listed += '(or set config.data.on_bad_image to "replace" to go on without)'
    if on_bad_image != "replace":
        raise ImageError(f"{field}: {listed.rstrip()}")
    for problem in problems:
        logging.warning("Left out of the training: %s", escape(problem))
    return dataclasses.replace(source, examples=good, left_out=len(source.examples) - len(good))


def _join_sources(kinds: Sequence[str], sources: Sequence[Source], field: str) -> Source:
    """Joins sources. Names of examples begin with their source, and its number if it repeats."""
    if len({source.is_paired for source in sources}) > 1:
        pairs, clean = (
            [source.name for source in sources if source.is_paired == paired]
            for paired in (True, False)
        )
        raise ValueError(
            f"{field}: {', '.join(pairs)} holds pairs and {', '.join(clean)} clean images only; "
            "join sources of one sort"
        )
    if len({source.two_views for source in sources}) > 1:
        two, one = ([s.name for s in sources if s.two_views == views] for views in (True, False))
        raise ValueError(
            f"{field}: {', '.join(two)} holds two views of every scene and {', '.join(one)} one; "
            "join sources of one sort"
        )
    examples = [
        dataclasses.replace(example, name=f"{prefix}_{example.name}")
        for number, (kind, source) in enumerate(zip(kinds, sources, strict=True), 1)
        for prefix in [kind if kinds.count(kind) == 1 else f"{kind}{number}"]
        for example in source.examples
    ]
    counts = [source.published for source in sources if source.published is not None]
    published = sum(counts) if len(counts) == len(sources) else None
    return Source(" + ".join(source.name for source in sources), tuple(examples), published)


# Readers


def _read_photos(spec: Spec, field: str) -> Source:
    split = _require_split(spec, field)
    found = importlib.util.find_spec("skimage")  # does not import it, which is slow
    if found is None or found.origin is None:
        raise ImageError(
            f'{field}.source "photos" reads files of scikit-image, which is not installed; '
            'pip install "lcdnet-jax[train]"'
        )
    folder = pathlib.Path(found.origin).parent / "data"
    paths = [folder / name for name in PHOTOS[split]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ImageError(
            f'{field}.source "photos": {folder} lacks {", ".join(missing)}; '
            'pip install --force-reinstall "scikit-image>=0.25", whose wheel holds them'
        )
    return Source(f"photos {split}", _read_clean_images(paths))


def _read_folder(spec: Spec, field: str) -> Source:
    folder = _open_folder(spec, field)
    found = [pair for pair in PAIRS if any((folder / half).is_dir() for half in pair)]
    try:
        if len(found) > 1:
            names = " and ".join(f"{degraded}/ or {clean}/" for degraded, clean in found)
            raise ImageError(
                f"{folder}: has {names}, so it is not clear which are the pairs; move one of them"
            )
        examples = (
            _read_pairs(folder, *found[0])
            if found
            else _read_clean_images(
                image_io.find_images(folder, suffixes=image_io.DATA_SET_SUFFIXES)
            )
        )
    except ImageError as error:
        hint = "" if found else _suggest_pairs(folder)
        raise ImageError(f"{_name_path(field)}: {error}{hint}") from error
    return Source(f"folder {folder}", examples)


def _suggest_pairs(folder: pathlib.Path) -> str:
    """The end of an error about a folder that has subfolders, but those of no pairs."""
    subfolders = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed, as the error says
        subfolders = sorted(f"{entry.name}/" for entry in folder.iterdir() if entry.is_dir())
    if not subfolders:
        return ""
    pairs = " or ".join(f"{degraded}/ and {clean}/" for degraded, clean in PAIRS)
    return f"; for pairs it needs {pairs}, but has {join_some(subfolders, 3)}"


def _read_layout(spec: Spec, field: str) -> Source:
    """A folder as published, see ``layouts.LAYOUTS``."""
    name = spec["source"]
    splits = DATA_SETS[name].splits
    split = [_require_split(spec, field)] if splits else []
    folder = _open_folder(spec, field)
    try:
        examples = LAYOUTS[name](folder, *split)
    except ImageError as error:
        raise ImageError(f"{_name_path(field)}: {error}") from error
    published = splits[split[0]] if split else None
    return Source(" ".join([name, *split, str(folder)]), examples, published)


def _read_shards(spec: Spec, field: str) -> Source:
    folder = _open_folder(spec, field)
    try:
        return read_shards(folder)
    except ImageError as error:
        raise type(error)(f"{_name_path(field)}: {error}") from error


def _read_fmd(spec: Spec, field: str) -> Source:
    split, feature = _require_split(spec, field), _require_value(spec, field, "feature")
    levels = [level.strip() for level in feature.split(",")]
    if feature == "image":
        levels = [*fmd.LEVELS]
    if not set(levels) <= set(fmd.LEVELS):
        raise ValueError(
            f'{field}.feature is "{feature}"; of fmd it names averaging levels, joined by commas: '
            f'{", ".join(fmd.LEVELS)}, or is "image", which stands for all of them'
        )
    folder = _open_folder(spec, field)
    try:
        examples = fmd.read_fmd(folder, split, levels)
    except ImageError as error:
        raise ImageError(f"{_name_path(field)}: {error}") from error
    return Source(f"fmd {split} {folder}", examples)


def _read_tfds(spec: Spec, field: str) -> Source:
    """One split of a TFDS data set. Its encoded images are kept in memory."""
    try:
        # Comes first: TFDS imports TensorFlow, which must not see the accelerators.
        importlib.import_module("input_pipeline.tensorflow_cpu")
        import tensorflow_datasets as tfds

        importlib.import_module("input_pipeline.builders")  # registers the builders with TFDS
    except ImportError as error:
        raise ValueError(
            f'{field}.source "tfds" needs tensorflow-datasets; pip install "lcdnet-jax[train]"'
        ) from error
    path, split = _require_value(spec, field, "path"), _require_value(spec, field, "split")
    keys = _require_value(spec, field, "feature").split(":")
    if len(keys) > 3:
        raise ValueError(
            f'{field}.feature "{spec["feature"]}" names more than 3 images; '
            'use "clean", "degraded:clean" for pairs, or "left:right:clean" for two views'
        )
    try:
        builder = tfds.builder(path)
    except ValueError as error:  # the name is unknown; the other lines list hundreds of names
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'{field}.path "{path}" is not a TFDS data set ({reason}); names are listed at '
            "https://www.tensorflow.org/datasets/catalog/overview"
        ) from None
    features = builder.info.features
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image) and feature.np_dtype in (np.uint8, np.uint16)
    ]
    for key in keys:
        if key not in images:
            raise ValueError(
                f'{field}.feature "{key}" is not a 8- or 16-bit image of TFDS {path}; '
                + (f"use one of {', '.join(images)}" if images else "it has none")
                + (", or two of them as degraded:clean for pairs" if len(images) > 1 else "")
            )
    if any(character in str(builder.data_dir) for character in "*?["):
        raise ValueError(
            f"TFDS takes *, ? and [ in {builder.data_dir} for a pattern and finds no files; set "
            "TFDS_DATA_DIR to a folder without them"
        )
    if not builder.is_prepared():
        raise ValueError(
            f"TFDS {path} ({field}.path) is not prepared in {builder.data_dir}; run "
            f"{_build_command(builder, path)}, or set TFDS_DATA_DIR to where it is"
        )
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys(keys, True), decoders=dict.fromkeys(keys, tfds.decode.SkipDecoding())
    )
    try:
        rows = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    except ValueError as error:
        raise ValueError(f'{field}.split "{split}" of TFDS {path}: {error}') from error
    examples = []
    for number, row in enumerate(rows.as_numpy_iterator()):
        name = f"{number:07d}"
        label = f"TFDS {path} {split} {name}"
        *degraded, clean = (picture_from_bytes(row[key], label) for key in keys)
        examples.append(Example(name, clean, join_views(degraded) if degraded else None))
    if not examples:
        raise ValueError(f'{field}.split "{split}" of TFDS {path} is empty; use another split')
    check_sizes(examples, where=f"TFDS {path} {split}", allow_smaller=True)
    return Source(f"tfds {path} {split}", tuple(examples))


def _build_command(builder: Any, path: str) -> str:
    """The command that prepares a TFDS data set."""
    if type(builder).__module__ == "input_pipeline.builders":
        return f"`python -m input_pipeline.builders {path} --manual_dir DIR`"
    return f"`tfds build {path}`, which downloads it"


# A reader takes a mapping like ``config.data.train``, whose ``source`` is one name, and the name of
# that mapping in errors.
Reader = Callable[[Spec, str], Source]

# The reader of each row of ``lcdnet_jax/data_sets.py`` that a configuration may use, by name.
READERS: dict[str, Reader] = {
    "photos": _read_photos,
    "folder": _read_folder,
    "tfds": _read_tfds,
    "shards": _read_shards,
    "fmd": _read_fmd,
    **dict.fromkeys(LAYOUTS, _read_layout),
}


# Helpers


def _read_clean_images(paths: list[pathlib.Path]) -> tuple[Example, ...]:
    """One example for each file, named by its stem, or by its full name if stems repeat."""
    stems = collections.Counter(path.stem for path in paths)
    return tuple(
        Example(path.stem if stems[path.stem] == 1 else path.name, picture)
        for path, picture in zip(paths, pictures_from_files(paths), strict=True)
    )


def _read_pairs(folder: pathlib.Path, degraded_name: str, clean_name: str) -> tuple[Example, ...]:
    """Pairs of two folders, matched by stem. Degraded files may be smaller by an integer factor."""
    for there, lacking in ((degraded_name, clean_name), (clean_name, degraded_name)):
        if not (folder / lacking).is_dir():
            raise ImageError(
                f"{folder}: has {there}/ but no {lacking}/; add it for pairs, or point the path "
                "at a folder of clean images"
            )
    return pairs_from_files(
        match_by_stem(folder / degraded_name, folder / clean_name),
        where=str(folder),
        halves=(degraded_name, clean_name),
        allow_smaller=True,
    )


def _name_path(field: str) -> str:
    """What the user gave the path by: a field of the configuration, or a flag."""
    return field if field.startswith("--") else f"{field}.path"


def _open_folder(spec: Spec, field: str) -> pathlib.Path:
    """The folder of a source. One in a bucket is listed here, and never again."""
    path = _require_value(spec, field, "path")
    try:
        return storage.list_once(storage.to_path(path).expanduser())
    except storage.StorageError as error:
        raise ImageError(f"{_name_path(field)}: {error}") from error


def _require_value(spec: Spec, field: str, key: str) -> str:
    value = spec.get(key)
    if not value or not isinstance(value, str):
        raise ValueError(
            f'{field}.{key} is {value!r}; {field}.source "{spec.get("source")}" needs it'
        )
    return value


def _require_split(spec: Spec, field: str) -> str:
    """The split of a published data set, checked."""
    name, split = spec["source"], _require_value(spec, field, "split")
    splits = DATA_SETS[name].splits
    if split not in splits:
        place = "--split" if field.startswith("--") else f"{field}.split"  # flags of eval.py
        raise ValueError(f'{place} is "{split}"; {name} has the splits {", ".join(splits)}')
    return split
