"""Windows by their definition: they cover the image, see the overlap, and cost little."""

import itertools

import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax.inference import MAX_PIXELS, tiling, windows

PHOTOS = [(3000, 4000), (4000, 3000), (4000, 6000), (3024, 4032), (2000, 3000), (6000, 8000)]


def choose(height, width, *, overlap=64, stride=8, bucket=None, **options):
    return windows.choose_windows(
        height, width, overlap=overlap, stride=stride, bucket=bucket, **options
    )


def count_pixels(rows, columns):
    """Computed pixels, and those of one window."""
    window = rows[1].shape[1] * columns[1].shape[1]
    return len(rows[0]) * len(columns[0]) * window, window


@pytest.mark.parametrize("bucket", [None, 1, 64])
@pytest.mark.parametrize(("overlap", "stride"), [(0, 1), (7, 5), (64, 8), (80, 16), (96, 32)])
def test_each_pixel_is_computed_with_its_surroundings(rng, overlap, stride, bucket):
    sizes = [(1, 1), (1, 5000), (3000, 4000), *rng.integers(1, 5000, (20, 2)).tolist()]
    for size in sizes:
        places = choose(*size, overlap=overlap, stride=stride, bucket=bucket)
        for side, (starts, weights) in zip(size, places, strict=True):
            length = weights.shape[1]
            end = starts[-1] + length
            seen = tiling.compute_padded_size(side, bucket, tile=1, overlap=overlap)
            assert (starts[0], end) == (0, seen + -seen % stride)
            assert not np.any(np.mod(starts, stride))
            assert len(starts) == 1 or (np.diff(starts) > 0).all()
            total = np.zeros(end, np.float32)
            for start, row in zip(starts, weights, strict=True):
                total[start : start + length] += row
                counted = np.flatnonzero(row)
                assert start == 0 or counted[0] >= overlap
                assert start + length == end or length - 1 - counted[-1] >= overlap
            np.testing.assert_array_equal(total, 1)


def test_places_by_hand():
    """Three windows whose neighbors share twice the overlap and the ramp, just so."""
    side = 3 * 512 - 2 * (2 * 24 + tiling.RAMP)
    (starts, weights), _ = choose(side, 512, overlap=24, bucket=1, most_pixels=512 * 512)
    assert starts == (0, 448, 896)
    ramp = np.arange(1, 32, 2) / 32
    expected = [0] * 24 + [*ramp] + [1] * 432 + [*ramp[::-1]] + [0] * 24
    np.testing.assert_array_equal(weights[1], expected)


@pytest.mark.parametrize("size", PHOTOS, ids=str)
def test_few_pixels_are_computed_twice(size):
    """Tiles of 512 computed 2.4 pixels for one of the image."""
    pixels, window = count_pixels(*choose(*size))
    assert window <= windows.MOST_PIXELS
    assert pixels <= 1.31 * np.prod(size)


def test_memory_limits_windows():
    costs = []
    for most in (2**18, 2**19, 2**20, 2**21):
        pixels, window = count_pixels(*choose(3000, 4000, most_pixels=most))
        assert window <= most
        costs.append(pixels)
    assert costs == sorted(costs, reverse=True)
    # No window is so small that nothing would be left of it.
    (_, rows), (_, columns) = choose(3000, 4000, most_pixels=1)
    assert rows.shape[1] == columns.shape[1] == 2 * 64 + tiling.RAMP + 48


@pytest.mark.parametrize("overlap", [16, 64, 77, 96])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("max_pixels", [None, 1, 50_000, 2**30])
def test_no_limit_makes_windows_that_compute_little(overlap, scale, max_pixels):
    """Windows of 50,000 pixels would compute 17 for one with an overlap of 77."""
    most = windows.limit_pixels(max_pixels, overlap=overlap, scale=scale)
    assert most <= max(windows.MOST_PIXELS // scale, (4 * overlap + 2 * tiling.RAMP) ** 2)
    pixels, _ = count_pixels(*choose(3000, 4000, overlap=overlap, most_pixels=most))
    assert pixels <= 5.2 * 3000 * 4000
    if max_pixels is None and overlap == 64:  # tiles of 512 compute two and more for one
        assert pixels <= {1: 1.31, 2: 1.5, 4: 1.9}[scale] * 3000 * 4000


def test_less_memory_than_windows_take():
    for most, expected in ((2**20, 2**20), (2**30, windows.MOST_PIXELS), (1, 288**2)):
        assert windows.limit_pixels(most, overlap=64, scale=1) == expected


def test_windows_of_a_network_that_needs_little_memory():
    """The default of ``max_pixels``, up to which images are restored whole, does not limit them."""
    small, base = (networks.create("sadnet", preset=preset) for preset in ("small", "base"))
    assert base.window_pixels == windows.MOST_PIXELS
    for max_pixels, expected in (
        (None, small.window_pixels),
        (MAX_PIXELS, small.window_pixels),
        (2**20, 2**20),
    ):
        found = windows.limit_pixels(
            max_pixels, overlap=64, scale=1, window_pixels=small.window_pixels
        )
        assert found == expected
    places = choose(3000, 4000, overlap=85, most_pixels=small.window_pixels)
    assert count_pixels(*places)[0] <= 1.29 * 3000 * 4000


def test_a_window_is_hardly_padded(rng):
    """Not even at the end of a row: the last window moves inwards."""
    for height, width in rng.integers(1200, 6000, (50, 2)).tolist():
        for side, (starts, weights) in zip((height, width), choose(height, width), strict=True):
            assert side <= starts[-1] + weights.shape[1] <= side + 64 + tiling.STRIDE


def test_sizes_share_shapes():
    """Sizes that differ by a few pixels, as of one camera and of crops by hand."""
    shapes = set()
    for height, width in itertools.product(range(2992, 3008), range(3990, 4000)):
        (_, rows), (_, columns) = choose(height, width)
        shapes.add((rows.shape[1], columns.shape[1]))
    assert len(shapes) == 1


def test_windows_are_no_smaller_in_one_program_than_in_another():
    """The choice is a function of the size alone."""
    first, again = choose(3000, 4000), choose(3000, 4000)
    for (starts, weights), (same_starts, same) in zip(first, again, strict=True):
        assert starts == same_starts
        np.testing.assert_array_equal(weights, same)
