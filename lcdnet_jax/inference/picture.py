"""Pictures before and after a network: the pixels that the network sees, and its result.

This module handles what belongs to pictures and not to networks: alpha, gray stored as color, types
of pixels, and the strength of the change.
"""

import numpy as np
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.inference.transparency import fill_hidden_colors, find_hidden_pixels
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.ops import TWO_VIEW_CHANNELS

_NOT_FINITE = (
    "the result holds NaN or infinity; scale the values to [0, 1], as the network was trained, or "
    "check its weights"
)


class Picture:
    """One picture for one network.

    Args:
        image: ``[H, W]`` or ``[H, W, C]`` in uint8, uint16 or floating point, as for a
            :class:`~lcdnet_jax.inference.Restorer`.
        module: The network.

    Attributes:
        pixels: What the network restores, ``[H, W, C]`` in the type of the image and without alpha.
            Pixels that alpha hides have colors of visible ones. A color image with three equal
            channels has one.

    Raises:
        ImageError: If the network cannot take the image.
    """

    def __init__(self, image: np.ndarray, module: RestorationNetwork):
        colors = check_image(image, module)
        planes = image.reshape(*image.shape[:2], -1)
        self._shape = image.shape
        self._scale = module.scale
        self._before = self.pixels = planes[..., :colors]
        self._alpha = planes[..., colors] if planes.shape[2] > colors else None
        self._hidden = None if self._alpha is None else find_hidden_pixels(self._alpha)
        if self._hidden is not None:
            self.pixels = fill_hidden_colors(self._before, self._hidden)
        self._is_gray = colors == 3 and _has_equal_channels(self.pixels)
        if self._is_gray:
            self.pixels = self.pixels[..., :1]

    def finish(self, restored: np.ndarray, *, strength: float) -> np.ndarray:
        """Makes the restored picture of a result.

        Args:
            restored: The network's result for :attr:`pixels` in the same type. It may be changed.
            strength: How much of the change is used, from 0 to 1. 1 if the network enlarges.

        Returns:
            The restored picture, in the shape of the image (times the scale) with its alpha.

        Raises:
            ImageError: If the result is not finite.
        """
        if self._is_gray:
            restored = np.repeat(restored, 3, axis=-1)
        if strength < 1:
            _blend(restored, self._before, strength)
        if restored.dtype.kind != "u" and not _is_finite(restored):
            raise image_io.ImageError(_NOT_FINITE)
        if self._hidden is not None and self._scale == 1:
            restored[self._hidden] = self._before[self._hidden]
        if self._alpha is not None:
            alpha = _enlarge_alpha(self._alpha, self._scale)
            restored = np.concatenate([restored, alpha[..., None]], axis=-1)
        return restored[..., 0] if len(self._shape) == 2 else restored


def check_image(image: np.ndarray, module: RestorationNetwork) -> int:
    """Checks that an array is an image for a network.

    Args:
        image: An array.
        module: The network.

    Returns:
        The number of channels that the network restores, without alpha.

    Raises:
        ImageError: For another shape or type, and for NaN and infinite pixels.
    """
    image_io.to_array(image)  # raises ImageError for other types
    colors = _count_colors(image.shape, module.channels)
    if image.dtype.kind != "u" and not _is_finite(image):
        raise image_io.ImageError("the image holds NaN or infinite pixels; replace them first")
    return colors


def convert_dtype(restored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts a result to the type of an image.

    Args:
        restored: A result of any shape, floating point with white at 1.
        dtype: uint8, uint16 or floating point, in any byte order.

    Returns:
        The result in that type. Integers are clipped and rounded.

    Raises:
        ImageError: If an integer would have to hold NaN or infinity.
    """
    if dtype.kind != "u":
        return restored.astype(dtype)
    if not _is_finite(restored):
        raise image_io.ImageError(_NOT_FINITE)
    convert = image_io.to_uint8 if dtype.itemsize == 1 else image_io.to_uint16
    return convert(restored).astype(dtype, copy=False)


def _count_colors(shape: tuple[int, ...], wanted: int) -> int:
    """Counts the channels to restore for a network of ``wanted`` channels, without alpha.

    Raises:
        ImageError: If the shape is not that of an image for such a network.
    """
    channels = shape[2] if len(shape) == 3 else 1
    usable = len(shape) in (2, 3) and 0 not in shape
    if usable and channels == wanted:
        return channels
    if wanted == TWO_VIEW_CHANNELS:
        raise image_io.ImageError(
            "the network takes the left and right view of a dual-pixel camera as [H, W, "
            f"{TWO_VIEW_CHANNELS}], got shape {shape}; join the views along the last axis"
        )
    if not usable or wanted not in (1, 3) or channels not in (1, 2, 3, 4):
        hint = "; gray images are joined as [N, H, W, 1], as by x[..., None]" * (len(shape) == 3)
        if len(shape) == 3 and shape[0] in (1, 3):
            hint = "; channels are last, as after x.transpose(1, 2, 0)"
        raise image_io.ImageError(
            "expected an image [H, W] or [H, W, C] with C = 1 (gray), 2 (gray, alpha), 3 (color) "
            f"or 4 (color, alpha), or [N, H, W, C], for a network with channels={wanted}; got "
            f"shape {shape}{hint}"
        )
    return channels - (channels in (2, 4))


def _has_equal_channels(pixels: np.ndarray) -> bool:
    """Whether ``[H, W, 3]`` holds a gray picture: R = G = B in every pixel."""
    first = pixels[..., 0]
    return all(
        np.array_equal(first[rows], pixels[rows, :, c])
        for rows in (slice(1), slice(1, None))  # most color images differ in their first row
        for c in (1, 2)
    )


def _blend(restored: np.ndarray, pixels: np.ndarray, strength: float) -> None:
    """Mixes an image into its result of the same shape and type, in place and row by row."""
    dtype = np.promote_types(np.float32, restored.dtype) if restored.dtype.kind == "f" else "f4"
    for row, before in zip(restored, pixels, strict=True):
        start = before.astype(dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the result
            mixed = start + strength * (row.astype(dtype) - start)
            row[...] = np.rint(mixed) if restored.dtype.kind == "u" else mixed


def _is_finite(image: np.ndarray) -> bool:
    """Whether all pixels are finite in float32; makes no copy of the image."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.asarray([image.min(), image.max()], np.float32)).all())


def _enlarge_alpha(alpha: np.ndarray, scale: int) -> np.ndarray:
    """Resizes ``[H, W]`` to ``[s H, s W]`` of the same type."""
    if scale == 1:
        return alpha
    height, width = alpha.shape
    small = Image.fromarray(image_io.to_float(alpha))
    large = np.asarray(small.resize((width * scale, height * scale), Image.Resampling.BICUBIC))
    return convert_dtype(large, alpha.dtype).clip(alpha.min(), alpha.max())
