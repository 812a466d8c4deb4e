import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax import Restorer, inference
from lcdnet_jax.image_io import ImageError


class Blur(nn.Module):
    """Mixes neighbours and channels, so that borders and channel order show; quick to compile."""

    channels: int = 3

    @nn.compact
    def __call__(self, x):
        return x + nn.Conv(self.channels, (3, 3))(x)


BUCKET = 16


def make(channels, seed=0):
    module = Blur(channels)
    variables = module.init(jax.random.key(seed), jnp.zeros((1, 4, 4, channels)))
    return Restorer(module, variables, bucket=BUCKET)


@pytest.fixture(scope="module")
def colour():
    return make(3)


@pytest.fixture(scope="module")
def grey():
    return make(1)


def mirrored(image, bucket=BUCKET):
    """Larger by reflection without repeating the border, one row and column at a time."""
    for axis in (0, 1):
        size = image.shape[axis]
        target = -(-size // bucket) * bucket
        period = max(2 * (size - 1), 1)
        index = [min(i % period, period - i % period) for i in range(target)]
        image = np.take(image, index if size > 1 else [0] * target, axis=axis)
    return image


def by_hand(restorer, image):
    """The module itself on the mirrored image, by a plain convolution in NumPy."""
    kernel, bias = (
        np.asarray(restorer.variables["params"]["Conv_0"][k]) for k in ("kernel", "bias")
    )
    height, width = image.shape[:2]
    image = mirrored(image)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    result = image + bias
    for dy in range(3):
        for dx in range(3):
            window = padded[dy : dy + image.shape[0], dx : dx + image.shape[1]]
            result = result + window @ kernel[dy, dx]
    return result[:height, :width]


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (1, 9), (11, 1), (37, 31), (17, 2)])
def test_equals_the_network_on_the_mirrored_image(rng, colour, size):
    image = rng.random((*size, 3), np.float32)
    result = colour(image)
    np.testing.assert_allclose(result, by_hand(colour, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(13, 9), (13, 9, 1), (13, 9, 3)])
def test_keeps_shape_and_dtype(rng, colour, grey, shape, dtype):
    image = (rng.random(shape) * (1 if np.dtype(dtype).kind == "f" else 255)).astype(dtype)
    for restorer in (colour, grey):
        result = restorer(image)
        assert isinstance(result, np.ndarray)
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_clipped_and_rounded(rng, colour, dtype, top):
    image = rng.integers(0, top, (13, 9, 3), dtype, endpoint=True)
    exact = by_hand(colour, image / top) * top
    assert exact.min() < 0 or exact.max() > top  # so that clipping matters
    np.testing.assert_allclose(colour(image), exact.clip(0, top), rtol=0, atol=0.51)


def test_floats_are_neither_clipped_nor_rejected(rng, colour):
    image = rng.uniform(-2, 3, (13, 9, 3)).astype(np.float32)
    result = colour(image)
    assert result.min() < 0
    assert result.max() > 1
    np.testing.assert_allclose(result, by_hand(colour, image), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(colour(image.astype(np.float64)), result)


def test_grey_image_in_a_colour_network(rng, colour):
    """Repeated over the channels; the mean of the result."""
    image = rng.random((13, 9), np.float32)
    result = colour(image)
    np.testing.assert_array_equal(colour(image[..., None])[..., 0], result)
    expected = by_hand(colour, np.stack([image] * 3, axis=-1)).mean(-1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_colour_image_in_a_grey_network(rng, grey):
    """Channel by channel."""
    image = rng.random((13, 9, 3), np.float32)
    result = grey(image)
    for c in range(3):
        np.testing.assert_array_equal(result[..., c], grey(image[..., c]))
        expected = by_hand(grey, image[..., c : c + 1])
        np.testing.assert_allclose(result[..., c : c + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(), (9,), (9, 9, 2), (9, 9, 4), (9, 9, 0), (1, 9, 9, 3), (0, 9, 3), (9, 0)], ids=str
)
def test_other_shapes(colour, shape):
    with pytest.raises(ImageError, match=r"expected an image .*got shape \(") as error:
        colour(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


class TwoViews(nn.Module):
    """The left view and a quarter of the right one; needs no parameters."""

    channels: int = 6

    def __call__(self, x):
        return x[..., :3] + x[..., 3:] / 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_two_views(rng, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    views = (rng.random((13, 9, 6)) * top).astype(dtype)
    restorer = Restorer(TwoViews(), {}, bucket=BUCKET)
    result = restorer(views)
    assert result.shape == (13, 9, 3)
    assert result.dtype == dtype
    left, right = np.split(views.astype(np.float64), 2, axis=-1)
    expected = left + right / 4
    if dtype != np.float32:
        expected = np.rint(expected.clip(0, top))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1 if top > 1 else 1e-6)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (0, 9, 6), (1, 9, 9, 6)], ids=str)
def test_one_view_in_a_network_of_two(shape):
    with pytest.raises(ImageError, match=r"takes the left and right view .*got shape \("):
        Restorer(TwoViews(), {})(np.zeros(shape, np.float32))


def test_two_views_in_a_network_of_one(colour, grey):
    for restorer in (colour, grey):
        with pytest.raises(ImageError, match=r"expected an image .*got shape \(9, 9, 6\)"):
            restorer(np.zeros((9, 9, 6), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(colour, value):
    image = np.zeros((9, 9, 3))
    image[3, 4, 1] = value
    with pytest.raises(ImageError, match="NaN or infinite pixels"):
        colour(image)


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.complex64])
def test_other_dtypes(colour, dtype):
    with pytest.raises(ImageError, match=f"expected uint8, uint16.*got {np.dtype(dtype)}"):
        colour(np.zeros((9, 9, 3), dtype))


def test_the_input_is_left_alone(rng, colour):
    image = rng.random((16, 16, 3), np.float32)
    before = image.copy()
    image.flags.writeable = False
    result = colour(image)
    np.testing.assert_array_equal(image, before)
    result += 1  # and the result belongs to the caller


def test_programs_are_shared(rng, caplog):
    """One for five sizes in a bucket and for all weights; another for the next bucket."""
    restorer = make(3)

    def compiled(restorer, *sizes):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            for size in sizes:
                restorer(rng.random((*size, 3), np.float32))
        return len([m for m in caplog.messages if re.match(r"Compiling (jit\()?apply\b", m)])

    sizes = [(33, 50), (48, 64), (40, 49), (34, 63), (47, 57)]
    assert compiled(restorer, *sizes) == 1
    others = make(3, seed=1).variables
    assert compiled(restorer.with_variables(others), *sizes) == 0
    assert compiled(restorer, (49, 50)) == 1


def test_with_variables_leaves_the_original(rng, colour):
    image = rng.random((13, 9, 3), np.float32)
    before = colour(image)
    other = colour.with_variables(make(3, seed=1).variables)
    np.testing.assert_allclose(other(image), by_hand(other, image), rtol=0, atol=1e-5)
    assert (other(image) != before).any()
    np.testing.assert_array_equal(colour(image), before)


def test_bucket():
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        Restorer(Blur(), {}, bucket=0)
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    padded = inference.pad_to_bucket(image, 4)
    assert padded[0, ..., 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1], [3, 4, 5, 4]]
    assert inference.pad_to_bucket(image, 1).shape == image.shape
