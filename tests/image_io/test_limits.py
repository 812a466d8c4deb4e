import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError, limits


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("a.avif", (32769, 9, 3), "AVIF holds at most 32768 pixels a side"),
        ("a.avif", (20000, 20000, 3), "AVIF holds at most 268 megapixels"),
        ("a.heic", (32769, 9), "HEIC holds at most 32768 pixels a side"),
        ("a.heic", (5000, 31), "HEIC holds at most 4216 pixels a side if the other has less than"),
        (
            "a.heif",
            (8, 4217, 3),
            "HEIC holds at most 4216 pixels a side if the other has less than",
        ),
        ("a.jpg", (65501, 1), "JPEG holds at most 65500 pixels a side, and the image has 1x65501"),
        ("a.JFIF", (1, 65501, 3), "JPEG holds at most 65500 pixels a side"),
        (
            "a.webp",
            (16384, 9, 3),
            "WEBP holds at most 16383 pixels a side, .* 9x16384; ",
        ),
        ("a.bmp", (40000, 36000, 3), "BMP holds at most 4 GB, and the image has 36000x40000"),
        ("a.bmp", (2**20, 4097), "BMP holds at most 4 GB"),
    ],
)
def test_too_large(name, shape, message):
    with pytest.raises(ImageError, match=f"^{name}: {message}.*use .png or .tiff$"):
        image_io.check_size(name, shape)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("a.jpg", (65500, 65500, 3)),
        ("a.webp", (16383, 16383)),
        ("a.bmp", (30000, 40000, 3)),
        ("a.png", (70000, 70000)),
        ("a.tif", (37000, 37000, 3)),
    ],
)
def test_large_enough(name, shape):
    image_io.check_size(name, shape)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((38000, 38000, 3), np.uint8), ((27000, 27000, 3), np.uint16), ((33000, 33000), np.float32)],
)
def test_a_tiff_has_places_of_32_bits(shape, dtype):
    """Found before the network runs, and not by the encoder behind it."""
    with pytest.raises(ImageError, match=r"^a.tif: TIFF holds at most 4 GB, .* use .png$"):
        image_io.check_size("a.tif", shape, dtype=dtype)
    pixels = np.broadcast_to(np.zeros((), dtype), shape)
    with pytest.raises(ImageError, match="TIFF holds at most 4 GB"):
        image_io.check_format("a.tif", pixels)


@pytest.mark.parametrize(
    ("suffix", "side"),
    [
        (".jpg", 65500),
        (".webp", 16383),
        (".avif", 32768),
        pytest.param(".heic", 32768, marks=pytest.mark.extended),
    ],
)
def test_the_longest_sides_are_written(tmp_path, suffix, side):
    """And one more pixel is refused before the encoder sees it."""
    image = np.zeros((32 if suffix == ".heic" else 1, side + 1, 3), np.uint8)
    with pytest.raises(ImageError, match=f"holds at most {side} pixels a side"):
        image_io.check_format(tmp_path / f"a{suffix}", image)
    image_io.write(tmp_path / f"a{suffix}", image[:, 1:])
    assert image_io.read_header(tmp_path / f"a{suffix}").width == side


@pytest.mark.parametrize("shape", [(1, 4216), (4216, 31), (32, 4217), (4217, 32)])
def test_thin_heic_is_written(tmp_path, shape):
    image_io.write(tmp_path / "a.heic", np.zeros((*shape, 3), np.uint8))
    assert image_io.read(tmp_path / "a.heic").shape == (*shape, 3)


@pytest.mark.parametrize("shape", [(1, 4217), (4217, 31)])
def test_x265_takes_no_longer_thin_image(monkeypatch, tmp_path, shape):
    """Else the limit could go."""
    monkeypatch.setattr(limits, "_LONGEST_OF_THIN", 5000)
    with pytest.raises(ImageError, match="cannot be encoded as HEIC"):
        image_io.write(tmp_path / "a.heic", np.zeros((*shape, 3), np.uint8))
