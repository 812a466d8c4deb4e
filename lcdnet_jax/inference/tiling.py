"""Positions of overlapping tiles along one side of an image, and weights to blend their results.

The weight of a pixel is the product of the weights of its row and its column.
"""

import itertools
import math

import numpy as np

from lcdnet_jax.inference.options import OptionError

#: Pixels over which a tile blends into the next. If the receptive field of a network exceeds the
#: overlap, the results of two tiles differ by an offset that varies slowly. Over 16 pixels, a
#: difference of 4/255 becomes steps of 1/255 every fourth pixel, which are invisible. With a power
#: of two, weights are multiples of 1/32 and add up to 1 without rounding.
RAMP = 16

# Default tile. With 512 pixels and an overlap of 64, half of the computed pixels are used.
TILE = 512

#: Pixels. Tiles start at multiples of it, and none is smaller. It is the largest total stride of
#: the networks of this library: the U-Net halves the image five times. A tile gives the same result
#: as the whole image only if it starts at a multiple of the network's stride.
STRIDE = 32


def check(tile: int, overlap: int) -> None:
    """Checks that tiles are larger than their overlaps.

    Args:
        tile: Side of the tiles in pixels.
        overlap: Pixels that are discarded at the edges of tiles inside the image.

    Raises:
        OptionError: If ``tile`` is at most ``2 * overlap + RAMP``.
    """
    shared = 2 * overlap + RAMP
    if tile <= shared:
        fast = 2 * shared + -2 * shared % STRIDE  # computes four pixels for one
        fitting = (tile - RAMP - 1) // 2
        raise OptionError(
            f"tile {tile} is too small for overlap {overlap} on both sides and the {RAMP} pixels "
            f"over which tiles blend; use a tile of at least {shared + 1}, better {fast}"
            + (f", or an overlap of at most {fitting}" if fitting >= 0 else "")
        )


def compute_padded_size(
    side: int, bucket: int | None, *, tile: int | None = None, overlap: int = 0
) -> int:
    """Computes the length of a side after padding at its end.

    Args:
        side: Pixels before padding, at least 1.
        bucket: The side is padded to the next multiple of this many pixels. None pads to the next
            of 64, 96, 128, 192, 256, 384, ...: powers of two, and 1.5 times each. All sides of up
            to 1536 pixels are then padded to one of ten lengths.
        tile: Side of the tiles in pixels, or None for whole images. With tiles, padding that cannot
            influence the result is left out: the side is padded to at most ``tile``, or to ``side +
            overlap`` rounded up to a multiple of ``STRIDE`` if that is more.
        overlap: Overlap of the tiles in pixels.

    Returns:
        Pixels after padding, at least ``side``.
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


def place_tiles(
    side: int, *, tile: int, overlap: int, bucket: int | None
) -> tuple[tuple[int, ...], np.ndarray]:
    """Places tiles along a side that is padded at its end.

    A side of at most ``tile`` pixels is one tile with all its padding. Otherwise as few tiles
    as possible are spread evenly, and the last one ends with the padding. Tiles start at
    multiples of ``STRIDE`` if ``tile`` and ``bucket`` are multiples of it. Otherwise, or if
    ``tile`` is hardly larger than its overlaps, they start at multiples of a common divisor.

    Args:
        side: Pixels before padding.
        tile: Pixels of a tile, as :func:`check` allows.
        overlap: Pixels next to an edge of a tile inside the image that get no weight.
        bucket: As for :func:`compute_padded_size`.

    Returns:
        The first pixel of each tile, and the weights of the pixels of each tile ``[tiles, tile]``
        float32. The weights of all tiles at one pixel add up to 1. For one tile the second axis
        has the padded side.
    """
    end = compute_padded_size(side, bucket, tile=tile, overlap=overlap)
    if side <= tile:
        return (0,), blend_weights((0,), end)
    room = tile - 2 * overlap - RAMP
    grid = math.gcd(STRIDE, tile, end)
    if room < grid:
        grid = math.gcd(grid, room)
    count = -(-(end - tile) // (room - room % grid))
    starts = tuple(i * ((end - tile) // grid) // count * grid for i in range(count + 1))
    return starts, blend_weights(starts, tile)


def blend_weights(starts: tuple[int, ...], tile: int) -> np.ndarray:
    """Computes weights: a ramp up in the middle of each overlap, minus the next tile's ramp.

    Unlike products of a ramp up and a ramp down, these differences add up to 1 even if tiles are so
    close that a pixel lies in two ramps.

    Args:
        starts: The first pixel of each tile, in ascending order.
        tile: Pixels of a tile.

    Returns:
        ``[tiles, tile]`` float32.
    """
    shared = ((one + tile + other) / 2 for one, other in itertools.pairwise(starts))
    middles = np.array([-np.inf, *shared, np.inf])[:, None]
    pixels = np.add.outer(starts, np.arange(tile) + 0.5)

    def rise(middle: np.ndarray) -> np.ndarray:
        return np.clip((pixels - middle) / RAMP + 0.5, 0, 1)

    return (rise(middles[:-1]) - rise(middles[1:])).astype(np.float32)
