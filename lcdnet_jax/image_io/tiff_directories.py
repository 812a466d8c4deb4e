"""Directories of TIFF files, read by tifffile: which one holds the picture, and how."""

import contextlib
import dataclasses
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import tifffile
from PIL import ExifTags
from tifffile import COMPRESSION, PHOTOMETRIC

from lcdnet_jax.image_io._types import ImageError
from lcdnet_jax.image_io.limits import check_pixels
from lcdnet_jax.image_io.metadata import ORIENTATION_TAG
from lcdnet_jax.messages import format_count

_Tag = ExifTags.Base  # the tags of TIFF files by name

# Tags that decide what the pixels are. If tifffile cannot read one, it takes a default instead.
_PIXEL_TAGS = {
    _Tag.ImageWidth,
    _Tag.ImageLength,
    _Tag.BitsPerSample,
    _Tag.Compression,
    _Tag.PhotometricInterpretation,
    _Tag.FillOrder,
    _Tag.StripOffsets,
    ORIENTATION_TAG,
    _Tag.SamplesPerPixel,
    _Tag.RowsPerStrip,
    _Tag.StripByteCounts,
    _Tag.PlanarConfiguration,
    _Tag.Predictor,
    _Tag.ColorMap,
    _Tag.TileWidth,
    _Tag.TileLength,
    _Tag.TileOffsets,
    _Tag.TileByteCounts,
    _Tag.SubIFDs,
    _Tag.ExtraSamples,
    _Tag.SampleFormat,
    _Tag.JPEGTables,
    _Tag.YCbCrSubSampling,
    254,  # NewSubfileType
    292,  # T4Options
}

_NEW_SUBFILE_TYPE, _T4_OPTIONS, _INK_SET = 254, 292, 332

_CLEARLY_LARGER = 4  # times as many pixels as a preview of the same picture

_REDUCED = 1  # bit of NewSubfileType: a preview or thumbnail

ASSOCIATED, UNASSOCIATED = 1, 2  # ExtraSamples: alpha, multiplied into the colors or not

_UNSIGNED, _FLOAT = 1, 3  # SampleFormat

# Compressions whose decoders return bytes, by name.
BYTE_COMPRESSIONS = {
    "lzw": {COMPRESSION.LZW},
    "deflate": {COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE},
    "packbits": {COMPRESSION.PACKBITS},
    "lzma": {COMPRESSION.LZMA},
    "zstd": {COMPRESSION.ZSTD, COMPRESSION.ZSTD_DEPRECATED},
}

FAX_COMPRESSIONS = {COMPRESSION.CCITTRLE, COMPRESSION.CCITT_T4, COMPRESSION.CCITT_T6}

# Bounds on what is read before the size of the picture is known.
_MOST_HEADER_BYTES = 1 << 25
_MOST_HEADER_READS = 50_000
_MOST_DIRECTORIES = 1000

_LARGEST_TILE = 4096  # pixels a side, or twice the side of the picture


class RawPictureError(ImageError):
    """The picture consists of the values of a camera's sensor, which must be developed."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """The directory of a TIFF file that holds the picture, and what its pixels are.

    Attributes:
        page: The directory.
        first: The first directory of the file, which holds the EXIF data.
        height: Pixels as stored.
        width: Pixels as stored.
        samples: Channels as stored.
        bits: 1, 2, 4, 8, 16 or 32 bits a channel.
        is_float: Whether channels are floating point.
        alpha: ``ASSOCIATED`` or ``UNASSOCIATED`` if the last channel is alpha, else None.
        orientation: EXIF orientation, 1 to 8.
    """

    page: tifffile.TiffPage
    first: tifffile.TiffPage
    height: int
    width: int
    samples: int
    bits: int
    is_float: bool
    alpha: int | None
    orientation: int

    @property
    def channels(self) -> int:
        """Channels of the result."""
        colors = 1 if self.page.photometric in (0, 1) else 3
        return colors + (self.alpha is not None)

    @property
    def planes(self) -> int:
        """Number of planes in which channels are stored apart."""
        return self.samples if self.page.planarconfig == 2 else 1

    @property
    def segment_size(self) -> tuple[int, int]:
        """Rows and columns of a strip or tile."""
        if self.page.is_tiled:
            return self.page.tilelength, self.page.tilewidth
        return self.page.rowsperstrip, self.width

    @property
    def segment_grid(self) -> tuple[int, int]:
        """Number of strips or tiles of a plane, down and across."""
        rows, columns = self.segment_size
        return -(-self.height // rows), -(-self.width // columns)

    def list_heights(self, index: int) -> set[int]:
        """Lists the numbers of rows that a strip or tile may have.

        The last strip ends with the picture, or is as long as the others.
        """
        down, across = self.segment_grid
        rows = self.segment_size[0]
        if self.page.is_tiled or index // across % down < down - 1:
            return {rows}
        return {rows, self.height - (down - 1) * rows}

    def list_lengths(self, index: int) -> set[int]:
        """Lists the numbers of bytes that a decoded strip or tile may have."""
        columns = self.segment_size[1]
        row = -(-columns * self.samples // self.planes * self.bits // 8)
        return {rows * row for rows in self.list_heights(index)}


@contextlib.contextmanager
def open_picture(stream: BinaryIO, name: str) -> Iterator[Picture]:
    """Yields the directory of the picture; raises ImageError if there is none to read."""
    stream.seek(0)  # tifffile counts offsets from where the stream is
    with _TIFFFILE_MESSAGES.collect() as messages:
        try:
            file = tifffile.TiffFile(cast(Any, _BoundedStream(stream, name)), _multifile=False)
            pages, inner = _list_directories(file, name)
            _check_messages(messages)
            page = _find_picture(pages, inner, name)
            picture = _describe(page, pages[0], name)
        except ImageError:
            raise
        except Exception as error:  # damaged directories fail in many ways
            raise ImageError(
                f"{name}: the TIFF header is damaged or cut short ({error}); copy the file again"
            ) from error
        yield picture
        try:
            _check_messages(messages)
        except ValueError as error:
            raise ImageError(
                f"{name}: the TIFF file is cut short or damaged ({error}); copy or download it "
                "again"
            ) from error


def _check_messages(messages: Iterable[str]) -> None:
    """Raises ValueError for errors of tifffile that are about pixels."""
    for message in messages:
        tag = re.search(r"TiffTag (\d+)", message)
        numbers = "incorrect Strip" in message  # compared by _check_segments
        if not numbers and (tag is None or int(tag[1]) in _PIXEL_TAGS):
            raise ValueError(message)


class _TifffileMessages(logging.Filter):
    """What tifffile logs instead of raising, while it reads one of our files."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @contextlib.contextmanager
    def collect(self) -> Iterator[list[str]]:
        """Yields a list that gets the errors which this thread logs from here on."""
        found: list[str] = []
        self._local.found = found
        try:
            yield found
        finally:
            self._local.found = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Collects errors and hides the rest; other users of tifffile see all of theirs."""
        found: list[str] | None = getattr(self._local, "found", None)
        if found is None:
            return True
        if record.levelno >= logging.ERROR:
            found.append(record.getMessage())
        return False


_TIFFFILE_MESSAGES = _TifffileMessages()
tifffile.logger().addFilter(_TIFFFILE_MESSAGES)


class _BoundedStream:
    """A stream of which directories are read, but not gigabytes.

    A tag may claim any length, and directories may form a loop.
    """

    def __init__(self, stream: BinaryIO, name: str):
        self._stream = stream
        self._error = ImageError(
            f"{name}: the TIFF header is damaged or larger than any picture needs; save the image "
            "again"
        )
        self._bytes, self._reads = _MOST_HEADER_BYTES, _MOST_HEADER_READS
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Reads bytes; raises ImageError if they are too many in all."""
        self._bytes -= size
        self._reads -= 1
        if size < 0 or self._bytes < 0 or self._reads < 0:
            raise self._error
        return self._stream.read(size)


def _list_directories(
    file: tifffile.TiffFile, name: str
) -> tuple[list[tifffile.TiffPage], list[tifffile.TiffPage]]:
    """Reads the directories of a file, and those inside them."""
    pages: list[tifffile.TiffPage] = []
    inner: list[tifffile.TiffPage] = []
    for page in file.pages:
        pages.append(cast(tifffile.TiffPage, page))
        inner += _list_subdirectories(pages[-1])
        if len(pages) + len(inner) > _MOST_DIRECTORIES:
            raise ImageError(
                f"{name}: holds more than {_MOST_DIRECTORIES} pictures (pages); save each to a "
                "file of its own"
            )
    if not pages:
        raise ValueError("it names no picture")
    return pages, inner


def _find_picture(
    pages: list[tifffile.TiffPage], inner: list[tifffile.TiffPage], name: str
) -> tifffile.TiffPage:
    """Finds the one full picture; previews, thumbnails and smaller copies are ignored."""
    full = [page for page in pages if not _is_reduced(page)]
    within = [page for page in inner if not _is_reduced(page)]
    if full:  # smaller copies of it are not always marked
        within = [page for page in within if _count_pixels(page) >= _count_pixels(full[0])]
    found = full + within
    if not found:
        raise ImageError(
            f"{name}: holds previews only, no full picture; export the picture as TIFF with the "
            "program that made the file"
        )
    if any(page.photometric in (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW) for page in found):
        raise RawPictureError(f"{name}: is a raw file of a camera; export it as TIFF")
    if len(full) == 1 and within:  # a preview in front of the picture is not always marked
        largest = max(within, key=_count_pixels)
        others = [page for page in found if page is not largest]
        if all(_CLEARLY_LARGER * _count_pixels(page) <= _count_pixels(largest) for page in others):
            return largest
    if len(found) > 1:
        raise ImageError(
            f"{name}: holds {format_count(len(found), 'picture')} (pages); save each to a "
            "file of its own"
        )
    return found[0]


def _list_subdirectories(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    if page.subifds is None:
        return []
    found = [cast(tifffile.TiffPage, inner) for inner in page.pages or ()]
    if len(found) != len(page.subifds):
        raise ValueError("a sub-directory is missing")
    return found


def _is_reduced(page: tifffile.TiffPage) -> bool:
    return bool(page.subfiletype & _REDUCED)


def _count_pixels(page: tifffile.TiffPage) -> int:
    return _get_integer(page, _Tag.ImageWidth) * _get_integer(page, _Tag.ImageLength)


def _get_integer(page: tifffile.TiffPage, tag: int, default: int | None = None) -> int:
    value = page.tags.valueof(tag, default)
    if not isinstance(value, (int, np.integer)):
        raise ValueError(f"tag {int(tag)} is {value!r:.40}")
    return int(value)


def _get_integers(page: tifffile.TiffPage, tag: int, default: int) -> set[int]:
    """The values of a tag that has one for each channel."""
    values = np.atleast_1d(page.tags.valueof(tag, default))
    if values.dtype.kind not in "iu":
        raise ValueError(f"tag {int(tag)} is {values!r:.40}")
    return set(values.tolist())


def _describe(page: tifffile.TiffPage, first: tifffile.TiffPage, name: str) -> Picture:
    """Checks all that decides whether the pixels can be decoded."""
    width, height = _get_integer(page, _Tag.ImageWidth), _get_integer(page, _Tag.ImageLength)
    if width <= 0 or height <= 0:
        raise ImageError(f"{name}: the image has zero size ({width}x{height}); save it again")
    check_pixels(height, width, name)
    samples = _get_integer(page, _Tag.SamplesPerPixel, 1)
    all_bits = _get_integers(page, _Tag.BitsPerSample, 1)
    formats = _get_integers(page, _Tag.SampleFormat, _UNSIGNED)
    is_float = formats == {_FLOAT} and all_bits in ({16}, {32})
    bits = max(all_bits)
    is_integer = formats <= {_UNSIGNED, 4} and all_bits in ({1}, {2}, {4}, {8}, {16})
    if not (is_float or is_integer):
        kind = "floating-point" if _FLOAT in formats else "signed" if 2 in formats else "unsigned"
        raise make_type_error(name, bits, kind)
    if page.planarconfig not in (1, 2):
        raise ValueError(f"planar configuration {page.planarconfig}")
    if page.predictor not in ((1, 2, 3) if is_float else (1, 2)):
        raise ValueError(f"predictor {page.predictor} of {bits}-bit pixels")
    if page.imagedepth != 1:
        raise ImageError(f"{name}: holds a volume of {page.imagedepth} slices; save each slice")
    alpha = _find_alpha(page, samples, bits, is_float, name)
    _check_compression(page, bits, name)
    orientation = page.tags.valueof(ORIENTATION_TAG, first.tags.valueof(ORIENTATION_TAG, 1))
    if orientation not in range(1, 9):
        orientation = 1
    picture = Picture(page, first, height, width, samples, bits, is_float, alpha, int(orientation))
    _check_segments(picture, name)
    return picture


def _find_alpha(
    page: tifffile.TiffPage, samples: int, bits: int, is_float: bool, name: str
) -> int | None:
    """Finds the kind of alpha; raises ImageError for colors and channels that are not read."""
    color = _get_integer(page, _Tag.PhotometricInterpretation)
    colors = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}.get(color, 0)
    wrong = (
        not colors
        or (color == PHOTOMETRIC.PALETTE and (bits == 16 or is_float))
        or (color == PHOTOMETRIC.SEPARATED and (bits != 8 or _get_integer(page, _INK_SET, 1) != 1))
        or (color == PHOTOMETRIC.YCBCR and bits != 8)
        or (color == PHOTOMETRIC.MINISWHITE and is_float)
    )
    if wrong:
        words = getattr(page.photometric, "name", color)
        kind = "float" if is_float else "integer"
        raise ImageError(
            f"{name}: a TIFF of {bits}-bit {kind} pixels whose colors are {words} is not "
            "supported; save the image again as gray or RGB with 8 or 16 bits a channel"
        )
    extra = page.tags.valueof(_Tag.ExtraSamples, ())
    kinds = [int(kind) for kind in np.atleast_1d(extra)]
    if not kinds and colors == 3 and samples == 4:
        kinds = [UNASSOCIATED]  # as OpenCV writes
    if samples < colors:
        raise ValueError(f"{format_count(samples, 'channel')} for {colors} colors")
    with_alpha = color in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)
    good = samples == colors or (with_alpha and samples == colors + 1)
    if not good or len(kinds) != samples - colors or not set(kinds) <= {1, 2}:
        raise ImageError(
            f"{name}: holds channels that are neither color nor alpha, such as a mask, which are "
            "never dropped silently; save it again without them, or with one marked as alpha"
        )
    return kinds[0] if kinds else None


def _check_compression(page: tifffile.TiffPage, bits: int, name: str) -> None:
    number = page.compression
    known = {COMPRESSION.NONE, COMPRESSION.JPEG, *FAX_COMPRESSIONS}.union(
        *BYTE_COMPRESSIONS.values()
    )
    is_jpeg = number == COMPRESSION.JPEG
    color = page.photometric
    wrong = (
        number not in known
        or (is_jpeg and (bits != 8 or color in (PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED)))
        or (color == PHOTOMETRIC.YCBCR and not is_jpeg and page.is_subsampled)
        or (number in FAX_COMPRESSIONS and (bits != 1 or page.samplesperpixel != 1))
        or (number == COMPRESSION.CCITT_T4 and page.tags.valueof(_T4_OPTIONS, 0) & 1)
    )
    if wrong:
        words = getattr(number, "name", number)
        raise ImageError(
            f"{name}: a TIFF compressed as {words}{' with such pixels' * (number in known)} is not "
            "supported; save the image again, compressed by LZW or Deflate"
        )


def _check_segments(picture: Picture, name: str) -> None:
    """Raises ImageError unless every strip or tile lies in the file."""
    page = picture.page
    rows, columns = picture.segment_size
    if rows <= 0 or columns <= 0 or page.tiledepth > 1:
        raise ValueError(f"tiles or strips of {columns}x{rows} pixels")
    if page.is_tiled and (
        rows > max(_LARGEST_TILE, 2 * picture.height)
        or columns > max(_LARGEST_TILE, 2 * picture.width)
    ):
        raise ValueError(f"tiles of {columns}x{rows} pixels")
    down, across = picture.segment_grid
    count = down * across * picture.planes
    tags = (_Tag.TileOffsets, _Tag.TileByteCounts)
    if not page.is_tiled:
        tags = (_Tag.StripOffsets, _Tag.StripByteCounts)
    offsets, lengths = (np.atleast_1d(page.tags.valueof(tag, ())) for tag in tags)
    if (offsets.size, lengths.size) != (count, count):
        raise ImageError(
            f"{name}: the TIFF file is damaged ({picture.width}x{picture.height} pixels need "
            f"{format_count(count, 'tile' if page.is_tiled else 'strip')}, but it lists "
            f"{format_count(offsets.size, 'offset')} and {format_count(lengths.size, 'length')}); "
            "copy or download it again"
        )
    if not lengths.all():
        raise ImageError(
            f"{name}: the TIFF file has empty strips or tiles; save it again without sparse tiles"
        )
    end, size = int(np.max(offsets.astype(object) + lengths)), page.parent.filehandle.size
    if end > size:
        raise ImageError(
            f"{name}: the TIFF file is cut short (its pixels end at byte {end} of {size}); copy "
            "or download it again"
        )
    if page.compression == COMPRESSION.NONE:
        for index, length in enumerate(lengths.tolist()):
            check_length(picture, index, length, name)


def check_length(picture: Picture, index: int, length: int, name: str) -> None:
    """Raises ImageError unless a decoded strip or tile has all of its bytes, and no more."""
    lengths = picture.list_lengths(index)
    if length not in lengths:
        raise ImageError(
            f"{name}: the TIFF file is cut short or damaged (strip or tile {index} has {length} of "
            f"{format_count(min(lengths), 'byte')}); copy or download it again"
        )


def make_float_error(name: str, bits: int) -> ImageError:
    """Makes the error of floating point where unsigned numbers are wanted."""
    return ImageError(
        f"{name}: floating-point TIFF with {bits} bits a channel has no fixed range; read it by "
        "read_with_metadata, which returns float32, or save the image again as unsigned numbers "
        "with 8 or 16 bits"
    )


def make_type_error(name: str, bits: int, kind: str) -> ImageError:
    """Makes the error of a type of numbers that is not read."""
    further = ""
    if kind == "floating-point":
        further = " or, for lcdnet-jax restore, as floating-point numbers with 32 bits"
    return ImageError(
        f"{name}: {kind} TIFF with {format_count(bits, 'bit')} a channel is not supported; "
        f"save the image again as unsigned numbers with 8 or 16 bits{further}"
    )
