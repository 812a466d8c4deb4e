"""Restoring an image in windows that overlap."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lcdnet_jax.inference import windows
from lcdnet_jax.inference.padding import reflect_indices
from lcdnet_jax.inference.picture import convert_dtype

# Rows of a result that are converted to its type together. Temporary arrays stay in the cache.
_ROWS_AT_ONCE = 32


def restore_tiled(
    pixels: np.ndarray,
    *,
    place_windows: Callable[[int, int], tuple[windows.Places, windows.Places]],
    predict: Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]],
    scale: int,
) -> np.ndarray:
    """Restores an image in windows, one band after the other along its longer side.

    Only ``pixels`` and the result, both in the type of the image, grow with both sides. Windows are
    cut from the image, and their weighted sum in float32 covers one band.

    Args:
        pixels: ``[H, W, C]`` in the type of the image.
        place_windows: Places the rows and columns of the windows of an image of a height and width,
            as :meth:`~lcdnet_jax.inference.window_layout.WindowLayout.place_windows`.
        predict: Applies the network to windows ``[h, w, C]`` in the type of the image, and yields
            their results ``[s h, s w, C']`` float32 in order.
        scale: How many times larger a result is, s.

    Returns:
        ``[s H, s W, C']`` in the type of the image.

    Raises:
        ImageError: If an integer would have to hold NaN or infinity.
    """
    wide = pixels.shape[1] > pixels.shape[0]

    def transpose(x: np.ndarray) -> np.ndarray:
        return x.swapaxes(-3, -2) if wide else x

    pixels = transpose(pixels)
    height, width = pixels.shape[:2]
    (tops, row_weights), (lefts, column_weights) = place_windows(height, width)
    tile_height, tile_width = row_weights.shape[1], column_weights.shape[1]
    rows = reflect_indices(height, tops[-1] + tile_height)
    columns = reflect_indices(width, lefts[-1] + tile_width)
    row_weights = row_weights.repeat(scale, axis=1)
    column_weights = column_weights.repeat(scale, axis=1)

    def cut() -> Iterator[np.ndarray]:
        for top in tops:
            band = pixels[np.ix_(rows[top : top + tile_height], columns)]
            for left in lefts:
                yield transpose(band[:, left : left + tile_width])

    tiles = map(transpose, predict(cut()))
    result = total = np.empty(0)
    for k, top in enumerate(tops):
        for left, weights, tile in zip(lefts, column_weights, tiles, strict=False):
            if not result.size:  # the number of channels is known only now
                channels = tile.shape[-1]
                result = np.empty((height * scale, width * scale, channels), pixels.dtype)
                total = np.zeros((tile_height * scale, columns.size * scale, channels), np.float32)
            kept_rows, kept = _find_nonzero(row_weights[k]), _find_nonzero(weights)
            blend = np.multiply.outer(row_weights[k, kept_rows], weights[kept])[..., None]
            band_part = total[:, left * scale : (left + tile_width) * scale]
            band_part[kept_rows, kept] += tile[kept_rows, kept] * blend
        # The rows before the next band are complete.
        complete = (tops[k + 1] - top if k + 1 < len(tops) else tile_height) * scale
        part = result[top * scale : top * scale + complete]
        for first in range(0, len(part), _ROWS_AT_ONCE):
            some = total[first : min(first + _ROWS_AT_ONCE, len(part)), : width * scale]
            part[first : first + _ROWS_AT_ONCE] = convert_dtype(some, pixels.dtype)
        total[:-complete] = total[complete:]
        total[-complete:] = 0
    return np.ascontiguousarray(transpose(result))


def _find_nonzero(weights: np.ndarray) -> slice:
    """The part of a row of weights, one range, that is not zero."""
    found = np.flatnonzero(weights)
    return slice(found[0], found[-1] + 1)
