"""Headers of image files: their kind, size, channels and bit depth, without their pixels."""

import contextlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from lcdnet_jax import storage
from lcdnet_jax.image_io import avif, heic, jpeg, png, raw, tiff
from lcdnet_jax.image_io._types import BucketError, Header, ImageError
from lcdnet_jax.image_io.metadata import read_orientation

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

OTHER_READERS = {"HEIC": heic, "RAW": raw}  # which Pillow does not open

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
        path: A file of one of :data:`KINDS`. The content decides, not the suffix.
        floats: Whether a TIFF may hold floating point, as ``read_with_metadata`` supports it.

    Returns:
        The header of the array that ``read`` returns, or with ``floats`` that of
        ``read_with_metadata``.

    Raises:
        ImageError: If the file is missing, empty, not an image, of zero size, holds several
            pictures (animation, pages) or is of a kind that ``read`` does not support (floating
            point, 32 bits, ...). Truncated PNG and TIFF files raise it, too. Truncated JPEG and
            WebP files raise it only in ``read``. If a bucket does not answer it is a
            ``BucketError``.
    """
    name = os.fspath(path)
    try:
        with _open(storage.to_path(path)) as stream:
            return _read_header(stream, name, floats=floats)
    except OSError as error:
        raise make_read_error(name, error) from error


def decode_header(data: bytes, *, name: str) -> Header:
    """Reads size, channels and bit depth from the bytes of an image file.

    Args:
        data: The content of a file of one of :data:`KINDS`.
        name: The name of the file in error messages.

    Returns:
        The header of the array that ``decode`` returns.

    Raises:
        ImageError: As for ``read_header``.
    """
    return _read_header(io.BytesIO(data), name)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a file whose header is that of an image of about its size; raises ImageError else."""
    name = os.fspath(path)
    path = storage.to_path(path)
    try:
        with _open(path) as stream:
            before = _read_state(stream)
            if find_kind(stream, name) not in _LARGEST:
                _check_file_size(stream, name)
            stream.seek(0)
            data = stream.read()
            after = _read_state(stream)
    except OSError as error:
        raise make_read_error(name, error) from error
    if before != after:
        raise ImageError(
            f"{name}: was changed while it was read; read it again when it is complete"
        )
    return data


@contextlib.contextmanager
def open_image(stream: BinaryIO, name: str) -> Iterator[tuple[Image.Image, Header, str]]:
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


def find_kind(stream: BinaryIO, name: str) -> str:
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


def make_read_error(name: str, error: OSError) -> ImageError:
    """Makes the error for a file that the system or the bucket cannot read."""
    if isinstance(error, storage.UnreachableError):
        return BucketError(str(error))
    if isinstance(error, storage.StorageError):
        return ImageError(str(error))
    return ImageError(
        f"{name}: cannot be read ({error.strerror or error}); check the path and its permissions"
    )


def _read_state(stream: BinaryIO) -> tuple[int, int] | None:
    """Size and time of change of a local file. An object is read by one request."""
    if isinstance(stream, io.RawIOBase):
        return None
    found = os.fstat(stream.fileno())
    return found.st_size, found.st_mtime_ns


def _check_file_size(stream: BinaryIO, name: str) -> None:
    """Raises ImageError for a file that is far larger than its picture needs."""
    size = stream.seek(0, os.SEEK_END)
    if size <= _SLACK:  # its header need not be read here
        return
    height, width = _read_size(stream, name)
    if size > _EXPANSION * width * height + _SLACK:
        raise ImageError(
            f"{name}: has {size} bytes, far more than an image of {width}x{height} pixels needs; "
            "save the image again"
        )


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a regular file. Reading from a pipe or device might block forever."""
    kind = stat.S_IFREG if storage.is_bucket(path) else os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ImageError(f"{path}: is not a regular file but a pipe or device; give a file")
    with storage.open_file(path) as stream:
        yield stream


def _read_header(stream: BinaryIO, name: str, *, floats: bool = False) -> Header:
    kind = find_kind(stream, name)
    if kind == "TIFF":
        return tiff.read_header(stream, name, floats=floats)
    if kind in OTHER_READERS:
        return OTHER_READERS[kind].read_header(stream, name)
    with open_image(stream, name) as (_, header, _):
        return header


def _read_size(stream: BinaryIO, name: str) -> tuple[int, int]:
    """Reads height and width of formats that ``_LARGEST`` does not bound, as stored."""
    kind = find_kind(stream, name)
    if kind == "TIFF":
        return tiff.read_size(stream, name)
    with _identify(stream, name) as (image, _):
        return image.height, image.width


@contextlib.contextmanager
def _identify(stream: BinaryIO, name: str) -> Iterator[tuple[Image.Image, png.PngHeader | None]]:
    """Yields Pillow's undecoded image, and the chunks of a PNG."""
    kind = find_kind(stream, name)
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
