import errno
import os

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import (
    noise,
    photo,
)


def test_one_channel_non_contiguous_and_single_pixel(tmp_path):
    image = noise((13, 17, 3))
    image_io.write(tmp_path / "a.png", image[::-1, ::2, :1])
    np.testing.assert_array_equal(image_io.read(tmp_path / "a.png"), image[::-1, ::2, 0])
    for dtype in (np.uint8, np.uint16):
        pixel = np.array([[[1, 2, 3]]], dtype)
        image_io.write(str(tmp_path / "a.png"), pixel)
        np.testing.assert_array_equal(image_io.read(str(tmp_path / "a.png")), pixel)


def test_jpeg_quality(tmp_path):
    image = photo()
    for quality, limit in ((100, 1.0), (50, 6.0)):
        image_io.write(tmp_path / "a.jpg", image, quality=quality)
        assert np.abs(image_io.read(tmp_path / "a.jpg").astype(int) - image).mean() < limit
    size = (tmp_path / "a.jpg").stat().st_size
    image_io.write(tmp_path / "a.jpg", image[..., 0])
    assert image_io.read(tmp_path / "a.jpg").ndim == 2
    image_io.write(tmp_path / "a.jpg", image)
    assert (tmp_path / "a.jpg").stat().st_size > size


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("a.gif", (5, 5, 3), np.uint8, r"'\.gif' is not a known format; use one of \.png"),
        ("a", (5, 5, 3), np.uint8, "is not a known format"),
        ("a.png", (5, 5, 3), np.float32, "call to_uint8"),
        ("a.png", (5, 5, 3), bool, "call to_uint8"),
        ("a.jpg", (5, 5, 3), np.uint16, "cannot hold 16 bits"),
        ("a.webp", (5, 5, 3), np.uint16, "cannot hold 16 bits"),
        ("a.bmp", (5, 5), np.uint16, "cannot hold 16 bits"),
        ("a.jpg", (5, 5, 4), np.uint8, "alpha"),
        ("a.png", (5, 5, 5), np.uint8, r"\(5, 5, 5\)"),
        ("a.png", (1, 5, 5, 3), np.uint8, r"\(1, 5, 5, 3\)"),
        ("a.png", (0, 5, 3), np.uint8, "not empty"),
        ("a.webp", (1, 16400), np.uint8, "WEBP holds at most 16383 pixels a side"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, shape, dtype, message):
    with pytest.raises(ImageError, match=rf"{name}: .*{message}"):
        image_io.write(tmp_path / name, np.zeros(shape, dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("function", ["os.fsync", "os.replace", "builtins.open"])
def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch, number, function):
    path = tmp_path / "a.png"
    image_io.write(path, noise((5, 6)))
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(ImageError, match=rf"cannot write .*a\.png: {os.strerror(number)}; "):
            image_io.write(path, noise((7, 7), seed=1))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_read_only_folders(tmp_path):
    with pytest.raises(ImageError, match="cannot write "):
        image_io.write(tmp_path / "none" / "a.png", noise((5, 6)))
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        return  # root may write anywhere
    with pytest.raises(ImageError, match="cannot write "):
        image_io.write(folder / "a.png", noise((5, 6)))


def test_written_files_follow_the_umask(tmp_path):
    image_io.write(tmp_path / "a.png", noise((5, 6)))
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_errors_of_encoders(tmp_path, monkeypatch):
    """Lack of memory is no limit of the format."""
    for error, expected in ((MemoryError("all"), MemoryError), (SystemError("x"), ImageError)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(
            expected, match=r"all|a\.png: cannot be encoded as PNG \(x\); use \.tiff"
        ):
            image_io.write(tmp_path / "a.png", photo())


@pytest.mark.parametrize("quality", [0, 101, 9.5, True, "95"])
def test_quality_is_checked(tmp_path, quality):
    with pytest.raises(ImageError, match="quality must be an integer from 1 up to 100, got"):
        image_io.write(tmp_path / "a.jpg", np.zeros((9, 9), np.uint8), quality=quality)
    image_io.write(tmp_path / "a.jpg", np.zeros((9, 9), np.uint8), quality=1)
