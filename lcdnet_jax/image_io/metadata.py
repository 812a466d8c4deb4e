"""Metadata of images of all formats: what is valid for a restored image, and which format holds it.

Each format has a module that finds metadata in its files and writes them. Here they are adapted:
to upright pixels when they are read (``adapt``), to another size (``enlarge_metadata``) and to the
format when they are written (``fit``). Damaged metadata counts as absent.
"""

import dataclasses
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.parsers import expat

import numpy as np
from PIL import ExifTags, Image

from lcdnet_jax.image_io import exif as exif_lib
from lcdnet_jax.image_io._types import Metadata

ORIENTATION_TAG = ExifTags.Base.Orientation.value

ICC_TAG = ExifTags.Base.InterColorProfile.value

# What each format holds, as fields of Metadata.
_HELD = {
    "PNG": ("icc_profile", "exif", "xmp", "comments", "png_chunks", "resolution"),
    "JPEG": ("icc_profile", "exif", "xmp", "iptc", "comments", "resolution"),
    "WEBP": ("icc_profile", "exif", "xmp"),
    "AVIF": ("icc_profile", "exif", "xmp"),
    "HEIC": ("icc_profile", "exif", "xmp"),
    "BMP": ("resolution",),
    "TIFF": ("icc_profile", "exif", "xmp", "iptc", "resolution"),
}
_NAMES = {
    "icc_profile": "color profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "comments": "comment",
    "resolution": "resolution",
}
_PROFILE_LIMIT = 16_000_000  # bytes; a JPEG holds little more
_SEGMENT_BYTES = 65533  # of JPEG, in one segment

# Prefixes of XMP about other pictures in the file: gain maps, videos, depth.
_OF_OTHER_PICTURES = re.compile(rb"\b(Container:Directory|hdrgm:|GCamera:|GDepth:|GImage:|apdi:)")
_REGIONS = re.compile(rb"\b(mwg-rs:|MPReg:|stArea:)")  # places in the stored image
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b")
_XMP_LIMIT = 2**24  # bytes

# Photoshop image resources about the stored file: resolution, thumbnails, profile, EXIF, XMP.
_THUMBNAIL_RESOURCES = {0x0409, 0x040C}
_OF_THE_FILE = {*_THUMBNAIL_RESOURCES, 0x03ED, 0x040F, 0x0422, 0x0423, 0x0424}
_IPTC_RESOURCE = 0x0404

_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377  # of TIFF


def read_orientation(image: Image.Image) -> int:
    """Reads the EXIF (or XMP) orientation, 1 to 8, that Pillow has not applied yet."""
    if image.format != "TIFF":
        return find_orientation(image.info.get("exif"), image.info.get("xmp"))
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata must not make the image unreadable
        return 1
    return value if value in range(1, 9) else 1


def find_orientation(exif: bytes | None, xmp: bytes | str | None) -> int:
    """Finds the orientation, 1 to 8, in EXIF data, or else in XMP."""
    value = exif_lib.read_orientation(exif) if isinstance(exif, bytes) else None
    if value is None and isinstance(xmp, bytes):
        match = re.search(rb"""\btiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\b""", xmp)
        value = int(match[1]) if match else None
    return value or 1


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: a transposition for 5 to 8, then flips."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def select_profile(profile: bytes | None, channels: int) -> bytes | None:
    """Returns the color profile if it is valid and fits the number of channels, else None."""
    space = b"GRAY" if channels <= 2 else b"RGB "
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= _PROFILE_LIMIT:
        return None
    return profile if profile[16:20] == space and profile[36:40] == b"acsp" else None


def read_info(info: Mapping[str | tuple[int, int], Any]) -> Metadata:
    """Collects the metadata that Pillow finds in formats without a module of their own."""
    dpi = info.get("dpi")
    return Metadata(
        icc_profile=info.get("icc_profile") or None,
        exif=info.get("exif") or None,
        xmp=info.get("xmp") or None,
        resolution=(float(dpi[0]), float(dpi[1])) if dpi else None,
    )


def adapt(found: Metadata, channels: int, orientation: int) -> Metadata:
    """Adapts metadata as found in a file to the pixels that ``read`` returns.

    Args:
        found: Metadata of the file. Its resolution is that of the pixels as stored.
        channels: Channels of the array.
        orientation: The orientation that was applied to the pixels, 1 to 8.

    Returns:
        The metadata, without what is damaged or not valid for these pixels.
    """
    left_out = list(found.left_out)
    profile = select_profile(found.icc_profile, channels)
    if found.icc_profile and not profile:
        left_out.append("color profile that does not fit the pixels")
    exif = found.exif
    if exif:
        try:
            exif, notes = exif_lib.make_upright(exif, orientation)
            left_out += notes
        except exif_lib.ExifError:
            exif = None
            left_out.append("damaged EXIF")
    resolution = found.resolution
    if resolution and (min(resolution) < 0.01 or max(resolution) > 1e6):
        resolution = None
    if resolution and orientation >= 5:
        resolution = resolution[::-1]
    if not resolution and exif:
        resolution = exif_lib.read_resolution(exif)
    xmp, notes = _adapt_xmp(found.xmp, orientation) if found.xmp else (None, [])
    left_out += notes
    iptc, notes = _adapt_resources(found.iptc) if found.iptc else (None, [])
    left_out += notes
    return dataclasses.replace(
        found,
        icc_profile=profile,
        exif=exif,
        xmp=xmp,
        iptc=iptc,
        resolution=resolution,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def enlarge_metadata(metadata: Metadata, scale: int) -> Metadata:
    """Adapts metadata to an image whose sides are ``scale`` times as long.

    The size on paper stays: there are more pixels per inch.

    Args:
        metadata: Metadata of the smaller image.
        scale: Factor of both sides.

    Returns:
        Metadata of the larger image.
    """
    if scale == 1:
        return metadata
    exif, xmp, resolution = metadata.exif, metadata.xmp, metadata.resolution
    left_out = metadata.left_out
    if exif:
        try:
            exif, notes = exif_lib.enlarge(exif, scale)
            left_out = tuple(dict.fromkeys((*left_out, *notes)))
        except exif_lib.ExifError:
            exif, left_out = None, (*left_out, "damaged EXIF")
    if xmp:
        for name in (b"tiff:XResolution", b"tiff:YResolution"):
            xmp = _remove_property(xmp, name)
    if resolution:
        resolution = resolution[0] * scale, resolution[1] * scale
    return dataclasses.replace(
        metadata, exif=exif, xmp=xmp, resolution=resolution, left_out=left_out
    )


def fit(metadata: Metadata, kind: str, image: np.ndarray) -> Metadata:
    """Selects what a format can hold, and adapts sizes.

    Args:
        metadata: Metadata for the image.
        kind: The format, such as "PNG".
        image: ``[H, W]`` or ``[H, W, C]``.

    Returns:
        What can be written. The names of the rest are in ``left_out``.
    """
    height, width = image.shape[:2]
    left_out = list(metadata.left_out)
    profile = select_profile(metadata.icc_profile, 1 if image.ndim == 2 else image.shape[2])
    if metadata.icc_profile and not profile:
        left_out.append("color profile that does not fit the pixels")
    exif = metadata.exif
    if exif:
        try:
            exif = exif_lib.set_size(exif, height, width)
        except exif_lib.ExifError:
            exif = None
            left_out.append("damaged EXIF")
    xmp = _set_size(metadata.xmp, height, width) if metadata.xmp else None
    if kind == "JPEG":
        for name, text in (("EXIF", exif), ("XMP", xmp)):
            if text and len(text) > _SEGMENT_BYTES - 29:  # of the name before XMP
                left_out.append(f"{name} of more than 65 kB")
                exif, xmp = (None, xmp) if name == "EXIF" else (exif, None)
    comments, resolution = metadata.comments, metadata.resolution
    iptc, chunks = metadata.iptc, metadata.png_chunks
    if resolution and "exif" in _HELD[kind] and "resolution" not in _HELD[kind]:
        exif = _store_resolution(exif, resolution)
        if _has_resolution(exif, resolution):
            resolution = None
    if kind != "PNG":
        left_out += _name_chunks(kind for kind, _ in chunks)
        chunks = ()
    fitted = {
        "icc_profile": profile,
        "exif": exif,
        "xmp": xmp,
        "iptc": iptc,
        "comments": comments,
        "resolution": resolution,
    }
    held = {name: value if name in _HELD[kind] else None for name, value in fitted.items()}
    left_out += [_NAMES[name] for name, value in fitted.items() if value and not held[name]]
    return dataclasses.replace(
        metadata,
        **{**held, "comments": held["comments"] or ()},  # type: ignore[arg-type]
        png_chunks=chunks,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _store_resolution(exif: bytes | None, resolution: tuple[float, float]) -> bytes:
    """EXIF data with a resolution, as far as there is a place for it."""
    if exif is None:
        return exif_lib.add_resolution(None, resolution)
    if _has_resolution(exif, resolution):
        return exif
    try:
        return exif_lib.set_resolution(exif, resolution)
    except exif_lib.ExifError:
        return exif


def _has_resolution(exif: bytes, resolution: tuple[float, float]) -> bool:
    """Tells whether EXIF data has a resolution; JFIF rounds it to whole numbers."""
    found = exif_lib.read_resolution(exif)
    return found is not None and np.allclose(found, resolution, rtol=0.01, atol=0.5)


def _name_chunks(kinds: Iterable[bytes]) -> list[str]:
    """Names chunks of a PNG for messages. All but PNG are shown as sRGB without a profile."""
    found = set(kinds)
    if b"sRGB" in found:
        found -= {b"sRGB", b"gAMA", b"cHRM"}
    texts = {b"tEXt", b"zTXt", b"iTXt"}
    names = [f"{kind.decode('ascii')} of PNG" for kind in sorted(found - texts)]
    return names + ["texts of PNG"] * bool(found & texts)


# XMP


def _adapt_xmp(xmp: bytes, orientation: int) -> tuple[bytes | None, list[str]]:
    """XMP for upright pixels, and the names of what was left out."""
    if not _is_xml(xmp):
        return None, ["damaged XMP"]
    if _OF_OTHER_PICTURES.search(xmp):
        return None, ["XMP about other pictures in the file"]
    if orientation > 1 and _REGIONS.search(xmp):
        return None, ["XMP with regions of the rotated image"]
    left_out = []
    without = _remove_thumbnails(xmp)
    if without != xmp:
        left_out.append("thumbnail")
    without = _set_property(without, b"tiff:Orientation", b"1")
    without = _remove_property(without, b"xmpNote:HasExtendedXMP")
    return (without, left_out) if _is_xml(without) else (None, ["XMP"])


def _remove_thumbnails(xmp: bytes) -> bytes:
    """Removes the elements with thumbnails, in one pass whatever the XMP holds."""
    kept, place = [], 0
    ended = set()  # prefixes with no further end
    for opening in _THUMBNAILS.finditer(xmp):
        if opening.start() < place or opening[1] in ended:
            continue
        closing = b"</%b:Thumbnails>" % opening[1]
        end = xmp.find(closing, opening.end())
        if end < 0:
            ended.add(opening[1])
            continue
        kept.append(xmp[place : opening.start()])
        place = end + len(closing)
    return b"".join([*kept, xmp[place:]])


def _is_xml(xmp: bytes) -> bool:
    """Whether XMP is XML in UTF-8 without entities, which may grow without bound."""
    if len(xmp) > _XMP_LIMIT or b"<!" in xmp.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        return False
    try:
        xmp.decode("utf-8")
        expat.ParserCreate().Parse(xmp.strip(b"\0 \t\r\n\xef\xbb\xbf"), True)
    except (ValueError, expat.ExpatError):
        return False
    return True


def _set_size(xmp: bytes, height: int, width: int) -> bytes:
    for name, value in (
        (b"tiff:ImageWidth", width),
        (b"tiff:ImageLength", height),
        (b"exif:PixelXDimension", width),
        (b"exif:PixelYDimension", height),
    ):
        xmp = _set_property(xmp, name, str(value).encode())
    return xmp


def _set_property(xmp: bytes, name: bytes, value: bytes) -> bytes:
    """Changes a property, an attribute or an element, if there is one."""
    xmp = re.sub(rb"""(\s%b\s*=\s*)(["'])[^"'<>]*\2""" % name, rb"\g<1>\g<2>%b\g<2>" % value, xmp)
    return re.sub(rb"<%b>[^<>]*</%b\s*>" % (name, name), b"<%b>%b</%b>" % (name, value, name), xmp)


def _remove_property(xmp: bytes, name: bytes) -> bytes:
    xmp = re.sub(rb"""\s%b\s*=\s*(["'])[^"'<>]*\1""" % name, b"", xmp)
    return re.sub(rb"<%b>[^<>]*</%b\s*>" % (name, name), b"", xmp)


# Photoshop image resources


def _adapt_resources(resources: bytes) -> tuple[bytes | None, list[str]]:
    """Resources that are valid for the restored image, and the names of what was left out."""
    try:
        blocks = list(_split_resources(resources))
    except ValueError:
        return None, ["damaged IPTC"]
    kept = b"".join(block for number, block, _ in blocks if number not in _OF_THE_FILE)
    has_thumbnail = any(number in _THUMBNAIL_RESOURCES for number, _, _ in blocks)
    return kept or None, ["thumbnail"] * has_thumbnail


def _split_resources(resources: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, bytes and content of each resource; ValueError if they are damaged."""
    place = 0
    while len(resources) - place >= 12:
        start = place
        (number,) = struct.unpack(">H", resources[place + 4 : place + 6])
        name = resources[place + 6] + 1  # a length and as many letters, even together
        place += 6 + name + name % 2 + 4
        size = int.from_bytes(resources[place - 4 : place], "big")
        if not resources[start : start + 4].isalnum() or place + size > len(resources):
            raise ValueError("a resource is cut short")
        content = resources[place : place + size]
        place += size + size % 2
        yield number, resources[start:place].ljust(place - start, b"\0"), content


def _find_resource(resources: bytes, wanted: int) -> bytes:
    return next((data for number, _, data in _split_resources(resources) if number == wanted), b"")


# TIFF


def read_tiff(data: bytes, found: Metadata) -> tuple[Metadata, int]:
    """Reads the metadata of a TIFF file.

    Args:
        data: The file.
        found: What is known already, such as the color profile.

    Returns:
        The metadata as in the file, and its orientation.
    """
    try:
        order, directories = exif_lib.read_values(data)
        exif, left_out = exif_lib.from_tiff(order, directories)
        first = directories[0]
    except exif_lib.ExifError:  # a directory that only a tolerant reader reads
        return dataclasses.replace(found, left_out=("damaged EXIF",)), 1
    resources = first.get(_PHOTOSHOP_TAG, (0, 0, b""))[2]
    if _IPTC_TAG in first and not resources:
        iptc = first[_IPTC_TAG][2]
        resources = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    orientation = int.from_bytes(
        first.get(ORIENTATION_TAG, (0, 0, b""))[2], "little" if order == "<" else "big"
    )
    metadata = dataclasses.replace(
        found,
        exif=exif,
        xmp=first.get(_XMP_TAG, (0, 0, b""))[2].rstrip(b"\0") or None,
        iptc=resources or None,
        left_out=tuple(left_out),
    )
    return metadata, orientation if orientation in range(1, 9) else 1


def write_tiff(tiff: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """Adds metadata to a TIFF file, except for the color profile, which it has.

    Returns:
        The file, and the names of what it cannot hold.
    """
    exif = metadata.exif
    if metadata.resolution:
        exif = exif_lib.add_resolution(exif, metadata.resolution)
    tags: exif_lib.Values = {}
    if metadata.xmp:
        tags[_XMP_TAG] = (1, len(metadata.xmp), metadata.xmp)
    if metadata.iptc:
        tags[_PHOTOSHOP_TAG] = (7, len(metadata.iptc), metadata.iptc)
        if iptc := _find_resource(metadata.iptc, _IPTC_RESOURCE):
            tags[_IPTC_TAG] = (7, len(iptc), iptc)
    if not exif and not tags:
        return tiff, ()
    data, left_out = exif_lib.add_to_tiff(tiff, exif, tags)
    return data, tuple(left_out)
