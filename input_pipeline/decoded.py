"""Decoded training images in one array, in memory or in a file, filled by several threads."""

import concurrent.futures
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np
from absl import logging

from input_pipeline.examples import Box, Source, list_tiles
from lcdnet_jax.image_io import BucketError, ImageError, to_uint16
from lcdnet_jax.ops import clean_channels

# Threads that read encoded images or parts of them. They wait for a disk or a bucket most of the
# time, so there are more of them than cores.
READING_THREADS = 32


class DecodedImages:
    """Images of a source, by number. ``keep`` decodes them, ``load`` reads others encoded.

    An image is ``[height, width, depth]``. A pair is one image: its channels are those of the
    clean half, then those of the degraded half. If clean halves are larger by ``scale``, a pixel
    has the ``scale`` x ``scale`` clean pixels at its place, row by row, as channels. The dtype is
    uint16 if any image has 16 bits (8-bit values are then multiplied by 257, which is exact), else
    uint8.

    Args:
        source: The images.
        channels: 1 or 3, or 6 for pairs with two views.
        replace: Whether a file that cannot be decoded is logged and skipped instead of raised.
        row: Images begin at multiples of this many pixels in ``pixels``.

    Attributes:
        scale: Factor by which sides of clean halves are larger than those of degraded halves.
        depth: Channels of an image.
        dtype: Dtype of ``pixels``.
        sides: Int64 ``[images, 2]``, height and width; for pairs those of the degraded half.
        starts: Int64 ``[images]``, index in ``pixels`` at which an image begins.
        ends: Int64 ``[images]``, index in ``pixels`` at which the next image begins.
        is_kept: Bool ``[images]``, whether an image is in ``pixels``.
        pixels: Kept images, row by row, on one axis. May be mapped from a file.
        outage: Why images in a bucket cannot be read at the moment, or None.
    """

    def __init__(self, source: Source, *, channels: int, replace: bool, row: int = 1):
        self._examples = list(source.examples)
        self._channels = channels
        self._replace = replace
        self._problems: dict[int, str] = {}  # why an image cannot be decoded
        self._lock = threading.Lock()
        self._place = "memory"
        self._loaded, self._loaded_bytes = 0, 0
        self.outage: BucketError | None = None

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

    @property
    def waits_for_parts(self) -> bool:
        """Whether crops are read from shards, not from memory.

        Whole images, which may be large, are decoded by one thread for each core only.
        """
        return any(
            picture.load is not None and picture.decode_box is not None
            for example, kept in zip(self._examples, self.is_kept, strict=True)
            if not kept
            for picture in example.pictures
        )

    def keep(self, budget: float, folder: str = "") -> None:
        """Decodes as many images as fit into ``budget`` bytes of memory, in order of their names.

        Args:
            budget: Bytes.
            folder: If not all images fit, all are kept in a temporary file in this folder, whose
                pages the system keeps in memory as far as it can. The file is gone when the process
                ends, however it ends. "" for none.

        Raises:
            ImageError: A file cannot be decoded; with ``replace``, no file can.
            ValueError: The temporary file cannot be written.
        """
        if not folder or self.ends[-1] * self.dtype.itemsize <= budget:
            self.is_kept = self.ends * self.dtype.itemsize <= budget
            self.pixels = _allocate_aligned(int(self.ends[self.is_kept].max(initial=0)), self.dtype)
            self._fill(None)
            return
        self._place = f"a file in {folder}"
        self.is_kept[:] = True
        with _explain_disk_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
            self._fill(file)
            file.truncate(int(self.ends[-1]) * self.dtype.itemsize)  # the last may be damaged
            self.pixels = np.memmap(file, self.dtype, "r+", shape=(int(self.ends[-1]),))

    def _fill(self, file: IO[bytes] | None) -> None:
        """Decodes the images of ``is_kept`` into ``pixels``, or into a file."""

        def fill(index: int) -> bool:
            image = self.decode(index)
            if image is None:
                return False
            start = self.starts[index]
            if file is None:
                self.pixels[start : start + image.size] = image.reshape(-1)
            else:
                # Not through a mapping: a full disk would end the process without a message.
                _write(file, image, int(start) * self.dtype.itemsize)
            return True

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

    def load(self, budget: float) -> None:
        """Reads encoded images that ``keep`` has not decoded into memory, by several threads.

        Args:
            budget: Bytes. Images are read in order of their names until the next one does not fit.

        Raises:
            BucketError: A bucket does not answer.
        """
        chosen: list[int] = []
        for index in np.flatnonzero(~self.is_kept).tolist():
            size = self._examples[index].size
            if size is None or index in self._problems:
                continue
            if self._loaded_bytes + size > budget:
                break
            chosen.append(index)
            self._loaded_bytes += size

        def load(index: int) -> None:
            try:
                self._examples[index] = self._examples[index].load()
            except BucketError:
                raise
            except ImageError:  # is reported when the image is drawn
                return

        pool = concurrent.futures.ThreadPoolExecutor(READING_THREADS)
        try:
            for _ in pool.map(load, chosen):
                self._loaded += 1
        finally:
            pool.shutdown(cancel_futures=True)

    def list_tiles(self, side: int, stride: int) -> np.ndarray:
        """Tiles of all images. Crops are taken inside a tile.

        Args:
            side: Side of a tile in pixels; 0 makes each whole image one tile.
            stride: Pixels from one tile to the next.

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
        """How many images are kept decoded and encoded, and their size, in words."""
        kept, size = self.is_kept.sum(), self.pixels.nbytes / 1e6
        described = f"{kept} decoded in {self._place} ({size:.1f} MB)"
        if self._loaded:
            described += f", {self._loaded} encoded in memory ({self._loaded_bytes / 1e6:.1f} MB)"
        return described

    def make_error(self, index: int) -> ImageError:
        """The error for an image that cannot be decoded; with ``replace``, for none that can."""
        problem = self._problems[index]
        if self._replace:
            return ImageError(f"no image can be decoded, for example {problem}")
        return ImageError(
            f'{problem} (or set config.data.on_bad_image to "replace" to go on without it)'
        )

    def decode(self, index: int, box: Box | None = None) -> np.ndarray | None:
        """``[height, width, depth]``, or None if the file is damaged (see ``make_error``).

        Args:
            index: Number of the image.
            box: The part to return. None returns all of it.

        Raises:
            BucketError: A bucket does not answer. The image may be good, so no other one is drawn.
        """
        if self.outage is not None:  # each further attempt would take half a minute
            raise self.outage
        try:
            halves = self._examples[index].read(self._channels, box)
        except BucketError as error:
            self.outage = error
            raise
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
    """Raises ValueError if the crop is larger than both sides of every image.

    Smaller images are padded by reflection. Pairs whose halves differ in size cannot be padded,
    because the reflections would not match: no side of an image may then be below the crop.
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
    """``[s H, s W, C]`` as ``[H, W, s s C]``, the inverse of ``tf_ops.unfold``."""
    height, width, channels = image.shape
    blocks = image.reshape(height // scale, scale, width // scale, scale, channels)
    return blocks.swapaxes(1, 2).reshape(height // scale, width // scale, -1)


def _write(file: IO[bytes], image: np.ndarray, offset: int) -> None:
    """Writes all bytes of an image at an offset. Several threads may do so at once."""
    view = memoryview(image.tobytes())
    while view.nbytes:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


@contextlib.contextmanager
def _explain_disk_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"config.data.cache_dir: decoded images cannot be kept in {folder} ({error.strerror}); "
            "choose an existing folder on a disk with more space, or '' to decode images again "
            "each time"
        ) from error


def _allocate_aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialized array, aligned to 64 bytes so that TensorFlow and JAX need no copy."""
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype)
