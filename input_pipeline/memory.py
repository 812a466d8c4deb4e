"""Crops of training images by TensorFlow: of decoded pixels that are kept, else of the file.

The kept pixels are one flat tensor, so that TensorFlow copies the rows of a crop by itself,
without Python and its lock.
"""

import numpy as np

from input_pipeline.decoded import Decoded
from input_pipeline.examples import Source
from input_pipeline.tensorflow_cpu import tf


class Memory(Decoded):
    """Crops of the images of a source, by number.

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
        super().__init__(source, channels=channels, replace=replace)
        self.keep(budget)
        self.smallest_side = int(np.min(self.sides))
        # Tensors are made here, once: captured by the graphs of all iterators, copied by none.
        self._kept_tensor = tf.constant(self.kept)
        self._table = tf.constant(np.column_stack([self.sides[:, 1], self.starts]))
        self._flat = tf.experimental.dlpack.from_dlpack(self.pixels.__dlpack__())

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
        image = self.decode(int(index))
        if image is None:
            return np.zeros((rows, columns, self.depth), self.dtype), np.bool_(False)
        return image[top : top + rows, left : left + columns], np.bool_(True)
