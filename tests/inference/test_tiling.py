"""Tiles along a side by their definition. Images: test_tiled.py."""

import itertools
import math

import numpy as np
import pytest

from lcdnet_jax import Restorer
from lcdnet_jax.inference import tiling
from tests.inference.filters import Filter


def test_padded_sides():
    """By hand; and never more than half again, in ten lengths."""
    sides = [1, 64, 65, 96, 97, 128, 129, 192, 193, 256, 1025, 1500, 10_000]
    padded = [64, 64, 96, 96, 128, 128, 192, 192, 256, 256, 1536, 1536, 12_288]
    assert [tiling.compute_padded_size(side, None) for side in sides] == padded
    lengths = [tiling.compute_padded_size(side, None) for side in range(64, 1537)]
    assert len(set(lengths)) == 10
    assert all(side <= length < 1.5 * side for side, length in enumerate(lengths, 64))
    assert [tiling.compute_padded_size(side, 24) for side in (1, 24, 25)] == [24, 24, 48]


@pytest.mark.parametrize("bucket", [None, 1, 4, 8, 64])
@pytest.mark.parametrize(
    ("tile", "overlap"), [(32, 0), (32, 7), (33, 8), (64, 23), (145, 64), (200, 10), (256, 64)]
)
def test_places(tile, overlap, bucket):
    tiling.check(tile, overlap)
    room = tile - 2 * overlap - tiling.RAMP
    for side in (1, tile - 1, tile, tile + 1, tile + room, tile + room + 1, 2 * tile, 5 * tile + 3):
        padded = tiling.compute_padded_size(side, bucket)
        starts, weights = tiling.place_tiles(side, tile=tile, overlap=overlap, bucket=bucket)
        if side <= tile:
            assert starts == (0,)
            assert padded >= weights.shape[1] >= min(padded, max(tile, side + overlap))
            assert weights.shape[1] <= max(tile, side + overlap + tiling.STRIDE - 1)
            assert (weights == 1).all()
            continue
        # To the end of the padding, or beyond the overlap.
        end = starts[-1] + tile
        assert starts[0] == 0
        assert end == padded or side + overlap <= end < min(side + overlap + tiling.STRIDE, padded)
        # As few and as even as can be on the grid.
        steps = np.diff(starts)
        grid = math.gcd(tiling.STRIDE, tile, end)
        grid = grid if grid <= room else math.gcd(grid, room)
        assert not (steps % grid).any()
        assert np.ptp(steps) <= grid
        assert len(steps) == math.ceil((end - tile) / (room // grid * grid))
        # Every pixel: weights of 1 in all, from tiles that saw its surroundings.
        assert weights.shape == (len(starts), tile)
        assert weights.dtype == np.float32
        total = np.zeros(end, np.float32)
        for start, row in zip(starts, weights, strict=True):
            total[start : start + tile] += row
            assert row.min() >= 0
            seen = start + np.flatnonzero(row)
            assert start == 0 or seen[0] - start >= overlap
            assert start + tile == end or start + tile - 1 - seen[-1] >= overlap
        np.testing.assert_array_equal(total, 1)


def test_weights_by_hand():
    """Two tiles that share just the pixels of the ramp beside the overlap, and one more."""
    starts, weights = tiling.place_tiles(72, tile=52, overlap=8, bucket=4)
    assert starts == (0, 20)
    ramp = np.arange(1, 32, 2) / 32
    np.testing.assert_array_equal(weights[1], [0] * 8 + [*ramp] + [1] * 28)
    np.testing.assert_array_equal(weights[0], weights[1][::-1])
    # Closer than need be: the ramp stays in the middle, far from both edges.
    starts, weights = tiling.place_tiles(60, tile=52, overlap=8, bucket=4)
    assert starts == (0, 8)
    np.testing.assert_array_equal(weights[1], [0] * 14 + [*ramp] + [1] * 22)


def test_tiles_start_on_the_stride_of_networks():
    """With the defaults and round tiles, on multiples of 32, the stride of the U-Net."""
    for tile, side, bucket in itertools.product((192, 256, 512), (600, 1111, 4000), (None, 64)):
        starts, _ = tiling.place_tiles(side, tile=tile, overlap=64, bucket=bucket)
        assert len(starts) > 1
        assert not np.any(np.mod(starts, 32))


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (
            144,
            64,
            "tile 144 is too small for overlap 64 .* tile of at least 145, better 288, or an "
            "overlap of at most 63$",
        ),
        (32, 8, "tile of at least 33"),
        (31, 0, "tile must be an integer of at least 32, got 31"),
        (0, 0, "tile must be an integer of at least 32, got 0"),
        (64, -1, "overlap must be an integer of at least 0, got -1"),
    ],
)
def test_tiles_that_leave_nothing(tile, overlap, message):
    with pytest.raises(ValueError, match=message):
        Restorer(Filter(), {}, tile=tile, overlap=overlap)


def test_an_overlap_without_tiles():
    """It may be larger than any tile of the default size allows; windows grow with it."""
    Restorer(Filter(), {}, overlap=256)
    Restorer(Filter(), {}, tile=160, overlap=71)  # as the message for tile=160 says
