"""Writing of shards: TFRecord files of tiles and their index; ``shards.py`` describes them.

TFRecord rather than ArrayRecord: the index gives access to any tile, so ArrayRecord's own access
by number is not needed. TFRecord needs no further package, any program that uses TFDS reads it, and
parts of its files can be read from buckets, which ArrayRecord's reader cannot.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import mmap
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from input_pipeline.tensorflow_cpu import tf  # (first: keeps it off accelerators)

# isort: split
import tensorflow_datasets as tfds

from input_pipeline.examples import Box, Example, Source
from input_pipeline.shards import INDEX, RECORDS, encode_index, encode_tile, list_boxes
from lcdnet_jax.image_io import BucketError, Header, ImageError, convert_channels, to_uint16
from lcdnet_jax.messages import format_count, join_some

# Decoded bytes of the images of a shard. PNG takes about half of them.
SHARD_BYTES = 512e6

# Bytes of a TFRecord before and after its content: length and its checksum, checksum.
_BEFORE, _AFTER = 12, 4

# Called after each example with its encoded bytes.
Report = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class _Tile:
    """An encoded tile of all pictures of an example."""

    row: int
    column: int
    images: tuple[bytes, ...]


class ShardWriter:
    """Writes a source as shards.

    Args:
        source: The examples.
        tile: Side of a tile in pixels of the clean half. If that is larger, by ``source.scale``,
            it is rounded up to a multiple of the scale.

    Raises:
        ImageError: Pairs have different scales.
    """

    def __init__(self, source: Source, *, tile: int):
        others = [e.name for e in source.examples if e.scale != source.scale]
        if others:
            raise ImageError(
                f"{source.name}: the halves of {source.examples[0].name} differ by a factor of "
                f"{source.scale}, but not those of {join_some(others, 20)}; "
                "remove or resize them"
            )
        self._source = source
        self._keys = ["clean"]
        if source.is_paired:
            self._keys += ["left", "right"] if source.two_views else ["degraded"]
        side = -(-tile // source.scale)
        self._sides = [source.scale * side, *[side] * (len(self._keys) - 1)]
        headers = [[p.header for p in e.pictures] for e in source.examples]
        self._bits = max(header.bits for some in headers for header in some)
        # Gray pictures stay gray if all are. Two views have three channels each.
        depths = [max(some[k].channels for some in headers) for k in range(len(headers[0]))]
        self._depths = [depths[0], *[min(depths[-1], 3)] * (len(self._keys) - 1)]
        dtype = np.uint16 if self._bits == 16 else np.uint8
        self._features = tfds.features.FeaturesDict(
            {
                **{
                    key: tfds.features.Image(
                        shape=(None, None, depth), dtype=dtype, encoding_format="png"
                    )
                    for key, depth in zip(self._keys, self._depths, strict=True)
                },
                "name": tfds.features.Text(),
                "row": tfds.features.Scalar(np.int64),
                "column": tfds.features.Scalar(np.int64),
            }
        )

    def write(self, folder: pathlib.Path, *, name: str, split: str, report: Report) -> int:
        """Writes all shards, reads them back, and writes the index.

        Args:
            folder: A local folder that does not exist.
            name: Name of the data set for TFDS, in lower case.
            split: Name of the split.
            report: Called after each example with the bytes of its tiles.

        Returns:
            Number of shards.

        Raises:
            ImageError: Images cannot be decoded. All of them are named, after all were tried.
            OSError: A file cannot be written, or is not as it was written.
        """
        records = folder / RECORDS
        records.mkdir(parents=True)
        groups = list(_group(self._source.examples))
        files: list[pathlib.Path] = []
        tiles: list[tuple[int, int, int]] = []
        problems: list[str] = []
        lengths: list[int] = []
        with concurrent.futures.ThreadPoolExecutor() as pool:  # OpenCV releases Python's lock
            for number, group in enumerate(groups):
                file = records / f"{name}-{split}.tfrecord-{number:05d}-of-{len(groups):05d}"
                with _convert_errors():
                    found, length = self._write_shard(file, group, pool, problems, report)
                files.append(file)
                tiles += found
                lengths.append(length)
        if problems:
            listed = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems])
            raise ImageError(f"{format_count(len(problems), 'image')} cannot be decoded: {listed}")
        tfds.folder_dataset.write_metadata(
            data_dir=records,
            features=self._features,
            split_infos=[
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=lengths,
                    num_bytes=sum(file.stat().st_size for file in files),
                )
            ],
            check_data=False,
            description=f"Tiles of {self._source.name}.",
        )
        index = encode_index(
            name=f"{name} {split}",
            keys=self._keys,
            files=[file.name for file in files],
            file_sizes=[file.stat().st_size for file in files],
            examples=[example.name for example in self._source.examples],
            example_files=[k for k, group in enumerate(groups) for _ in group],
            tile_sides=self._sides,
            headers=[
                [dataclasses.astuple(header) for header in self._headers(example)]
                for example in self._source.examples
            ],
            tiles=tiles,
        )
        (folder / INDEX).write_bytes(index)
        return len(groups)

    def _headers(self, example: Example) -> list[Header]:
        """Headers of the pictures of an example: as in the files, two views apart."""
        clean, *degraded = (picture.header for picture in example.pictures)
        found = [clean, *degraded * (len(self._keys) - 1)]
        return [
            dataclasses.replace(header, channels=min(header.channels, depth))
            for header, depth in zip(found, self._depths, strict=True)
        ]

    def _write_shard(
        self,
        file: pathlib.Path,
        group: list[Example],
        pool: concurrent.futures.Executor,
        problems: list[str],
        report: Report,
    ) -> tuple[list[tuple[int, int, int]], int]:
        """Rows of ``tiles`` of the index, and the number of records."""
        found: list[tuple[int, int, int]] = []
        length = place = 0
        with tf.io.TFRecordWriter(os.fspath(file)) as writer:
            for example, encoded in zip(group, _map_ahead(pool, self._encode, group), strict=True):
                if isinstance(encoded, str):
                    problems.append(encoded)
                if problems:  # only to name the others, too
                    report(0)
                    continue
                assert not isinstance(encoded, str)
                by_key: list[list[tuple[int, int, int]]] = [[] for _ in self._keys]
                for tile in encoded:
                    record = self._serialize(example.name, tile)
                    for rows, data in zip(by_key, tile.images, strict=True):
                        start = place + _BEFORE + record.index(data)
                        rows.append((start, len(data), zlib.crc32(data)))
                    writer.write(record)
                    place += _BEFORE + len(record) + _AFTER
                found += itertools.chain(*by_key)
                length += len(encoded)
                report(sum(len(data) for tile in encoded for data in tile.images))
        if not problems:
            _verify(file, place, found)
        return found, length

    def _encode(self, example: Example) -> list[_Tile] | str:
        """The tiles of an example, or why it cannot be decoded."""
        try:
            pictures = self._read(example)
        except BucketError:
            raise
        except ImageError as error:
            return str(error)
        boxes = [
            list_boxes(header, side)
            for header, side in zip(self._headers(example), self._sides, strict=True)
        ]
        return [
            _Tile(places[-1].top, places[-1].left, tuple(map(_cut, pictures, places)))
            for places in zip(*boxes, strict=True)
        ]

    def _read(self, example: Example) -> list[np.ndarray]:
        """Decoded pictures as they are stored, one for each key."""
        pictures = [picture.read(picture.header.channels) for picture in example.pictures]
        if self._source.two_views:
            pictures[1:] = np.split(pictures[1], 2, axis=-1)
        pictures = [
            convert_channels(picture, depth)
            for picture, depth in zip(pictures, self._depths, strict=True)
        ]
        return [to_uint16(p) for p in pictures] if self._bits == 16 else pictures

    def _serialize(self, name: str, tile: _Tile) -> bytes:
        """A record as TFDS reads it. Its own function encodes images again."""
        encoded_name = name.encode(errors="surrogateescape")  # names of files may hold any bytes
        features: dict[str, Any] = {
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            for key, data in zip([*self._keys, "name"], [*tile.images, encoded_name], strict=True)
        }
        for key, number in (("row", tile.row), ("column", tile.column)):
            features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
        example = tf.train.Example(features=tf.train.Features(feature=features))
        return bytes(example.SerializeToString(deterministic=True))


def _cut(picture: np.ndarray, box: Box) -> bytes:
    return encode_tile(np.ascontiguousarray(box.cut(picture)))


def _group(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """The examples of each shard, in order."""
    group: list[Example] = []
    size = 0.0
    for example in examples:
        headers = [picture.header for picture in example.pictures]
        decoded = sum(h.height * h.width * h.channels * h.bits / 8 for h in headers)
        if group and size + decoded > SHARD_BYTES:
            yield group
            group, size = [], 0.0
        group.append(example)
        size += decoded
    yield group


def _map_ahead(
    pool: concurrent.futures.Executor,
    function: Callable[[Example], list[_Tile] | str],
    examples: Iterable[Example],
) -> Iterator[list[_Tile] | str]:
    """Results in order, of which few wait in memory at once."""
    waiting: collections.deque[concurrent.futures.Future[list[_Tile] | str]] = collections.deque()
    try:
        for example in examples:
            waiting.append(pool.submit(function, example))
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _verify(file: pathlib.Path, size: int, tiles: Iterable[tuple[int, int, int]]) -> None:
    """Reads a shard back. Raises OSError if it is not as it was written."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
        if os.fstat(stream.fileno()).st_size == size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if all(zlib.crc32(data[start : start + length]) == s for start, length, s in tiles):
                    return
    raise OSError(f"{file} is not as it was written; check the disk, then run it again")


@contextlib.contextmanager
def _convert_errors() -> Iterator[None]:
    """Raises errors of TensorFlow's writer, such as a full disk, as OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        # TensorFlow gives no number of an error, and its message begins with the path.
        raise OSError(error.message.rpartition("; ")[2]) from error
