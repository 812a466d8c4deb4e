"""Where the windows of tiled restoration lie, and with what weights their results add up.

All of it along one side. The weight of a pixel is the product of those of its row and column.
"""

import itertools
import math

import numpy as np

# Pixels over which a window fades into the next. Where a network sees further than the overlap,
# the results of two windows differ by a level that changes slowly: over 16 pixels a difference
# of 4/255 becomes steps of 1/255 every fourth pixel, which the eye does not find. A power of two
# makes weights multiples of 1/32, so that they add up to 1 without rounding; and, taken from tiles
# and overlaps that are multiples of 16, it keeps windows on the grid of `windows`.
RAMP = 16


def check(tile: int, overlap: int) -> None:
    """Raises ValueError unless something is left of a window of ``tile`` pixels."""
    if overlap < 0:
        raise ValueError(f"overlap must be at least 0 pixels, got {overlap}")
    if tile <= 2 * overlap + RAMP:
        raise ValueError(
            f"tile {tile} is used up by overlap {overlap} on both sides and the {RAMP} pixels over "
            f"which windows blend; use a tile of at least {2 * overlap + RAMP + 1} or a smaller "
            "overlap"
        )


def windows(
    side: int, *, tile: int, overlap: int, bucket: int
) -> tuple[tuple[int, ...], np.ndarray]:
    """Windows along a side that is padded at its end to a multiple of ``bucket``.

    A side of at most ``tile`` is one window. Otherwise as few windows as possible are spread
    evenly over the padded side, the last of them ending with it. They start on the coarsest grid
    that divides ``bucket``, ``tile`` and the largest step: as a network that halves the image
    pairs pixels from its first, windows have to start on multiples of the network's total stride
    (16 in LCDNet, 8 in SADNet) to give what the whole frame gives, and so they do if ``bucket``,
    ``tile`` and twice ``overlap`` are such multiples.

    Args:
        side: Pixels before padding.
        tile: Pixels of a window, as :func:`check` allows.
        overlap: Pixels next to an edge of a window inside the image that get no weight.
        bucket: Pixels.

    Returns:
        The first pixel of each window, and the weights of their pixels ``[windows, tile]``,
        float32: those of all windows at one pixel add up to 1. For one window the second axis is
        the padded side.
    """
    padded = side + -side % bucket
    if side <= tile:
        return (0,), _weights((0,), padded)
    step = tile - 2 * overlap - RAMP
    grid = math.gcd(bucket, tile, step)
    count = -(-(padded - tile) // step)
    starts = tuple(i * ((padded - tile) // grid) // count * grid for i in range(count + 1))
    return starts, _weights(starts, tile)


def _weights(starts: tuple[int, ...], tile: int) -> np.ndarray:
    """Each window rises in the middle of what it shares with the last, and so takes from it.

    The difference of two rises, unlike the product of a rise and a fall, adds up to 1 also where
    windows are so close that a pixel lies in two ramps.
    """
    shared = ((one + tile + other) / 2 for one, other in itertools.pairwise(starts))
    middles = np.array([-np.inf, *shared, np.inf])[:, None]
    pixels = np.add.outer(starts, np.arange(tile) + 0.5)

    def rise(middle: np.ndarray) -> np.ndarray:
        return np.clip((pixels - middle) / RAMP + 0.5, 0, 1)

    return (rise(middles[:-1]) - rise(middles[1:])).astype(np.float32)
