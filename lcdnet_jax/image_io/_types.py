"""Types and formats that all modules of image_io share."""

import dataclasses

#: Suffix of a file -> format that :func:`write` gives it.
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
    ".avif": "AVIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
}

#: Raw files of cameras, which are read only.
RAW_SUFFIXES = (
    *(".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw", ".iiq"),
)

#: Suffixes of all files that can be read.
IMAGE_SUFFIXES = (*IMAGE_FORMATS, *RAW_SUFFIXES)

#: Suffixes of the files of a data set: neither HEIC nor raw files, so that the photos of a camera
#: beside the images do not become examples, and no extra package decides what is trained on.
DATA_SET_SUFFIXES = tuple(suffix for suffix, kind in IMAGE_FORMATS.items() if kind != "HEIC")

#: Supported kinds of files. One row each: content of the file, what :func:`read_with_metadata`
#: returns, and what :func:`write` stores for that array under the same suffix.
KINDS = (
    ("PNG, JPEG, BMP, TIFF, AVIF, HEIC: gray", "[H, W] uint8", "the same"),
    ("PNG, JPEG, WebP, BMP, TIFF, AVIF, HEIC: color", "[H, W, 3] uint8", "the same"),
    ("PNG, TIFF: gray and alpha, 8 bits", "[H, W, 2] uint8", "the same"),
    ("PNG, WebP, BMP, TIFF, AVIF, HEIC: color, alpha", "[H, W, 4] uint8", "the same"),
    ("PNG, TIFF: gray, 16 bits", "[H, W] uint16", "the same"),
    ("TIFF: gray, 16 bits, white is 0", "[H, W] uint16, black 0, white 65535", "gray, 16 bits"),
    ("PNG, TIFF: color, 16 bits", "[H, W, 3] uint16", "the same"),
    ("PNG, TIFF: gray and alpha, 16 bits", "[H, W, 2] uint16", "the same"),
    ("PNG, TIFF: color and alpha, 16 bits", "[H, W, 4] uint16", "the same"),
    ("TIFF: gray, float16 or float32", "[H, W] float32", "gray, float32"),
    ("TIFF: color, float16 or float32", "[H, W, 3] float32", "color, float32"),
    ("TIFF: float32, gray and alpha", "[H, W, 2] float32", "the same"),
    ("TIFF: float32, color and alpha", "[H, W, 4] float32", "the same"),
    ("TIFF: premultiplied alpha", "[H, W, 4] uint8, straight alpha", "color and straight alpha"),
    ("PNG, TIFF: 1, 2 or 4 bits; BMP: 1 bit", "[H, W] uint8, black 0, white 255", "gray, 8 bits"),
    ("PNG, BMP, TIFF: palette", "[H, W, 3] uint8", "color, 8 bits"),
    ("PNG: palette or color with transparency", "[H, W, 4] uint8", "color and alpha, 8 bits"),
    ("PNG: gray with a transparent gray", "[H, W, 2] uint8", "gray and alpha, 8 bits"),
    ("WebP: gray", "[H, W, 3] uint8 (WebP has no gray)", "color, 8 bits"),
    ("HEIC: 10 or 12 bits", "[H, W, 3] uint16", "the same"),
    ("raw of a camera (DNG, NEF, CR3, ...)", "[H, W, 3] uint16, sRGB", "`.tif`: color, 16 bits"),
    ("JPEG, TIFF: CMYK", "[H, W, 3] uint8 (no color management)", "color, 8 bits, no profile"),
    ("JPEG with further pictures (MPO)", "the first picture", "that picture"),
    ("PNG, WebP, TIFF: animation, pages", "refused", ""),
    ("TIFF: a preview or smaller copies besides the picture", "the full picture", "that picture"),
    ("TIFF: 12 bits, 32-bit integers, float64, signed; 16-bit CMYK, Lab", "refused", ""),
    ("TIFF: masks, spot colors; float where white is 0; previews only", "refused", ""),
    ("AVIF: 10 or 12 bits; AVIF, HEIC: HDR or wide colors, no profile", "refused", ""),
    ("other formats (GIF, JPEG 2000, ...)", "refused", ""),
    ("missing, empty, cut short or damaged; a pipe or device", "refused", ""),
)


class ImageError(ValueError):
    """An image cannot be used; the message names the file, the cause and the fix."""


class BucketError(ImageError):
    """A bucket does not answer, so that no image in it can be read or written at the moment."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Size, channels and bits of the array that ``read`` returns.

    Attributes:
        height: Pixels after the EXIF orientation is applied.
        width: Pixels after the EXIF orientation is applied.
        channels: 1 (gray), 2 (gray and alpha), 3 (color) or 4 (color and alpha).
        bits: 8 or 16 bits per channel; 32 for floating point.
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
        left_out: Names of what else the file holds, such as "thumbnail".
        tiff_compression: How a TIFF file compresses the result: "lzw", "deflate", "packbits",
            "lzma" or "zstd". None is Deflate for 16 bits and float32, and nothing for 8 bits.
        heic_bits: Bits per channel of a HEIC file with more than 8 (10 or 12), with which it is
            written again. None is 10, and the bits that are lost are reported.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    resolution: tuple[float, float] | None = None
    left_out: tuple[str, ...] = ()
    tiff_compression: str | None = None
    heic_bits: int | None = None
