"""Reading and writing of image files, see ``KINDS``; 8 and 16 bits; gray and color."""

from lcdnet_jax.image_io._types import (
    DATA_SET_SUFFIXES,
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    KINDS,
    RAW_SUFFIXES,
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
from lcdnet_jax.image_io.codecs import (
    check_format,
    decode,
    decode_header,
    find_images,
    find_missing_package,
    name_result,
    read,
    read_header,
    read_with_metadata,
    write,
)
from lcdnet_jax.image_io.limits import check_size
from lcdnet_jax.image_io.metadata import enlarge_metadata
from lcdnet_jax.image_io.pil_images import from_pil

__all__ = [
    "DATA_SET_SUFFIXES",
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "KINDS",
    "LUMA_WEIGHTS",
    "RAW_SUFFIXES",
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
