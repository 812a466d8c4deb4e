"""Reading and writing of image files, see :data:`KINDS`; 8 and 16 bits; gray and color.

An image here is a NumPy array, rows first, channels in the order R, G, B: ``[H, W]`` gray,
``[H, W, 2]`` gray and alpha, ``[H, W, 3]`` color, ``[H, W, 4]`` color and alpha; uint8 in
[0, 255] or uint16 in [0, 65535]. ``to_float`` converts to floats in [0, 1], ``to_uint8`` and
``to_uint16`` convert back. ``read_with_metadata`` and ``write`` also support float32 TIFF, whose
values are not changed.
"""

from lcdnet_jax.image_io._types import (
    DATA_SET_SUFFIXES,
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    KINDS,
    RAW_SUFFIXES,
    BucketError,
    Header,
    ImageError,
    Metadata,
)
from lcdnet_jax.image_io.arrays import (
    LUMA_WEIGHTS,
    convert_channels,
    to_array,
    to_float,
    to_uint8,
    to_uint16,
)
from lcdnet_jax.image_io.decoding import decode, read, read_with_metadata
from lcdnet_jax.image_io.encoding import check_format, write
from lcdnet_jax.image_io.headers import decode_header, read_header
from lcdnet_jax.image_io.limits import check_size
from lcdnet_jax.image_io.metadata import enlarge_metadata
from lcdnet_jax.image_io.paths import find_images, find_missing_package, name_result
from lcdnet_jax.image_io.pil_images import from_pil

__all__ = [
    "DATA_SET_SUFFIXES",
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "KINDS",
    "LUMA_WEIGHTS",
    "RAW_SUFFIXES",
    "BucketError",
    "Header",
    "ImageError",
    "Metadata",
    "check_format",
    "check_size",
    "convert_channels",
    "decode",
    "decode_header",
    "enlarge_metadata",
    "find_images",
    "find_missing_package",
    "from_pil",
    "name_result",
    "read",
    "read_header",
    "read_with_metadata",
    "to_array",
    "to_float",
    "to_uint8",
    "to_uint16",
    "write",
]
