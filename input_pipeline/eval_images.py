"""Full images for evaluation, decoded one by one. Needs no TensorFlow."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.examples import Example, Source
from input_pipeline.sources import open_source
from lcdnet_jax import config as config_lib
from lcdnet_jax import data_sets, image_io
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import TWO_VIEW_CHANNELS
from lcdnet_jax.typing import Json, JsonObject


class EvalDataset:
    """The images of a source, sorted by name. Can be iterated several times.

    Yields ``{"name": str, "clean": [H, W, C]}``, and ``"degraded": [H, W, C]`` for pairs. Images
    are float32 in [0, 1] and keep their own sizes. For pairs with two views "clean" has 3 channels
    and "degraded" 6. For super-resolution "degraded" is smaller. No noise is added here.
    """

    def __init__(self, source: Source, *, channels: int):
        self.source = source
        self.channels = channels

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source.examples)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises ImageError if a file cannot be decoded. The message names it."""
        return self._read(self.source.examples)

    def _read(self, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
        for example in examples:
            item: dict[str, Any] = {"name": example.name}
            for key, image in zip(("clean", "degraded"), example.read(self.channels), strict=False):
                item[key] = _contiguous_float(image)
            yield item

    def __getitem__(self, chosen: slice) -> Iterator[dict[str, Any]]:
        """Iterates over some of the images; the others are not read."""
        return self._read(self.source.examples[chosen])

    @property
    def shows_gray_as_color(self) -> bool:
        """Whether all images are gray and their one channel is repeated for a color network."""
        pictures = [picture for one in self.source.examples for picture in one.pictures]
        return self.channels == 3 and all(picture.header.channels == 1 for picture in pictures)

    def describe(self) -> str:
        """One line for the log."""
        return f"{self.source.describe()}, {format_count(self.channels, 'channel')}"


def create_eval_dataset(
    source: Mapping[str, Json], channels: int, *, field: str = "source", scale: int = 1
) -> EvalDataset:
    """Opens any source for evaluation, independently of ``config.degradation``.

    Args:
        source: A mapping like ``config.data.eval``: ``source`` and, if the source needs them,
            ``path``, ``split``, ``feature`` and ``names``.
        channels: 1 or 3, or 6 for pairs with two views.
        field: Name of ``source`` in errors.
        scale: Factor by which sides of clean halves must be larger than those of degraded halves.

    Raises:
        ValueError: An invalid value.
        ImageError: (a ValueError) A folder or file cannot be used.
    """
    if channels not in (1, 3, TWO_VIEW_CHANNELS):
        raise ValueError(
            f"channels is {channels}; use 3 for color, 1 for gray or {TWO_VIEW_CHANNELS} for two "
            "views"
        )
    opened = open_source(source, field=field)
    opened.check_channels(channels, field=field)
    opened.check_scale(scale, field=field)
    return EvalDataset(opened, channels=channels)


def open_for_network(
    source: Mapping[str, Json], training_config: ConfigDict, *, field: str
) -> EvalDataset:
    """Opens a source for a trained network, with the channels and the scale that it needs.

    Args:
        source: As for ``create_eval_dataset``.
        training_config: The configuration of the training.
        field: Name of ``source`` in errors.

    Raises:
        ValueError, ImageError: As ``create_eval_dataset``.
    """
    channels = training_config.data.channels
    degrades = channels == TWO_VIEW_CHANNELS and training_config.degradation.kind != "none"
    if degrades and all(row.two_views is False for row in data_sets.rows(source["source"])):
        channels = 3  # of the clean images
    scale = config_lib.network(training_config).scale
    return create_eval_dataset(source, channels, field=field, scale=scale)


def parse_sources(
    texts: Sequence[str], default: Mapping[str, Json], *, split: str | None = None
) -> dict[str, JsonObject]:
    """Reads ``--data`` and ``--split`` of eval.py.

    Args:
        texts: Folders, "photos" or KIND:FOLDER each; empty for ``default`` alone.
        default: ``config.data.eval``, which also completes KIND:FOLDER.
        split: Split of the data sets that have splits. None for that of ``default``.

    Returns:
        Mappings like ``config.data.eval`` by the names of the data sets in results. The source of
        DND is "dnd".

    Raises:
        ValueError: An invalid text, two data sets of one name, or a split that no data set has.
    """
    if split is not None:
        default = {**default, "split": split}
    sources = [_parse_source(text, default) for text in texts] or [dict(default)]
    named: dict[str, JsonObject] = {}
    for source in sources:
        name = _source_name(source["source"], source.get("path", ""))
        if source.get("names"):
            name += "_part"  # its scores are not those of the whole folder
        if name in named:
            raise ValueError(f"two data sets are called {name}; rename a folder")
        named[name] = source
    kinds = [row for source in sources for row in data_sets.rows(source["source"])]
    if split is not None and not any(row.splits or row.name == "tfds" for row in kinds):
        raise ValueError(
            "--split is for data sets that have splits, and --data has none; leave it off"
        )
    return named


def split_groups(
    sources: Mapping[str, JsonObject],
) -> tuple[dict[str, JsonObject], dict[str, tuple[str, ...]]]:
    """Replaces groups of test sets whose scores papers average by their sets.

    Args:
        sources: As :func:`parse_sources` returns them.

    Returns:
        The sources; five instead of the split "test" of Rain13K, with the split at the end of their
        names. And the names of the sets of each group, by the name of the group.
    """
    single: dict[str, JsonObject] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for name, source in sources.items():
        kinds = data_sets.rows(source["source"])
        splits = kinds[0].groups.get(source.get("split", ""), ())
        if len(kinds) > 1 or not kinds[0].averages_sets or not splits:
            single[name] = source
            continue
        sets = {f"{name}_{split}": {**source, "split": split} for split in splits}
        single |= sets
        groups[name] = tuple(sets)
    return single, groups


def _parse_source(text: str, default: Mapping[str, Json]) -> JsonObject:
    kind, colon, path = text.partition(":")
    if text == "photos":
        return {"source": "photos", "split": "test"}
    if colon and kind == "photos":
        raise ValueError(
            f"--data {text}: the photographs of scikit-image have no folder; use 'photos'"
        )
    if colon and kind in data_sets.DATA_SETS:
        return {**default, "source": kind, "path": path, "names": ""}
    return {"source": "folder", "path": text}


def _source_name(kind: str, path: str) -> str:
    if kind == "photos":
        return kind
    if kind == "folder":
        return pathlib.Path(path).absolute().name
    if kind == "tfds":
        return path.replace("/", "_")
    kinds = kind.replace(" ", "").replace(",", "+")
    return kinds if kind == "dnd" or "+" in kinds else f"{kinds}_{pathlib.Path(path).name}"


def _contiguous_float(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image_io.to_float(image))
