"""8-bit sRGB pictures of files of any format."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from lcdnet_jax import image_io
from lcdnet_jax.serve import previews
from tests.image_io.files import dng, photo, saved, tiff


def load(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def pixels_of(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    previews.write_pixels(tmp_path / name, tmp_path / "pixels.npy")
    return tmp_path / "pixels.npy"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_and_parts(tmp_path, channels, dtype):
    image = np.dstack([photo(dtype), photo(dtype)[..., :1]])[..., :channels]
    image = image[..., 0] if channels == 1 else image
    image_io.write(tmp_path / "a.png", image)
    path = pixels_of(tmp_path, (tmp_path / "a.png").read_bytes(), "a.png")
    expected = image_io.to_uint8(image)
    np.testing.assert_array_equal(load(previews.render(path, size=1000)), expected)
    part = previews.render_part(path, left=5, top=7, width=11, height=900)
    np.testing.assert_array_equal(load(part), expected[7:, 5:16])
    small = load(previews.render(path, size=33))
    assert max(small.shape[:2]) == 33
    assert abs(small.astype(float).mean() - expected.mean()) < 2
    assert path.stat().st_size <= previews.count_bytes(image_io.read_header(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.bmp", "a.avif", "a.heic", "a.hif"])
def test_formats(tmp_path, name):
    image = photo(np.uint16 if name == "a.hif" else np.uint8)
    image_io.write(tmp_path / name, image)
    expected = image_io.to_uint8(image_io.read(tmp_path / name))
    previews.write_pixels(tmp_path / name, tmp_path / "pixels.npy")
    found = load(previews.render(tmp_path / "pixels.npy", size=100))
    np.testing.assert_array_equal(found, expected)


def test_raw(tmp_path):
    path = pixels_of(tmp_path, dng(), "a.dng")
    expected = image_io.to_uint8(image_io.read(tmp_path / "a.dng"))
    np.testing.assert_array_equal(load(previews.render(path, size=1000)), expected)


def test_profiles_are_applied(tmp_path):
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = load(previews.render(pixels_of(tmp_path, saved(photo(), "PNG"), "a.png"), size=100))
    for profile in (srgb, linear, b"no profile at all"):
        content = saved(photo(), "PNG", icc_profile=profile)
        same = load(previews.render(pixels_of(tmp_path, content, "a.png"), size=100))
        assert np.abs(same.astype(int) - plain).max() <= 1, profile[:20]
    swapped = swap_red_and_green(srgb)
    content = saved(photo(), "PNG", icc_profile=swapped)
    other = load(previews.render(pixels_of(tmp_path, content, "a.png"), size=100))
    assert np.abs(other.astype(int) - plain[..., [1, 0, 2]]).max() <= 1


def swap_red_and_green(profile):
    """An sRGB profile whose first two colors have changed places."""
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    names = bytearray(profile)
    names[red : red + 4], names[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(names)


def test_floating_point(tmp_path):
    image = np.linspace(-0.5, 1.5, 60, dtype=np.float32).reshape(6, 10)
    image[0, 0], image[5, 9] = np.nan, np.inf
    path = pixels_of(tmp_path, tiff(image), "a.tif")
    expected = image_io.to_uint8(np.nan_to_num(image, posinf=1))
    np.testing.assert_array_equal(load(previews.render(path, size=100)), expected)


def test_parts_that_cannot_be(tmp_path, monkeypatch):
    path = pixels_of(tmp_path, saved(photo(), "PNG"), "a.png")
    for left, width in ((67, 1), (0, 0)):
        with pytest.raises(ValueError, match="outside of the picture, which has 67x61 pixels"):
            previews.render_part(path, left=left, top=0, width=width, height=1)
    monkeypatch.setattr(previews, "MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="more than 100 pixels"):
        previews.render_part(path, left=0, top=0, width=11, height=10)


def test_damaged_files_leave_nothing(tmp_path):
    with pytest.raises(image_io.ImageError):
        pixels_of(tmp_path, saved(photo(), "PNG")[:-300], "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
