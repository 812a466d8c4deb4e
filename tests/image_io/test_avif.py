import imagecodecs
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import UPRIGHT, avif_with, noise, photo, profile_of, saved


def test_avif_is_read_as_by_libavif(tmp_path):
    alpha = np.dstack([photo(), noise((61, 67))])
    for image in (photo(), photo()[..., 0].copy(), alpha):
        data = saved(image, "AVIF", quality=90)
        found = image_io.decode(data, name="x")
        assert found.shape == image.shape
        expected = imagecodecs.avif_decode(data).reshape(image.shape)
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert image_io.decode_header(data, name="x") == image_io.Header(
            61, 67, 1 if image.ndim == 2 else image.shape[2], 8
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = (saved(photo(), "AVIF", exif=found) for found in (b"", exif))
    found = image_io.decode(turned, name="x")
    np.testing.assert_array_equal(found, UPRIGHT[orientation](image_io.decode(plain, name="x")))
    header = image_io.decode_header(turned, name="x")
    assert (header.height, header.width) == found.shape[:2]


def test_written_avif_is_close_and_read_by_others(tmp_path):
    path = tmp_path / "a.avif"
    for image in (photo(), photo()[..., 0], np.dstack([photo(), noise((61, 67))])):
        image_io.write(path, image, quality=100)
        seen = imagecodecs.avif_decode(path.read_bytes()).reshape(image.shape)
        assert np.abs(seen.astype(int) - image).max() <= 4
    image_io.write(path, photo(), quality=30)
    small = path.stat().st_size
    image_io.write(path, photo(), quality=100)
    assert path.stat().st_size > 3 * small
    with pytest.raises(ImageError, match="AVIF cannot hold 16 bits"):
        image_io.write(path, photo(np.uint16))
    with pytest.raises(ImageError, match="AVIF cannot hold gray with alpha"):
        image_io.write(path, noise((5, 5, 2)))


def test_deep_and_wide_avif_are_refused():
    for data, message in (
        (avif_with(bits=10), r"10 or 12 bits a channel.*save it as TIFF"),
        (avif_with(bits=12), r"10 or 12 bits a channel.*save it as TIFF"),
        (avif_with(primaries=9), "HDR or wide-gamut"),
        (avif_with(transfer=16), "HDR or wide-gamut"),
    ):
        for function in (image_io.decode_header, image_io.decode):
            with pytest.raises(ImageError, match=f"^x: .*{message}"):
                function(data, name="x")
    image_io.decode(avif_with(), name="x")
    image_io.decode(saved(photo(), "AVIF", icc_profile=profile_of(b"RGB ")), name="x")


def test_a_cut_or_moving_avif_is_an_error():
    data = saved(photo(), "AVIF")
    for part in (0.02, 0.3, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"^x: .*(damaged|cut short)"):
            image_io.decode(data[: int(len(data) * part)], name="x")
    data = saved(photo(), "AVIF", save_all=True, append_images=[Image.fromarray(photo()[::-1])])
    with pytest.raises(ImageError, match="2 pictures"):
        image_io.decode(data, name="x")


def test_a_pillow_without_avif_is_named(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(ImageError, match="build of Pillow has no AVIF"):
        image_io.decode(saved(photo(), "AVIF"), name="x")


def test_boxes_of_any_length_end():
    for data in (
        b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 5000,
        b"\0\0\0\0ftypavif\0\0\0\0" + bytes(99),
        b"\0\0\0\1ftypavif" + b"\xff" * 8,
    ):
        with pytest.raises(ImageError, match=r"^x: the AVIF header is damaged"):
            image_io.decode(data, name="x")
