"""Raw files are written by tifffile: sensors whose picture is known."""

import io
import pathlib
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import dng, photo


def scene():
    """Linear colors, smooth enough for the filters of a sensor."""
    y, x = np.mgrid[:96, :128]
    return np.stack([np.sin(x / 19), np.cos(y / 17), np.sin((x + y) / 23)], -1) * 0.4 + 0.45


def to_srgb(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("brightness", [1.0, 0.2])
def test_colors_and_brightness_are_those_of_the_scene(preview, brightness):
    """The white balance of the camera; nothing stretched by content, sRGB's curve."""
    linear = scene() * brightness
    data = dng(linear, preview=preview)
    found = image_io.decode(data, name="x")
    assert found.dtype == np.uint16
    assert found.shape == linear.shape
    assert image_io.decode_header(data, name="x") == image_io.Header(96, 128, 3, 16)
    difference = found[4:-4, 4:-4] / 65535 - to_srgb(linear)[4:-4, 4:-4]
    assert np.abs(difference).mean() < 0.004
    assert np.abs(np.median(difference, axis=(0, 1))).max() < 0.002


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_raw_is_turned_upright(orientation, turns):
    data = dng(scene(), orientation=orientation)
    found = image_io.decode(data, name="x")
    upright = image_io.decode(dng(scene()), name="x")
    np.testing.assert_array_equal(found, np.rot90(upright, turns))
    header = image_io.decode_header(data, name="x")
    assert (header.height, header.width) == found.shape[:2]


def test_exif_of_raw_is_kept(tmp_path):
    (tmp_path / "a.dng").write_bytes(dng(scene(), orientation=6))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.dng")
    assert image.shape == (128, 96, 3)
    exif = Image.Exif()
    exif.load(metadata.exif)
    assert (exif[0x010F], exif[0x0110], exif[0x0112]) == ("Maker", "Model", 1)
    image_io.write(tmp_path / "b.tif", image, metadata=metadata)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), image)


def test_a_result_of_raw_is_a_tiff(tmp_path):
    for name, expected in (
        ("a/photo.NEF", "a/photo.tif"),
        ("photo.dng", "photo.tif"),
        ("photo.tiff", "photo.tiff"),
        ("photo.jpg", "photo.jpg"),
        ("photo.restored.NEF", "photo.restored.tif"),
    ):
        assert image_io.name_result(pathlib.Path(name)) == pathlib.Path(expected)
    with pytest.raises(ImageError, match=r"photo\.dng: raw files are not written; use \.tif"):
        image_io.write(tmp_path / "photo.dng", photo())


@pytest.mark.parametrize(
    "start",
    [
        b"FUJIFILMCCD-RAW 0201",
        b"IIU\0\x18\0\0\0",
        b"IIRO\x08\0\0\0",
        b"II*\0\x10\0\0\0CR\2\0",
        b"II*\0\x08\0\0\0IIIIwaR",
        b"\0\0\0\x18ftypcrx \0\0\0\1",
        b"II\x1a\0\0\0HEAPCCDR",
    ],
)
def test_layouts_of_cameras_are_raw(start):
    for function in (image_io.decode_header, image_io.decode):
        with pytest.raises(ImageError, match=r"^x: the raw file is cut short, damaged or"):
            function(start + bytes(500), name="x")


def test_a_raw_name_is_never_read_as_a_tiff(tmp_path):
    """A camera's unknown way to hide its picture behind a preview that is not marked."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, photo(), photometric="rgb")
    (tmp_path / "a.NEF").write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match=r"a\.NEF: the raw file is .* unsupported camera"):
        image_io.read(tmp_path / "a.NEF")


def test_a_cut_raw_file_is_an_error():
    data = dng(scene())
    for part in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"^x: .*(cut short|damaged)"):
            image_io.decode(data[: int(len(data) * part)], name="x")


def test_many_pixels_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ImageError, match=r"suspiciously many; raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        image_io.decode(dng(scene()), name="x")


def test_without_the_extra_only_raw_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for data in (dng(scene()), dng(scene(), preview=False), b"IIRO" + bytes(99)):
        for function in (image_io.decode_header, image_io.decode):
            with pytest.raises(
                ImageError, match=r"^x: is a raw file .*pip install 'lcdnet-jax\[photo\]'.*as TIFF"
            ):
                function(data, name="x")
