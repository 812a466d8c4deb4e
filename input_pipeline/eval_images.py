"""Full-size images for evaluation, decoded one by one when asked for. Needs no TensorFlow."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from input_pipeline.examples import Source
from input_pipeline.sources import open_source
from lcdnet_jax import image_io
from lcdnet_jax.ops import TWO_VIEW_CHANNELS


class EvalDataset:
    """The images of a source, sorted by name; can be iterated again and again.

    Yields ``{"name": str, "clean": [H, W, C]}`` and for pairs also ``"degraded": [H, W, C]``,
    float32 in [0, 1], of the images' own sizes, "degraded" with smaller sides where the pairs are
    so; with 6 channels, for pairs with two views, "clean"
    has 3 and "degraded" 6. Noise is the business of the caller.
    """

    def __init__(self, source: Source, *, channels: int):
        self.source = source
        self.channels = channels

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source.examples)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises ImageError, naming the file, where one cannot be decoded."""
        for example in self.source.examples:
            item: dict[str, Any] = {"name": example.name}
            for key, image in zip(("clean", "degraded"), example.read(self.channels), strict=False):
                item[key] = _contiguous_float(image)
            yield item

    def describe(self) -> str:
        """One line for the log."""
        return f"{self.source.describe()}, {self.channels} channels"


def create_eval_dataset(
    source: Mapping[str, Any], channels: int, *, field: str = "source", scale: int = 1
) -> EvalDataset:
    """Opens any source for evaluation, whatever ``config.degradation`` says.

    Args:
      source: a mapping like ``config.data.eval``: ``source`` and what it needs of ``path``,
        ``split``, ``feature``.
      channels: 1 or 3; 6 for pairs with two views.
      field: what errors call ``source``.
      scale: how many times larger the sides of clean halves must be than those of degraded ones.

    Raises:
      ValueError: a value that cannot be right.
      ImageError: (a ValueError) a folder or file that cannot be used.
    """
    if channels not in (1, 3, TWO_VIEW_CHANNELS):
        raise ValueError(
            f"channels is {channels}; use 3 for colour, 1 for grey or {TWO_VIEW_CHANNELS} for two "
            "views"
        )
    opened = open_source(source, field=field)
    opened.check_channels(channels, field=field)
    opened.check_scale(scale, field=field)
    return EvalDataset(opened, channels=channels)


def _contiguous_float(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image_io.to_float(image))
