"""HEIC files (HEIF with HEVC), by pillow-heif, which the extra ``photo`` installs.

10 and 12 bits are read as uint16, and written as they were. Other uint16 gets 10 bits. Damage
that leaves the lengths as they are is not noticed, since HEVC has no checksum.
"""

import dataclasses
import io
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from lcdnet_jax.image_io._types import Header, ImageError, Metadata
from lcdnet_jax.image_io.avif import UNSPECIFIED, is_srgb
from lcdnet_jax.image_io.limits import check_pixels
from lcdnet_jax.image_io.metadata import read_info
from lcdnet_jax.messages import format_count

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def import_pillow_heif(name: str) -> ModuleType:
    """Imports pillow-heif; raises ImageError if it is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            f"{name}: HEIC needs an extra package: pip install 'lcdnet-jax[photo]'"
        ) from error
    return pillow_heif


def read_header(stream: BinaryIO, name: str) -> Header:
    """Reads size, channels and bits."""
    image, channels = _open(stream, name)
    width, height = image.size
    return Header(height, width, channels, 16 if image.info["bit_depth"] > 8 else 8)


def decode(data: bytes, name: str) -> tuple[np.ndarray, Metadata]:
    """Decodes the main picture, upright, and finds its metadata."""
    image, _ = _open(io.BytesIO(data), name)
    try:
        pixels = np.array(image)  # decodes
    except MemoryError:
        raise
    except Exception as error:  # of many types
        raise ImageError(
            f"{name}: the HEIC file is cut short or damaged ({error}); copy or download it again"
        ) from error
    bits = image.info["bit_depth"]
    if pixels.dtype == np.uint16:  # the lower bits are zeros; repeat the upper ones
        pixels |= pixels >> bits
    metadata = read_info(image.info)
    return pixels, dataclasses.replace(metadata, heic_bits=bits if bits > 8 else None)


def encode(image: np.ndarray, quality: int, metadata: Metadata) -> bytes:
    """Encodes gray, RGB or RGBA of uint8 or uint16 (10 or 12 bits), chroma at full resolution."""
    pillow_heif = import_pillow_heif("the result")
    channels = 1 if image.ndim == 2 else image.shape[2]
    mode = {v: k for k, v in _CHANNELS.items()}[channels]
    if image.dtype == np.uint16:
        mode += ";16"
    file = pillow_heif.from_bytes(mode, image.shape[1::-1], image.tobytes())
    buffer = io.BytesIO()
    fields = {name: getattr(metadata, name) for name in ("icc_profile", "exif", "xmp")}
    bits = metadata.heic_bits or 10  # uint8 is stored with 8
    file.save(buffer, quality=quality, chroma=444, bit_depth=bits, **fields)
    return buffer.getvalue()


def _open(stream: BinaryIO, name: str) -> tuple[Any, int]:
    """Opens the main picture without decoding it; also returns its channels."""
    pillow_heif = import_pillow_heif(name)
    stream.seek(0)
    try:
        file = pillow_heif.open_heif(stream, convert_hdr_to_8bit=False)
        image = file[file.primary_index]
        count, (width, height) = len(file), image.size
        channels = _CHANNELS.get({"I;16": "L"}.get(image.mode, image.mode).removesuffix(";16"))
        colors = image.info.get("nclx_profile") or {}
        has_profile = image.info.get("icc_profile") is not None
        srgb = is_srgb(
            colors.get("color_primaries", UNSPECIFIED), colors.get("transfer_characteristics", 0)
        )
    except Exception as error:  # of many types
        raise ImageError(
            f"{name}: the HEIC header is damaged, cut short or of an unsupported kind ({error}); "
            "copy the file again, or save it as JPEG or TIFF"
        ) from error
    if count > 1:
        raise ImageError(
            f"{name}: holds {format_count(count, 'picture')}; save each to a file of its own"
        )
    check_pixels(height, width, name)
    if channels is None or not (has_profile or srgb):
        raise ImageError(
            f"{name}: has premultiplied alpha, or HDR or wide-gamut colors without a profile, "
            "which would be lost; save it with the colors of sRGB"
        )
    return image, channels
