"""Shards: the images of a data set in few large files, cut into tiles that can be read one by one.

``python -m input_pipeline.prepare`` writes a folder of shards:

    index.npz    what is in the shards and where; it is written last
    tfds/        TFRecord files of about 250 MB, and the descriptions with which TFDS reads them
                 (``tfds.builder_from_directory``)

A record is one tile: ``clean``, for pairs ``degraded`` (or ``left`` and ``right``) as PNG, ``name``
of the image, ``row`` and ``column`` of the first pixel of the tile in the degraded half. Tiles lie
side by side and do not overlap. An image of any size is put together from them, and a crop at any
place from those that it touches. So training draws from shards what it draws from the files, and
gets the same batches.

The index has the place of every PNG, so that a part of a shard is read without its records, on a
disk or in a bucket. It also has their CRC-32: a damaged tile is an error, and never another image.
"""

import dataclasses
import functools
import io
import math
import pathlib
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from input_pipeline.examples import Box, Example, Picture, Source, join_views
from lcdnet_jax import storage
from lcdnet_jax.atomic_io import DirectoryKind
from lcdnet_jax.image_io import BucketError, Header, ImageError
from lcdnet_jax.messages import format_count, join_some

INDEX, RECORDS = "index.npz", "tfds"

# The first is the marker of a complete folder in a bucket.
KIND = DirectoryKind("folder of shards", required=(INDEX, RECORDS), optional=())

_VERSION = 1

# What an index holds: the number of axes and the kind of each array.
_ARRAYS = {
    "version": (0, "i"),
    "name": (0, "U"),  # what the images are, such as "gopro train"
    "keys": (1, "U"),  # features of a record, the clean half first
    "files": (1, "U"),  # names of the shards
    "file_sizes": (1, "i"),  # bytes of each
    "examples": (1, "U"),  # names of the examples
    "example_files": (1, "i"),  # number of the shard of each
    "tile_sides": (1, "i"),  # side of a tile for each key, pixels
    # [examples, keys, 4]: height, width, channels, bits of each image. All tiles of a key have the
    # most channels of its images, and all tiles the most bits of any image.
    "headers": (3, "i"),
    # Start, bytes and CRC-32 of each PNG: by example, then by key, then row by row.
    "tiles": (2, "i"),
}


def count_tiles(header: Header, side: int) -> tuple[int, int]:
    """Rows and columns of tiles of an image."""
    return math.ceil(header.height / side), math.ceil(header.width / side)


def list_boxes(header: Header, side: int) -> list[Box]:
    """The tiles of an image, row by row. Those at the border may be smaller."""
    return [
        Box(top, left, min(side, header.height - top), min(side, header.width - left))
        for top in range(0, header.height, side)
        for left in range(0, header.width, side)
    ]


def read_shards(folder: pathlib.Path) -> Source:
    """Opens a folder of shards. Reads the index and no shard.

    Args:
        folder: A folder as ``python -m input_pipeline.prepare`` writes it.

    Returns:
        The examples of the data set that was prepared, with their names.

    Raises:
        ImageError: The folder holds no complete shards, or the index is damaged.
    """
    index = _read_index(folder)
    paths = [folder / RECORDS / str(name) for name in index["files"]]
    wrong = [
        f"{path.name} ({'missing' if found is None else f'{found} bytes instead of {size}'})"
        for path, size in zip(paths, index["file_sizes"].tolist(), strict=True)
        if (found := storage.find_size(path)) != size
    ]
    if wrong:
        raise ImageError(
            f"{folder}: {len(wrong)} of {format_count(len(paths), 'shard')} missing or incomplete: "
            f"{join_some(wrong, 20)}; copy or prepare them again"
        )
    sides = index["tile_sides"].tolist()
    tiles = iter(_split_tiles(index, sides))
    stored = [
        _TileFormat(
            side, depth, np.dtype(np.uint16 if index["headers"][..., 3].max() > 8 else np.uint8)
        )
        for side, depth in zip(sides, index["headers"][..., 2].max(0).tolist(), strict=True)
    ]
    examples = []
    for name, file, headers in zip(
        index["examples"].tolist(), index["example_files"], index["headers"], strict=True
    ):
        image = _StoredImage(paths[file])
        clean, *degraded = (
            image.make_picture(f"{folder} {name} {key}", Header(*header), form, next(tiles))
            for key, header, form in zip(
                index["keys"].tolist(), headers.tolist(), stored, strict=True
            )
        )
        examples.append(Example(name, clean, join_views(degraded) if degraded else None))
    return Source(f"shards {folder} ({index['name']})", tuple(examples))


def _read_index(folder: pathlib.Path) -> Mapping[str, np.ndarray]:
    path = folder / INDEX
    advice = "prepare it again: python -m input_pipeline.prepare SOURCE PATH OUT"
    if not folder.is_dir():
        raise ImageError(f"{folder}: is no folder; give one of shards, or {advice}")
    if not path.is_file():
        raise ImageError(f"{folder}: has no {INDEX}, so its shards are not complete; {advice}")
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as file:
            index = {name: file[name] for name in _ARRAYS}
        _check_index(index)
    except storage.UnreachableError as error:
        raise BucketError(str(error)) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{path}: is no index of shards, or damaged ({error}); {advice}") from None
    return index


def _check_index(index: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError if the arrays do not fit each other."""
    for name, (axes, kind) in _ARRAYS.items():
        if index[name].ndim != axes or index[name].dtype.kind != kind:
            raise ValueError(f"its {name} has another type")
    if index["version"] != _VERSION:
        raise ValueError(f"its version is {index['version']}, not {_VERSION}")
    examples, keys, files = (len(index[name]) for name in ("examples", "keys", "files"))
    headers, numbers = index["headers"], index["example_files"]
    if (
        headers.shape != (examples, keys, 4)
        or len(numbers) != examples
        or not examples
        or not 1 <= keys <= 3
        or len(index["tile_sides"]) != keys
        or len(index["file_sizes"]) != files
        or index["tiles"].shape[1:] != (3,)
    ):
        raise ValueError("its arrays have different lengths")
    if (
        headers[..., :2].min() < 1
        or not np.isin(headers[..., 2], (1, 3)).all()
        or not np.isin(headers[..., 3], (8, 16)).all()
        or index["tile_sides"].min() < 1
        or index["tiles"].min(initial=0) < 0
        or index["tiles"][:, :2].max(initial=0) > index["file_sizes"].max(initial=0)
        or not ((numbers >= 0) & (numbers < files)).all()
    ):
        raise ValueError("a number is out of range")
    grids = -(-headers[..., :2] // index["tile_sides"][:, None])
    if int(grids.prod(-1).sum()) != len(index["tiles"]):
        raise ValueError("it has another number of tiles than its images")


def _split_tiles(index: Mapping[str, np.ndarray], sides: Sequence[int]) -> Iterator[np.ndarray]:
    """Rows of ``tiles`` of each picture, ``[rows, columns, 3]``."""
    start = 0
    for headers in index["headers"].tolist():
        for header, side in zip(headers, sides, strict=True):
            rows, columns = count_tiles(Header(*header), side)
            part = index["tiles"][start : start + rows * columns]
            start += rows * columns
            yield part.reshape(rows, columns, 3)


class _TileFormat(NamedTuple):
    """How all tiles of a key are stored."""

    side: int
    channels: int
    dtype: np.dtype


class _StoredImage:
    """The bytes of an example in its shard. All its pictures share them.

    Args:
        path: The shard.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._lock = threading.Lock()
        self._tiles: list[np.ndarray] = []
        self._start = 0
        self._data: memoryview | None = None

    def make_picture(
        self, label: str, header: Header, form: _TileFormat, tiles: np.ndarray
    ) -> Picture:
        """A picture of the example.

        Args:
            label: Its name in errors.
            header: Size, channels and bits.
            form: How its tiles are stored.
            tiles: ``[rows, columns, 3]``, see ``_ARRAYS``.
        """
        self._tiles.append(tiles)
        decode_box = functools.partial(self._decode, label, header, form, tiles)
        picture = Picture(
            label,
            header,
            functools.partial(decode_box, Box(0, 0, header.height, header.width)),
            int(tiles[..., 1].sum()),
            decode_box=decode_box,
        )
        return dataclasses.replace(picture, load=functools.partial(self._load, picture))

    def _load(self, picture: Picture) -> Picture:
        """Reads the tiles of all pictures, which lie in one part of the shard, if they are not."""
        with self._lock:
            if self._data is None:
                starts = min(int(tiles[..., 0].min()) for tiles in self._tiles)
                ends = max(int(tiles[..., :2].sum(-1).max()) for tiles in self._tiles)
                (data,) = self._read([(starts, ends - starts)], picture.label)
                self._start, self._data = starts, memoryview(data)
        return dataclasses.replace(picture, load=None)

    def _read(self, parts: Sequence[tuple[int, int]], label: str) -> Sequence[bytes | memoryview]:
        if self._data is not None:
            return [self._data[start - self._start :][:size] for start, size in parts]
        try:
            return storage.read_parts(self._path, parts)
        except storage.UnreachableError as error:
            raise BucketError(str(error)) from error
        except OSError as error:
            raise ImageError(
                f"{label}: cannot be read from {self._path} ({error.strerror or error}); check the "
                "path and its permissions"
            ) from error

    def _decode(
        self, label: str, header: Header, form: _TileFormat, tiles: np.ndarray, box: Box
    ) -> np.ndarray:
        """Puts the pixels of a box together: uint8 or uint16 ``[H, W, 1 or 3]``."""
        side, channels, dtype = form
        bottom, right = box.top + box.height, box.left + box.width
        first_row, first_column = box.top // side, box.left // side
        touched = tiles[first_row : -(-bottom // side), first_column : -(-right // side)]
        rows = touched.reshape(-1, 3).tolist()
        encoded = self._read([(start, size) for start, size, _ in rows], label)
        pixels = np.empty((box.height, box.width, channels), dtype)
        for number, (data, (_, _, checksum)) in enumerate(zip(encoded, rows, strict=True)):
            row, column = divmod(number, touched.shape[1])
            top, left = (first_row + row) * side, (first_column + column) * side
            tile = _decode_tile(data, checksum)
            height, width = min(side, header.height - top), min(side, header.width - left)
            if tile is None or tile.shape != (height, width, channels) or tile.dtype != dtype:
                raise ImageError(
                    f"{label}: is damaged in {self._path}; copy the shard or prepare the data set "
                    "again"
                )
            # The part of the tile inside the box, in pixels of the image.
            begin_y, end_y = max(top, box.top), min(top + height, bottom)
            begin_x, end_x = max(left, box.left), min(left + width, right)
            pixels[begin_y - box.top : end_y - box.top, begin_x - box.left : end_x - box.left] = (
                tile[begin_y - top : end_y - top, begin_x - left : end_x - left]
            )
        if channels == 3:  # of a gray image all are equal
            pixels = (
                cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if header.channels == 3 else pixels[..., :1]
            )
        # As the file had it: 8 bits become 16 by a factor of 257.
        return (pixels // 257).astype(np.uint8) if form.dtype.itemsize * 8 > header.bits else pixels


def _decode_tile(data: bytes | memoryview, checksum: int) -> np.ndarray | None:
    """``[H, W, 1 or 3]`` in OpenCV's order of channels, or None if the bytes are damaged."""
    if not len(data) or zlib.crc32(data) != checksum:
        return None
    tile = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return tile[..., None] if tile is not None and tile.ndim == 2 else tile


def encode_tile(pixels: np.ndarray) -> bytes:
    """PNG of ``[H, W, 1 or 3]``, with OpenCV's fast compression."""
    if pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise ValueError(f"OpenCV {cv2.__version__} cannot encode {pixels.shape} {pixels.dtype}")
    return data.tobytes()


def encode_index(**arrays: Any) -> bytes:
    """The bytes of ``index.npz``; see ``_ARRAYS``.

    Raises:
        ValueError: The arrays do not fit each other.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    arrays["version"] = np.asarray(_VERSION)
    _check_index(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
