"""Raw files of cameras, developed by rawpy (LibRaw), which the extra ``photo`` installs.

The result has 16 bits, the colors of sRGB and the white balance of the camera. Its brightness is
that of the exposure: nothing is stretched or clipped by content, so a photo may be darker than the
camera's own JPEG. Damage that LibRaw does not report is not noticed.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from lcdnet_jax.image_io._types import RAW_SUFFIXES, Header, ImageError, Metadata
from lcdnet_jax.image_io.limits import check_pixels

# First bytes of raw files, and where they begin. Others have the layout of TIFF.
_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"IIU\0"),  # Panasonic
    (0, b"IIRO"),  # Olympus
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"FOVb"),  # Sigma
    (0, b"\0MRM"),  # Minolta
    (6, b"HEAPCCDR"),  # Canon CRW
    (4, b"ftypcrx "),  # Canon CR3
    (8, b"CR\2"),  # Canon CR2, in TIFF
    (8, b"IIII"),  # Phase One, in TIFF
    (8, b"MMMM"),
)

_SRGB_GAMMA = (2.4, 12.92)  # exponent, and slope near black


def is_raw(start: bytes, name: str) -> bool:
    """Tells by the first bytes whether a file is raw; in the layout of TIFF also by its name."""
    is_tiff = start.startswith((b"II*\0", b"MM\0*"))
    return any(start[place:].startswith(magic) for place, magic in _SIGNATURES) or (
        is_tiff and name.lower().endswith(RAW_SUFFIXES)
    )


def read_header(stream: BinaryIO, name: str) -> Header:
    """Reads the size of the developed picture."""
    stream.seek(0)
    with _open(stream, name) as raw:
        return Header(*_find_size(raw), 3, 16)


def decode(data: bytes, name: str) -> tuple[np.ndarray, Metadata]:
    """Develops a raw file to ``[H, W, 3]`` uint16, upright, without EXIF data."""
    with _open(io.BytesIO(data), name) as raw:
        import rawpy

        try:
            pixels = raw.postprocess(
                output_bps=16,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=_SRGB_GAMMA,
                use_camera_wb=True,
                no_auto_bright=True,
                adjust_maximum_thr=0.0,
            )
        except MemoryError:
            raise
        except Exception as error:  # rawpy.LibRawError and others
            raise _make_damage_error(name, error) from error
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"{name}: its sensor is not that of a color camera; export it as TIFF with 16 bits"
        )

    return pixels, Metadata(left_out=("EXIF",))


def import_rawpy(name: str) -> ModuleType:
    """Imports rawpy; raises ImageError if it is not installed."""
    try:
        import rawpy
    except ImportError as error:
        raise ImageError(
            f"{name}: is a raw file of a camera, which needs an extra package: "
            "pip install 'lcdnet-jax[photo]'; or export it as TIFF with 16 bits"
        ) from error
    return rawpy


@contextlib.contextmanager
def _open(stream: BinaryIO, name: str) -> Iterator[Any]:
    rawpy = import_rawpy(name)
    try:
        raw = rawpy.imread(stream)
        height, width = _find_size(raw)
    except Exception as error:  # rawpy.LibRawError and others
        raise _make_damage_error(name, error) from error
    with raw:
        check_pixels(height, width, name)
        yield raw


def _find_size(raw: Any) -> tuple[int, int]:
    """Height and width of the developed picture, upright."""
    height, width = raw.sizes.iheight, raw.sizes.iwidth
    return (width, height) if raw.sizes.flip & 4 else (height, width)


def _make_damage_error(name: str, error: Exception) -> ImageError:
    cause = error.args[0] if error.args else error
    words = os.fsdecode(cause) if isinstance(cause, bytes) else str(cause)
    return ImageError(
        f"{name}: the raw file is cut short, damaged or of an unsupported camera ({words}); copy "
        "it again, or export it as TIFF with 16 bits"
    )
