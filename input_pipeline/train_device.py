"""Training images for device memory, from which the step draws batches. Needs no TensorFlow."""

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.decoded import DecodedImages, check_crop
from input_pipeline.examples import Source, channels_on_disk
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import clean_channels
from lcdnet_jax.resident_images import ROW_PIXELS, ResidentImages


class DeviceDataset:
    """All images of a source, decoded. ``lcdnet_jax.resident_images.draw`` draws the batches.

    With ``config.data.on_bad_image`` "replace" an image that cannot be decoded is replaced by
    another one, always the same. Draws of other images do not change.

    Args:
        source: The images.
        config: The fields of configs/default.py, already checked by ``lcdnet_jax.config.validate``.

    Attributes:
        resident: The images, in NumPy arrays.
        replaced: Always 0. ``describe`` tells how many images are damaged and replaced.

    Raises:
        ValueError: The crop is larger than both sides of every image, or the images do not fit into
            ``config.data.cache_gb``.
        ImageError: (a ValueError) A file cannot be decoded; with "replace", no file can.
    """

    replaced = 0

    def __init__(self, source: Source, config: ConfigDict):
        data = config.data
        check_crop(source, data.crop)
        channels = channels_on_disk(config)
        decoded = DecodedImages(
            source, channels=channels, replace=data.on_bad_image == "replace", row=ROW_PIXELS
        )
        size, budget = int(decoded.ends[-1]) * decoded.dtype.itemsize, data.cache_gb * 1e9
        if size > budget:
            raise ValueError(
                f"config.data.train ({source.name}) needs {size / 1e9:.3g} GB of every device, but "
                f"config.data.cache_gb is {data.cache_gb}: raise it, or set config.data.where to "
                "'host'"
            )
        decoded.keep(budget)
        tiles = decoded.list_tiles(data.tile, data.tile_stride)
        good = tiles[decoded.is_kept[tiles[:, 0]]]
        bad = np.flatnonzero(~decoded.is_kept[tiles[:, 0]])
        tiles[bad] = good[bad * len(good) // len(tiles)]
        row = ROW_PIXELS * decoded.depth
        self.resident = ResidentImages.from_rows(
            decoded.pixels.reshape(-1, row),
            starts=decoded.starts // row,
            sides=decoded.sides,
            tiles=tiles,
            clean_channels=clean_channels(channels),
        )
        self._count = int(decoded.is_kept.sum())
        described = [source.describe()]
        if len(self.resident) > len(decoded):
            described.append(format_count(len(self.resident), "tile"))
        described += [format_count(channels, "channel"), f"{decoded.describe()}, on each device"]
        if not decoded.is_complete:
            described.append(f"{len(decoded) - self._count} damaged and replaced")
        self._description = ", ".join(described)
        self._images = source.list_images()

    def __len__(self) -> int:
        """Number of images that could be decoded."""
        return self._count

    def list_images(self) -> dict[str, str]:
        """Describes each image by its name, for the record of a run."""
        return self._images

    def describe(self) -> str:
        """One line for the log."""
        return self._description
