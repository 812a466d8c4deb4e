"""Tiles along a side by their definition; tiled images against whole ones; local means."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax import Restorer, degradations, inference, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import tiling
from lcdnet_jax.networks import _blocks

OVERLAP, TILE, BUCKET = 4, 32, 8


# --- Geometry -------------------------------------------------------------------------------------


def test_padded_sides():
    """By hand; and never more than half again, in ten lengths."""
    sides = [1, 64, 65, 96, 97, 128, 129, 192, 193, 256, 1025, 1500, 10_000]
    padded = [64, 64, 96, 96, 128, 128, 192, 192, 256, 256, 1536, 1536, 12_288]
    assert [tiling.padded_size(side, None) for side in sides] == padded
    lengths = [tiling.padded_size(side, None) for side in range(64, 1537)]
    assert len(set(lengths)) == 10
    assert all(side <= length < 1.5 * side for side, length in enumerate(lengths, 64))
    assert [tiling.padded_size(side, 24) for side in (1, 24, 25)] == [24, 24, 48]


@pytest.mark.parametrize("bucket", [None, 1, 4, 8, 64])
@pytest.mark.parametrize(
    ("tile", "overlap"), [(32, 0), (32, 7), (33, 8), (64, 23), (145, 64), (200, 10), (256, 64)]
)
def test_places(tile, overlap, bucket):
    tiling.check(tile, overlap)
    room = tile - 2 * overlap - tiling.RAMP
    for side in (1, tile - 1, tile, tile + 1, tile + room, tile + room + 1, 2 * tile, 5 * tile + 3):
        padded = tiling.padded_size(side, bucket)
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


# --- Images ---------------------------------------------------------------------------------------


class Filter(networks.RestorationNetwork):
    """One convolution that sees ``reach`` pixels to each side, zeros beyond the edge."""

    channels: int = 3
    out: int = 3
    reach: int = OVERLAP

    @nn.compact
    def __call__(self, x):
        size = 2 * self.reach + 1
        return nn.Conv(self.out, (size, size), bias_init=nn.initializers.ones)(x)


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


@functools.cache
def pair(**fields):
    """One network, whole and tiled."""
    module = Filter(**fields)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, module.channels)))
    return (
        Restorer(module, variables, bucket=BUCKET),
        Restorer(module, variables, bucket=BUCKET, tile=TILE, overlap=OVERLAP),
    )


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


@pytest.mark.parametrize("size", [(32, 32), (31, 7), (1, 1)], ids=str)
def test_an_image_that_fits_is_restored_whole(rng, size):
    image = rng.random((*size, 3), np.float32)
    whole, tiled = pair()
    np.testing.assert_array_equal(tiled(image), whole(image))


def test_padding_ends_at_the_tile(rng):
    """Or where no result sees it; 130 to 160 pixels would become 192."""
    module, variables = pair()[0].module, pair()[0].variables
    whole = Restorer(module, variables)
    restorer = Restorer(module, variables, tile=160, overlap=OVERLAP)
    seen, run = [], restorer._program.run
    restorer._program.run = lambda variables, x: seen.append(x.shape[1:3]) or run(variables, x)
    for size, shape in (
        ((156, 130), (160, 160)),
        ((157, 60), (192, 64)),
        ((130, 400), (160, 160)),
    ):
        seen.clear()
        image = rng.random((*size, 3), np.float32)
        np.testing.assert_allclose(restorer(image), whole(image), rtol=0, atol=1e-6)
        assert set(seen) == {shape}


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


def test_the_network_sees_one_window_at_a_time(rng):
    whole, _ = pair()
    options = {"bucket": BUCKET, "tile": TILE, "overlap": OVERLAP, "device": "cpu"}
    tiled = Restorer(whole.module, whole.variables, **options)
    seen, run = [], tiled._program.run
    tiled._program.run = lambda variables, x: seen.append(x.shape) or run(variables, x)
    tiled(rng.random((50, 41, 3), np.float32))
    assert seen == [(1, TILE, TILE, 3)] * 4 * 3  # padded to 56 x 48: steps of 24 and 16 in eights


@pytest.mark.parametrize("size", [(50, 41), (41, 50), (20, 75)], ids=str)
def test_batches_of_tiles(rng, size):
    """As one by one; the last batch of an image is filled up, for one program."""
    image = rng.random((*size, 3), np.float32)
    whole, _ = pair()
    options = {"bucket": BUCKET, "tile": TILE, "overlap": OVERLAP, "device": "cpu"}
    restorer = Restorer(whole.module, whole.variables, **options, tile_batch=4)
    seen, run = set(), restorer._program.run
    restorer._program.run = lambda variables, x: seen.add(x.shape) or run(variables, x)
    np.testing.assert_allclose(restorer(image), whole(image), rtol=0, atol=1e-6)
    assert len(seen) == 1
    assert seen.pop()[0] == 4


def test_large_frames_are_cut_without_being_told(rng):
    whole, _ = pair()
    restorer = Restorer(whole.module, whole.variables, max_pixels=2 * 64 * 1024, device="cpu")
    everything = Restorer(whole.module, whole.variables, max_pixels=None)
    seen, run = [], restorer._program.run
    restorer._program.run = lambda variables, x: seen.append(x.shape[1:3]) or run(variables, x)
    for size, shapes in (
        ((128, 1024), [(128, 1024)]),
        ((128, 1025), [(128, 640)] * 2),  # padded to 1536 columns, of which 1120 are seen
        ((520, 3), [(768, 64)]),
    ):
        seen.clear()
        image = rng.random((*size, 3), np.float32)
        np.testing.assert_allclose(restorer(image), everything(image), rtol=0, atol=1e-6)
        assert seen == shapes
    assert inference.MAX_PIXELS == 1536 * 1024


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


def test_large_images_share_one_program(rng):
    whole, _ = pair()
    restorer = Restorer(whole.module, whole.variables, bucket=BUCKET, tile=TILE, overlap=OVERLAP)

    def programs(*sizes):
        before = len(restorer._program._compiled)
        for size in sizes:
            restorer(rng.random((*size, 3), np.float32))
        return len(restorer._program._compiled) - before

    assert programs((33, 50), (61, 43), (40, 40), (100, 57), (33, 33)) == 1
    assert programs((50, 10), (90, 16), (77, 9)) == 1  # narrow, one bucket
    assert programs((10, 50), (16, 90)) == 1  # the other way


# --- Local means, and what a restorer says of itself ----------------------------------------------


@pytest.fixture(scope="module")
def lcdnet():
    """The smallest one with channel attention, and the shapes of its variables."""
    module = networks.create(
        "lcdnet", channels=1, width=16, enc_blocks=(1, 1, 1, 1), block="naf", use_msfm=False,
        scam_type="none", sfe_type="naf", global_branch="none", layer_scale_init=1.0,
    )  # fmt: skip
    return module, jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


class LocalMean(networks.RestorationNetwork):
    channels: int = 1
    local_pool: int | None = None

    def __call__(self, x):
        return jnp.zeros_like(x) + _blocks.windowed_mean(x, self.local_pool)


def test_local_means(rng):
    """As numbers: the means of LCDNet's blocks, alone."""
    image = rng.random((12, 20), np.float32)
    module = LocalMean()
    full, wide, local = (
        Restorer(module, {}, bucket=1, local_pool=window)(image) for window in (None, 20, 5)
    )
    np.testing.assert_allclose(full, image.mean(), rtol=1e-6)
    np.testing.assert_array_equal(wide, full)
    np.testing.assert_allclose(local[4, 7], image[2:7, 5:10].mean(), rtol=1e-5)


@pytest.mark.extended
def test_local_means_of_lcdnet(lcdnet):
    """As programs, which are quicker to make than to compile."""

    def program(restorer):
        apply = jax.jit(restorer.module.apply)
        return apply.lower(restorer.variables, np.zeros((1, 16, 32, 1), "f")).as_text()

    module, variables = lcdnet
    full = program(Restorer(module, variables))
    assert program(Restorer(module, variables, local_pool=32)) == full
    local = program(Restorer(module, variables, local_pool=8))
    assert local == program(Restorer(module.clone(local_pool=8), variables))
    assert local != full


def test_mode(lcdnet):
    module, variables = lcdnet
    tiled = {"tile": 256, "overlap": 64}
    full = {"max_pixels": None}
    assert Restorer(module, variables).mode == "windows with overlap 64 above 1572864 pixels"
    assert Restorer(module, variables, **full).mode == "full"
    assert Restorer(module, variables, local_pool=96, **full).mode == "local 96"
    assert Restorer(module, variables, **full, ensemble=True).mode == "ensemble"
    assert Restorer(module, variables, **tiled).mode == "tiled 256/64"
    assert Restorer(module, variables, local_pool=96, **tiled).mode == "tiled 256/64, local 96"
    assert Restorer(module.clone(local_pool=24), variables, **full).mode == "local 24"
    assert Restorer(Filter(), {}, **tiled).mode == "tiled 256/64"
    assert module.local_pool is None


def test_networks_without_local_means(lcdnet):
    with pytest.raises(ValueError, match="Filter has no local_pool; leave it None, as the network"):
        Restorer(Filter(), {}, local_pool=96)
    with pytest.raises(ValueError, match="RCAN has no local_pool; leave it None, or use tile to s"):
        Restorer(networks.create("rcan"), {}, local_pool=96)
    with pytest.raises(ValueError, match="local_pool must be an integer of at least 1, got 0"):
        Restorer(*lcdnet, local_pool=0)


def test_options_are_kept(rng, lcdnet, monkeypatch):
    whole, tiled = pair()
    other = jax.tree.map(lambda a: 2 * a, whole.variables)
    image = rng.random((41, 50, 3), np.float32)
    result = tiled.with_variables(other)(image)
    np.testing.assert_allclose(result, whole.with_variables(other)(image), rtol=0, atol=1e-6)
    np.testing.assert_allclose(result, 2 * tiled(image), rtol=0, atol=1e-6)
    monkeypatch.setattr(weights_lib, "load", lambda *_, **__: weights_lib.Weights(*lcdnet, {}))
    loaded = Restorer.from_checkpoint("run", tile=200, overlap=32, local_pool=12)
    assert loaded.with_variables({}).mode == "tiled 200/32, local 12"
