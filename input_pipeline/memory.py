"""Pixels of training images: decoded once and kept while they fit, decoded anew beyond that.

The kept pixels are one flat tensor, so that TensorFlow copies the rows of a crop by itself,
without Python and its lock.
"""

import concurrent.futures
import threading

import numpy as np
from absl import logging

from input_pipeline.examples import Source, clean_channels, tiles
from input_pipeline.host_only import tf
from lcdnet_jax.image_io import ImageError, to_uint16


class Memory:
    """Crops of the images of a source, by number.

    An image is ``[height, width, depth]``; a pair is one image, the channels of the clean half
    before those of the degraded half. The dtype is uint16 as soon as one image has 16 bits
    (8-bit values times 257, which is exact), else uint8.

    Args:
      source: the images.
      channels: 1 or 3; 6 for pairs with two views.
      budget: bytes of decoded pixels to keep; filled in the order of the names.
      replace: whether a file that cannot be decoded is reported and left out, instead of raised.

    Raises:
      ImageError: a file that cannot be decoded while the memory is filled; with ``replace`` only
        if all are.
    """

    def __init__(self, source: Source, *, channels: int, budget: float, replace: bool):
        self._examples = source.examples
        self._channels = channels
        self._replace = replace
        self._problems: dict[int, str] = {}  # what is wrong with an image, as far as known
        self._lock = threading.Lock()

        self.depth = clean_channels(channels) + (channels if source.paired else 0)
        pictures = [picture for example in self._examples for picture in example.pictures]
        deep = any(picture.header.bits == 16 for picture in pictures)
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        headers = [example.clean.header for example in self._examples]
        sides = np.array([(header.height, header.width) for header in headers], np.int64)
        self.smallest_side = int(np.min(sides))
        self._sides = sides

        sizes = sides.prod(axis=1) * self.depth
        ends = np.cumsum(sizes)
        kept = ends * self.dtype.itemsize <= budget
        self._starts = ends - sizes
        self._pixels = _aligned(int(sizes[kept].sum()), self.dtype)
        self._fill(kept)

        self._kept = kept
        # Tensors are made here, once: captured by the graphs of all iterators, copied by none.
        self._kept_tensor = tf.constant(kept)
        self._table = tf.constant(np.column_stack([sides[:, 1], self._starts]))
        self._flat = tf.experimental.dlpack.from_dlpack(self._pixels.__dlpack__())

    def __len__(self) -> int:
        """Number of images."""
        return len(self._examples)

    @property
    def complete(self) -> bool:
        """Whether every image is kept, so that no file is read again."""
        return bool(self._kept.all())

    def tiles(self, side: int, stride: int) -> np.ndarray:
        """The parts of all images from which crops are taken: whole images, or ``tiles`` of them.

        Args:
          side: of the tiles, pixels; 0 for whole images.
          stride: from one tile to the next, pixels.

        Returns:
          int64 ``[tiles, 5]``: number of the image, top, left, height, width.
        """
        return np.array(
            [
                (index, *tile)
                for index, (height, width) in enumerate(self._sides.tolist())
                for tile in (
                    tiles(height, width, side, stride) if side else [(0, 0, height, width)]
                )
            ],
            np.int64,
        )

    def describe(self) -> str:
        """How many images are kept, and their size."""
        return f"{self._kept.sum()} decoded in memory ({self._pixels.nbytes / 1e6:.1f} MB)"

    def error(self, index: int) -> ImageError:
        """What to raise when ``crop`` gave False for an image, or did so for all of them."""
        problem = self._problems[index]
        if self._replace:
            return ImageError(f"none of the {len(self)} images can be decoded; one: {problem}")
        return ImageError(
            f'{problem} (or set config.data.on_bad_image to "replace" to go on without it)'
        )

    def crop(self, tile: tf.Tensor, place: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
        """A square inside a part of an image, smaller where that part is.

        Args:
          tile: int64 ``[5]``, a row of ``tiles``.
          place: float32 ``[2]`` in [0, 1), from the first possible row and column to the last.
          side: pixels.

        Returns:
          Pixels ``[min(side, height), min(side, width), depth]`` and True; or zeros and False
          where the image cannot be decoded (``error`` then says why).
        """
        index, tile_top, tile_left, tile_height, tile_width = tf.unstack(tile)
        width, start = tf.unstack(self._table[index])
        rows, columns = tf.minimum(tile_height, side), tf.minimum(tile_width, side)
        free = tf.stack([tile_height - rows, tile_width - columns])
        corner = tf.cast(place * tf.cast(free + 1, tf.float32), tf.int64)
        # The product may round up.
        top, left = tf.unstack(tf.stack([tile_top, tile_left]) + tf.minimum(corner, free))

        def from_memory() -> tuple[tf.Tensor, tf.Tensor]:
            begin = start + top * width * self.depth
            band = tf.slice(self._flat, [begin], [rows * width * self.depth])
            band = tf.reshape(band, [rows, width, self.depth])
            return band[:, left : left + columns], tf.constant(True)

        def from_file() -> tuple[tf.Tensor, tf.Tensor]:
            pixels, good = tf.numpy_function(
                self._crop_of_file, [index, top, left, rows, columns], (self.dtype, tf.bool)
            )
            return tf.ensure_shape(pixels, [None, None, self.depth]), tf.ensure_shape(good, [])

        if self.complete:
            return from_memory()
        return tf.cond(self._kept_tensor[index], from_memory, from_file)

    def _crop_of_file(
        self, index: int, top: int, left: int, rows: int, columns: int
    ) -> tuple[np.ndarray, np.bool_]:
        image = self._decode(int(index))
        if image is None:
            return np.zeros((rows, columns, self.depth), self.dtype), np.bool_(False)
        return image[top : top + rows, left : left + columns], np.bool_(True)

    def _decode(self, index: int) -> np.ndarray | None:
        """``[height, width, depth]``, or None after a note in ``problems``."""
        try:
            halves = self._examples[index].read(self._channels)
        except ImageError as error:
            self._note(index, str(error))
            return None
        if self.dtype == np.uint16:
            halves = [to_uint16(half) for half in halves]
        return np.concatenate(halves, axis=-1)

    def _note(self, index: int, problem: str) -> None:
        with self._lock:
            if index in self._problems:
                return
            self._problems[index] = problem
        if self._replace:
            logging.warning("Other images are drawn instead of this one: %s", problem)

    def _fill(self, kept: np.ndarray) -> None:
        """Decodes the images marked in ``kept`` and unmarks those that cannot be decoded."""

        def fill(index: int) -> bool:
            image = self._decode(index)
            if image is not None:
                start = self._starts[index]
                self._pixels[start : start + image.size] = image.reshape(-1)
            return image is not None

        indices = np.flatnonzero(kept).tolist()
        pool = concurrent.futures.ThreadPoolExecutor()  # the decoders release Python's lock
        try:
            for index, good in zip(indices, pool.map(fill, indices), strict=True):
                kept[index] = good
                if not good and not self._replace:
                    raise self.error(index)
        finally:
            pool.shutdown(cancel_futures=True)
        if len(self._problems) == len(self):
            raise self.error(0)


def _aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that TensorFlow can use in place, which needs 64-byte alignment."""
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype)
