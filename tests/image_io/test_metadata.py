import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from tests.image_io.files import (
    SHAPES,
    UPRIGHT,
    check,
    chunk,
    noise,
    photo,
    png_with,
    profile_of,
    saved,
    tiff,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = UPRIGHT[orientation]
    tag = [(0x0112, "H", 1, orientation, True)]
    for image in (noise((13, 17, 3)), noise((13, 17))):
        check(tmp_path, saved(image, "PNG", exif=exif), upright(image))
        check(
            tmp_path,
            saved(image, "WEBP", lossless=True, exif=exif),
            upright(image if image.ndim == 3 else np.stack([image] * 3, -1)),
        )
        check(tmp_path, tiff(image, extratags=tag), upright(image))
        check(tmp_path, saved(image, "TIFF", compression="tiff_lzw", exif=exif), upright(image))
    for shape in SHAPES.values():
        image = noise(shape, np.uint16)
        if len(shape) == 2 or shape[2] > 2:
            alpha = ["unassalpha"] if shape[2:] == (4,) else None
            check(tmp_path, tiff(image, extratags=tag, extrasamples=alpha), upright(image))
        image_io.write(tmp_path / "16.png", image)
        data = (tmp_path / "16.png").read_bytes()
        exif_chunk = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        check(tmp_path, png_with(data, exif_chunk), upright(image))
        check(tmp_path, data[:-12] + exif_chunk + data[-12:], upright(image))  # behind the pixels
    image = photo()
    decoded = image_io.decode(saved(image, "JPEG", exif=exif), name="x")
    np.testing.assert_array_equal(decoded, upright(image_io.decode(saved(image, "JPEG"), name="x")))


def test_orientation_given_as_xmp_and_broken_exif(tmp_path):
    image = noise((13, 17, 3))
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    check(tmp_path, png_with(saved(image, "PNG"), text), UPRIGHT[6](image))
    check(tmp_path, png_with(saved(image, "PNG"), chunk(b"eXIf", b"nonsense")), image)


METADATA = [
    ("a.png", (13, 17, 3), np.uint8),
    ("a.png", (13, 17), np.uint8),
    ("a.jpg", (13, 17, 3), np.uint8),
    ("a.webp", (13, 17, 4), np.uint8),
    ("a.tif", (13, 17, 3), np.uint8),
    ("a.png", (13, 17, 3), np.uint16),
    ("a.png", (13, 17, 2), np.uint16),
    ("a.tif", (13, 17), np.uint16),
    ("a.tif", (13, 17, 4), np.uint16),
    ("a.tif", (13, 17, 3), np.float32),
]


def full_exif(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, "Maker", "2026:01:02 03:04:05"
    exif[0x011A] = 300.0  # XResolution
    exif[0xC4A5] = b"PrintIM"
    exif[0x8769] = {0x829A: 0.004, 0x9003: "2026:01:02 03:04:05", 0xA002: 99, 0x927C: b"note"}
    exif[0x8825] = {1: "N", 2: (47.0, 22.0, 1.5)}
    return exif


@pytest.mark.parametrize(("name", "shape", "dtype"), METADATA)
def test_metadata_survive(tmp_path, name, shape, dtype):
    """From a JPEG, which has all of them, through every format."""
    profile = profile_of(b"GRAY" if len(shape) == 2 or shape[2] == 2 else b"RGB ")
    (tmp_path / "source.jpg").write_bytes(saved(photo(), "JPEG", exif=full_exif()))
    read, metadata = image_io.read_with_metadata(tmp_path / "source.jpg")
    assert read.shape == (67, 61, 3)
    image = noise(shape, np.uint16).astype(dtype)
    image_io.write(tmp_path / name, image, metadata=image_io.Metadata(profile, metadata.exif))
    result, found = image_io.read_with_metadata(tmp_path / name)
    assert result.shape == shape  # upright already
    assert found.icc_profile == profile
    exif = Image.Exif()
    exif.load(found.exif)
    assert (exif[0x010F], exif[0x0132], exif[0x0112]) == ("Maker", "2026:01:02 03:04:05", 1)
    assert float(exif[0x011A]) == 300
    assert exif[0xC4A5] == b"PrintIM"
    inner = exif.get_ifd(0x8769)
    assert (float(inner[0x829A]), inner[0x9003]) == (0.004, "2026:01:02 03:04:05")
    # Maker notes may point to places in the EXIF data, which a TIFF does not hold as one piece.
    assert inner.get(0x927C) == (None if name == "a.tif" else b"note")
    assert inner[0xA002] == 17  # the width is another now
    gps = exif.get_ifd(0x8825)
    assert (gps[1], [float(v) for v in gps[2]]) == ("N", [47, 22, 1.5])


def test_bmp_holds_nothing_but_a_resolution(tmp_path):
    metadata = image_io.Metadata(profile_of(b"RGB "), full_exif().tobytes())
    left_out = image_io.write(tmp_path / "a.bmp", noise((13, 17, 3)), metadata=metadata)
    assert left_out == ("color profile", "EXIF")
    _, found = image_io.read_with_metadata(tmp_path / "a.bmp")
    assert found == image_io.Metadata()


@pytest.mark.parametrize(
    "profile", [b"", b"nonsense" * 20, profile_of(b"CMYK"), profile_of(b"GRAY")]
)
def test_a_profile_of_other_pixels_is_dropped(tmp_path, profile):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", icc_profile=profile))
    assert image_io.read_with_metadata(tmp_path / "a.png")[1].icc_profile is None
    image_io.write(tmp_path / "b.png", photo(), metadata=image_io.Metadata(profile))
    assert image_io.read_with_metadata(tmp_path / "b.png")[1].icc_profile is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_is_dropped(tmp_path, exif):
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=exif))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
    assert image.shape == photo().shape
    assert metadata.exif is None


def test_exif_that_jpeg_cannot_hold_is_dropped(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "long" * 20_000
    metadata = image_io.Metadata(exif=exif.tobytes())
    for name, survives in (("a.jpg", False), ("a.png", True)):
        image_io.write(tmp_path / name, photo(), metadata=metadata)
        assert (image_io.read_with_metadata(tmp_path / name)[1].exif is not None) == survives
