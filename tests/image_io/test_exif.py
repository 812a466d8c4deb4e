"""EXIF data changes where it must, and every other byte stays."""

import io
import random
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import exif
from tests.image_io.exif_data import ASCII, LONG, SHORT, TEXTS, camera_exif
from tests.image_io.files import photo, saved


def entries(data, order):
    """First, Exif and second directory by tag, parsed again: type, count, four bytes."""
    data = data.removeprefix(exif.PREFIX)
    found = []

    def read(start):
        (count,) = struct.unpack_from(order + "H", data, start)
        places = range(start + 2, start + 2 + 12 * count, 12)
        unpacked = [struct.unpack_from(order + "HHI4s", data, place) for place in places]
        found.append({tag: tuple(rest) for tag, *rest in unpacked})
        return struct.unpack_from(order + "I", data, start + 2 + 12 * count)[0]

    second = read(struct.unpack_from(order + "I", data, 4)[0])
    read(struct.unpack(order + "I", found[0][0x8769][2])[0])
    return (*found, second)


def through(tmp_path, data, suffix, shape=None):
    """EXIF data of the file that is written after a JPEG with ``data`` was read."""
    source, target = tmp_path / "source.jpg", tmp_path / f"target{suffix}"
    source.write_bytes(saved(photo(), "JPEG", exif=data))
    image, metadata = image_io.read_with_metadata(source)
    image_io.write(target, image if shape is None else np.zeros(shape, np.uint8), metadata=metadata)
    with Image.open(target) as written:
        found = written.info["exif"]
    return exif.PREFIX + found.removeprefix(exif.PREFIX), metadata


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_bytes_stay_where_they_are(tmp_path, order, suffix):
    before = camera_exif(order)
    after, metadata = through(tmp_path, before, suffix)
    for value in TEXTS:
        assert before.find(value.encode()) == after.find(value.encode()) > 0
    # The maker note is where it was, so that what it points to is there, too.
    note = after.find(b"CAMERA")
    assert note == before.find(b"CAMERA")
    (place,) = struct.unpack_from(order + "I", after, note + 6)
    assert after[len(exif.PREFIX) + place :].startswith(b"serial 4711")
    # Changed: the size, and the link to the thumbnail, which is gone. The rest is equal.
    first, inner, second = entries(after, order)
    assert second == 0
    assert inner[0xA002] == (SHORT, 1, struct.pack(order + "HH", 67, 0))
    assert inner[0xA003] == (LONG, 1, struct.pack(order + "I", 61))
    assert first[0x0112] == (SHORT, 1, struct.pack(order + "HH", 1, 0))
    assert b"\xff\xd8" not in after
    assert len(after) < len(before)
    changed = sum(a != b for a, b in zip(before, after, strict=False))
    assert changed <= 2 + 4 + 4  # two sizes, one pointer
    assert metadata.left_out == ("thumbnail",)


@pytest.mark.parametrize("order", ["<", ">"])
def test_rotation(tmp_path, order):
    after, metadata = through(tmp_path, camera_exif(order, orientation=6), ".png")
    read = Image.Exif()
    read.load(after)
    inner = read.get_ifd(0x8769)
    assert read[0x0112] == 1
    assert (read[0x011A], read[0x011B]) == (150, 300)
    assert (inner[0xA20E], inner[0xA20F]) == (6000, 5000)
    assert (inner[0xA002], inner[0xA003]) == (61, 67)
    assert 0x9214 not in inner  # coordinates in the rotated image
    assert inner[0x829A] == 1 / 250
    assert metadata.left_out == ("thumbnail", "subject area")
    assert metadata.resolution == (150, 300)


def test_a_large_side_needs_a_larger_type(tmp_path):
    after, _ = through(tmp_path, camera_exif(), ".png", shape=(1, 70_000))
    _, inner, _ = entries(after, "<")
    assert inner[0xA002] == (LONG, 1, struct.pack("<I", 70_000))


def test_enlarged(tmp_path):
    _, metadata = through(tmp_path, camera_exif(">"), ".png")
    larger = image_io.enlarge_metadata(metadata, 4)
    read = Image.Exif()
    read.load(larger.exif)
    assert (read[0x011A], read[0x011B]) == (1200, 600)
    assert read.get_ifd(0x8769)[0xA20E] == 20_000
    assert 0x9214 not in read.get_ifd(0x8769)
    assert larger.resolution == (1200, 600)
    assert larger.left_out == ("thumbnail", "subject area")
    assert image_io.enlarge_metadata(metadata, 1) is metadata


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_and_back(tmp_path, order, dtype):
    source, target, back = (tmp_path / name for name in ("a.jpg", "b.tif", "c.png"))
    source.write_bytes(saved(photo(), "JPEG", exif=camera_exif(order)))
    image, metadata = image_io.read_with_metadata(source)
    left_out = image_io.write(target, image.astype(dtype), metadata=metadata)
    assert left_out == ("thumbnail", "maker notes, which TIFF cannot hold")
    with tifffile.TiffFile(target) as file:
        np.testing.assert_array_equal(file.asarray(), image.astype(dtype))
        tags = file.pages[0].tags
        assert tags[0x013B].value == TEXTS[0]
        assert tags[0x8298].value == TEXTS[1]
        assert tags[0x8769].value["ExposureTime"] == (1, 250)
        assert (tags[0x011A].value, tags[0x011B].value) == ((300, 1), (150, 1))
    restored, found = image_io.read_with_metadata(target)
    np.testing.assert_array_equal(restored, image.astype(dtype))
    assert found.resolution == (300, 150)
    if dtype != np.float32:
        image_io.write(back, restored, metadata=found)
        data = back.read_bytes()
        assert all(value.encode() in data for value in TEXTS)


def test_a_maker_note_of_known_layout_survives_tiff(tmp_path):
    data = camera_exif()
    note = b"FUJIFILM" + bytes(len(b"CAMERA....serial 4711") - 8)
    start = data.find(b"CAMERA")
    data = data[:start] + note + data[start + len(note) :]
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=data))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
    assert image_io.write(tmp_path / "a.tif", image, metadata=metadata) == ("thumbnail",)
    _, found = image_io.read_with_metadata(tmp_path / "a.tif")
    assert note in found.exif


def test_tiff_tags_that_do_not_hold_are_dropped(tmp_path):
    geographic = (33550, "d", 3, (1.0, 1.0, 0.0), True)
    layers = (37724, "B", 9, b"Photoshop", True)
    tifffile.imwrite(
        tmp_path / "a.tif",
        photo(),
        photometric="rgb",
        extratags=[geographic, layers, (315, "s", 0, "José".encode(), True)],
        resolution=(118, 118),
        resolutionunit="CENTIMETER",
        compression="zlib",
        predictor=True,
    )
    image, metadata = image_io.read_with_metadata(tmp_path / "a.tif")
    assert metadata.left_out == ("Photoshop layers",)
    np.testing.assert_allclose(metadata.resolution, 118 * 2.54)
    image_io.write(tmp_path / "b.tif", image, metadata=metadata)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages[0].tags
        np.testing.assert_array_equal(file.asarray(), image)
        assert tags[33550].value == (1, 1, 0)
        assert 37724 not in tags
        assert (tags[282].value, tags[296].value) == ((118, 1), 3)
    larger = image_io.enlarge_metadata(metadata, 2)
    assert larger.left_out == ("Photoshop layers", "GeoTIFF tags")
    image_io.write(tmp_path / "c.tif", image, metadata=larger)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert 33550 not in file.pages[0].tags
        assert file.pages[0].tags[282].value == (236, 1)


def test_bigtiff(tmp_path):
    for order in "<>":
        tifffile.imwrite(
            tmp_path / "a.tif",
            photo(),
            photometric="rgb",
            bigtiff=True,
            byteorder=order,
            resolution=(300, 150),
            resolutionunit="INCH",
            extratags=[(315, "s", 0, "José".encode(), True)],
        )
        order, directories = exif.read_values((tmp_path / "a.tif").read_bytes())
        data, left_out = exif.from_tiff(order, directories)
        assert exif.read_resolution(data) == (300, 150)
        assert "José".encode() in data
        assert left_out == []


def test_a_directory_without_a_pointer_at_its_end():
    """Some writers put the first value where the pointer to the next directory belongs."""
    value = b"Somebody\0\0"
    entry = struct.pack("<HHII", 0x013B, ASCII, len(value), 22)
    data = exif.PREFIX + b"II*\0" + struct.pack("<IH", 8, 1) + entry + value
    after, left_out = exif.make_upright(data, 1)
    assert after == data
    assert left_out == []


def test_damaged_data_never_raises_another_error():
    rng = random.Random(0)
    good = [camera_exif(order, orientation) for order in "<>" for orientation in (1, 6)]
    survived = 0
    for _ in range(2000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 2, 9))):
            place = rng.randrange(6, rng.choice((30, 200, len(data))))
            data[place] = rng.choice((0, 1, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        exif.read_orientation(bytes(data))
        exif.read_resolution(bytes(data))
        try:
            upright, _ = exif.make_upright(bytes(data), rng.choice((1, 6)))
            exif.set_size(exif.enlarge(upright, 2)[0], 70_000, 80_000)
            order, values = exif.read_values(upright.removeprefix(exif.PREFIX))
            exif.build(order, values)
        except exif.ExifError:
            continue
        survived += 1
    assert 500 < survived < 2000


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the same data
def test_damaged_data_does_not_harm_the_image(tmp_path):
    rng = random.Random(1)
    good = saved(photo(), "JPEG", exif=camera_exif())
    start = good.find(b"Exif")
    for _ in range(25):
        data = bytearray(good)
        for _ in range(rng.choice((1, 3, 9))):
            data[start + rng.randrange(300)] = rng.randrange(256)
        (tmp_path / "a.jpg").write_bytes(data)
        image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
        assert sorted(image.shape) == [3, 61, 67]
        for name in ("a.png", "a.tif", "a.webp", "b.jpg"):
            image_io.write(tmp_path / name, image, metadata=metadata)
            Image.open(io.BytesIO((tmp_path / name).read_bytes())).load()
            again = image_io.read(tmp_path / name)
            assert again.shape == image.shape
