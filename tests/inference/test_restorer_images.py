"""Images that a Restorer takes or refuses: their shapes, types, channels and values."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import Restorer, inference, networks
from lcdnet_jax.image_io import ImageError
from tests.inference.blur import BUCKET, TwoViews, by_hand, make


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(13, 9), (13, 9, 1), (13, 9, 3)])
def test_keeps_shape_and_dtype(rng, color, gray, shape, dtype):
    image = (rng.random(shape) * (1 if np.dtype(dtype).kind == "f" else 255)).astype(dtype)
    for restorer in (color, gray):
        result = restorer(image)
        assert isinstance(result, np.ndarray)
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_clipped_and_rounded(rng, color, dtype, top):
    image = rng.integers(0, top, (13, 9, 3), dtype, endpoint=True)
    exact = by_hand(color, image / top) * top
    assert exact.min() < 0 or exact.max() > top  # so that clipping matters
    np.testing.assert_allclose(color(image), exact.clip(0, top), rtol=0, atol=0.51)


def test_floats_are_neither_clipped_nor_rejected(rng, color):
    image = rng.uniform(-2, 3, (13, 9, 3)).astype(np.float32)
    result = color(image)
    assert result.min() < 0
    assert result.max() > 1
    np.testing.assert_allclose(result, by_hand(color, image), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(color(image.astype(np.float64)), result)


@pytest.mark.parametrize(
    "shape", [(), (9,), (9, 9, 5), (9, 9, 0), (0, 9, 9, 3), (2, 1, 9, 9, 3), (0, 9, 3), (9, 0)],
    ids=str,
)  # fmt: skip
def test_other_shapes(color, shape):
    with pytest.raises(ImageError, match=r"expected an image .*got shape \(") as error:
        color(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


def test_channels_first(color):
    with pytest.raises(ImageError, match=r"channels are last, as after x\.transpose\(1, 2, 0\)$"):
        color(np.zeros((3, 9, 7), np.uint8))


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_handed_through(rng, color, gray, options, dtype, channels):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (rng.random((41, 35, channels)) * top).astype(dtype)
    image[..., -1] = np.maximum(image[..., -1], top / 100)  # nothing is hidden
    for one in (color, gray):
        restorer = Restorer(one.module, one.variables, bucket=BUCKET, **options)
        result = restorer(image)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result[..., -1], image[..., -1])
        np.testing.assert_array_equal(result[..., :-1], restorer(image[..., :-1]))
        assert (result[..., :-1] != image[..., :-1]).any()


def test_channels_that_are_no_alpha(rng):
    """A network of four channels restores all of them, and nothing else."""
    four = make(4)
    image = rng.random((9, 9, 4), np.float32)
    np.testing.assert_allclose(four(image), by_hand(four, image), rtol=0, atol=1e-5)
    for shape in ((9, 9), (9, 9, 2), (9, 9, 3)):
        with pytest.raises(ImageError, match=r"for a network with channels=4; got shape"):
            four(np.zeros(shape))


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


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (0, 9, 6), (1, 9, 9, 2)], ids=str)
def test_one_view_in_a_network_of_two(shape):
    with pytest.raises(ImageError, match=r"takes the left and right view .*got shape \("):
        Restorer(TwoViews(), {})(np.zeros(shape, np.float32))


def test_two_views_in_a_network_of_one(color, gray):
    for restorer in (color, gray):
        with pytest.raises(ImageError, match=r"expected an image .*got shape \(9, 9, 6\)"):
            restorer(np.zeros((9, 9, 6), np.float32))


@pytest.mark.parametrize("dtype", [">u2", ">f2", ">f4", ">f8", "<u2"])
def test_byte_orders(rng, color, dtype):
    """The result has that of the image, and the values do not depend on it."""
    image = rng.random((13, 9, 3)) * (65535 if "u" in dtype else 1)
    native = image.astype(np.dtype(dtype).newbyteorder("="))
    result = color(native.astype(dtype))
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, color(native))


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
def test_memory_layouts(rng, color, options):
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    image = rng.integers(0, 256, (41, 35, 3), np.uint8)
    views = (image[::-1, ::2], image.transpose(1, 0, 2), np.asfortranarray(image), image[..., ::-1])
    for view in views:
        np.testing.assert_array_equal(restorer(view), restorer(view.copy()))


def test_images_of_pillow(rng, color):
    """By mode; the result is an array. All modes: test_pil_images.py."""
    image = rng.integers(0, 256, (13, 9, 3), np.uint8)
    palette = Image.fromarray(image).quantize(64)
    for one in (Image.fromarray(image), palette, Image.fromarray(image).convert("CMYK")):
        result = color(one)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, color(np.asarray(one.convert("RGB"))))
        np.testing.assert_array_equal(color([one])[0], result)
    with pytest.raises(ImageError, match="a PIL image of mode I holds 32-bit integers"):
        color(Image.new("I", (9, 13)))
    with pytest.raises(ImageError, match="image 1 of 2: a PIL image of mode I"):
        color([palette, Image.new("I", (9, 13))])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_pixels_that_are_no_numbers(color, value):
    """Of float32: the last is none."""
    image = np.zeros((9, 9, 3))
    image[3, 4, 1] = value
    with pytest.raises(ImageError, match="NaN or infinite pixels"):
        color(image)


class Scaled(networks.RestorationNetwork):
    """Multiplies by a number; needs no parameters."""

    channels: int = 3
    factor: float = 1.0

    def __call__(self, x):
        return x * jnp.float32(self.factor)


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.uint8, np.inf), (np.uint16, np.nan), (np.float32, np.nan), (np.float64, np.inf),
     (np.float16, 1e5)],
)  # fmt: skip
def test_results_that_are_no_numbers(rng, options, dtype, factor):
    """Of the image's type, as the last is not; where scores are computed they come back."""
    image = (rng.random((41, 35, 3)) * 99).astype(dtype)
    restorer = Restorer(Scaled(factor=factor), {}, bucket=BUCKET, **options)
    with pytest.raises(ImageError, match=r"the result holds NaN or infinity; scale the values"):
        restorer(image / 99 if image.dtype.kind == "f" else image)
    assert not np.isfinite(restorer.predict(np.float16(image + 1))).all()


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_pictures_in_color_stay_gray(rng, color, gray, options, dtype):
    """They become what the gray picture becomes; a single pixel of another color is color."""
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    one = (rng.random((41, 35)) * top).astype(dtype)
    image = one[..., None].repeat(3, axis=-1)
    for network in (color, gray):
        restorer = Restorer(network.module, network.variables, bucket=BUCKET, **options)
        result = restorer(image)
        np.testing.assert_array_equal(result, restorer(one)[..., None].repeat(3, axis=-1))
        transparent = np.dstack([image, np.full_like(one, top)])
        transparent[:9, :9] = [0, top, 0, 0]  # a color that nobody sees
        result = restorer(transparent)
        np.testing.assert_array_equal(result[9:, 9:, 0], result[9:, 9:, 2])
    image[17, 11, 0] = top - image[17, 11, 0]
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    assert (np.ptp(restorer(image), axis=-1) > 0).mean() > 0.9


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("channels", [2, 4])
def test_hidden_colors_do_not_show(rng, color, options, channels):
    """What is under alpha 0 changes nothing that is visible, and comes back as it was."""
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    image = rng.integers(0, 256, (41, 35, channels), np.uint8)
    image[..., -1] = rng.choice([0, 1, 255], (41, 35), p=[0.4, 0.1, 0.5])
    hidden = image[..., -1] == 0
    results = []
    for value in (0, 255):
        image[hidden, :-1] = value
        results.append(restorer(image))
        np.testing.assert_array_equal(results[-1][hidden], image[hidden])
        np.testing.assert_array_equal(results[-1][..., -1], image[..., -1])
    np.testing.assert_array_equal(results[0][~hidden], results[1][~hidden])
    image[..., -1] = 0  # nothing to see: as if opaque
    np.testing.assert_array_equal(restorer(image)[..., :-1], restorer(image[..., :-1]))


def test_hidden_colors_of_a_network_that_enlarges():
    """They become those that the network saw, since alpha between pixels is not 0."""

    class Twice(networks.RestorationNetwork):
        channels: int = 3
        scale: int = 2

        def __call__(self, x):
            return x.repeat(2, axis=1).repeat(2, axis=2)

    image = np.full((9, 11, 4), 255, np.uint8)
    image[3:5, 4:7] = 0
    result = Restorer(Twice(), {})(image)
    np.testing.assert_array_equal(result[..., :3], 255)
    assert result[8, 10, 3] == 0


def test_values_of_8_bits_as_floats(rng, color):
    """They most likely were never divided, so that the result would be wrong without a word."""
    image = rng.integers(0, 256, (9, 9, 3))
    message = r"the pixels are from 0 to 255, far outside of the \[0, 1\].*; divide them by 255"
    image[0, 0, :2] = 0, 255
    with pytest.warns(inference.PixelRangeWarning, match=message):
        color(image.astype(np.float32))
    with pytest.warns(inference.PixelRangeWarning, match=message):
        color([image.astype(np.float64)])


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.bool_, np.complex64, "U3"])
def test_other_dtypes(color, dtype):
    with pytest.raises(ImageError, match=f"expected uint8, uint16.*got {np.dtype(dtype)}"):
        color(np.zeros((9, 9, 3), dtype))
