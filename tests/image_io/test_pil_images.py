import io

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import noise

COLOR, ALPHA = noise((9, 11, 3)), noise((9, 11), seed=1)


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_color(mode):
    smooth = np.add.outer(np.arange(9), np.arange(11))[..., None] * [5, 7, 9] + [20, 40, 10]
    image = Image.fromarray(smooth.astype(np.uint8))
    if mode == "LAB":
        image = Image.fromarray(np.full((9, 11, 3), (255, 0, 0), np.uint8), mode="LAB")
        np.testing.assert_allclose(image_io.from_pil(image), 255, atol=1)
        return
    found = image_io.from_pil(image.convert(mode))
    assert (found.shape, found.dtype) == ((9, 11, 3), np.uint8)
    np.testing.assert_allclose(found, smooth, atol=0 if mode.startswith("RGB") else 9)


def test_palette():
    """Its colors, not its indices; gray palettes and transparent entries, too."""
    indices = np.arange(99, dtype=np.uint8).reshape(9, 11) % 3
    image = Image.fromarray(indices, mode="P")
    colors = [[10, 20, 30], [200, 100, 0], [7, 7, 7]]
    image.putpalette(np.uint8(colors).tobytes())
    np.testing.assert_array_equal(image_io.from_pil(image), np.uint8(colors)[indices])
    image.info["transparency"] = 1
    found = image_io.from_pil(image)
    np.testing.assert_array_equal(found[..., :3], np.uint8(colors)[indices])
    np.testing.assert_array_equal(found[..., 3], np.where(indices == 1, 0, 255))
    assert image_io.from_pil(Image.new("PA", (4, 3))).shape == (3, 4, 4)


def test_alpha():
    rgba = np.dstack([COLOR, ALPHA])
    np.testing.assert_array_equal(image_io.from_pil(Image.fromarray(rgba)), rgba)
    gray = np.dstack([COLOR[..., 0], ALPHA])
    np.testing.assert_array_equal(image_io.from_pil(Image.fromarray(gray)), gray)
    for mode, premultiplied in (("LA", "La"), ("RGBA", "RGBa")):
        half = np.full((4, 5, len(mode)), 128, np.uint8)
        half[..., -1] = 127
        image = Image.fromarray(half, mode=mode).convert(premultiplied)
        np.testing.assert_allclose(image_io.from_pil(image), half, atol=1)


def test_transparent_color():
    for pixels, key in ((COLOR, tuple(COLOR[2, 3].tolist())), (COLOR[..., 0], int(COLOR[2, 3, 0]))):
        image = Image.fromarray(pixels)
        image.info["transparency"] = key
        found = image_io.from_pil(image)
        np.testing.assert_array_equal(found[..., :-1].squeeze(), pixels)
        is_key = (pixels.reshape(9, 11, -1) == key).all(-1)
        np.testing.assert_array_equal(found[..., -1], np.where(is_key, 0, 255))


def test_gray():
    np.testing.assert_array_equal(image_io.from_pil(Image.fromarray(ALPHA)), ALPHA)
    bits = ALPHA > 99
    np.testing.assert_array_equal(image_io.from_pil(Image.fromarray(bits)), bits * np.uint8(255))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_16_bits(mode):
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), 258)
    image.putpixel((1, 0), 65000)
    found = image_io.from_pil(image)
    assert found.dtype == np.uint16
    assert found.dtype.isnative
    assert found.tolist() == [[258, 65000]]


def test_floating_point():
    values = np.random.default_rng(0).random((9, 11), np.float32)
    np.testing.assert_array_equal(image_io.from_pil(Image.fromarray(values)), values)


def test_others_are_refused():
    with pytest.raises(ImageError, match=r"mode I .*astype\(numpy\.uint16\), for 8 bits"):
        image_io.from_pil(Image.new("I", (4, 3)))
    image = Image.new("I;16", (4, 3))
    image.info["transparency"] = 5
    with pytest.raises(ImageError, match=r"mode I;16 with one transparent color.*delete"):
        image_io.from_pil(image)
    buffer = io.BytesIO()
    Image.fromarray(COLOR).save(buffer, "PNG")
    with pytest.raises(ImageError, match="Pillow cannot decode the image"):
        image_io.from_pil(Image.open(io.BytesIO(buffer.getvalue()[:150])))
