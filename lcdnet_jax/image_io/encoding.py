"""Writing of image files."""

import io
import os
import pathlib
import struct
from typing import Any

import numpy as np
from PIL import Image

from lcdnet_jax import atomic_io, storage, value_rules
from lcdnet_jax.image_io import exif, heic, jpeg, png, tiff
from lcdnet_jax.image_io._opencv import encode_by_opencv
from lcdnet_jax.image_io._types import (
    IMAGE_FORMATS,
    RAW_SUFFIXES,
    BucketError,
    ImageError,
    Metadata,
)
from lcdnet_jax.image_io.limits import check_size
from lcdnet_jax.image_io.metadata import fit, write_tiff


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
        BucketError: (an ImageError) If a bucket does not answer.
    """
    path = storage.to_path(path)
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
    except storage.UnreachableError as error:
        raise BucketError(str(error)) from error
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
            f"{path}: {kind} cannot hold 16 bits; use .png or .tiff, or an image of 8 bits"
        )
    if kind == "JPEG" and channels in (2, 4):
        raise ImageError(
            f"{path}: JPEG cannot hold an alpha channel; use .png, or an image without it"
        )
    if kind in ("BMP", "AVIF", "HEIC") and channels == 2:
        raise ImageError(
            f"{path}: {kind} cannot hold gray with alpha channel; use .png or write image[..., 0]"
        )
    check_size(path, image.shape, dtype=image.dtype)
    return kind


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
        options["exif"] = exif.remove_orientation(metadata.exif)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _add_resolution(bmp: bytes, resolution: tuple[float, float] | None) -> bytes:
    """Writes pixels per meter into the header of a BMP."""
    if resolution is None:
        return bmp
    numbers = (round(value / 0.0254) for value in resolution)
    return bmp[:38] + struct.pack("<ii", *numbers) + bmp[46:]
