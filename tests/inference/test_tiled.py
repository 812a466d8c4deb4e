"""Tiled images against whole ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, degradations, networks
from lcdnet_jax.inference import tiling
from tests.inference.filters import BUCKET, OVERLAP, TILE, pair


class Blocks(networks.RestorationNetwork):
    """Means of cells of 32 pixels, as a network of that stride would pair them."""

    channels: int = 1

    def __call__(self, x):
        n, height, width, c = x.shape
        cells = x.reshape(n, height // 32, 32, width // 32, 32, c).mean((2, 4))
        return cells.repeat(32, axis=1).repeat(32, axis=2)


class Mean(networks.RestorationNetwork):
    """The mean of all that it sees."""

    channels: int = 1

    def __call__(self, x):
        return jnp.zeros_like(x) + x.mean((1, 2), keepdims=True)


@pytest.mark.parametrize(
    "size", [(33, 32), (71, 45), (40, 101), (72, 72), (9, 77), (77, 1), (32, 33)], ids=str
)
def test_a_network_that_sees_no_further_than_the_overlap(rng, size):
    image = rng.random((*size, 3), np.float32)
    whole, tiled = pair()
    np.testing.assert_allclose(tiled(image), whole(image), rtol=0, atol=1e-6)


def test_a_network_that_sees_one_pixel_further(rng):
    """Windows 8 pixels apart, the most that is allowed, so that not a pixel is spare."""
    image = rng.random((72, 72, 3), np.float32)
    starts, _ = tiling.place_tiles(72, tile=TILE, overlap=OVERLAP, bucket=BUCKET)
    assert starts == (0, 8, 16, 24, 32, 40)
    whole, tiled = pair(reach=OVERLAP + 1)
    difference = np.abs(tiled(image) - whole(image))
    assert difference.max() > 1e-4
    assert difference[:12, :12].max() < 1e-6  # nothing but the first tile


@pytest.mark.parametrize("size", [(65, 129), (96, 191), (193, 70), (130, 66)], ids=str)
def test_both_ways_see_the_same_beyond_the_border(rng, size):
    """Of what is mirrored at the end of a side, tiles see as much as counts."""
    image = rng.random((*size, 3), np.float32)
    module, variables = pair()[0].module, pair()[0].variables
    whole = Restorer(module, variables)
    tiled = Restorer(module, variables, tile=64, overlap=OVERLAP)
    np.testing.assert_allclose(tiled(image), whole(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(41, 50), (41, 50, 1), (41, 50, 3)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_dtypes(rng, shape, dtype, channels):
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    image = (rng.random(shape) * top).astype(dtype)
    whole, tiled = (restorer(image) for restorer in pair(channels=channels, out=channels))
    assert tiled.shape == shape
    assert tiled.dtype == dtype
    assert np.ptp(tiled) > 0
    atol = {np.float16: 2e-3, np.float64: 1e-6}.get(dtype, 1)
    np.testing.assert_allclose(tiled.astype(float), whole.astype(float), rtol=0, atol=atol)


def test_two_views(rng):
    views = rng.random((41, 50, 6), np.float32)
    whole, tiled = (restorer(views) for restorer in pair(channels=6, out=3))
    assert tiled.shape == (41, 50, 3)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)


def test_a_network_of_the_registry(rng):
    """DnCNN of depth 3 sees 3 pixels to each side."""
    module = networks.create("dncnn", depth=3, features=4)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    image = rng.random((50, 41), np.float32)
    whole = Restorer(module, variables, bucket=BUCKET)(image)
    tiled = Restorer(module, variables, bucket=BUCKET, tile=TILE, overlap=OVERLAP)(image)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)


def test_networks_that_pair_pixels(rng):
    """The cells of a tile are those of the whole image."""
    image = rng.random((100, 350), np.float32)
    for bucket in (32, None):
        whole = Restorer(Blocks(), {}, bucket=bucket)(image)
        tiled = Restorer(Blocks(), {}, bucket=bucket, tile=96, overlap=8)(image)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)


def test_a_network_that_sees_the_whole_image():
    """Its tiles differ, and blend without a seam."""
    image = np.zeros((32, 64), np.float32)
    image[:, 32:] = 1
    np.testing.assert_array_equal(Restorer(Mean(), {}, bucket=BUCKET)(image), 0.5)
    restorer = Restorer(Mean(), {}, bucket=BUCKET, tile=TILE, overlap=OVERLAP)
    tiled = restorer(image)
    # Windows of 32 columns at these places.
    starts, weights = tiling.place_tiles(64, tile=TILE, overlap=OVERLAP, bucket=BUCKET)
    assert starts == (0, 8, 16, 24, 32)
    expected = np.zeros(64)
    for start, row in zip(starts, weights, strict=True):
        expected[start : start + 32] += row * image[0, start : start + 32].mean()
    np.testing.assert_allclose(tiled, np.tile(expected, (32, 1)), rtol=0, atol=1e-6)
    # One tile is 1/4 brighter than the last, and a pixel lies in two ramps.
    assert np.diff(tiled, axis=1).max() <= 2 * (1 / 4) / tiling.RAMP + 1e-6
    assert tiled.min() == 0
    assert tiled.max() == 1


def test_a_network_that_enlarges(rng):
    class Enlarge(networks.RestorationNetwork):
        channels: int = 3
        scale: int = 2

        def __call__(self, x):
            return x.repeat(2, axis=1).repeat(2, axis=2)

    for size in ((40, 75), (75, 40), (9, 11)):
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        expected = image.repeat(2, axis=0).repeat(2, axis=1)
        for options in ({}, {"tile": TILE, "overlap": OVERLAP}, {"ensemble": True}):
            result = Restorer(Enlarge(), {}, bucket=BUCKET, **options)(image)
            np.testing.assert_array_equal(result, expected)


def test_alpha_of_a_network_that_enlarges(rng):
    """By bicubic interpolation, within its own range, whole and in tiles alike."""

    class Double(networks.RestorationNetwork):
        channels: int = 3
        scale: int = 2

        def __call__(self, x):
            return x.repeat(2, axis=1).repeat(2, axis=2)

    for options in ({"bucket": BUCKET}, {"bucket": BUCKET, "tile": TILE, "overlap": OVERLAP}):
        restorer = Restorer(Double(), {}, **options)
        image = rng.integers(1, 256, (40, 75, 4), np.uint8)
        result = restorer(image)
        small = image[None, ..., 3:].astype(np.float32)
        large = np.asarray(degradations.bicubic(small, height=80, width=150))[0, ..., 0]
        expected = large.clip(image[..., 3].min(), image[..., 3].max())
        np.testing.assert_allclose(result[..., 3], expected, rtol=0, atol=0.51)
        np.testing.assert_array_equal(result[..., :3], restorer(image[..., :3]))
        gray = restorer((image[..., :2] * 257.0).astype(np.uint16))
        assert (gray.shape, gray.dtype) == ((80, 150, 2), np.uint16)
        image[..., 3] = 77
        np.testing.assert_array_equal(restorer(image)[..., 3], 77)
        floats = restorer(image.astype(np.float64) / 64 - 1.5)
        assert floats.dtype == np.float64
        np.testing.assert_array_equal(floats[..., 3], 77 / 64 - 1.5)
