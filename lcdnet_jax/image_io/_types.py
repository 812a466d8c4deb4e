"""What all of image_io shares: its error, header, metadata, and the formats that it knows."""

import dataclasses

IMAGE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

IMAGE_SUFFIXES = tuple(IMAGE_FORMATS)

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
