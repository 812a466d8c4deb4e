"""Arrays of images of the Pillow library (PIL), converted by mode."""

import numpy as np
from PIL import Image

from lcdnet_jax.image_io._types import ImageError

# The mode of 8 bits to which each mode is converted.
_MODES_8 = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}

_MODES_16 = ("I;16", "I;16L", "I;16B", "I;16N")


def from_pil(image: Image.Image) -> np.ndarray:
    """Converts a PIL image to an array.

    The pixels are those that the image has: of several frames the current one, and not rotated by
    the EXIF orientation (``PIL.ImageOps.exif_transpose`` does that). CMYK and other color spaces
    are converted to RGB without a color profile.

    Args:
        image: A PIL image of one of these modes.

            ======================================  ===========================================
            mode                                    array
            ======================================  ===========================================
            1, L                                    ``[H, W]`` uint8; 1 bit becomes 0 and 255
            LA, La                                  ``[H, W, 2]`` uint8: gray, alpha
            RGB, RGBX, P, CMYK, YCbCr, LAB, HSV     ``[H, W, 3]`` uint8: R, G, B
            RGBA, RGBa, PA                          ``[H, W, 4]`` uint8: R, G, B, alpha
            1, L, RGB, P with a transparent color   as above, with alpha
            I;16, I;16B, I;16L, I;16N               ``[H, W]`` uint16
            F                                       ``[H, W]`` float32, values as they are
            ======================================  ===========================================

    Returns:
        The array, which shares no memory with the image.

    Raises:
        ImageError: For other modes, such as I (32-bit integers of unknown range), and if the file
            of the image cannot be decoded.
    """
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise many types
        raise ImageError(
            f"Pillow cannot decode the image ({error}); read its file again, or another copy"
        ) from error
    transparent = image.has_transparency_data
    if image.mode in _MODES_8:
        mode = _MODES_8[image.mode]
        if transparent:
            mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
        return np.array(image if image.mode == mode else image.convert(mode))
    if transparent or image.mode not in (*_MODES_16, "F"):
        raise ImageError(_explain(image.mode, transparent))
    pixels = np.array(image)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _explain(mode: str, transparent: bool) -> str:
    if transparent:
        return (
            f"a PIL image of mode {mode} with one transparent color is not supported; delete "
            'image.info["transparency"], or convert it'
        )
    if mode == "I":
        return (
            "a PIL image of mode I holds 32-bit integers, whose white is not known; for 16 bits "
            "give numpy.asarray(image).astype(numpy.uint16), for 8 bits image.convert('L')"
        )
    return f"a PIL image of mode {mode} is not supported; call image.convert('RGB') first"
