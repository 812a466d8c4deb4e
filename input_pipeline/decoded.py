"""Pixels of training images, decoded by several threads into one array."""

import concurrent.futures
import threading

import numpy as np
from absl import logging

from input_pipeline.examples import Source, list_tiles
from lcdnet_jax.image_io import ImageError, to_uint16
from lcdnet_jax.ops import clean_channels


class DecodedImages:
    """Images of a source, by number; none is decoded before ``keep``.

    An image is ``[height, width, depth]``; a pair is one image, the channels of the clean half
    before those of the degraded half. Where the clean half is larger, by ``scale``, each pixel
    holds the ``scale`` x ``scale`` clean pixels of its place, row by row. The dtype is uint16 as
    soon as one image has 16 bits (8-bit values times 257, which is exact), else uint8.

    Args:
      source: the images.
      channels: 1 or 3; 6 for pairs with two views.
      replace: whether a file that cannot be decoded is reported and left out, instead of raised.
      row: in ``pixels`` images begin at multiples of so many pixels.

    Attributes:
      scale: how many times larger the sides of clean halves are.
      depth: channels of an image.
      dtype: of the pixels.
      sides: int64 ``[images, 2]``, height and width, of pairs those of the degraded half.
      starts: int64 ``[images]``, where in ``pixels`` each image begins.
      ends: int64 ``[images]``, where the next one would begin.
      kept: bool ``[images]``, which are in ``pixels``.
      pixels: one axis; kept images row by row.
    """

    def __init__(self, source: Source, *, channels: int, replace: bool, row: int = 1):
        self._examples = source.examples
        self._channels = channels
        self._replace = replace
        self._problems: dict[int, str] = {}  # what is wrong with an image, as far as known
        self._lock = threading.Lock()

        self.scale = source.scale
        clean_depth = clean_channels(channels) * self.scale**2
        self.depth = clean_depth + (channels if source.is_paired else 0)
        pictures = [picture for example in self._examples for picture in example.pictures]
        deep = any(picture.header.bits == 16 for picture in pictures)
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        headers = [example.pictures[-1].header for example in self._examples]
        self.sides = np.array([(header.height, header.width) for header in headers], np.int64)
        sizes = -(-self.sides.prod(axis=1) // row) * row * self.depth
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - sizes
        self.is_kept = np.zeros(len(headers), bool)
        self.pixels = _allocate_aligned(0, self.dtype)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._examples)

    @property
    def is_complete(self) -> bool:
        """Whether every image is kept, so that no file is read again."""
        return bool(self.is_kept.all())

    def keep(self, budget: float) -> None:
        """Decodes as many images as fit into ``budget`` bytes, in the order of the names.

        Raises:
          ImageError: a file that cannot be decoded; with ``replace`` only if all are.
        """
        self.is_kept = self.ends * self.dtype.itemsize <= budget
        self.pixels = _allocate_aligned(int(self.ends[self.is_kept].max(initial=0)), self.dtype)

        def fill(index: int) -> bool:
            image = self.decode(index)
            if image is not None:
                start = self.starts[index]
                self.pixels[start : start + image.size] = image.reshape(-1)
            return image is not None

        indices = np.flatnonzero(self.is_kept).tolist()
        pool = concurrent.futures.ThreadPoolExecutor()  # the decoders release Python's lock
        try:
            for index, good in zip(indices, pool.map(fill, indices), strict=True):
                self.is_kept[index] = good
                if not good and not self._replace:
                    raise self.make_error(index)
        finally:
            pool.shutdown(cancel_futures=True)
        if len(self._problems) == len(self):
            raise self.make_error(0)

    def list_tiles(self, side: int, stride: int) -> np.ndarray:
        """The parts of all images from which crops are taken: whole images, or their tiles.

        Args:
          side: of the tiles, pixels; 0 for whole images.
          stride: from one tile to the next, pixels.

        Returns:
          int64 ``[tiles, 5]``: number of the image, top, left, height, width.
        """
        return np.array(
            [
                (index, *tile)
                for index, (height, width) in enumerate(self.sides.tolist())
                for tile in (
                    list_tiles(height, width, side, stride) if side else [(0, 0, height, width)]
                )
            ],
            np.int64,
        )

    def describe(self) -> str:
        """How many images are kept, and their size."""
        return f"{self.is_kept.sum()} decoded in memory ({self.pixels.nbytes / 1e6:.1f} MB)"

    def make_error(self, index: int) -> ImageError:
        """What to raise when an image cannot be decoded, or with ``replace`` none can."""
        problem = self._problems[index]
        if self._replace:
            return ImageError(f"none of the {len(self)} images can be decoded; one: {problem}")
        return ImageError(
            f'{problem} (or set config.data.on_bad_image to "replace" to go on without it)'
        )

    def decode(self, index: int) -> np.ndarray | None:
        """``[height, width, depth]``, or None after a note for ``make_error``."""
        try:
            halves = self._examples[index].read(self._channels)
        except ImageError as error:
            self._record_problem(index, str(error))
            return None
        if self.dtype == np.uint16:
            halves = [to_uint16(half) for half in halves]
        halves[0] = _fold(halves[0], self.scale)
        return np.concatenate(halves, axis=-1)

    def _record_problem(self, index: int, problem: str) -> None:
        with self._lock:
            if index in self._problems:
                return
            self._problems[index] = problem
        if self._replace:
            logging.warning("Other images are drawn instead of this one: %s", problem)


def check_crop(source: Source, crop: int) -> None:
    """Refuses a crop longer than both sides of every image; some padding is fine, no more.

    None is where pairs have halves of different size, whose mirror images would not agree.
    """
    headers = [example.clean.header for example in source.examples]
    largest = max(headers, key=lambda header: (max(header.height, header.width), header.height))
    longest = max(largest.height, largest.width)
    if crop > longest:
        raise ValueError(
            f"config.data.crop {crop} is larger than every image of config.data.train "
            f"({source.name}), of which the largest is {largest.height}x{largest.width}, so that "
            f"every example would be padded on both sides; use at most {longest}, or larger images"
        )

    smallest = min(
        (example.clean for example in source.examples),
        key=lambda picture: min(picture.header.height, picture.header.width),
    )
    shortest = min(smallest.header.height, smallest.header.width)
    if source.scale > 1 and crop > shortest:
        raise ValueError(
            f"config.data.crop {crop} is larger than a side of {smallest.label} "
            f"({smallest.header.height}x{smallest.header.width}), and pairs whose halves differ in "
            f"size are not padded; use at most {shortest}, or remove the image"
        )


def _fold(image: np.ndarray, scale: int) -> np.ndarray:
    """``[s H, s W, C]`` as ``[H, W, s s C]``, see ``ops.unfold``."""
    height, width, channels = image.shape
    blocks = image.reshape(height // scale, scale, width // scale, scale, channels)
    return blocks.swapaxes(1, 2).reshape(height // scale, width // scale, -1)


def _allocate_aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that TensorFlow and JAX can use in place, at 64-byte alignment."""
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype)
