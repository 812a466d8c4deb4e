"""Positions of overlapping tiles along one side of an image, and weights to blend their results.

The weight of a pixel is the product of the weights of its row and its column.
"""

import itertools
import math

import numpy as np

# Pixels over which a window fades into the next. Where a network sees further than the overlap,
# the results of two windows differ by a level that changes slowly: over 16 pixels a difference
# of 4/255 becomes steps of 1/255 every fourth pixel, which the eye does not find. A power of two
# makes weights multiples of 1/32, so that they add up to 1 without rounding.
RAMP = 16

# Default tile. With 512 pixels and an overlap of 64, half of the computed pixels are used.
TILE = 512

# The largest total stride of a network here (the U-Net halves the image five times). A network
# that halves the image pairs pixels from its first, so that only windows that start on multiples
# of its stride give what the whole frame gives. Windows are no smaller.
STRIDE = 32


def check(tile: int, overlap: int) -> None:
    """Raises ValueError unless something is left of a window of ``tile`` pixels."""
    if tile <= 2 * overlap + RAMP:
        raise ValueError(
            f"tile {tile} is used up by overlap {overlap} on both sides and the {RAMP} pixels over "
            f"which windows blend; use a tile of at least {2 * overlap + RAMP + 1} or a smaller "
            "overlap"
        )


def padded_size(side: int, bucket: int | None, tile: int | None = None, overlap: int = 0) -> int:
    """Pixels of a side after padding at its end: the next multiple of ``bucket``.

    Without a bucket the next of 64, 96, 128, 192, 256, 384, ..., which are a power of two and one
    and a half of it in turn, so that sides of all lengths up to 1536 have ten lengths. With a
    ``tile`` there is no padding that is neither inside it nor within ``overlap`` (rounded up to
    multiples of ``STRIDE``) of the side, where results that count may see it.
    """
    if bucket is None:
        power = max(64, 1 << (side - 1).bit_length())
        end = power * 3 // 4 if side <= power * 3 // 4 and power > 64 else power
    else:
        end = side + -side % bucket
    if tile is None:
        return end
    seen = side + overlap
    return min(end, max(tile, seen + -seen % STRIDE))


def place_windows(
    side: int, *, tile: int, overlap: int, bucket: int | None
) -> tuple[tuple[int, ...], np.ndarray]:
    """Windows along a side that is padded at its end.

    A side of at most ``tile`` is one window with all its padding. Otherwise as few windows as
    possible are spread evenly, the last of them ending with the padding. They start on multiples of
    ``STRIDE`` if ``tile`` and ``bucket`` are such multiples, else of what divides all of these,
    and are as wide as to leave room for that.

    Args:
        side: Pixels before padding.
        tile: Pixels of a window, as :func:`check` allows.
        overlap: Pixels next to an edge of a window inside the image that get no weight.
        bucket: Of :func:`padded_size`.

    Returns:
        The first pixel of each window, and the weights of their pixels ``[windows, tile]``,
        float32: those of all windows at one pixel add up to 1. For one window the second axis is
        the padded side.
    """
    end = padded_size(side, bucket, tile, overlap)
    if side <= tile:
        return (0,), _weights((0,), end)
    room = tile - 2 * overlap - RAMP
    grid = math.gcd(STRIDE, tile, end)
    if room < grid:
        grid = math.gcd(grid, room)
    count = -(-(end - tile) // (room - room % grid))
    starts = tuple(i * ((end - tile) // grid) // count * grid for i in range(count + 1))
    return starts, _weights(starts, tile)


def _weights(starts: tuple[int, ...], tile: int) -> np.ndarray:
    """Weights of each tile: a ramp up in the middle of each overlap, minus the next tile's ramp.

    Unlike the product of a ramp up and a ramp down, this difference adds up to 1 also where tiles
    are so close that a pixel lies in two ramps.
    """
    shared = ((one + tile + other) / 2 for one, other in itertools.pairwise(starts))
    middles = np.array([-np.inf, *shared, np.inf])[:, None]
    pixels = np.add.outer(starts, np.arange(tile) + 0.5)

    def rise(middle: np.ndarray) -> np.ndarray:
        return np.clip((pixels - middle) / RAMP + 0.5, 0, 1)

    return (rise(middles[:-1]) - rise(middles[1:])).astype(np.float32)
