"""EXIF data, changed in place.

EXIF data is "Exif", two zeros and a TIFF structure: directories of entries, which point to values
by their distance from the start of the structure. Maker notes hold such distances too, in formats
that only the makers know. So nothing is moved or written anew: entries are changed where they
stand, and all other bytes, such as text in any encoding, stay as they are.
"""

import dataclasses
import fractions
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import ExifTags

PREFIX = b"Exif\0\0"

# Pointers to the nested directories.
EXIF_IFD, GPS_IFD = ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value

_Tag = ExifTags.Base

# Bytes of a value by type; types 13 and 18 point to a directory, 16 to 18 are of BigTIFF.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_SHORT, _LONG, _RATIONAL = 3, 4, 5

# Tags of the first directory about the pixels of another file, or about its thumbnail.
_OF_THE_FILE = (
    *(_Tag.BitsPerSample, _Tag.Compression, _Tag.PhotometricInterpretation, _Tag.FillOrder),
    *(_Tag.StripOffsets, _Tag.SamplesPerPixel, _Tag.RowsPerStrip, _Tag.StripByteCounts),
    *(_Tag.PlanarConfiguration, _Tag.Predictor, _Tag.ColorMap, _Tag.TileWidth, _Tag.TileLength),
    *(_Tag.TileOffsets, _Tag.TileByteCounts, _Tag.SubIFDs, _Tag.ExtraSamples, _Tag.SampleFormat),
    *(_Tag.JpegIFOffset, _Tag.JpegIFByteCount, _Tag.InterColorProfile, _Tag.JPEGTables),
    *(_Tag.YCbCrSubSampling, _Tag.NewSubfileType),
)
# Further tags of TIFF files about the stored pixels, or that are other fields of Metadata.
_OF_TIFF = {
    *(*_OF_THE_FILE, _Tag.ImageWidth, _Tag.ImageLength, _Tag.Orientation, _Tag.PageNumber),
    *(_Tag.SubfileType, _Tag.Thresholding, _Tag.CellWidth, _Tag.CellLength, _Tag.T4Options),
    *(_Tag.T6Options, _Tag.MinSampleValue, _Tag.MaxSampleValue, _Tag.GrayResponseUnit),
    *(_Tag.GrayResponseCurve, _Tag.TransferFunction, _Tag.HalftoneHints, _Tag.InkSet),
    *(_Tag.SMinSampleValue, _Tag.SMaxSampleValue, _Tag.YCbCrCoefficients, _Tag.YCbCrPositioning),
    *(_Tag.ReferenceBlackWhite, _Tag.XMLPacket, 33723, 34377, 37724, EXIF_IFD, GPS_IFD),
    *(33421, 33422),  # of sensors
    *range(50706, 51200),  # raw files
}
_GEOGRAPHIC = (33550, 33922, 34264)  # of GeoTIFF: from pixels to places

_RESOLUTIONS = (
    (_Tag.XResolution, _Tag.YResolution),
    (_Tag.FocalPlaneXResolution, _Tag.FocalPlaneYResolution),
)
_SIZE_TAGS = (
    (_Tag.ImageWidth, _Tag.ImageLength),
    (_Tag.ExifImageWidth, _Tag.ExifImageHeight),
)
_IN_PIXELS = (0x9214, 0xA214)  # SubjectArea, SubjectLocation: where the subject was stored

_PLAIN_SHAPE = re.compile(rb'\{"shape": \[[\d, ]*\]\}\0*')
_LAYOUT_NAME = "description of the stored planes"

_INCH, _CENTIMETER = 2, 3  # ResolutionUnit

# Beginnings of maker notes that hold no distances from the start of the EXIF data.
_PORTABLE_NOTES = (b"Apple iOS\0", b"FUJIFILM", b"Nikon\0\2", b"OLYMPUS\0", b"OM SYSTEM\0")

_RESOLUTION_TAGS = (*_RESOLUTIONS[0], _Tag.ResolutionUnit)
_INTEROPERABILITY = ExifTags.IFD.Interop.value

_LARGEST_VALUE = 2**15  # bytes of a tag of a TIFF file: all EXIF data of a JPEG has at most 2^16

_MOST_ENTRIES = 1000  # of a directory; cameras write fewer than 100


class ExifError(ValueError):
    """The data is no EXIF data, or is damaged."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An entry of a directory: its place in the data, and that of its value."""

    place: int
    kind: int
    count: int
    start: int
    size: int


class _Data:
    """EXIF data that can be changed. Places are indices in ``data``."""

    def __init__(self, exif: bytes, *, read_only: bool = False):
        self.data: Any = exif if read_only else bytearray(exif.removeprefix(PREFIX))
        orders = {b"II*\0": "<", b"MM\0*": ">"}
        big = {b"II+\0": "<", b"MM\0+": ">"} if read_only else {}  # BigTIFF
        start = bytes(self.data[:4])
        self.order = (orders | big).get(start, "")
        if not self.order:
            raise ExifError("EXIF data must begin with II or MM")
        # Formats of a count of entries, of a place, and of type and count of values.
        self._forms = ("Q", "Q", "HHQ") if start in big else ("H", "I", "HHI")
        (self.first,) = self._unpack(self._forms[1], 8 if start in big else 4)
        self.directories = {0: self.first}  # by the tag that points there
        entries = self.entries(0)
        for tag in (EXIF_IFD, GPS_IFD):
            form = {_LONG: "I", 13: "I", 16: "Q", 18: "Q"}
            if tag in entries and entries[tag].kind in form:
                (place,) = self._unpack(form[entries[tag].kind], entries[tag].start)
                self.directories[tag] = place
                try:
                    self.entries(tag)
                except ExifError:
                    del self.directories[tag]

    def entries(self, pointer: int) -> dict[int, _Entry]:
        """The entries of a directory whose values lie in the data, by tag."""
        found: dict[int, _Entry] = {}
        if pointer not in self.directories:
            return found
        start = self.directories[pointer]
        of_count, of_place, of_entry = self._forms
        (count,) = self._unpack(of_count, start)
        head, inline = struct.calcsize("=" + of_entry), struct.calcsize("=" + of_place)
        first = start + struct.calcsize("=" + of_count)
        end = first + (head + inline) * count
        if start < 8 or end > len(self.data) or count > _MOST_ENTRIES:
            raise ExifError("a directory is cut short")
        for place in range(first, end, head + inline):
            tag, kind, number = self._unpack(of_entry, place)
            size = _SIZES.get(kind, 0) * number
            where = place + head if size <= inline else self._unpack(of_place, place + head)[0]
            if size and where + size <= len(self.data):
                found.setdefault(tag, _Entry(place, kind, number, where, size))
        return found

    def remove(self, pointer: int, tags: Iterable[int]) -> bool:
        """Removes entries: those behind them move up, and no value moves."""
        removed = False
        for tag in set(tags) & self.entries(pointer).keys():
            entry = self.entries(pointer).get(tag)
            if entry is None:
                continue
            removed = True
            start = self.directories[pointer]
            (count,) = self._unpack("H", start)
            end = start + 2 + 12 * count
            self.data[entry.place : end] = self.data[entry.place + 12 : end] + bytes(12)
            self._pack("H", start, count - 1)
        return removed

    def number(self, pointer: int, tag: int) -> int | None:
        """A value of one whole number."""
        entry = self.entries(pointer).get(tag)
        if entry is None or entry.kind not in (_SHORT, _LONG) or entry.count != 1:
            return None
        return int(self._unpack("H" if entry.kind == _SHORT else "I", entry.start)[0])

    def set_number(self, pointer: int, tag: int, value: int) -> None:
        """Changes a value of one whole number, if there is one."""
        entry = self.entries(pointer).get(tag)
        if entry is None or entry.kind not in (_SHORT, _LONG) or entry.count != 1:
            return
        kind = _LONG if value > 0xFFFF else entry.kind
        self._pack("H", entry.place + 2, kind)
        self.data[entry.start : entry.start + 4] = bytes(4)
        self._pack("H" if kind == _SHORT else "I", entry.start, value)

    def ratio(self, pointer: int, tag: int) -> tuple[int, int] | None:
        """A value of one ratio, as numerator and denominator."""
        entry = self.entries(pointer).get(tag)
        if entry is None or entry.kind != _RATIONAL or entry.count != 1:
            return None
        numerator, denominator = self._unpack("II", entry.start)
        return (numerator, denominator) if numerator and denominator else None

    def set_ratio(self, pointer: int, tag: int, ratio: tuple[int, int]) -> None:
        """Changes a value of one ratio that ``ratio`` has found."""
        entry = self.entries(pointer).get(tag)
        if entry is None:
            raise ExifError("values and directories overlap")
        numerator, denominator = ratio
        while numerator > 0xFFFFFFFF:
            numerator, denominator = numerator // 2, max(denominator // 2, 1)
        self._pack("II", entry.start, numerator, denominator)

    def remove_thumbnail(self) -> bool:
        """Unlinks the second directory and overwrites the picture to which it points."""
        end = self.first + 2 + 12 * self._unpack("H", self.first)[0]
        starts = {entry.start for entry in self.entries(0).values()}
        if end + 4 > len(self.data) or starts & {*range(end, end + 4)}:  # no pointer is there
            return False
        (self.directories[1],) = self._unpack("I", end)
        found = bool(self.directories[1])
        try:
            start = self.number(1, _Tag.JpegIFOffset)
            size = self.number(1, _Tag.JpegIFByteCount)
            if start and size and self.data[start : start + 2] == b"\xff\xd8":
                if start + size < len(self.data):
                    self.data[start : start + size] = bytes(size)
                else:
                    del self.data[start:]
        except ExifError:  # no entry leads to it
            pass
        del self.directories[1]
        if end + 4 <= len(self.data):
            self._pack("I", end, 0)
        return found

    def __bytes__(self) -> bytes:
        return PREFIX + bytes(self.data)

    def _unpack(self, form: str, place: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + form, self.data, place)
        except struct.error as error:
            raise ExifError("a pointer leads out of the data") from error

    def _pack(self, form: str, place: int, *values: int) -> None:
        struct.pack_into(self.order + form, self.data, place, *values)


def read_orientation(exif: bytes) -> int | None:
    """Reads the orientation, 1 to 8; None if there is none, or if the data is damaged."""
    try:
        value = _Data(exif).number(0, _Tag.Orientation)
    except ExifError:
        return None
    return value if value in range(1, 9) else None


def read_resolution(exif: bytes) -> tuple[float, float] | None:
    """Reads pixels per inch, horizontal and vertical, of the image as it is stored."""
    try:
        data = _Data(exif)
        ratios = [data.ratio(0, tag) for tag in _RESOLUTIONS[0]]
    except ExifError:
        return None
    unit = {None: 1.0, _INCH: 1.0, _CENTIMETER: 2.54}.get(data.number(0, _Tag.ResolutionUnit))
    if unit is None or ratios[0] is None or ratios[1] is None:
        return None
    return ratios[0][0] / ratios[0][1] * unit, ratios[1][0] / ratios[1][1] * unit


def make_upright(exif: bytes, orientation: int) -> tuple[bytes, list[str]]:
    """Adapts the EXIF data of a file to the pixels that ``read`` returns.

    Args:
        exif: EXIF data, with or without "Exif" and two zeros.
        orientation: The orientation that was applied to the pixels, 1 to 8.

    Returns:
        EXIF data that says that the image is upright, without thumbnail; and the names of what was
        left out.

    Raises:
        ExifError: The data is damaged.
    """
    data = _Data(exif)
    left_out = ["thumbnail"] if data.remove_thumbnail() else []
    data.set_number(0, _Tag.Orientation, 1)
    data.remove(0, _OF_THE_FILE)
    entry = data.entries(0).get(_Tag.ImageDescription)
    if entry and _is_layout(bytes(data.data[entry.start : entry.start + entry.size])):
        data.remove(0, [_Tag.ImageDescription])
        left_out.append(_LAYOUT_NAME)
    data.remove(EXIF_IFD, [_Tag.CompressedBitsPerPixel])
    if orientation >= 5:
        for (x_tag, y_tag), pointer in zip(_RESOLUTIONS, (0, EXIF_IFD), strict=True):
            x, y = data.ratio(pointer, x_tag), data.ratio(pointer, y_tag)
            if x and y:
                data.set_ratio(pointer, x_tag, y)
                data.set_ratio(pointer, y_tag, x)
    if orientation > 1:
        left_out += _remove_places(data)
    return bytes(data), left_out


def _is_layout(description: bytes) -> bool:
    """Tells whether a description is for programs, about the planes of the file that held it."""
    text = description[:1000].lstrip()
    return (
        text.startswith((b"ImageJ=", b"shape=("))
        or (text.startswith(b"{") and b'"shape":' in text)
        or b"<OME" in text
    )


def _remove_places(data: _Data) -> list[str]:
    """Removes what depends on the places of pixels; the names of it."""
    left_out = ["subject area"] if data.remove(EXIF_IFD, _IN_PIXELS) else []
    return left_out + ["GeoTIFF tags"] * data.remove(0, _GEOGRAPHIC)


def remove_orientation(exif: bytes) -> bytes:
    """Removes the orientation, which means that the image is upright."""
    data = _Data(exif)
    data.remove(0, [_Tag.Orientation])
    return bytes(data)


def set_size(exif: bytes, height: int, width: int) -> bytes:
    """Changes the entries that hold height and width, if there are any."""
    data = _Data(exif)
    for (width_tag, height_tag), pointer in zip(_SIZE_TAGS, (0, EXIF_IFD), strict=True):
        data.set_number(pointer, width_tag, width)
        data.set_number(pointer, height_tag, height)
    return bytes(data)


def enlarge(exif: bytes, scale: int) -> tuple[bytes, list[str]]:
    """Multiplies the resolutions; removes what is in pixels, and returns the names of it."""
    data = _Data(exif)
    for tags, pointer in zip(_RESOLUTIONS, (0, EXIF_IFD), strict=True):
        for tag in tags:
            if ratio := data.ratio(pointer, tag):
                data.set_ratio(pointer, tag, (ratio[0] * scale, ratio[1]))
    left_out = _remove_places(data)
    return bytes(data), left_out


Values = dict[int, tuple[int, int, bytes]]
"""Entries of a directory by tag: type, count and the bytes of the value."""


def read_values(tiff: bytes) -> tuple[str, dict[int, Values]]:
    """Reads the directories of a TIFF structure: EXIF data without its prefix, or a TIFF file.

    Returns:
        The byte order, "<" or ">", and the entries by the tag that points to their directory; 0 for
        the first.

    Raises:
        ExifError: The data is damaged, or is no classic TIFF.
    """
    data = _Data(tiff, read_only=True)
    return data.order, {
        pointer: {
            tag: (entry.kind, entry.count, bytes(data.data[entry.start : entry.start + entry.size]))
            for tag, entry in data.entries(pointer).items()
        }
        for pointer in data.directories
    }


def from_tiff(order: str, directories: Mapping[int, Values]) -> tuple[bytes | None, list[str]]:
    """Builds EXIF data of the tags of a TIFF file.

    Args:
        order: Byte order, as from :func:`read_values`.
        directories: Entries of the file.

    Returns:
        EXIF data, or None if there is nothing; and the names of what was left out.
    """
    chosen: dict[int, Values] = {}
    left_out = []
    for pointer, values in directories.items():
        dropped = _OF_TIFF if pointer == 0 else {_INTEROPERABILITY}
        kept = {tag: value for tag, value in values.items() if tag not in dropped and value[0] < 16}
        large = [tag for tag, (_, _, value) in kept.items() if len(value) > _LARGEST_VALUE]
        left_out += [f"TIFF tag {kept.pop(tag) and tag}" for tag in large]
        chosen[pointer] = kept
    if 37724 in directories.get(0, {}):
        left_out.append("Photoshop layers")
    _, _, text = chosen.get(0, {}).get(_Tag.ImageDescription, (0, 0, b""))
    if _is_layout(text):
        del chosen[0][_Tag.ImageDescription]
        if not _PLAIN_SHAPE.fullmatch(text):  # which tifffile adds to every file
            left_out.append(_LAYOUT_NAME)
    left_out += _remove_maker_note(chosen)
    if not any(chosen.values()):
        return None, left_out
    chosen.setdefault(0, {})[_Tag.Orientation] = (_SHORT, 1, struct.pack(order + "H", 1))
    return build(order, chosen), left_out


def _remove_maker_note(directories: dict[int, Values]) -> list[str]:
    """Removes a maker note that another position would make unreadable."""
    note = directories.get(EXIF_IFD, {}).get(_Tag.MakerNote)
    if note is None or note[2].startswith(_PORTABLE_NOTES):
        return []
    del directories[EXIF_IFD][_Tag.MakerNote]
    return ["maker notes, which TIFF cannot hold"]


def add_resolution(exif: bytes | None, resolution: tuple[float, float]) -> bytes:
    """EXIF data with a resolution in pixels per inch, if it has none; nothing may point into it."""
    order, directories = read_values(exif.removeprefix(PREFIX)) if exif else ("<", {})
    first = directories.setdefault(0, {})
    if _Tag.XResolution not in first:
        for tag, value in zip(_RESOLUTIONS[0], resolution, strict=True):
            pair = struct.pack(order + "II", *_make_ratio(value))
            first[tag] = (_RATIONAL, 1, pair)
        first[_Tag.ResolutionUnit] = (_SHORT, 1, struct.pack(order + "H", _INCH))
    return build(order, directories)


def set_resolution(exif: bytes, resolution: tuple[float, float]) -> bytes:
    """Changes the pixels per inch in the first directory, where they have a place.

    Raises:
        ExifError: The data is damaged.
    """
    data = _Data(exif)
    if all(data.ratio(0, tag) for tag in _RESOLUTIONS[0]):
        data.set_number(0, _Tag.ResolutionUnit, _INCH)
        for tag, value in zip(_RESOLUTIONS[0], resolution, strict=True):
            data.set_ratio(0, tag, _make_ratio(value))
    return bytes(data)


def _make_ratio(value: float) -> tuple[int, int]:
    return fractions.Fraction(value).limit_denominator(10_000).as_integer_ratio()


def add_to_tiff(tiff: bytes, exif: bytes | None, tags: Values) -> tuple[bytes, list[str]]:
    """Adds EXIF data and other tags to a TIFF file.

    Args:
        tiff: A classic TIFF file.
        exif: EXIF data.
        tags: Entries for the first directory, of types without byte order.

    Returns:
        The file, with a new first directory at its end; and the names of what was left out.

    Raises:
        ExifError: ``exif`` is damaged.
    """
    order, directories = read_values(exif.removeprefix(PREFIX)) if exif else ("<", {})
    left_out = _remove_maker_note(directories)
    file = _Data(tiff, read_only=True)
    new = {
        tag: value for tag, value in directories.get(0, {}).items() if tag not in _OF_TIFF
    } | tags
    directories[0] = {tag: _swap(value, order, file.order) for tag, value in new.items()}
    for pointer in (EXIF_IFD, GPS_IFD):
        directories[pointer] = {
            tag: _swap(value, order, file.order)
            for tag, value in directories.get(pointer, {}).items()
            if tag != _INTEROPERABILITY
        }
    # Old entries point to where their values are.
    start = file.first
    (count,) = struct.unpack_from(file.order + "H", tiff, start)
    raw = [tiff[place : place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)]
    old = {struct.unpack_from(file.order + "H", entry)[0]: entry for entry in raw}
    for tag in [tag for tag in directories[0] if tag in old and tag not in _RESOLUTION_TAGS]:
        del directories[0][tag]
    padding = b"\0" * (len(tiff) % 2)
    head, rest = _build(file.order, directories, len(tiff) + len(padding), old)
    pointer_bytes = struct.pack(file.order + "I", len(tiff) + len(padding))
    return b"".join([tiff[:4], pointer_bytes, tiff[8:], padding, head, rest]), left_out


def _swap(value: tuple[int, int, bytes], order: str, wanted: str) -> tuple[int, int, bytes]:
    """Changes the byte order of a value."""
    kind, count, data = value
    size = 4 if kind in (_RATIONAL, 10) else _SIZES[kind]
    if order == wanted or size == 1:
        return value
    return kind, count, np.frombuffer(data, f"u{size}").byteswap().tobytes()


def build(order: str, directories: Mapping[int, Values]) -> bytes:
    """Builds EXIF data of the entries that ``read_values`` returns."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return PREFIX + b"".join([head, *_build(order, directories, 8, {})])


def _build(
    order: str, directories: Mapping[int, Values], start: int, raw: Mapping[int, bytes]
) -> tuple[bytes, bytes]:
    """Builds directories that begin at ``start``: the first, and the nested ones behind it.

    Args:
        order: Byte order.
        directories: Entries by the tag that points to their directory.
        start: Place of the first directory.
        raw: Further entries of the first directory, as bytes.
    """
    nested = [pointer for pointer in (EXIF_IFD, GPS_IFD) if directories.get(pointer)]
    first = {tag: v for tag, v in directories.get(0, {}).items() if tag not in (EXIF_IFD, GPS_IFD)}
    first |= dict.fromkeys(nested, (_LONG, 1, bytes(4)))
    raw = {tag: entry for tag, entry in raw.items() if tag not in first}
    place = start + 12 * len(raw) + _count_bytes(first)
    rest = b""
    for pointer in nested:
        first[pointer] = (_LONG, 1, struct.pack(order + "I", place + len(rest)))
        rest += _build_directory(order, directories[pointer], place + len(rest), {})
    return _build_directory(order, first, start, raw), rest


def _count_bytes(values: Values) -> int:
    sizes = (len(value) for _, _, value in values.values())
    return 2 + 12 * len(values) + 4 + sum(size + size % 2 for size in sizes if size > 4)


def _build_directory(order: str, values: Values, start: int, raw: Mapping[int, bytes]) -> bytes:
    entries, extra = dict(raw), b""
    behind = start + 2 + 12 * (len(values) + len(raw)) + 4
    for tag, (kind, count, value) in values.items():
        entry = struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            entries[tag] = entry + value.ljust(4, b"\0")
        else:
            entries[tag] = entry + struct.pack(order + "I", behind + len(extra))
            extra += value + b"\0" * (len(value) % 2)
    ordered = b"".join(entry for _, entry in sorted(entries.items()))
    return struct.pack(order + "H", len(entries)) + ordered + bytes(4) + extra
