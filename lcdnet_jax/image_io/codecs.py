"""Reading and writing of image files, see ``KINDS``; 8 and 16 bits; gray and color.

Pillow identifies every file. It decodes all but JPEG (see :mod:`lcdnet_jax.image_io.jpeg`), because
it raises an error for a damaged one where OpenCV may return half an image. Pillow silently reduces
16-bit color to 8 bits, so OpenCV decodes 16-bit files as well, and both decoders must agree on the
high bytes.

An image here is a NumPy array, rows first, channels in the order R, G, B: ``[H, W]`` gray,
``[H, W, 2]`` gray and alpha, ``[H, W, 3]`` color, ``[H, W, 4]`` color and alpha; uint8 in
[0, 255] or uint16 in [0, 65535]. ``to_float`` converts to floats in [0, 1], ``to_uint8`` and
``to_uint16`` convert back. ``read_with_metadata`` and ``write`` also support float32 TIFF, whose
values are not changed.
"""

import contextlib
import io
import os
import pathlib
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from lcdnet_jax import atomic_io, value_rules
from lcdnet_jax.image_io import avif, exif, heic, jpeg, png, raw, tiff
from lcdnet_jax.image_io._opencv import decode_by_opencv, encode_by_opencv
from lcdnet_jax.image_io._types import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    RAW_SUFFIXES,
    Header,
    ImageError,
    Metadata,
)
from lcdnet_jax.image_io.limits import check_size
from lcdnet_jax.image_io.metadata import (
    adapt,
    find_orientation,
    fit,
    orient,
    read_info,
    read_orientation,
    read_tiff,
    write_tiff,
)

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

_SIGNATURE_BYTES = 64

# Brands of files in the layout of MP4.
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
}

_OTHER_READERS = {"HEIC": heic, "RAW": raw}  # which Pillow does not open

# Modes of the result by Pillow's mode, or by PNG color type: Pillow hides 16-bit gray with alpha.
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

_PNG_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}

# Most bytes of a file for each pixel, and beyond that, for metadata and previews.
_EXPANSION = 64
_SLACK = 2**28

# Most bytes of formats of which decoders read the whole file to find the header.
_LARGEST = dict.fromkeys(("WEBP", "AVIF", "HEIC", "RAW"), 2**30)


def read_header(path: str | os.PathLike[str], *, floats: bool = False) -> Header:
    """Reads size, channels and bit depth of an image file, without decoding its pixels.

    Args:
        path: A file of one of ``KINDS``. The content decides, not the suffix.
        floats: Whether a TIFF may hold floating point, as ``read_with_metadata`` supports it.

    Returns:
        The header of the array that ``read`` returns, or with ``floats`` that of
        ``read_with_metadata``.

    Raises:
        ImageError: If the file is missing, empty, not an image, of zero size, holds several
            pictures (animation, pages) or is of a kind that ``read`` does not support (floating
            point, 32 bits, ...). Truncated PNG and TIFF files raise it, too. Truncated JPEG and
            WebP files raise it only in ``read``.
    """
    name = os.fspath(path)
    try:
        with _open(path) as stream:
            return _read_header(stream, name, floats=floats)
    except OSError as error:
        raise _read_error(name, error) from error


def decode_header(data: bytes, *, name: str) -> Header:
    """Reads size, channels and bit depth from the bytes of an image file.

    Args:
        data: The content of a file of one of ``KINDS``.
        name: The name of the file in error messages.

    Returns:
        The header of the array that ``decode`` returns.

    Raises:
        ImageError: As for ``read_header``.
    """
    return _read_header(io.BytesIO(data), name)


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file and applies its EXIF orientation.

    Palettes are expanded. Images of 1 bit become 0 and 255. CMYK becomes RGB. Transparency of any
    kind becomes an alpha channel. A JPEG with several pictures (MPO) gives the main one.

    Args:
        path: A file of one of ``KINDS``. The content decides, not the suffix.

    Returns:
        ``[H, W]`` (gray), ``[H, W, 2]`` (gray and alpha), ``[H, W, 3]`` (color) or ``[H, W, 4]``
        (color and alpha); uint8, or uint16 if the file stores 16 bits per channel.

    Raises:
        ImageError: As for ``read_header``; also if the file is truncated or damaged.
    """
    return decode(_read_bytes(path), name=os.fspath(path))


def read_with_metadata(path: str | os.PathLike[str]) -> tuple[np.ndarray, Metadata]:
    """Reads an image file with its metadata; TIFF also as float32.

    ``KINDS`` lists the array that each kind of file gives. Damaged metadata counts as absent.

    Args:
        path: A file of one of ``KINDS``. The content decides, not the suffix.

    Returns:
        The image, and the metadata that ``write`` accepts. The image is as from ``read``; a TIFF of
        floating point (16 or 32 bits) gives float32 with its values unchanged.

    Raises:
        ImageError: As for ``read``.
    """
    return _decode(_read_bytes(path), os.fspath(path), with_metadata=True)


def decode(data: bytes, *, name: str) -> np.ndarray:
    """Decodes the bytes of an image file as ``read`` does.

    Args:
        data: The content of a file of one of ``KINDS``.
        name: The name of the file in error messages.

    Returns:
        The image as from ``read``.

    Raises:
        ImageError: As for ``read``.
    """
    return _decode(data, name, with_metadata=False)[0]


def write(
    path: str | os.PathLike[str],
    image: np.ndarray,
    *,
    quality: int = 95,
    metadata: Metadata | None = None,
    force: bool = True,
    mode: int = 0o666,
) -> tuple[str, ...]:
    """Writes an image file in the format that the suffix names, completely or not at all.

    PNG, TIFF, BMP and WebP are lossless. WebP cannot store gray, which reads back as three equal
    channels. JPEG, AVIF and HEIC store the colors at full resolution (4:4:4).

    Args:
        path: The file. Its folder must exist.
        image: ``[H, W]`` or ``[H, W, C]`` with C = 1 (gray), 2 (gray and alpha), 3 (color) or 4
            (color and alpha). uint8 for all formats, uint16 for PNG and TIFF, float32 for TIFF.
            HEIC stores 10 bits of uint16, or as many as ``metadata.heic_bits`` says. JPEG stores no
            alpha; BMP, AVIF and HEIC store no gray with alpha.
        quality: Quality of JPEG, AVIF and HEIC, 1 to 100.
        metadata: Metadata for the file, which is written as far as the format holds it. A color
            profile is written only if it fits the number of channels.
        force: Whether an existing file is replaced. It keeps its permissions.
        mode: Permissions of a new file. The umask restricts them.

    Returns:
        Names of what the file does not hold: metadata, with ``metadata.left_out``, and bits of
        pixels.

    Raises:
        ImageError: If the suffix, dtype or shape cannot be written, ``quality`` is out of its
            range, the file may not be replaced, or writing fails (full disk, read-only or missing
            folder); then its cause is the OSError. An existing file is unchanged after an error.
    """
    path = pathlib.Path(path)
    if wanted := value_rules.integer(1, high=100)(quality):
        raise ImageError(f"{path}: quality must be {wanted}, got {quality!r}")
    image = np.asarray(image)
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    kind = check_format(path, image)
    try:
        data, left_out = _encode(np.ascontiguousarray(image), kind, quality, metadata or Metadata())
    except MemoryError:
        raise
    except Exception as error:  # the encoders' own limits, of many types
        other = ".tiff" if kind == "PNG" else ".png"
        raise ImageError(f"{path}: cannot be encoded as {kind} ({error}); use {other}") from error
    try:
        atomic_io.write(path, data, force=force, mode=mode)
    except (atomic_io.TargetError, OSError) as error:
        raise ImageError(str(error)) from error
    return left_out


def check_format(path: str | os.PathLike[str], image: np.ndarray) -> str:
    """Checks that the format that a path names can store an image.

    Args:
        path: The file that will be written; its suffix names the format.
        image: ``[H, W]`` or ``[H, W, C]``, as for ``write``.

    Returns:
        The name of the format: "PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF" or "HEIC".

    Raises:
        ImageError: If the suffix is unknown, or the format cannot store the dtype, the shape or
            the size.
    """
    suffix = pathlib.Path(path).suffix
    kind = IMAGE_FORMATS.get(suffix.lower())
    if suffix.lower() in RAW_SUFFIXES:
        raise ImageError(f"{path}: raw files are not written; use .tif")
    if kind is None:
        raise ImageError(
            f"{path}: the suffix {suffix!r} is not a known format; "
            f"use one of {', '.join(IMAGE_FORMATS)}"
        )
    if kind == "HEIC":
        heic.import_pillow_heif(str(path))
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
    if image.dtype == np.uint16 and kind not in ("PNG", "TIFF", "HEIC"):
        raise ImageError(
            f"{path}: {kind} cannot hold 16 bits; use .png or .tiff, or call to_uint8 first"
        )
    if kind == "JPEG" and channels in (2, 4):
        raise ImageError(
            f"{path}: JPEG cannot hold an alpha channel; use .png or write image[..., :-1]"
        )
    if kind in ("BMP", "AVIF", "HEIC") and channels == 2:
        raise ImageError(
            f"{path}: {kind} cannot hold gray with alpha channel; use .png or write image[..., 0]"
        )
    check_size(path, image.shape, dtype=image.dtype)
    return kind


def name_result(path: pathlib.Path) -> pathlib.Path:
    """Names the result of restoring a file.

    Args:
        path: The name of the file.

    Returns:
        The same name; with the suffix ``.tif`` for a raw file of a camera, which is not written.
    """
    return path.with_suffix(".tif") if path.suffix.lower() in RAW_SUFFIXES else path


def find_missing_package(path: str | os.PathLike[str]) -> str | None:
    """Tells which package must be installed before a file with this suffix can be read.

    Args:
        path: The name of the file.

    Returns:
        What to give to ``pip install``, or None if nothing is missing.
    """
    suffix = pathlib.Path(path).suffix.lower()
    readers = {"HEIC": heic.import_pillow_heif, "RAW": raw.import_rawpy}
    importer = readers.get("RAW" if suffix in RAW_SUFFIXES else IMAGE_FORMATS.get(suffix, ""))
    try:
        if importer is not None:
            importer(os.fspath(path))
    except ImageError:
        return "lcdnet-jax[photo]"
    return None


def find_images(
    folder: str | os.PathLike[str], *, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """Finds the image files of a folder by suffix, without subfolders and hidden files.

    Args:
        folder: The folder.
        suffixes: Suffixes of images, in small letters.

    Returns:
        The files, sorted by name.

    Raises:
        ImageError: If the folder is missing, is a file, cannot be listed, or contains no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        cause = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ImageError(f"{folder}: {cause}; give the folder that holds the images")
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise _read_error(str(folder), error) from error
    found = [
        entry
        for entry in entries
        if entry.suffix.lower() in suffixes and not entry.name.startswith(".") and entry.is_file()
    ]
    if not found:
        raise ImageError(
            f"{folder}: contains no image; put files with the suffix {', '.join(suffixes)} "
            "directly into it (subfolders are not searched)"
        )
    return found


# Reading


def _decode(data: bytes, name: str, *, with_metadata: bool) -> tuple[np.ndarray, Metadata]:
    """Decodes a file; only with its metadata may it hold floating point."""
    kind = _find_kind(io.BytesIO(data), name)
    if kind in ("TIFF", "HEIC", "RAW"):
        if kind == "TIFF":
            pixels, found = tiff.decode(data, name, floats=with_metadata)
        else:
            pixels, found = _OTHER_READERS[kind].decode(data, name)
        if not with_metadata:
            return pixels, Metadata()
        orientation = find_orientation(found.exif, found.xmp)
        if kind == "TIFF" or data.startswith((b"II*\0", b"MM\0*")):
            found, orientation = read_tiff(data, found)
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        return pixels, adapt(found, channels, orientation)
    with _open_image(io.BytesIO(data), name) as (image, header, mode):
        is_jpeg = image.format in ("JPEG", "MPO")
        if image.format == "PNG":
            image = Image.open(io.BytesIO(png.without_metadata(data, name)), formats=["PNG"])
        if not is_jpeg:
            _load(image, name)
        if image.format == "PNG":
            png.check_rows(data, image, name)
        found, orientation = _find_metadata(data, image)
        if is_jpeg:
            pixels = jpeg.decode(data, image, name)
        elif header.bits == 16:
            pixels = _decode_16_bits(data, image, mode, name)
        else:
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        metadata = Metadata()
        if with_metadata:
            metadata = adapt(found, header.channels, orientation)
    pixels = np.ascontiguousarray(orient(pixels, orientation))
    return pixels if pixels.flags.writeable else pixels.copy(), metadata  # Pillow's are read-only


def _find_metadata(data: bytes, image: Image.Image) -> tuple[Metadata, int]:
    """The metadata of a file as they are, and the orientation that is still to be applied."""
    if image.format == "PNG":
        return png.read_metadata(data)
    orientation = read_orientation(image)
    if image.format in ("JPEG", "MPO"):
        return jpeg.read_metadata(data), orientation
    return read_info(image.info), orientation


def _load(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise ImageError(
            f"{name}: the {image.format} file is cut short or damaged ({error}); "
            "copy or download it again"
        ) from error


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a file after a look at its header, so that no other file is read whole."""
    name = os.fspath(path)
    try:
        with _open(path) as stream:
            before = os.fstat(stream.fileno())
            if _find_kind(stream, name) not in _LARGEST:
                _check_file_size(stream, name)
            stream.seek(0)
            data = stream.read()
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise _read_error(name, error) from error
    if not _is_same(before, after):
        raise ImageError(
            f"{name}: was changed while it was read; read it again when it is complete"
        )
    return data


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _check_file_size(stream: BinaryIO, name: str) -> None:
    """Raises ImageError for a file that is far larger than its picture needs."""
    height, width = _read_size(stream, name)
    size = stream.seek(0, os.SEEK_END)
    if size > _EXPANSION * width * height + _SLACK:
        raise ImageError(
            f"{name}: has {size} bytes, far more than an image of {width}x{height} pixels needs; "
            "save the image again"
        )


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file. Reading from a pipe or device might block forever."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ImageError(
            f"{os.fspath(path)}: is not a regular file but a pipe or device; give a file"
        )
    return open(path, "rb")


def _read_header(stream: BinaryIO, name: str, *, floats: bool = False) -> Header:
    kind = _find_kind(stream, name)
    if kind == "TIFF":
        return tiff.read_header(stream, name, floats=floats)
    if kind in _OTHER_READERS:
        return _OTHER_READERS[kind].read_header(stream, name)
    with _open_image(stream, name) as (_, header, _):
        return header


def _read_size(stream: BinaryIO, name: str) -> tuple[int, int]:
    """Reads height and width of formats that ``_LARGEST`` does not bound, as stored."""
    kind = _find_kind(stream, name)
    if kind == "TIFF":
        return tiff.read_size(stream, name)
    with _identify(stream, name) as (image, _):
        return image.height, image.width


def _find_kind(stream: BinaryIO, name: str) -> str:
    """Finds the format of a file by its first bytes."""
    stream.seek(0)
    start = stream.read(_SIGNATURE_BYTES)
    if not start:
        raise ImageError(f"{name}: the file is empty (0 bytes); copy it again")
    kind = next((kind for magic, kind in _SIGNATURES.items() if start.startswith(magic)), None)
    if raw.is_raw(start, name):
        kind = "RAW"
    elif start[4:8] == b"ftyp":
        brands = {start[place : place + 4] for place in range(8, len(start), 4)}
        kind = next((kind for kind, known in _BRANDS.items() if brands & known), None)
    if kind is None:
        raise ImageError(
            f"{name}: contains no PNG, JPEG, TIFF or other image of a known format (it begins with "
            f"{start[:16]!r}); convert it to one of these"
        )
    if kind in _LARGEST and stream.seek(0, os.SEEK_END) > _LARGEST[kind]:
        words = {"WEBP": "WebP", "RAW": "raw"}.get(kind, kind)
        raise ImageError(
            f"{name}: is larger than 1 GiB, which no {words} image needs; save it again"
        )
    return kind


@contextlib.contextmanager
def _open_image(stream: BinaryIO, name: str) -> Iterator[tuple[Image.Image, Header, str]]:
    """Yields Pillow's undecoded image, its header and the mode of the result (L, LA, RGB, RGBA)."""
    with _identify(stream, name) as (image, chunks):
        try:
            header, mode = _describe(image, chunks, name)
        except ImageError:
            raise
        except Exception as error:
            cause = str(error) or type(error).__name__
            raise ImageError(
                f"{name}: the {image.format} header is damaged ({cause}); copy the file again"
            ) from error
        yield image, header, mode


@contextlib.contextmanager
def _identify(stream: BinaryIO, name: str) -> Iterator[tuple[Image.Image, png.PngHeader | None]]:
    """Yields Pillow's undecoded image, and the chunks of a PNG."""
    kind = _find_kind(stream, name)
    if kind == "AVIF":
        avif.check(stream, name)
    chunks = png.read_chunks(stream, name) if kind == "PNG" else None
    _check_length(stream, kind, name)
    try:
        stream.seek(0)
        image = Image.open(io.BytesIO(chunks.stub) if chunks else stream, formats=[kind])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error}; raise PIL.Image.MAX_IMAGE_PIXELS to allow it") from None
    except Exception as error:  # a damaged header fails in many ways
        if kind in ("PNG", "WEBP", "AVIF"):
            raise ImageError(
                f"{name}: the {kind} header is damaged or cut short; copy or download it again"
            ) from error
        raise ImageError(
            f"{name}: the {kind} header is damaged, cut short or of an unsupported kind "
            "(such as floating point or 32-bit numbers); copy the file again, or save it with "
            "8 or 16 bits a channel"
        ) from error
    with image:
        yield image, chunks


def _check_length(stream: BinaryIO, kind: str, name: str) -> None:
    """Raises ImageError for files of which Pillow would read gigabytes to find the header."""
    if kind == "JPEG":
        jpeg.check_segments(stream, name)


def _describe(image: Image.Image, chunks: png.PngHeader | None, name: str) -> tuple[Header, str]:
    """Header and mode of the result."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a photo with previews behind it
        raise ImageError(
            f"{name}: holds {frames} pictures (animation or pages); save each to a file of its own"
        )
    width, height = image.size
    bits = 8
    if chunks:
        bits = max(chunks.bits, 8)
    if chunks and bits == 16:
        mode = _PNG_MODES.get(chunks.color_type)
    else:
        mode = _MODES.get(image.mode)
        if mode and image.has_transparency_data:
            mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    if mode is None or (chunks and bits == 16 and chunks.color_key):
        raise ImageError(
            f"{name}: {bits}-bit {image.format} with pixels of Pillow's mode {image.mode}"
            f"{' and one transparent color' if mode else ''} is not supported; save the image "
            "again as gray or RGB with 8 or 16 bits a channel"
        )

    orientation = chunks.orientation if chunks else read_orientation(image)
    if orientation >= 5:
        width, height = height, width
    return Header(height, width, len(mode), bits), mode  # one letter a channel


def _decode_16_bits(data: bytes, image: Image.Image, mode: str, name: str) -> np.ndarray:
    """Pixels of a PNG decoded by OpenCV, checked against the high bytes that Pillow decoded."""
    coarse = np.asarray(image if len(mode) == 1 else image.convert(mode))
    pixels = decode_by_opencv(data)
    if pixels is not None and pixels.ndim == 3:  # B, G, R(, alpha); gray + alpha is G, G, G, alpha
        order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}.get(mode, [0])
        pixels = pixels[..., order] if max(order) < pixels.shape[2] else None
    fine = coarse.dtype != np.uint8  # Pillow keeps all bits of gray
    if (
        pixels is None
        or pixels.dtype != np.uint16
        or not np.array_equal(pixels if fine else pixels >> 8, coarse)
    ):
        raise ImageError(
            f"{name}: Pillow and OpenCV {cv2.__version__} do not agree on the pixels of this "
            f"16-bit {image.format}; save it again as a plain 16-bit PNG"
        )
    return pixels


def _read_error(name: str, error: OSError) -> ImageError:
    return ImageError(
        f"{name}: cannot be read ({error.strerror or error}); check the path and its permissions"
    )


# Writing


def _encode(
    image: np.ndarray, kind: str, quality: int, metadata: Metadata
) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a file, and the names of the metadata that it does not hold."""
    fitted = fit(metadata, kind, image)
    left_out = fitted.left_out
    if kind == "TIFF":
        data = _encode_pixels(image, kind, quality, fitted)
        data, more = write_tiff(data, fitted)
        left_out += more
    elif kind == "PNG":
        data = png.add_metadata(_encode_pixels(image, kind, quality, fitted), fitted)
    elif kind == "JPEG":
        data = jpeg.add_metadata(_encode_pixels(image, kind, quality, fitted), fitted)
    else:
        data = _encode_pixels(image, kind, quality, fitted)
    if kind == "HEIC" and image.dtype == np.uint16 and fitted.heic_bits is None:
        left_out += ("6 of 16 bits a channel (HEIC holds 10)",)
    return data, left_out


def _encode_pixels(image: np.ndarray, kind: str, quality: int, metadata: Metadata) -> bytes:
    """Encodes an image, in formats without a module of their own with the metadata."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if kind == "TIFF":
        return tiff.encode(image, metadata.icc_profile, metadata.tiff_compression)
    if kind == "HEIC":
        return heic.encode(image, quality, metadata)
    if image.dtype != np.uint8:
        return png.encode_16_bits(image)
    options: dict[str, Any] = {}
    if kind == "BMP":
        if channels == 4:  # Pillow would lose alpha
            return _add_resolution(encode_by_opencv(".bmp", image), metadata.resolution)
        options = {"dpi": metadata.resolution or (0, 0)}
    elif kind == "JPEG":
        options = {"quality": quality, "subsampling": 0}
    elif kind == "WEBP":
        options = {"lossless": True, "exact": True}  # exact: colors under transparency too
    elif kind == "AVIF":
        options = {"quality": quality, "subsampling": "4:0:0" if channels == 1 else "4:4:4"}
    if kind in ("WEBP", "AVIF"):
        fields = {name: getattr(metadata, name) for name in ("icc_profile", "exif", "xmp")}
        options |= {name: value for name, value in fields.items() if value}
    if kind == "AVIF" and metadata.exif:  # else Pillow would rebuild it, without maker notes
        options["exif"] = exif.without_orientation(metadata.exif)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _add_resolution(bmp: bytes, resolution: tuple[float, float] | None) -> bytes:
    """Writes pixels per meter into the header of a BMP."""
    if resolution is None:
        return bmp
    numbers = (round(value / 0.0254) for value in resolution)
    return bmp[:38] + struct.pack("<ii", *numbers) + bmp[46:]
