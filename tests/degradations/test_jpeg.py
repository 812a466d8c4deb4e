"""JPEG against Pillow, which encodes and decodes by libjpeg-turbo."""

import functools
import io

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lcdnet_jax import degradations, image_io

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
jpeg = quick_jit(degradations.jpeg, static_argnames="subsampling")


def by_pillow(pixels, quality, subsampling):
    buffer = io.BytesIO()
    options = {"4:2:0": 2, "4:4:4": 0}
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, "JPEG", quality=quality, subsampling=options[subsampling])
    decoded = np.asarray(Image.open(buffer))
    return decoded.reshape(pixels.shape).astype(np.float64)


@pytest.fixture(scope="module")
def photo():
    """Smooth parts, edges, saturated colors and noise; sides that no block divides."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:61, :75]
    image = np.stack([rows / 61, columns / 75, 0.5 + 0.5 * np.sin(columns / 5)], axis=-1)
    image[20:40, 30:60] = [0.9, 0.1, 0.1]
    image[30:50, 10:22] = [0.0, 0.3, 1.0]
    image += ndimage.gaussian_filter(rng.standard_normal(image.shape), (1, 1, 0)) * 0.15
    return image_io.to_uint8(image)


@pytest.mark.extended
@pytest.mark.parametrize("subsampling", degradations.SUBSAMPLINGS)
def test_color(photo, subsampling):
    qualities = np.array([1, 10, 49, 50, 75, 95, 100])
    clean = np.repeat((photo / np.float32(255))[None], len(qualities), axis=0)
    levels = np.asarray(jpeg(clean, quality=qualities, subsampling=subsampling), np.float64) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    for quality, actual in zip(qualities, levels, strict=True):
        difference = np.rint(actual) - by_pillow(photo, int(quality), subsampling)
        # A coefficient here and there rounds otherwise, which changes its block by up to a step.
        assert (abs(difference) <= 1).mean() > 0.95
        assert abs(difference).mean() < 0.25
    errors = ((levels - photo) ** 2).mean(axis=(1, 2, 3))
    assert (np.diff(errors) < 0).all()


def test_gray_and_one_quality(photo):
    clean = (photo[None, ..., :1] / np.float32(255)).astype(np.float32)
    actual = np.rint(np.asarray(jpeg(clean, quality=40)[0]) * 255)
    difference = actual - by_pillow(photo[..., :1], 40, "4:2:0")
    assert (abs(difference) <= 1).mean() > 0.98


@pytest.mark.extended
@pytest.mark.parametrize("size", [(1, 1), (2, 4), (17, 6)])
def test_small_images(photo, size):
    """libjpeg's filter for the colors starts where they have three columns."""
    small = photo[25 : 25 + size[0], 26 : 26 + size[1]]
    actual = np.rint(np.asarray(jpeg(small[None] / np.float32(255), quality=50)[0]) * 255)
    assert abs(actual - by_pillow(small, 50, "4:2:0")).max() <= 2


@pytest.mark.extended
def test_shifted_blocks(photo):
    """Each image is a crop of a larger file of Pillow, at some place of the blocks."""
    small = photo[25:54, 26:49]
    clean = np.repeat((small / np.float32(255))[None], 4, axis=0)
    keys = jax.random.split(jax.random.key(0), 4)
    shifted = quick_jit(
        functools.partial(degradations.random_jpeg, quality=(30, 30), shift_blocks=True)
    )
    levels = np.rint(np.asarray(shifted(keys, clean)) * 255)
    places = []
    for actual in levels:
        near = {}
        for row, column in np.ndindex(16, 16):
            border = ((row, 15 - row), (column, 15 - column), (0, 0))
            file = by_pillow(np.pad(small, border, mode="edge"), 30, "4:2:0")
            crop = file[row : row + 29, column : column + 23]
            near[row, column] = (abs(crop - actual) <= 1).mean()
        places.append(max(near, key=near.__getitem__))
        assert near[places[-1]] > 0.95
        assert sum(share > 0.8 for share in near.values()) == 1
    assert len(set(places)) > 2


@pytest.mark.extended
def test_random_subsampling(photo):
    clean = np.repeat((photo[20:36, 24:40] / np.float32(255))[None], 20, axis=0)
    keys = jax.random.split(jax.random.key(0), 20)
    draw = functools.partial(degradations.random_jpeg, quality=(20, 90))
    either, *both = (
        np.asarray(quick_jit(functools.partial(draw, subsampling=name))(keys, clean))
        for name in ("random", *degradations.SUBSAMPLINGS)
    )
    equal = [(either == one).all(axis=(1, 2, 3)) for one in both]
    assert (equal[0] ^ equal[1]).all()
    assert 4 < equal[0].sum() < 16


def test_values_are_clipped_and_rounded_first():
    clean = np.float32([-0.3, 1.7, 0.5])[:, None, None, None] * np.ones((3, 8, 8, 1), np.float32)
    expected = np.float32([0, 1, 128 / 255])[:, None, None, None]
    np.testing.assert_allclose(jpeg(clean, quality=100), expected + 0 * clean, atol=1e-6)


def test_qualities_beyond_the_range_and_random_ones():
    rng = np.random.default_rng(1)
    clean = np.repeat(rng.random((1, 8, 8, 1), np.float32), 60, axis=0)
    beyond, least = (np.asarray(jpeg(clean, quality=np.full(60, q))) for q in (-5, 1))
    np.testing.assert_array_equal(beyond, least)
    draw = functools.partial(degradations.random_jpeg, quality=(30, 32))
    drawn = np.asarray(quick_jit(draw)(jax.random.split(jax.random.key(0), 60), clean))
    known = np.asarray(jpeg(clean, quality=np.arange(60) % 3 + 30))[:3]
    which = [[np.allclose(d, k, atol=1e-6) for k in known] for d in drawn]
    counts = np.sum(which, axis=0)
    assert counts.sum() >= 60
    assert counts.min() > 8
