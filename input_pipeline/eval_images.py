"""Full images for evaluation, decoded one by one. Needs no TensorFlow."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from input_pipeline.examples import Source
from input_pipeline.sources import open_source
from lcdnet_jax import image_io
from lcdnet_jax.ops import TWO_VIEW_CHANNELS


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
    """Opens any source for evaluation, independently of ``config.degradation``.

    Args:
        source: A mapping like ``config.data.eval``: ``source`` and, if the source needs them,
            ``path``, ``split`` and ``feature``.
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


def _contiguous_float(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image_io.to_float(image))
