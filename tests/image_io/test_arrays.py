import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import (
    noise,
)


def test_floats_and_back():
    for dtype, back in ((np.uint8, image_io.to_uint8), (np.uint16, image_io.to_uint16)):
        top = np.iinfo(dtype).max
        every = np.arange(top + 1, dtype=dtype).reshape(-1, 2)
        values = image_io.to_float(every)
        assert values.dtype == np.float32
        assert (values.min(), values.max()) == (0, 1)
        np.testing.assert_array_equal(back(values), every)
        assert back(values).dtype == dtype
        np.testing.assert_array_equal(back(every), every)
        np.testing.assert_array_equal(back(np.array([-3.0, 2.0])), [0, top])
        np.testing.assert_array_equal(back(np.array([1.4, 1.6]) / top), [1, 2])
    np.testing.assert_array_equal(image_io.to_uint8(np.array([0, 128, 129, 65535], np.uint16)), [
        0, 0, 1, 255])  # fmt: skip
    np.testing.assert_array_equal(image_io.to_uint16(np.array([0, 1, 255], np.uint8)), [
        0, 257, 65535])  # fmt: skip
    np.testing.assert_array_equal(image_io.to_uint16(np.float16([0.5, 1])), [32768, 65535])
    outside = np.array([-0.5, 1.5], np.float64)
    np.testing.assert_array_equal(image_io.to_float(outside), outside.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_not_written(bad):
    for function in (image_io.to_uint8, image_io.to_uint16):
        with pytest.raises(ImageError, match="NaN or infinity"):
            function(np.array([[0.5, bad]], np.float32))


def test_integers_of_other_widths_are_refused():
    for function in (image_io.to_float, image_io.to_uint8, image_io.to_uint16):
        with pytest.raises(ImageError, match="int32"):
            function(np.zeros((2, 2), np.int32))


def test_convert_channels():
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [3, 3, 3]]])
    gray = image_io.convert_channels(colors.astype(np.uint8), 1)
    assert gray.dtype == np.uint8
    np.testing.assert_array_equal(gray[..., 0], [[76, 150, 29, 255, 3]])
    wide = image_io.convert_channels(colors.astype(np.uint16) * 257, 1)
    np.testing.assert_array_equal(wide[0, 3:, 0], [65535, 771])

    image = noise((13, 17, 3))
    r, g, b = np.moveaxis(image.astype(np.float64), 2, 0)
    luma = 0.2989360213 * r + 0.5870430745 * g + 0.1140209043 * b
    np.testing.assert_array_equal(image_io.convert_channels(image, 1)[..., 0], np.round(luma))
    floats = image_io.convert_channels(image_io.to_float(image), 1)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats[..., 0], luma / 255, atol=1e-6)

    assert image_io.convert_channels(image, 3) is image
    for single in (image[..., 0], image[..., :1]):
        np.testing.assert_array_equal(
            image_io.convert_channels(single, 3), np.stack([image[..., 0]] * 3, -1)
        )
        np.testing.assert_array_equal(image_io.convert_channels(single, 1), image[..., :1])


def test_convert_channels_refuses():
    for channels in (2, 4):
        with pytest.raises(ImageError, match=r'alpha channel.*convert\("RGB"\)\.save'):
            image_io.convert_channels(noise((5, 5, channels)), 3)
    with pytest.raises(ImageError, match="1 or 3 channels, not to 4"):
        image_io.convert_channels(noise((5, 5, 3)), 4)
    for shape in ((5, 5, 5), (1, 5, 5, 3), (5,)):
        with pytest.raises(ImageError, match="expected an image of shape"):
            image_io.convert_channels(noise(shape), 1)


@pytest.mark.parametrize("dtype", ["u2", "f2", "f4", "f8"])
def test_byte_orders(dtype):
    values = np.array([[0, 1, 255, 65535]])
    values = (values if dtype == "u2" else values / 65535).astype(dtype)
    for order in "<>":
        image = values.astype(order + dtype)
        assert image_io.to_array(image) is image
        for convert in (image_io.to_float, image_io.to_uint8, image_io.to_uint16):
            np.testing.assert_array_equal(convert(image), convert(values))
            assert convert(image).dtype.isnative


def test_any_image_becomes_an_array():
    image = noise((5, 7, 3))
    assert image_io.to_array(image) is image
    np.testing.assert_array_equal(image_io.to_array(Image.fromarray(image)), image)
    np.testing.assert_array_equal(image_io.to_array(jnp.asarray(image)), image)
    assert image_io.to_array(jnp.ones((2, 2), jnp.bfloat16)).dtype.name == "bfloat16"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2), bool), r"got bool; image\.astype\(numpy\.uint8\) \* 255 makes black"),
        (np.zeros((2, 2), np.int16), r"got int16; call image\.astype\(numpy\.uint8\) if white is"),
        (np.zeros((2, 2), ">i8"), r"got >i8; call image\.astype\(numpy\.uint8\) if white is 255"),
        (np.zeros((2, 2), complex), "got complex128; convert the array to one of these"),
        ([["a"]], "got <U1; convert the array"),
        (np.ma.masked_less(np.zeros((2, 2)), 1), r"masked array; replace .*image\.filled\(0\)"),
    ],
    ids=str,
)
def test_other_arrays_are_refused_with_a_fix(image, message):
    with pytest.raises(ImageError, match=message):
        image_io.to_array(image)
