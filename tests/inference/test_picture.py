"""What a network sees of a picture. What becomes of its result: test_restorer.py."""

import numpy as np
import pytest

from lcdnet_jax import networks
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference.picture import Picture, check_image, convert_dtype

COLOR, GRAY = networks.create("sadnet"), networks.create("sadnet", channels=1)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((4, 5), 1), ((4, 5, 1), 1), ((4, 5, 2), 1), ((4, 5, 3), 3), ((4, 5, 4), 3)],
    ids=str,
)
def test_alpha_is_not_seen(rng, shape, seen):
    image = rng.integers(1, 256, shape, np.uint8)
    picture = Picture(image, COLOR)
    np.testing.assert_array_equal(picture.pixels, image.reshape(4, 5, -1)[..., :seen])
    finished = picture.finish(picture.pixels // 2, strength=1)
    assert finished.shape == shape
    alpha = slice(seen, None)
    np.testing.assert_array_equal(
        finished.reshape(4, 5, -1)[..., alpha], image.reshape(4, 5, -1)[..., alpha]
    )


@pytest.mark.parametrize("place", [(0, 4), (3, 0)], ids=str)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_equal_channels(place, channel):
    """In all pixels, of any row."""
    image = np.full((4, 5, 3), 7, np.uint16)
    assert Picture(image, COLOR).pixels.shape == (4, 5, 1)
    image[(*place, channel)] = 8
    assert Picture(image, COLOR).pixels.shape == (4, 5, 3)


def test_hidden_pixels_do_not_decide(rng):
    image = np.full((4, 5, 4), 7, np.uint8)
    image[1, 1] = 1, 2, 3, 0
    picture = Picture(image, GRAY)
    np.testing.assert_array_equal(picture.pixels, np.full((4, 5, 1), 7))
    finished = picture.finish(np.full((4, 5, 1), 9, np.uint8), strength=1)
    image[..., :3] = 9
    image[1, 1] = 1, 2, 3, 0
    np.testing.assert_array_equal(finished, image)


def test_other_images():
    for image in (np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5), bool), np.full((4, 5), np.nan)):
        for check in (check_image, Picture):
            with pytest.raises(ImageError):
                check(image, COLOR)
    assert check_image(np.zeros((4, 5, 4), "f"), GRAY) == 3


def test_types():
    values = np.float32([-1, 0.5, 2])
    assert convert_dtype(values, np.dtype(np.uint8)).tolist() == [0, 128, 255]
    assert convert_dtype(values, np.dtype(">u2")).tolist() == [0, 32768, 65535]
    assert convert_dtype(values, np.dtype(">u2")).dtype == ">u2"
    assert convert_dtype(values, np.dtype("f8")).tolist() == [-1, 0.5, 2]
    with pytest.raises(ImageError, match="the result holds NaN"):
        convert_dtype(np.float32([np.nan]), np.dtype(np.uint8))


def test_a_batch_of_gray_images_needs_an_axis():
    with pytest.raises(ImageError, match=r"as \[N, H, W, 1\], as by x\[\.\.\., None\]"):
        check_image(np.zeros((2, 9, 9), np.float32), networks.create("dncnn", channels=3))
