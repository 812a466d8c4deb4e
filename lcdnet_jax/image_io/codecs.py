"""The one reader and writer of images: PNG, JPEG, WebP, BMP, TIFF; 8 and 16 bit; grey and colour.

Pillow identifies and decodes every file, because it raises on a damaged one where OpenCV may
return half a picture. It cuts 16-bit colour to 8 bits without a word, so OpenCV supplies the
pixels of 16-bit files, and both decoders must agree on their high bytes.

An image here is a NumPy array, rows first, channels in the order R, G, B: ``[H, W]`` grey,
``[H, W, 2]`` grey and alpha, ``[H, W, 3]`` colour, ``[H, W, 4]`` colour and alpha; uint8 in
[0, 255] or uint16 in [0, 65535]. ``to_float`` and its inverses lead to floats in [0, 1] and back.
``read_with_metadata`` and ``write`` also know float32 TIFF, whose values are passed on as they are.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from lcdnet_jax import atomic_io

# MATLAB's rgb2gray, whose rounded output the usual grey test sets (BSD68) were made with.
LUMA_WEIGHTS = (0.2989360213, 0.5870430745, 0.1140209043)

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
IMAGE_SUFFIXES = tuple(_FORMATS)

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}

# Modes of the result, by Pillow's mode or (Pillow hides 16-bit grey + alpha) by PNG colour type.
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
_MODES_16 = {"I;16": "L", "I;16B": "L", "RGB": "RGB", "RGBA": "RGBA"}
_PNG_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}

# EXIF data that belong to the picture, not to the file or its pixels: they survive a restoration.
_EXIF_TAGS = (
    *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
    *("Software", "DateTime", "Artist", "HostComputer", "Copyright", "Rating"),
    *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
)
_ORIENTATION = 0x0112
_EXIF_LIMIT = 65533  # bytes, of JPEG
_ICC_TAG = 34675
_STRIP_BYTES = 1 << 20  # of TIFF, before compression

# What ``read_with_metadata`` makes of every kind of file, and what ``write`` makes of that again.
# One row each: what the file holds; what is read; what is written, under the same suffix.
KINDS = (
    ("PNG, JPEG, BMP, TIFF: grey, 8 bits", "[H, W] uint8", "grey, 8 bits"),
    ("PNG, JPEG, WebP, BMP, TIFF: colour, 8 bits", "[H, W, 3] uint8", "colour, 8 bits"),
    ("PNG, TIFF: grey and alpha, 8 bits", "[H, W, 2] uint8", "grey and alpha, 8 bits"),
    ("PNG, WebP, BMP, TIFF: colour and alpha, 8 bits", "[H, W, 4] uint8", "colour and alpha"),
    ("PNG, TIFF: grey, 16 bits", "[H, W] uint16", "grey, 16 bits"),
    ("TIFF: grey, 16 bits, white is 0", "[H, W] uint16, black 0, white 65535", "grey, 16 bits"),
    ("PNG, TIFF: colour, 16 bits", "[H, W, 3] uint16", "colour, 16 bits"),
    ("PNG: grey and alpha, 16 bits", "[H, W, 2] uint16", "grey and alpha, 16 bits"),
    ("PNG, TIFF: colour and alpha, 16 bits", "[H, W, 4] uint16", "colour and alpha, 16 bits"),
    ("TIFF: grey, float32", "[H, W] float32, values as they are", "grey, float32"),
    ("TIFF: colour, float32", "[H, W, 3] float32, values as they are", "colour, float32"),
    ("PNG, BMP, TIFF: 1 bit; PNG: 2 or 4 bits", "[H, W] uint8, black 0, white 255", "grey, 8 bits"),
    ("PNG, BMP, TIFF: palette", "[H, W, 3] uint8", "colour, 8 bits"),
    ("PNG: palette or colour with transparency", "[H, W, 4] uint8", "colour and alpha, 8 bits"),
    ("PNG: grey with a transparent grey", "[H, W, 2] uint8", "grey and alpha, 8 bits"),
    ("WebP: grey", "[H, W, 3] uint8 (WebP knows no grey)", "colour, 8 bits"),
    ("JPEG, TIFF: CMYK", "[H, W, 3] uint8 (no colour management)", "colour, 8 bits, no profile"),
    ("JPEG with further pictures (MPO)", "the first picture", "that picture"),
    ("PNG, WebP, TIFF: animation, pages", "refused", ""),
    ("TIFF: other depths (32-bit integers, float16, float64, signed)", "refused", ""),
    ("TIFF: 16 bits in planes, CMYK, grey and alpha, or premultiplied alpha", "refused", ""),
    ("TIFF: float32 in planes, with alpha, or where white is 0", "refused", ""),
    ("TIFF: channels besides colour and alpha (masks, spot colours)", "refused", ""),
    ("other formats (GIF, HEIC, raw, ...)", "refused", ""),
    ("missing, empty, cut short or damaged; a pipe or device", "refused", ""),
)


class ImageError(ValueError):
    """An image cannot be used; the message names the file, the cause and the fix."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What ``read`` will return: size as displayed (EXIF orientation applied), channels, depth."""

    height: int
    width: int
    channels: int  # 1 grey, 2 grey + alpha, 3 colour, 4 colour + alpha
    bits: int  # 8 or 16


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a file holds beside its pixels, as far as :func:`write` can pass it on.

    Attributes:
      icc_profile: colour profile of the pixels as read, so none where CMYK has become RGB.
      exif: descriptions, camera, exposure, place and time, as "Exif", two zeros and a TIFF header;
        without size, thumbnail and what else a restoration makes wrong, orientation upright.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None


def read_header(path: str | os.PathLike[str]) -> Header:
    """Size, channels and bit depth of an image file, without decoding its pixels.

    Args:
      path: a PNG, JPEG, WebP, BMP or TIFF file (the content decides, not the suffix).

    Returns:
      The ``Header`` that describes what ``read`` returns.

    Raises:
      ImageError: the file is missing, empty, no image, zero-sized, holds several pictures
        (animation, pages) or is of a kind that ``read`` refuses (floating point, 32 bit, ...).
        PNG and TIFF files that end too early are found too; a cut JPEG or WebP only by ``read``.
    """
    name = os.fspath(path)
    try:
        with _open(path) as stream:
            return _header(stream, name)
    except OSError as error:
        raise _unreadable(name, error) from error


def decode_header(data: bytes, *, name: str) -> Header:
    """``read_header`` for the bytes of an image file; ``name`` is what errors call it."""
    return _header(io.BytesIO(data), name)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file, EXIF orientation applied.

    Palettes are expanded, 1-bit images become 0 and 255, CMYK becomes RGB, transparency of any
    kind becomes an alpha channel. Of a JPEG with several pictures (MPO) the main one is read.

    Args:
      path: a PNG, JPEG, WebP, BMP or TIFF file (the content decides, not the suffix).

    Returns:
      ``[H, W]`` (grey), ``[H, W, 2]``, ``[H, W, 3]`` or ``[H, W, 4]``; uint8, or uint16 where the
      file stores 16 bits a channel.

    Raises:
      ImageError: as for ``read_header``; also for a file that is cut short or damaged.
    """
    return decode(_bytes_of(path), name=os.fspath(path))


def read_with_metadata(path: str | os.PathLike[str]) -> tuple[np.ndarray, Metadata]:
    """Reads an image file with its colour profile and EXIF data; TIFF also as float32.

    ``KINDS`` lists what becomes of which kind of file. XMP, comments and other metadata are not
    read. Metadata that is damaged counts as absent.

    Args:
      path: a PNG, JPEG, WebP, BMP or TIFF file (the content decides, not the suffix).

    Returns:
      The image as from ``read``, or ``[H, W]`` or ``[H, W, 3]`` float32 with any values, and what
      ``write`` takes as ``metadata``.

    Raises:
      ImageError: as for ``read``.
    """
    data, name = _bytes_of(path), os.fspath(path)
    tags = _float_tags(data)
    if tags is None:
        return _decoded(data, name, with_metadata=True)
    try:
        return _decoded_float(data, tags, name)
    except ImageError:
        raise
    except Exception as error:  # tags of other types or lengths than they should be
        raise ImageError(
            f"{name}: the TIFF file is damaged ({error}); copy it again or remove it"
        ) from error


def decode(data: bytes, *, name: str) -> np.ndarray:
    """Decodes the bytes of an image file; ``name`` is what errors call it. See ``read``."""
    return _decoded(data, name, with_metadata=False)[0]


def _decoded(data: bytes, name: str, *, with_metadata: bool) -> tuple[np.ndarray, Metadata]:
    with _opened(io.BytesIO(data), name) as (image, header, mode):
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise many kinds
            raise ImageError(
                f"{name}: the {image.format} file is cut short or damaged ({error}); "
                "copy or download it again, or remove it"
            ) from error
        # Pillow turns some formats (TIFF) by itself while loading and then forgets the
        # orientation; what it leaves to be done, OpenCV leaves as well.
        orientation = _orientation(image)
        if header.bits == 16:
            pixels = _pixels_16(data, image, mode, name)
        else:
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        metadata = Metadata()
        if with_metadata:
            profile = _profile(image.info.get("icc_profile"), header.channels)
            metadata = Metadata(profile, _exif(image.getexif))
    pixels = np.ascontiguousarray(_turned(pixels, orientation))
    return pixels if pixels.flags.writeable else pixels.copy(), metadata  # Pillow's are its own


def write(
    path: str | os.PathLike[str],
    image: np.ndarray,
    *,
    quality: int = 95,
    metadata: Metadata | None = None,
    force: bool = True,
) -> None:
    """Writes an image in the format that the suffix names; all or nothing.

    PNG, TIFF, BMP and WebP are lossless. WebP has no grey: grey reads back as three equal
    channels. JPEG keeps the full resolution of the colours (4:4:4).

    Args:
      path: file to write; its folder must exist.
      image: uint8 ``[H, W]`` or ``[H, W, C]`` with C = 1, 2 (grey + alpha), 3 or 4 (no alpha in
        JPEG, no grey with alpha in BMP); uint16 for PNG and TIFF; float32 without alpha for TIFF.
      quality: of JPEG, 1 to 100.
      metadata: written where the format has a place for it (BMP has none); a colour profile only
        with as many channels as it is made for.
      force: replace an existing file.

    Raises:
      ImageError: a suffix, dtype or shape that cannot be written, a file that may not be replaced,
        or a write that failed (full disk, read-only folder; the cause is the OSError). A file of
        that name is then still intact.
    """
    path = pathlib.Path(path)
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    kind = check_format(path, image)
    try:
        data = _encoded(np.ascontiguousarray(image), kind, quality, metadata or Metadata())
    except Exception as error:  # the encoders' own limits, such as WebP's 16383 pixels a side
        raise ImageError(f"{path}: cannot be encoded as {kind} ({error}); try PNG") from error
    try:
        atomic_io.write(path, data, force=force)
    except (atomic_io.TargetError, OSError) as error:
        raise ImageError(str(error)) from error


def check_format(path: str | os.PathLike[str], image: np.ndarray) -> str:
    """Raises ImageError unless ``path`` names a format that can hold the image; its name if so."""
    suffix = pathlib.Path(path).suffix
    kind = _FORMATS.get(suffix.lower())
    if kind is None:
        raise ImageError(
            f"{path}: the suffix {suffix!r} names no known format; "
            f"use one of {', '.join(IMAGE_SUFFIXES)}"
        )
    floating = image.dtype == np.float32 and kind == "TIFF"
    if image.dtype not in (np.uint8, np.uint16) and not floating:
        raise ImageError(
            f"{path}: {image.dtype} images are not written{'' if kind == 'TIFF' else f' as {kind}'}"
            "; use .tiff for float32, or call to_uint8 or to_uint16 first"
        )
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or image.size == 0:
        raise ImageError(
            f"{path}: an image of shape {image.shape} cannot be written; "
            "it must be HxW or HxWxC with C = 1, 2, 3 or 4, and not empty"
        )
    if image.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        raise ImageError(
            f"{path}: {kind} cannot hold 16 bits; use .png or .tiff, or call to_uint8 first"
        )
    if (channels in (2, 4) and kind == "JPEG") or (channels == 2 and kind == "BMP"):
        raise ImageError(
            f"{path}: {kind} cannot hold {'grey with' if kind == 'BMP' else 'an'} alpha channel; "
            "use .png or write image[..., :-1]"
        )
    if channels in (2, 4) and floating:
        raise ImageError(f"{path}: float32 is written without alpha only; write image[..., :-1]")
    if channels == 2 and kind == "TIFF" and image.dtype == np.uint16:
        raise ImageError(f"{path}: 16-bit grey with alpha is written as PNG only; use .png")
    return kind


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 / 255 or uint16 / 65535, in [0, 1]; floats keep their values. Returns float32.

    Raises:
      ImageError: any other dtype.
    """
    image = np.asarray(image)
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    if image.dtype.kind != "f" and image.dtype.name != "bfloat16":
        raise ImageError(
            f"expected uint8, uint16 or floating-point pixels, got {image.dtype}; "
            "convert the array to one of these"
        )
    return image.astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats are clipped to [0, 1], scaled by 255 and rounded to nearest; uint16 is rescaled.

    Raises:
      ImageError: NaN or infinity, or a dtype other than uint8, uint16 and floating point.
    """
    return _to_integer(image, np.uint8)


def to_uint16(image: np.ndarray) -> np.ndarray:
    """Floats are clipped to [0, 1], scaled by 65535 and rounded to nearest; uint8 times 257.

    Raises:
      ImageError: NaN or infinity, or a dtype other than uint8, uint16 and floating point.
    """
    return _to_integer(image, np.uint16)


def convert_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colour (repeated) or colour to grey (luma, as MATLAB's rgb2gray).

    Args:
      image: ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]``, integer or floating point.
      channels: 1 or 3.

    Returns:
      ``[H, W, channels]`` of the same dtype; integers are rounded to nearest.

    Raises:
      ImageError: an alpha channel, another shape, or another number of channels asked for.
    """
    image = np.asarray(image)
    if channels not in (1, 3):
        raise ImageError(f"an image is converted to 1 or 3 channels, not to {channels!r}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim == 3 and image.shape[2] in (2, 4):
        raise ImageError(
            f"the image has an alpha channel (shape {image.shape}), which is never dropped "
            'silently; convert the file once, for example with Image.open(p).convert("RGB").save(q)'
        )
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ImageError(f"expected an image of shape HxW, HxWx1 or HxWx3, got {image.shape}")
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    luma = image.astype(np.float64) @ np.array(LUMA_WEIGHTS)[:, None]
    if np.issubdtype(image.dtype, np.integer):
        luma = np.rint(luma)
    return luma.astype(image.dtype)


def find_images(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Image files of a folder by suffix, sorted by name; no subfolders, no hidden files.

    Raises:
      ImageError: the folder is missing, is a file, or holds no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        cause = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"{folder}: {cause}; give the folder that holds the images")
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(str(folder), error) from error
    found = [
        entry
        for entry in entries
        if entry.suffix.lower() in IMAGE_SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    ]
    if not found:
        raise ImageError(
            f"{folder}: holds no image; put files with the suffix {', '.join(IMAGE_SUFFIXES)} "
            "directly into it (subfolders are not searched)"
        )
    return found


# Reading


def _bytes_of(path: str | os.PathLike[str]) -> bytes:
    try:
        with _open(path) as stream:
            return stream.read()
    except OSError as error:
        raise _unreadable(os.fspath(path), error) from error


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file, but no pipe or device, which might keep silent for ever."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ImageError(f"{os.fspath(path)}: is no regular file but a pipe or device; give a file")
    return open(path, "rb")


def _header(stream: BinaryIO, name: str) -> Header:
    with _opened(stream, name) as (_, header, _):
        return header


@contextlib.contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[tuple[Image.Image, Header, str]]:
    """Yields Pillow's lazy image, its header and the mode of the result (L, LA, RGB or RGBA)."""
    start = stream.read(16)
    if not start:
        raise ImageError(f"{name}: the file is empty (0 bytes); copy it again or remove it")
    kind = next((kind for magic, kind in _SIGNATURES.items() if start.startswith(magic)), None)
    if kind is None:
        raise ImageError(
            f"{name}: holds no PNG, JPEG, WebP, BMP or TIFF image (it begins with {start!r}); "
            "convert it to one of these or remove it"
        )
    png = _walk_png(stream, name) if kind == "PNG" else None
    try:
        stream.seek(0)
        image = Image.open(stream, formats=[kind])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error}; raise PIL.Image.MAX_IMAGE_PIXELS to allow it") from None
    except Exception as error:  # a damaged header fails in many ways
        raise ImageError(
            f"{name}: the {kind} header is damaged, cut short or of an unsupported kind "
            "(such as floating point or 32-bit numbers); copy the file again, save it with "
            "8 or 16 bits a channel, or remove it"
        ) from error
    with image:
        try:
            header, mode = _describe(image, png, stream, name)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(
                f"{name}: the {kind} header is damaged ({error}); copy the file again or remove it"
            ) from error
        yield image, header, mode


def _describe(
    image: Image.Image, png: "_Png | None", stream: BinaryIO, name: str
) -> tuple[Header, str]:
    """Header of the result and its mode, from what the file stores."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a photo with previews behind it
        raise ImageError(
            f"{name}: holds {frames} pictures (animation or pages); save each to a file of its own"
        )
    width, height = image.size
    bits = 8
    if png:
        bits = max(png.bits, 8)
    elif image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = _tiff_bits(tags, stream, name)
        _check_extra_channels(tags, name)
        width, height = tags[256], tags[257]  # as stored: image.size may be turned already

    if bits == 16:
        mode = _PNG_MODES.get(png.colour_type) if png else _MODES_16.get(image.mode)
    else:
        mode = _MODES.get(image.mode)
        if mode and image.has_transparency_data:
            mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    if mode is None or (png and bits == 16 and png.colour_key):
        raise ImageError(
            f"{name}: {bits}-bit {image.format} with pixels of Pillow's mode {image.mode}"
            f"{' and one transparent colour' if mode else ''} is not supported; save the image "
            "again as grey or RGB with 8 or 16 bits a channel"
        )

    # Pillow decodes a PNG when asked for its EXIF data, so ask only where there may be some.
    orientation = _orientation(image) if png is None or png.metadata else 1
    if orientation >= 5:
        width, height = height, width
    return Header(height, width, len(mode), bits), mode  # one letter a channel


@dataclasses.dataclass(frozen=True)
class _Png:
    bits: int
    colour_type: int
    colour_key: bool  # one colour is transparent (tRNS)
    metadata: bool  # there may be an orientation


def _walk_png(stream: BinaryIO, name: str) -> _Png:
    """Visits the chunks of a PNG without reading the pixels; every PNG must end with IEND."""
    colour_key = metadata = False
    stream.seek(8)
    start = stream.read(8 + 13 + 4)
    if len(start) == 25 and start[4:8] == b"IHDR":
        width, height, bits, colour_type = struct.unpack(">IIBB", start[8:18])
        if not width or not height:
            raise ImageError(f"{name}: the image has zero size ({width}x{height}); remove it")
        while len(chunk := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", chunk)
            if kind == b"IEND":
                return _Png(bits, colour_type, colour_key, metadata)
            text = stream.read(min(length, 16)) if kind in (b"iTXt", b"tEXt", b"zTXt") else b""
            colour_key |= kind == b"tRNS"
            metadata |= kind == b"eXIf" or text.startswith((b"XML:com.adobe", b"Raw profile"))
            stream.seek(length - len(text) + 4, os.SEEK_CUR)
    raise ImageError(
        f"{name}: the PNG file is cut short (its last chunk is missing); "
        "copy or download it again, or remove it"
    )


def _tiff_bits(tags: Mapping[int, Any], stream: BinaryIO, name: str) -> int:
    """8 or 16 bits a channel, after a check that the file reaches to the end of its pixels."""
    bits = {int(value) for value in np.atleast_1d(tags.get(258, 1))}
    formats = {int(value) for value in np.atleast_1d(tags.get(339, 1))}
    if not formats <= {1, 4} or not (bits == {16} or bits <= {1, 2, 4, 8}):
        kind = "floating-point" if 3 in formats else "signed" if 2 in formats else "unsigned"
        raise ImageError(
            f"{name}: {kind} TIFF with {max(bits)} bits a channel is not supported; "
            "save the image again as unsigned numbers with 8 or 16 bits"
        )
    _check_strips(tags, stream, name)
    return 16 if bits == {16} else 8


def _check_extra_channels(tags: Mapping[int, Any], name: str) -> None:
    """Raises ImageError for channels that are neither colour nor alpha, which Pillow drops."""
    extra = tags.get(338, ())
    if len(extra) > 1 or 0 in extra:
        raise ImageError(
            f"{name}: holds channels that are neither colour nor alpha, such as a mask, which are "
            "never dropped silently; save it again without them, or with one marked as alpha"
        )


def _check_strips(tags: Mapping[int, Any], stream: BinaryIO, name: str) -> None:
    """Raises ImageError unless the file reaches to the end of its pixels.

    Neither decoder notices every cut: separate colour planes come back half empty.
    """
    size = stream.seek(0, os.SEEK_END)
    for offsets, counts in ((273, 279), (324, 325)):  # strips, tiles
        ends = np.add(tags.get(offsets, 0), tags.get(counts, 0))
        if np.max(ends) > size:
            raise ImageError(
                f"{name}: the TIFF file is cut short (its pixels end at byte {np.max(ends)} of "
                f"{size}); copy or download it again, or remove it"
            )


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation that Pillow has not applied by itself, 1 to 8."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # broken metadata must not cost a good picture
        return 1
    return value if value in range(1, 9) else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: 5 to 8 are stored transposed, then come the flips."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _pixels_16(data: bytes, image: Image.Image, mode: str, name: str) -> np.ndarray:
    """Pixels by OpenCV, whose high bytes must be those that Pillow has decoded.

    The comparison catches what one of them gets wrong in silence, such as TIFF in planes.
    """
    coarse = np.asarray(image if len(mode) == 1 else image.convert(mode))
    pixels = _by_opencv_decoded(data)
    if pixels is not None and pixels.ndim == 3:  # B, G, R(, alpha); grey + alpha is G, G, G, alpha
        order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}.get(mode, [0])
        pixels = pixels[..., order] if max(order) < pixels.shape[2] else None
    fine = coarse.dtype != np.uint8  # Pillow keeps all bits of grey
    if (
        pixels is None
        or pixels.dtype != np.uint16
        or not np.array_equal(pixels if fine else pixels >> 8, coarse)
    ):
        raise ImageError(
            f"{name}: Pillow and OpenCV {cv2.__version__} do not agree on the pixels of this "
            f"16-bit {image.format} (colour planes apart? premultiplied alpha?); "
            "save it again as a plain 16-bit PNG"
        )
    # Both decoders leave it alone at 16 bits that white is zero, unlike Pillow at 8.
    inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    return np.iinfo(np.uint16).max - pixels if inverted else pixels


def _by_opencv_decoded(data: bytes) -> Any:
    """Pixels in OpenCV's order, None where it cannot."""
    # The function has moved between OpenCV 4 and 5. 0 silences libtiff's remarks on good files.
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    level = set_log_level(0)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        set_log_level(level)


def _float_tags(data: bytes) -> Mapping[int, Any] | None:
    """The tags of a TIFF of 32-bit floating-point numbers; None for anything else."""
    if not data.startswith((b"II*\0", b"MM\0*")):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        kinds, bits = ({int(v) for v in np.atleast_1d(tags.get(tag, 1))} for tag in (339, 258))
    except Exception:  # damaged in any way: the usual reader says how
        return None
    return tags if kinds == {3} and bits == {32} else None


def _decoded_float(data: bytes, tags: Mapping[int, Any], name: str) -> tuple[np.ndarray, Metadata]:
    """By OpenCV alone, as Pillow reads floating-point numbers of one channel only."""
    if tags.next:  # type: ignore[attr-defined]
        raise ImageError(f"{name}: holds several pictures (pages); save each to a file of its own")
    width, height, channels = (int(tags.get(tag, 1)) for tag in (256, 257, 277))
    in_planes = channels > 1 and tags.get(284, 1) != 1  # of which OpenCV makes garbage
    if (channels, tags.get(262)) not in ((1, 1), (3, 2)) or in_planes:
        raise ImageError(
            f"{name}: a floating-point TIFF is read as grey or RGB only, black being 0, without "
            "alpha and not in planes; save it so, or with 16 bits a channel"
        )
    _check_strips(tags, io.BytesIO(data), name)
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ImageError(
            f"{name}: {width}x{height} pixels are suspiciously many; raise "
            "PIL.Image.MAX_IMAGE_PIXELS to allow it"
        )
    pixels = _by_opencv_decoded(data)
    orientation = tags.get(_ORIENTATION, 1)
    shape = (width, height) if orientation in range(5, 9) else (height, width)
    if pixels is None or pixels.dtype != np.float32 or pixels.shape[:2] != shape:
        raise ImageError(
            f"{name}: the floating-point TIFF is cut short, damaged or of an unusual layout; save "
            "it again, without planes or unusual compression"
        )
    if channels == 3:
        pixels = pixels[..., ::-1]

    def exif() -> Image.Exif:
        found = Image.Exif()
        found.load(data)
        return found

    metadata = Metadata(_profile(tags.get(_ICC_TAG), channels), _exif(exif))
    return np.ascontiguousarray(pixels), metadata


def _profile(profile: Any, channels: int) -> bytes | None:
    """The colour profile if it is one, and for pixels of that many channels."""
    space = b"GRAY" if channels <= 2 else b"RGB "
    good = isinstance(profile, bytes) and len(profile) >= 128 and profile[36:40] == b"acsp"
    return profile if good and profile[16:20] == space else None


def _exif(find: Callable[[], Image.Exif]) -> bytes | None:
    try:
        return _clean_exif(find())
    except Exception:  # broken metadata must not cost a good picture
        return None


def _clean_exif(exif: Image.Exif) -> bytes | None:
    """What of it still holds for a restored picture."""
    kept = Image.Exif()
    for tag in (ExifTags.Base[name].value for name in _EXIF_TAGS):
        if tag in exif:
            kept[tag] = exif[tag]
    dropped = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.IFD.Interop)
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := {k: v for k, v in exif.get_ifd(part).items() if k not in dropped}:
            kept[part] = values
    if not len(kept):
        return None
    kept[_ORIENTATION] = 1
    return kept.tobytes()


def _exif_directories(exif: bytes | None) -> dict[int, Any]:
    """EXIF data as tags of a TIFF, directories within it as dictionaries."""
    found = Image.Exif()
    found.load(exif or b"")
    nested = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    return {tag: found.get_ifd(tag) if tag in nested else found[tag] for tag in list(found)}


def _unreadable(name: str, error: OSError) -> ImageError:
    return ImageError(
        f"{name}: cannot be read ({error.strerror or error}); check the path and its permissions"
    )


# Writing


def _encoded(image: np.ndarray, kind: str, quality: int, metadata: Metadata) -> bytes:
    channels = 1 if image.ndim == 2 else image.shape[2]
    profile, exif = _profile(metadata.icc_profile, channels), metadata.exif
    if image.dtype != np.uint8:
        if kind == "TIFF":
            return _deep_tiff(image, profile, exif)
        return _with_chunks(_png_16(image), profile, exif)
    if kind == "BMP":
        if channels == 4:
            return _by_opencv(".bmp", image)  # Pillow would lose alpha
        profile = exif = None
    options: dict[str, Any] = {}
    if kind == "JPEG":
        options = {"quality": quality, "subsampling": 0}
        exif = exif if exif and len(exif) <= _EXIF_LIMIT else None
    elif kind == "WEBP":
        options = {"lossless": True, "exact": True}  # exact: colours under transparency too
    if profile:
        options["icc_profile"] = profile
    if exif:
        options["exif"] = exif
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _by_opencv(suffix: str, image: np.ndarray) -> bytes:
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    done, buffer = cv2.imencode(suffix, image)
    if not done:
        raise ValueError(f"OpenCV {cv2.__version__} refused it")
    return buffer.tobytes()


def _png_16(image: np.ndarray) -> bytes:
    if image.ndim == 2 or image.shape[2] != 2:
        return _by_opencv(".png", image)
    # Colour type 4, which neither Pillow nor OpenCV writes with 16 bits.
    height, width, _ = image.shape
    rows = image.astype(">u2").view(np.uint8).reshape(height, 4 * width)
    rows = np.pad(rows, ((0, 0), (1, 0)))  # filter type 0 before each row
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + _chunk(b"IEND", b"")
    )


def _with_chunks(png: bytes, profile: bytes | None, exif: bytes | None) -> bytes:
    chunks = b""
    if profile:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return png[:33] + chunks + png[33:]  # behind IHDR


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deep_tiff(image: np.ndarray, profile: bytes | None, exif: bytes | None) -> bytes:
    """uint16 or float32 with metadata, which OpenCV does not write, nor Pillow in colour."""
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    pixels = image.reshape(height, width, channels).astype(image.dtype.newbyteorder("<"))
    predictor = 1
    if image.dtype == np.uint16:  # differences along rows are smaller once compressed
        pixels[:, 1:] -= pixels[:, :-1].copy()
        predictor = 2
    rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
    strips = [
        zlib.compress(pixels[row : row + rows].tobytes(), 4) for row in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]

    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in _exif_directories(exif).items():
        directory[tag] = value
    directory[256], directory[257] = width, height
    directory[258] = (8 * image.dtype.itemsize,) * channels
    directory[259] = 8  # Deflate
    directory[262] = 1 if channels == 1 else 2  # grey, black is 0; or RGB
    directory[273] = tuple(np.cumsum([0, *lengths[:-1]]).tolist())  # moved behind the directory
    directory[277], directory[278], directory[279] = channels, rows, tuple(lengths)
    directory[317] = predictor
    if channels == 4:
        directory[338] = 2  # alpha, not multiplied into the colours
    directory[339] = (1 if image.dtype == np.uint16 else 3,) * channels
    if profile:
        directory[_ICC_TAG] = profile
    buffer = io.BytesIO()
    directory.save(buffer)
    return b"".join([buffer.getvalue(), *strips])


# Numbers


def _to_integer(image: np.ndarray, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype == dtype:
        return image
    values = to_float(image) if image.dtype.kind != "f" else image
    if not np.isfinite(values).all():
        raise ImageError(
            "the image holds NaN or infinity, which no integer stands for; "
            "find where they come from, or call numpy.nan_to_num first"
        )
    values = np.clip(values, 0, 1, dtype=np.promote_types(values.dtype, np.float32))
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)
