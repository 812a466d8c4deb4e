"""Types and formats that all modules of image_io share."""

import dataclasses

IMAGE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

IMAGE_SUFFIXES = tuple(IMAGE_FORMATS)

# Supported kinds of files. One row each: content of the file, what ``read_with_metadata`` returns,
# and what ``write`` stores for that array under the same suffix.
KINDS = (
    ("PNG, JPEG, BMP, TIFF: gray, 8 bits", "[H, W] uint8", "gray, 8 bits"),
    ("PNG, JPEG, WebP, BMP, TIFF: color, 8 bits", "[H, W, 3] uint8", "color, 8 bits"),
    ("PNG, TIFF: gray and alpha, 8 bits", "[H, W, 2] uint8", "gray and alpha, 8 bits"),
    ("PNG, WebP, BMP, TIFF: color and alpha, 8 bits", "[H, W, 4] uint8", "color and alpha"),
    ("PNG, TIFF: gray, 16 bits", "[H, W] uint16", "gray, 16 bits"),
    ("TIFF: gray, 16 bits, white is 0", "[H, W] uint16, black 0, white 65535", "gray, 16 bits"),
    ("PNG, TIFF: color, 16 bits", "[H, W, 3] uint16", "color, 16 bits"),
    ("PNG: gray and alpha, 16 bits", "[H, W, 2] uint16", "gray and alpha, 16 bits"),
    ("PNG, TIFF: color and alpha, 16 bits", "[H, W, 4] uint16", "color and alpha, 16 bits"),
    ("TIFF: gray, float32", "[H, W] float32, values as they are", "gray, float32"),
    ("TIFF: color, float32", "[H, W, 3] float32, values as they are", "color, float32"),
    ("PNG, BMP, TIFF: 1 bit; PNG: 2 or 4 bits", "[H, W] uint8, black 0, white 255", "gray, 8 bits"),
    ("PNG, BMP, TIFF: palette", "[H, W, 3] uint8", "color, 8 bits"),
    ("PNG: palette or color with transparency", "[H, W, 4] uint8", "color and alpha, 8 bits"),
    ("PNG: gray with a transparent gray", "[H, W, 2] uint8", "gray and alpha, 8 bits"),
    ("WebP: gray", "[H, W, 3] uint8 (WebP knows no gray)", "color, 8 bits"),
    ("JPEG, TIFF: CMYK", "[H, W, 3] uint8 (no color management)", "color, 8 bits, no profile"),
    ("JPEG with further pictures (MPO)", "the first picture", "that picture"),
    ("PNG, WebP, TIFF: animation, pages", "refused", ""),
    ("TIFF: other depths (32-bit integers, float16, float64, signed)", "refused", ""),
    ("TIFF: 16 bits in planes, CMYK, gray and alpha, or premultiplied alpha", "refused", ""),
    ("TIFF: float32 in planes, with alpha, or where white is 0", "refused", ""),
    ("TIFF: channels besides color and alpha (masks, spot colors)", "refused", ""),
    ("other formats (GIF, HEIC, raw, ...)", "refused", ""),
    ("missing, empty, cut short or damaged; a pipe or device", "refused", ""),
)


class ImageError(ValueError):
    """An image cannot be used; the message names the file, the cause and the fix."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Size, channels and bits of the array that ``read`` returns.

    Attributes:
        height: Pixels after the EXIF orientation is applied.
        width: Pixels after the EXIF orientation is applied.
        channels: 1 (gray), 2 (gray and alpha), 3 (color) or 4 (color and alpha).
        bits: 8 or 16 bits per channel.
    """

    height: int
    width: int
    channels: int
    bits: int


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Metadata of an image file, adapted to the pixels that ``read`` returns.

    Bytes are as in the file except for what must change: the image is upright, and has no
    thumbnail.

    Attributes:
        icc_profile: Color profile of the pixels that ``read`` returns, or None. It is None if CMYK
            was converted to RGB.
        exif: EXIF data as bytes: "Exif", two zeros and a TIFF structure; or None.
        xmp: XMP packet in UTF-8, or None.
        iptc: Photoshop image resources with IPTC data, each beginning with "8BIM"; or None.
        comments: Comments of a JPEG.
        png_chunks: Kind and content of PNG chunks that say how colors are shown, of texts, and of
            others that stay valid when pixels change.
        resolution: Pixels per inch, horizontal and vertical, as JFIF, PNG, BMP or TIFF tell, or
            else EXIF; or None.
        left_out: Names of what the file holds besides, such as "thumbnail".
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    resolution: tuple[float, float] | None = None
    left_out: tuple[str, ...] = ()
