import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, networks
from tests.inference import filters
from tests.inference.blur import BUCKET, by_hand


def test_gray_image_in_a_color_network(rng, color):
    """Repeated over the channels; the mean of the result."""
    image = rng.random((13, 9), np.float32)
    result = color(image)
    np.testing.assert_array_equal(color(image[..., None])[..., 0], result)
    expected = by_hand(color, np.stack([image] * 3, axis=-1)).mean(-1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_color_image_in_a_gray_network(rng, gray):
    """Channel by channel."""
    image = rng.random((13, 9, 3), np.float32)
    result = gray(image)
    for c in range(3):
        np.testing.assert_array_equal(result[..., c], gray(image[..., c]))
        expected = by_hand(gray, image[..., c : c + 1])
        np.testing.assert_allclose(result[..., c : c + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_go_to_the_device_as_they_are(rng, color, dtype):
    """And become the same numbers there as on the host."""
    white = np.iinfo(dtype).max
    image = rng.integers(0, white, (40, 56, 3), dtype, endpoint=True)
    for options in ({}, {"tile": 32, "overlap": 1}):
        restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
        seen, run = set(), restorer._program.run
        restorer._program.run = lambda v, x, f=run, to=seen: to.add(x.dtype) or f(v, x)
        restored = restorer(image)
        assert seen == {np.dtype(dtype)}
        floats = restorer(image.astype(np.float32) / np.float32(white))
        expected = np.rint(floats.clip(0, 1) * white)
        np.testing.assert_array_equal(restored, expected)


def test_the_ensemble_is_the_mean_over_eight(rng, color):
    """Four quarter turns, of the image and of its mirror image."""
    image = rng.random((17, 23, 3), np.float32)
    ensemble = Restorer(color.module, color.variables, bucket=BUCKET, ensemble=True)
    expected = np.zeros(image.shape)
    for turns in range(4):
        expected += np.rot90(color(np.rot90(image, turns)), -turns) / 8
        expected += np.rot90(color(np.rot90(image[:, ::-1], turns)), -turns)[:, ::-1] / 8
    np.testing.assert_allclose(ensemble(image), expected, rtol=0, atol=1e-6)
    assert np.abs(ensemble(image) - color(image)).max() > 1e-3
    np.testing.assert_array_equal(
        ensemble(image[..., 0]), ensemble(image[..., 0, None].repeat(3, axis=-1)).mean(axis=-1)
    )


def test_the_ensemble_in_tiles(rng, color):
    """Where padding plays no part, as of the whole frame."""
    image = rng.random((80, 48, 3), np.float32)
    options = {"bucket": BUCKET, "ensemble": True}
    whole = Restorer(color.module, color.variables, **options)
    tiled = Restorer(color.module, color.variables, **options, tile=32, overlap=1)
    np.testing.assert_allclose(tiled(image), whole(image), rtol=0, atol=1e-6)


def test_the_ensemble_of_two_views(rng):
    """Only what a dual-pixel camera could take: four, and exchanged views where columns turn."""

    class Columns(networks.RestorationNetwork):
        """Differences along columns of the left view, and the right view."""

        channels: int = 6
        two_views = True

        def __call__(self, x):
            return x[..., :3] - jnp.roll(x[..., 3:], 1, axis=1) / 4

    def swapped(x):
        return np.concatenate([x[..., 3:], x[..., :3]], axis=-1)

    views = rng.random((16, 32, 6), np.float32)
    one = Restorer(Columns(), {}, bucket=BUCKET)
    expected = sum(
        (
            one(views),
            one(views[::-1])[::-1],
            one(swapped(views)[:, ::-1])[:, ::-1],
            one(swapped(views)[::-1, ::-1])[::-1, ::-1],
        )
    )
    result = Restorer(Columns(), {}, bucket=BUCKET, ensemble=True)(views)
    np.testing.assert_allclose(result, expected / 4, rtol=0, atol=1e-6)


class TestBatches:
    @pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
    def test_types_are_not_mixed(self, rng, color, channels):
        """8 and 16 bits of one size, in one call."""
        two = Restorer(color.module, color.variables, tile_batch=2, device="cpu")
        one = Restorer(color.module, color.variables, tile_batch=1, device="cpu")
        images = [
            rng.integers(0, np.iinfo(dtype).max, (20, 30, *channels), dtype, endpoint=True)
            for dtype in (np.uint8, np.uint16, np.uint16, np.uint8)
        ] + [rng.random((20, 30, *channels), np.float32)]
        keys = [two.find_batch_key(image) for image in images]
        assert [most for most, _ in keys] == [2] * 5
        assert keys[1] == keys[2]
        assert len({key for _, key in keys}) == 3
        for image, result in zip(images, two(images), strict=True):
            assert result.dtype == image.dtype
            expected = one(image).astype(np.float64)
            atol = 1 if image.dtype.kind == "u" else 1e-6
            np.testing.assert_allclose(result.astype(np.float64), expected, rtol=0, atol=atol)

    def test_channels_are_not_mixed(self, color):
        gray, rgb = np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint8)
        assert color.find_batch_key(gray)[1] != color.find_batch_key(rgb)[1]

    def test_time_does_not_grow_with_the_square_of_the_number(self, color):
        """Each image is looked at a few times, however many follow."""

        class Counted(list):
            read = 0

            def __getitem__(self, index):
                found = super().__getitem__(index)
                Counted.read += len(found) if isinstance(index, slice) else 1
                return found

        restorer = Restorer(color.module, color.variables, strength=0)
        images = Counted(np.zeros((500, 4, 4, 3), np.uint8))
        restorer._restore_groups(images, Counted([""] * 500))
        assert Counted.read < 10 * 500


@pytest.mark.parametrize("size", [(50, 41), (41, 50), (20, 75)], ids=str)
def test_batches_of_tiles(rng, size):
    """As one by one; the last batch of an image is filled up, for one program."""
    image = rng.random((*size, 3), np.float32)
    whole, _ = filters.pair()
    options = {"bucket": filters.BUCKET, "tile": filters.TILE, "overlap": filters.OVERLAP}
    restorer = Restorer(whole.module, whole.variables, **options, tile_batch=4, device="cpu")
    seen, run = set(), restorer._program.run
    restorer._program.run = lambda variables, x: seen.add(x.shape) or run(variables, x)
    np.testing.assert_allclose(restorer(image), whole(image), rtol=0, atol=1e-6)
    assert len(seen) == 1
    assert seen.pop()[0] == 4
