"""Windows chosen for an image: the fewest computed pixels, in windows of a bounded size.

:mod:`~lcdnet_jax.inference.tiling` places tiles of a size that the user gives. Here the size is
free. Each pixel of an overlap is computed twice, so large windows cost least. Memory grows with
them, so their size has a limit, and a restorer uses tiles where a network needs more memory than
there is. The chosen windows fit the image: they need not be square, and the last window of a row or
a column ends with the image instead of hanging over it.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from lcdnet_jax.inference import tiling
from lcdnet_jax.networks import RestorationNetwork

#: Pixels of a window of most networks, divided by the scale of one that enlarges. By XLA's memory
#: plans on the CPU, in kB per pixel: DnCNN 0.5, RIDNet 2.1, Restormer 5.6; RCAN and IKC ``base`` of
#: scale 4 take 8.2 and 9.0. Most networks need 1 to 3.5 GB.
MOST_PIXELS = RestorationNetwork.window_pixels

# Sides are multiples of it, so that images of many sizes share programs. It makes a window at most
# this much longer than the image needs.
STEP = 32

# Places along one side: the first pixel of each window, and the weights of its pixels.
Places = tuple[tuple[int, ...], np.ndarray]


def limit_pixels(
    max_pixels: int | None, *, overlap: int, scale: int, window_pixels: int = MOST_PIXELS
) -> int:
    """Computes how many pixels a window may have.

    Args:
        max_pixels: As for :class:`~lcdnet_jax.inference.restorer.Restorer`.
        overlap: As for :func:`choose_windows`.
        scale: How many times larger the result is.
        window_pixels: As for :class:`~lcdnet_jax.networks.RestorationNetwork`.

    Returns:
        ``window_pixels``, or ``max_pixels`` if that is less than ``MOST_PIXELS``, divided by the
        scale. Not by its square: windows as small would compute four pixels per pixel of the
        result. The limit is never so low that more than about five are computed.
    """
    most = window_pixels
    if max_pixels is not None and max_pixels < MOST_PIXELS:
        most = min(max_pixels, window_pixels)
    side = 2 * (2 * overlap + tiling.RAMP)
    return max(most // scale, side**2)


class _Split(NamedTuple):
    """A side of an image in equal parts: their length and number, and where the last one ends."""

    length: int
    parts: int
    end: int


def choose_windows(
    height: int,
    width: int,
    *,
    overlap: int,
    stride: int,
    bucket: int | None,
    most_pixels: int = MOST_PIXELS,
) -> tuple[Places, Places]:
    """Chooses windows that cover an image with the fewest computed pixels.

    The choice depends on the size of the image only, never on what was restored before.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        overlap: Pixels that are discarded at the edges of windows inside the image.
        stride: Windows start at multiples of this many pixels.
        bucket: As for :func:`~lcdnet_jax.inference.tiling.compute_padded_size`. It and ``overlap``
            decide how far the image is reflected at its bottom and right.
        most_pixels: Pixels of a window. If no window is as small, the smallest is chosen.

    Returns:
        The places of the windows' rows and of their columns. Weights are ``[windows, side]``
        float32 and add up to 1 at each pixel.
    """
    splits = (
        _list_splits(side, overlap=overlap, stride=stride, bucket=bucket)
        for side in (height, width)
    )
    pairs = list(itertools.product(*splits))
    smallest = min(rows.length * columns.length for rows, columns in pairs)
    rows, columns = min(
        (
            (rows, columns)
            for rows, columns in pairs
            if rows.length * columns.length <= max(most_pixels, smallest)
        ),
        key=_measure_cost,
    )
    return _place(rows, overlap, stride), _place(columns, overlap, stride)


def _measure_cost(pair: tuple[_Split, _Split]) -> tuple[int, int, int]:
    """Computed pixels; of equally many, the fewest windows, then the squarest."""
    rows, columns = pair
    count = rows.parts * columns.parts
    return (
        count * rows.length * columns.length,
        count,
        abs(rows.length - columns.length),
    )


def _list_splits(side: int, *, overlap: int, stride: int, bucket: int | None) -> list[_Split]:
    """Splits of a side into one part, two, and so on, as short as the overlap allows."""
    end = tiling.compute_padded_size(side, bucket, tile=1, overlap=overlap)
    end += -end % stride
    splits = [_Split(end, 1, end)]
    shared = 2 * overlap + tiling.RAMP  # of two neighbors
    step = math.lcm(STEP, stride)
    least = shared + step + -(shared + step) % step  # the last one moves on by a stride at least
    for count in range(2, end):
        length = -(-(end + (count - 1) * shared) // count)
        length = max(length + -length % step, least)
        if -(-(end - length) // stride) > (count - 1) * ((length - shared) // stride):
            length += step  # places are multiples of the stride
        if length < splits[-1].length:
            splits.append(_Split(length, count, end))
        if length == least:
            break
    return splits


def _place(split: _Split, overlap: int, stride: int) -> Places:
    """Spreads the parts evenly, the first at the start and the last at the end."""
    last = (split.end - split.length) // stride
    between = max(split.parts - 1, 1)
    starts = tuple(i * last // between * stride for i in range(split.parts))
    return starts, tiling.blend_weights(starts, split.length)
