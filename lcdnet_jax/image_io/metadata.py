"""EXIF orientation, EXIF data and color profiles."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image

# EXIF tags about the picture, not about the file or its pixels: valid for the restored image too.
_EXIF_TAGS = (
    *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
    *("Software", "DateTime", "Artist", "HostComputer", "Copyright", "Rating"),
    *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
)

ORIENTATION_TAG = ExifTags.Base.Orientation.value

ICC_TAG = ExifTags.Base.InterColorProfile.value


def read_orientation(image: Image.Image) -> int:
    """Reads the EXIF (or XMP) orientation, 1 to 8, that Pillow has not applied yet."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata must not make the image unreadable
        return 1
    return value if value in range(1, 9) else 1


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: a transposition for 5 to 8, then flips."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def matching_profile(profile: Any, channels: int) -> bytes | None:
    """Returns the color profile if it is valid and fits the number of channels, else None."""
    space = b"GRAY" if channels <= 2 else b"RGB "
    good = isinstance(profile, bytes) and len(profile) >= 128 and profile[36:40] == b"acsp"
    return profile if good and profile[16:20] == space else None


def read_exif(find: Callable[[], Image.Exif]) -> bytes | None:
    """Reads EXIF data for the restored image; None if there is none, or if it is damaged."""
    try:
        return _clean_exif(find())
    except Exception:  # damaged metadata must not make the image unreadable
        return None


def _clean_exif(exif: Image.Exif) -> bytes | None:
    """Keeps the tags that are valid for the restored image; None if there are none."""
    kept = Image.Exif()
    for tag in (ExifTags.Base[name].value for name in _EXIF_TAGS):
        if tag in exif:
            kept[tag] = exif[tag]
    dropped = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.IFD.Interop)
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := {k: v for k, v in exif.get_ifd(part).items() if k not in dropped}:
            kept[part] = values
    if not len(kept):
        return None
    kept[ORIENTATION_TAG] = 1
    return kept.tobytes()


def exif_directories(exif: bytes | None) -> dict[int, Any]:
    """Converts EXIF data to TIFF tags, with nested directories as dictionaries."""
    found = Image.Exif()
    found.load(exif or b"")
    nested = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    return {tag: found.get_ifd(tag) if tag in nested else found[tag] for tag in list(found)}
