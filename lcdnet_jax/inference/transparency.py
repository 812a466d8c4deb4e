"""Fills the colors of fully transparent pixels before the network sees them.

Nobody sees these colors, and most editors store black. The network would mix it into the visible
pixels at the border.
"""

import cv2
import numpy as np

_CHUNK = 2**20  # pixels filled at once, which bounds the memory


def find_hidden_pixels(alpha: np.ndarray) -> np.ndarray | None:
    """Finds the pixels that are fully transparent.

    Args:
        alpha: ``[H, W]`` of any type.

    Returns:
        A mask ``[H, W]``, True where alpha is 0 (or less). None if no pixel is hidden, or all are:
        an image without anything to see counts as opaque.
    """
    hidden: np.ndarray = alpha <= 0
    return hidden if hidden.any() and not hidden.all() else None


def fill_hidden_colors(pixels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Gives hidden pixels colors of visible ones, mirrored at the border of what is visible.

    A hidden pixel gets the color of the pixel that lies as far behind the nearest visible pixel.
    If that one is hidden or outside of the image, it gets the color of the nearest visible pixel.
    Mirrored noise is like the noise around it, whereas repeated pixels would be streaks.

    Args:
        pixels: ``[H, W, C]`` of any type.
        hidden: Mask ``[H, W]``, True for hidden pixels, with at least one visible pixel.

    Returns:
        A copy of the same shape and type, in which visible pixels are the same.
    """
    height, width = hidden.shape
    labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    rows_at_once = max(_CHUNK // width, 1)
    # Place of the visible pixel that has a label.
    place_of = np.zeros(
        hidden.size - np.count_nonzero(hidden) + 1, np.int32 if hidden.size < 2**31 else np.int64
    )
    for top in range(0, height, rows_at_once):
        visible = np.flatnonzero(~hidden[top : top + rows_at_once]) + top * width
        place_of[labels.ravel()[visible]] = visible
    filled = pixels.copy()
    for top in range(0, height, rows_at_once):
        rows, columns = np.nonzero(hidden[top : top + rows_at_once])
        rows += top
        near_rows, near_columns = np.divmod(place_of[labels[rows, columns]], width)
        far_rows, far_columns = 2 * near_rows - rows, 2 * near_columns - columns
        is_usable = (far_rows >= 0) & (far_rows < height) & (far_columns >= 0)
        is_usable &= far_columns < width
        is_usable[is_usable] = ~hidden[far_rows[is_usable], far_columns[is_usable]]
        far_rows = np.where(is_usable, far_rows, near_rows)
        far_columns = np.where(is_usable, far_columns, near_columns)
        filled[rows, columns] = pixels[far_rows, far_columns]
    return filled
