"""Training batches by tf.data on the host, each a pure function of (seed, step).

Example j of the global batch k of B examples has the number i = k B + j in the whole training. With
``config.stages`` its number is j plus the number of examples in earlier batches. Of n tiles (n
images, if ``config.data.tile`` is 0) it shows tile number i % n of the permutation of epoch i // n.
The place of the crop, its orientation, its frequency mask and its noise come from stateless
generators keyed by (seed, i). There is no iterator state: resuming at step k starts at k, and each
host computes its own examples of a batch.
"""

import atexit
import contextlib
import weakref
from collections.abc import Generator, Iterator

import numpy as np
from ml_collections import ConfigDict

from input_pipeline import tf_ops
from input_pipeline.decoded import READING_THREADS, DecodedImages, check_crop
from input_pipeline.examples import Box, Source, channels_on_disk
from input_pipeline.tensorflow_cpu import tf
from lcdnet_jax import config as config_lib
from lcdnet_jax.config import Stage
from lcdnet_jax.image_io import BucketError
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels

Batch = dict[str, np.ndarray]

# Numbers of independent random streams. Changing one changes every training run.
_ORDER, _PLACE, _NOISE, _REPLACEMENT, _MASK = range(5)

# More steps than a run can have. Numbers of examples stay within int64.
_END = 2**40

# TensorFlow's threads call Python to decode images. If they do so while Python shuts down, they and
# the program never end. So open iterators are closed before.
_open: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for batches in list(_open):
        with contextlib.suppress(ValueError):  # another thread is taking a batch
            batches.close()


class TrainDataset:
    """Endless batches of random crops.

    A batch has ``clean`` ``[b, crop, crop, C]`` float32 in [0, 1] and ``mask`` ``[b]`` float32
    ones. For pairs, or if the host adds noise, it also has ``degraded``, like ``clean``; noise of
    protocol "float" leaves [0, 1]. Do not write to the arrays. Degraded halves that are smaller
    have crops of ``crop / scale`` pixels at the same place. For pairs with two views
    (``config.data.channels`` 6) ``clean`` has 3 channels and ``degraded`` has 6: left, right.

    With ``config.sfm.where`` "host" frequencies are masked after cropping and augmentation and
    before noise. For pairs ``degraded`` is masked, otherwise a copy of ``clean``, to which noise is
    added. If the device adds the noise, the batch has the copy as ``to_degrade``. With
    ``config.sfm.target`` "masked" the copy replaces ``clean``. Masked images may leave [0, 1].

    Args:
        source: The images.
        config: The fields of configs/default.py, already validated.

    Attributes:
        replaced: Number of examples so far that replace one of a damaged image.

    Raises:
        ValueError: The crop is too large, see ``check_crop``.
        ImageError: (a ValueError) A file cannot be decoded.
    """

    def __init__(self, source: Source, config: ConfigDict):
        data, degradation = config.data, config.degradation
        check_crop(source, data.crop)
        self._source = source
        self._channels = channels_on_disk(config)
        self._stages = config_lib.list_stages(config)
        self._augment = data.augment
        self._replace = data.on_bad_image == "replace"
        self._noise = None
        if degradation.kind == "awgn" and degradation.where == "host":
            self._noise = {
                "sigma_min": degradation.sigma_min,
                "sigma_max": degradation.sigma_max,
                "protocol": degradation.protocol,
            }
        masking = config.sfm
        self._masking = None
        self._masked_target = masking.target == "masked"
        if masking.rate > 0 and masking.where == "host":
            self._masking = {
                "rate": masking.rate,
                "mode": masking.mode,
                "center": masking.center,
                "sigma": masking.sigma,
                "unselected": masking.unselected,
            }
        self._reader = CropReader(
            source,
            channels=self._channels,
            budget=data.cache_gb * 1e9,
            folder=data.cache_dir,
            encoded_budget=data.encoded_cache_gb * 1e9,
            replace=self._replace,
        )
        tiles = self._reader.list_tiles(data.tile // source.scale, data.tile_stride // source.scale)
        self._tile_count = len(tiles)
        self._tiles = tf.constant(tiles)
        # Shifted to stay far below the largest int64, because an op may add to its key.
        self._streams = [
            int(np.random.SeedSequence([config.seed, stream]).generate_state(1, np.uint64)[0] >> 2)
            for stream in range(5)
        ]
        self.replaced = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self._reader)

    def __iter__(self) -> Iterator[Batch]:
        """``batches()``."""
        return self.batches()

    def list_images(self) -> dict[str, str]:
        """Describes each image by its name, for the record of a run."""
        return self._source.list_images()

    def describe(self) -> str:
        """One line for the log."""
        tiles = (
            f"{format_count(self._tile_count, 'tile')}, " if self._tile_count > len(self) else ""
        )
        return (
            f"{self._source.describe()}, {tiles}{format_count(self._channels, 'channel')}, "
            f"{self._reader.describe()}"
        )

    def batches(
        self, start_step: int = 0, *, process_index: int = 0, process_count: int = 1
    ) -> Generator[Batch, None, None]:
        """Batches of steps ``start_step``, ``start_step + 1``, ... without end.

        Earlier steps are not computed. Host p of P gets the p-th of P equal slices of each batch.
        The iterator reads ahead until it is closed (``.close()``) or deleted.

        Args:
            start_step: First step, counted from 0.
            process_index: This host, 0 <= process_index < process_count.
            process_count: Number of hosts; must divide ``config.batch_size``.

        Raises:
            ValueError: An argument out of range.
            ImageError: (while iterating) A file cannot be decoded and ``config.data.on_bad_image``
                is "stop"; with "replace", no file can. Or a bucket does not answer.
        """
        for stage in self._stages:
            if stage.batch_size % process_count:
                raise ValueError(
                    f"config.batch_size {stage.batch_size} is not divisible by "
                    f"{format_count(process_count, 'host')}; use a multiple of their number"
                )
        if start_step < 0 or not 0 <= process_index < process_count:
            raise ValueError(
                f"step {start_step} of host {process_index} of {process_count}: "
                "needs start_step >= 0 and 0 <= process_index < process_count"
            )
        batches = self._iterate(start_step, process_index, process_count)
        _open.add(batches)
        return batches

    def _build_pipeline(
        self, stage: Stage, first: int, last: int, process_index: int, process_count: int
    ) -> tf.data.Dataset:
        """Batches of the steps from ``first`` to before ``last``, all of one stage."""
        share = stage.batch_size // process_count

        def number(local: tf.Tensor) -> tf.Tensor:
            """Number of an example in the training, from its number on this host in the stage."""
            step, place = local // share, local % share
            return stage.first_example + step * stage.batch_size + process_index * share + place

        options = tf.data.Options()
        options.deterministic = True
        threads = tf.data.AUTOTUNE  # at most one for each core
        if self._reader.waits_for_parts:
            threads = options.threading.private_threadpool_size = READING_THREADS
        return (
            tf.data.Dataset.range(
                (first - stage.first_step) * share, (last - stage.first_step) * share
            )
            .map(
                lambda local: self._make_example(number(local), stage.crop),
                num_parallel_calls=threads,
            )
            .batch(share, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def _iterate(
        self, start_step: int, process_index: int, process_count: int
    ) -> Generator[Batch, None, None]:
        ends = [stage.first_step for stage in self._stages[1:]] + [_END]
        for stage, end in zip(self._stages, ends, strict=True):
            first = max(start_step, stage.first_step)
            if first >= end:
                continue
            pipeline = self._build_pipeline(stage, first, end, process_index, process_count)
            for batch in pipeline.as_numpy_iterator():
                if self._reader.outage is not None:
                    raise self._reader.outage
                failed = batch.pop("failed")
                if (failed >= 0).any():
                    raise self._reader.make_error(int(failed[failed >= 0][0]))
                self.replaced += int(batch.pop("replaced").sum())
                batch["mask"] = np.ones(len(failed), np.float32)
                yield batch

    def _make_example(self, i: tf.Tensor, crop: int) -> dict[str, tf.Tensor]:
        """Example number ``i`` (int64 scalar) of the training, with a crop of ``crop`` pixels."""
        side = crop // self._source.scale  # in decoded pixels
        random = tf.random.stateless_uniform([5], self._make_key(_PLACE, i))
        pixels, report = self._draw(i, random[:2], side)
        if self._reader.smallest_side < side:
            pixels = tf_ops.reflect_pad(pixels, side, side)
        clean, degraded = self._split_halves(pixels, random[2:] < 0.5, crop)
        source = degraded if self._source.is_paired else clean
        if self._masking:
            source = tf_ops.mask_frequencies(source, self._make_key(_MASK, i), **self._masking)
            if self._masked_target:
                clean = source
        example = {"clean": clean, **report}
        if self._source.is_paired:
            example["degraded"] = source
        elif self._noise:
            example["degraded"] = tf_ops.add_noise(source, self._make_key(_NOISE, i), **self._noise)
        elif source is not clean:
            example["to_degrade"] = source
        return example

    def _split_halves(self, pixels: tf.Tensor, turns: tf.Tensor, crop: int) -> list[tf.Tensor]:
        """Clean and degraded half of a crop, augmented. Without pairs the latter is empty."""
        scale, two_views = self._source.scale, self._channels == TWO_VIEW_CHANNELS
        cut = crop // scale
        depth = clean_channels(self._channels) * scale**2
        if self._augment and scale == 1:  # both at once
            pixels = tf_ops.orient(pixels, turns, two_views=two_views)
        pixels = tf.ensure_shape(pixels, [cut, cut, self._reader.depth])
        halves = [pixels[..., :depth], pixels[..., depth:]]
        if scale > 1:
            halves[0] = tf_ops.unfold(halves[0], scale)
            if self._augment:
                halves = [tf_ops.orient(half, turns) for half in halves]
            halves = [
                tf.ensure_shape(half, [side, side, self._channels])
                for half, side in zip(halves, (crop, cut), strict=True)
            ]
        return [tf_ops.to_float(half) for half in halves]

    def _draw(
        self, i: tf.Tensor, place: tf.Tensor, side: int
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Pixels of a crop, and ``failed`` (number of a damaged image, or -1) and ``replaced``."""
        n = self._tile_count
        epoch, position = i // n, i % n
        tile = self._tiles[_permute(position, self._make_key(_ORDER, epoch), n)]
        pixels, good = self._reader.crop(tile, place, side)
        attempt = tf.constant(0, tf.int64)
        if self._replace and not self._reader.is_complete:
            # Attempts 0 to n - 1 are a permutation of the tiles, so one good image suffices.
            def again(attempt: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
                tile = self._tiles[_permute(attempt, self._make_key(_REPLACEMENT, i), n)]
                return attempt + 1, tile, *self._reader.crop(tile, place, side)

            attempt, tile, pixels, good = tf.while_loop(
                lambda attempt, tile, pixels, good: ~good & (attempt < n),
                again,
                (attempt, tile, pixels, good),
                shape_invariants=(
                    tf.TensorShape([]),
                    tf.TensorShape([5]),
                    tf.TensorShape([None, None, self._reader.depth]),
                    tf.TensorShape([]),
                ),
            )
        return pixels, {
            "failed": tf.where(good, tf.constant(-1, tf.int64), tile[0]),
            "replaced": attempt > 0,
        }

    def _make_key(self, stream: int, number: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.constant(self._streams[stream], tf.int64), number])


class CropReader(DecodedImages):
    """Crops of the images of a source, cut out by TensorFlow.

    Kept images are one flat tensor, so that TensorFlow copies the rows of a crop without Python
    and its lock. Other images are decoded from their file each time.

    Args:
        source: The images.
        channels: 1 or 3, or 6 for pairs with two views.
        budget: Bytes of decoded pixels to keep, see ``DecodedImages.keep``.
        folder: For a temporary file, see ``DecodedImages.keep``.
        encoded_budget: Bytes of other encoded images to keep, see ``DecodedImages.load``.
        replace: Whether a file that cannot be decoded is logged and skipped instead of raised.

    Raises:
        ImageError: A file cannot be decoded; with ``replace``, no file can.
    """

    def __init__(
        self,
        source: Source,
        *,
        channels: int,
        budget: float,
        folder: str,
        encoded_budget: float,
        replace: bool,
    ):
        super().__init__(source, channels=channels, replace=replace)
        self.keep(budget, folder)
        self.load(encoded_budget)
        self.smallest_side = int(np.min(self.sides))
        # Made once: the graphs of all iterators capture these tensors and copy none.
        self._kept_tensor = tf.constant(self.is_kept)
        self._table = tf.constant(np.column_stack([self.sides[:, 1], self.starts]))
        self._flat = tf.experimental.dlpack.from_dlpack(self.pixels.__dlpack__())

    def crop(self, tile: tf.Tensor, place: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Cuts a square crop out of a tile. Its sides are at most those of the tile.

        Args:
            tile: Int64 ``[5]``, a row of ``list_tiles``.
            place: Float32 ``[2]`` in [0, 1), from the first possible row and column to the last.
            side: Side of the crop in pixels.

        Returns:
            Pixels ``[min(side, height), min(side, width), depth]`` and True. If the image cannot be
            decoded, zeros and False; ``make_error`` then has the cause.
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
                self._crop_file, [index, top, left, rows, columns], (self.dtype, tf.bool)
            )
            return tf.ensure_shape(pixels, [None, None, self.depth]), tf.ensure_shape(good, [])

        if self.is_complete:
            return from_memory()
        return tf.cond(self._kept_tensor[index], from_memory, from_file)

    def _crop_file(
        self, index: int, top: int, left: int, rows: int, columns: int
    ) -> tuple[np.ndarray, np.bool_]:
        try:
            image = self.decode(int(index), Box(int(top), int(left), int(rows), int(columns)))
        except BucketError:  # TensorFlow would log a traceback; the reader of batches raises it
            return np.zeros((rows, columns, self.depth), self.dtype), np.bool_(True)
        if image is None:
            return np.zeros((rows, columns, self.depth), self.dtype), np.bool_(False)
        return image, np.bool_(True)


def _permute(position: tf.Tensor, key: tf.Tensor, n: int) -> tf.Tensor:
    """The element at a position of the permutation of range(n) given by the key."""
    return tf.random.experimental.index_shuffle(position, key, tf.constant(n - 1, tf.int64))
