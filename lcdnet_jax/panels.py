"""Pictures to look at: versions of one image side by side, with a zoomed crop below."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lcdnet_jax import image_io

_MARGIN = 8
_TEXT = 16
_INK, _PAPER, _FRAME = (30, 30, 30), (255, 255, 255), (230, 60, 40)


def draw_panel(
    pictures: Sequence[tuple[str, np.ndarray]], *, clean: np.ndarray, width: int = 384
) -> np.ndarray:
    """Draws captioned pictures in a row, each with an enlarged detail below.

    The detail is where ``clean`` has most structure, framed in every picture.

    Args:
        pictures: Captions and images ``[H, W, C]``, C = 1 or 3, float in [0, 1] (clipped here),
            all of ``clean``'s shape.
        clean: ``[H, W, C]``, used to choose the detail.
        width: Columns of each picture in the panel, pixels.

    Returns:
        ``[H', W', 3]`` uint8.
    """
    height_in, width_in = clean.shape[:2]
    height = max(1, round(height_in * width / width_in))
    top, left, side = _detail(clean)
    panel = Image.new(
        "RGB",
        (
            len(pictures) * (width + _MARGIN) + _MARGIN,
            height + width + _TEXT + 4 * _MARGIN,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(panel)
    for i, (caption, picture) in enumerate(pictures):
        x, y = _MARGIN + i * (width + _MARGIN), _MARGIN
        colour = image_io.convert_channels(image_io.to_uint8(picture), 3)
        whole = Image.fromarray(colour).resize((width, height), Image.Resampling.LANCZOS)
        detail = Image.fromarray(colour[top : top + side, left : left + side])
        panel.paste(whole, (x, y))
        scale = width / width_in
        frame_x, frame_y, frame = x + left * scale, y + top * scale, max(side * scale - 1, 0)
        draw.rectangle([frame_x, frame_y, frame_x + frame, frame_y + frame], outline=_FRAME)
        # Nearest neighbour: the pixels themselves, not an interpolation of them.
        panel.paste(
            detail.resize((width, width), Image.Resampling.NEAREST), (x, y + height + _MARGIN)
        )
        font = ImageFont.load_default(size=_TEXT - 2)
        draw.text((x, y + height + width + 2 * _MARGIN), caption, fill=_INK, font=font)
    return np.asarray(panel)


def _detail(clean: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the square with the strongest gradients, on a coarse grid."""
    height, width = clean.shape[:2]
    side = max(1, min(96, height, width))
    grey = np.asarray(clean, np.float64).mean(axis=-1)
    steps = np.zeros_like(grey)
    steps[1:] += np.abs(np.diff(grey, axis=0))
    steps[:, 1:] += np.abs(np.diff(grey, axis=1))
    corners = [
        (steps[y : y + side, x : x + side].sum(), y, x)
        for y in range(0, height - side + 1, max(1, side // 2))
        for x in range(0, width - side + 1, max(1, side // 2))
    ]
    _, top, left = max(corners, key=lambda corner: corner[0])
    return top, left, side
