import struct

import cv2
import numpy as np
import pytest
import tifffile

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import (
    FLOAT,
    UPRIGHT,
    check,
    noise,
    opencv,
    planes,
    tiff,
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": 2, "rowsperstrip": 3},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_16_bit_tiff_layouts_are_exact(tmp_path, options):
    for shape in ((13, 17), (13, 17, 3)):
        image = noise(shape, np.uint16)
        check(tmp_path, tiff(image, **options), image)


def test_16_bit_tiff_with_a_fourth_channel(tmp_path):
    image = noise((13, 17, 4), np.uint16)
    check(tmp_path, tiff(image, extrasamples=["unassalpha"]), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_where_white_is_zero(tmp_path, dtype, compression):
    image = noise((13, 17), dtype)
    data = tiff(image, photometric="miniswhite", compression=compression)
    check(tmp_path, data, np.iinfo(dtype).max - image)


def test_values_of_float_tiff_are_exact(tmp_path):
    for data in [tiff(FLOAT), opencv(FLOAT, ".tiff"), tiff(FLOAT, byteorder=">")]:
        (tmp_path / "a.tif").write_bytes(data)
        image, _ = image_io.read_with_metadata(tmp_path / "a.tif")
        np.testing.assert_array_equal(image, FLOAT)
        image_io.write(tmp_path / "b.tif", image)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), FLOAT)
        with pytest.raises(ImageError):  # data for training have 8 or 16 bits
            image_io.read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_tiff_is_turned(tmp_path, orientation):
    for image in (FLOAT, FLOAT[..., 0]):
        data = tiff(image, extratags=[(0x0112, "H", 1, orientation, True)])
        (tmp_path / "a.tif").write_bytes(data)
        found, metadata = image_io.read_with_metadata(tmp_path / "a.tif")
        np.testing.assert_array_equal(found, UPRIGHT[orientation](image))
        image_io.write(tmp_path / "b.tif", found, metadata=metadata)
        again, _ = image_io.read_with_metadata(tmp_path / "b.tif")
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_tiff_is_read_by_others(tmp_path, dtype):
    """Several strips, of which the last is shorter."""
    image = noise((500, 700, 3), np.uint16).astype(dtype)
    image_io.write(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), image)
    np.testing.assert_array_equal(
        cv2.imread(tmp_path / "a.tif", cv2.IMREAD_UNCHANGED)[..., ::-1], image
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages[0].dataoffsets) > 1
        assert file.pages[0].photometric.name == "RGB"


def test_float_tiff_of_other_layouts(tmp_path):
    broken = tiff(FLOAT).replace(struct.pack("<HHI", 257, 4, 1), struct.pack("<HHI", 257, 2, 1))
    for data, message in (
        (planes(FLOAT), "gray or RGB only"),
        (tiff(np.dstack([FLOAT, FLOAT[..., :1]]), extrasamples=["unassalpha"]), "gray or RGB only"),
        (tiff(FLOAT, compression="lzma"), "unusual layout"),
        (tiff(FLOAT)[:-9], "cut short"),
        (tiff(np.stack([FLOAT] * 2)), "several pictures"),
        (broken, "TIFF file is damaged"),
    ):
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(ImageError, match=message):
            image_io.read_with_metadata(tmp_path / "a.tif")
