import numpy as np
import pytest

from lcdnet_jax import Restorer, inference
from lcdnet_jax.inference import tiling
from tests.inference import filters
from tests.inference.blur import Whole


@pytest.mark.parametrize("options", [{}, {"bucket": 64}, {"tile": 64, "overlap": 8}], ids=str)
@pytest.mark.parametrize("size", [(9, 50), (8, 12), (1, 3)])
def test_networks_with_global_means_see_the_image_alone(rng, options, size):
    """Padded to their stride, as they do themselves; whatever the bucket."""
    image = rng.random((*size, 3), np.float32)
    restorer = Restorer(Whole(), {}, **options)
    np.testing.assert_allclose(restorer(image), Whole().apply({}, image[None])[0], rtol=1e-6)
    ensemble = Restorer(Whole(), {}, ensemble=True, **options)
    np.testing.assert_allclose(ensemble(image), restorer(image), atol=0.2)  # of 4 * 52 and more


def test_what_is_whole_follows_the_stride(rng):
    """9x50 pixels are 12x52 for a stride of 4, and would be 64x64 for the default bucket."""
    image = rng.random((9, 50, 3), np.float32)
    restorer = Restorer(Whole(), {}, max_pixels=12 * 52)
    np.testing.assert_allclose(restorer(image), Whole().apply({}, image[None])[0], rtol=1e-6)


@pytest.fixture
def shapes(color, monkeypatch):
    """The shapes that one restorer with the default bucket gives its network, each once."""
    restorer = Restorer(color.module, color.variables)
    seen = set()
    monkeypatch.setattr(restorer._program, "run", lambda _, x: seen.add(x.shape) or x)
    return restorer, seen


def test_few_programs_for_many_sizes(rng, shapes):
    """As many as there are shapes. Each side has one of seven lengths, wherever it comes from."""
    restorer, seen = shapes
    sizes = rng.integers(100, 701, (40, 2))
    computed = 0
    for height, width in sizes:
        image = np.zeros((height, width, 3), np.uint8)
        assert restorer(image).shape == image.shape
    assert len(seen) <= 22
    assert {side for shape in seen for side in shape[1:3]} <= {128, 192, 256, 384, 512, 768}
    # What that costs: the area of the padded images against that of the images.
    computed = np.prod(
        [[tiling.compute_padded_size(side, None) for side in size] for size in sizes.tolist()], 1
    )
    assert computed.sum() <= 1.5 * sizes.prod(axis=1).sum()
    assert (computed <= 2.25 * sizes.prod(axis=1)).all()


def test_a_handful_of_programs_for_photos(rng, shapes):
    """Of cameras, whose sides are as 3 to 2, 4 to 3 or 16 to 9."""
    restorer, seen = shapes
    for ratio in (3 / 2, 4 / 3, 16 / 9):
        for width in rng.integers(400, 701, 20):
            restorer(np.zeros((round(width / ratio), width), np.uint8))
    assert len(seen) <= 6


@pytest.mark.parametrize("size", [(32, 32), (31, 7), (1, 1)], ids=str)
def test_an_image_that_fits_is_restored_whole(rng, size):
    image = rng.random((*size, 3), np.float32)
    whole, tiled = filters.pair()
    np.testing.assert_array_equal(tiled(image), whole(image))


def test_padding_ends_at_the_tile(rng):
    """Or where no result sees it; 130 to 160 pixels would become 192."""
    module, variables = filters.pair()[0].module, filters.pair()[0].variables
    whole = Restorer(module, variables)
    restorer = Restorer(module, variables, tile=160, overlap=filters.OVERLAP)
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


def test_the_network_sees_one_window_at_a_time(rng):
    whole, _ = filters.pair()
    options = {"bucket": filters.BUCKET, "tile": filters.TILE, "overlap": filters.OVERLAP}
    tiled = Restorer(whole.module, whole.variables, **options, device="cpu")
    seen, run = [], tiled._program.run
    tiled._program.run = lambda variables, x: seen.append(x.shape) or run(variables, x)
    tiled(rng.random((50, 41, 3), np.float32))
    # Padded to 56 x 48: steps of 24 and 16 in eights.
    assert seen == [(1, filters.TILE, filters.TILE, 3)] * 4 * 3


def test_large_frames_are_cut_without_being_told(rng):
    whole, _ = filters.pair()
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


def test_large_images_share_one_program(rng):
    whole, _ = filters.pair()
    restorer = Restorer(
        whole.module,
        whole.variables,
        bucket=filters.BUCKET,
        tile=filters.TILE,
        overlap=filters.OVERLAP,
    )

    def programs(*sizes):
        before = len(restorer._program._compiled)
        for size in sizes:
            restorer(rng.random((*size, 3), np.float32))
        return len(restorer._program._compiled) - before

    assert programs((33, 50), (61, 43), (40, 40), (100, 57), (33, 33)) == 1
    assert programs((50, 10), (90, 16), (77, 9)) == 1  # narrow, one bucket
    assert programs((10, 50), (16, 90)) == 1  # the other way
