import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import heif, heif_with, noise, photo, profile_of


def by_pillow(data):
    """Pixels as the plugin of Pillow gives them: 8 bits."""
    return np.asarray(pillow_heif.read_heif(io.BytesIO(data)).to_pillow())


def test_heic_is_read_as_by_pillow():
    alpha = np.dstack([photo(), noise((61, 67))])
    for image in (photo(), photo()[..., 0].copy(), alpha):
        data = heif(image)
        found = image_io.decode(data, name="x")
        np.testing.assert_array_equal(found, by_pillow(data))
        channels = 1 if image.ndim == 2 else image.shape[2]
        assert image_io.decode_header(data, name="x") == image_io.Header(61, 67, channels, 8)


def test_ten_bits_become_sixteen(tmp_path):
    image = photo(np.uint16)
    image[:3] = 65535
    for source in (image, image[..., 0].copy(), np.dstack([image, image[..., :1]])):
        data = heif(source)
        found = image_io.decode(data, name="x")
        assert found.dtype == np.uint16
        assert image_io.decode_header(data, name="x").bits == 16
        assert np.abs(found.astype(int) - source).mean() < 300
        assert found[:2].max() == 65535  # white stays white
        if source.ndim == 3:
            assert np.abs((found >> 8).astype(int) - by_pillow(data)).max() <= 1
        image_io.write(tmp_path / "a.heic", found, quality=100)
        again = image_io.read(tmp_path / "a.heic")
        assert again.dtype == np.uint16
        assert np.abs(again.astype(int) - found).mean() < 200


def test_bits_are_kept_or_their_loss_is_reported(tmp_path):
    """HEIC of 10 and 12 bits stays so; of other pixels with 16 bits, 10 are kept."""
    image = photo(np.uint16)
    for bits in (10, 12):
        (tmp_path / "a.heic").write_bytes(heif(image, bit_depth=bits))
        pixels, metadata = image_io.read_with_metadata(tmp_path / "a.heic")
        assert image_io.write(tmp_path / "b.heic", pixels, metadata=metadata) == ()
        assert pillow_heif.read_heif(tmp_path / "b.heic", False).info["bit_depth"] == bits
        assert image_io.write(tmp_path / "b.png", pixels, metadata=metadata) == ()
    image_io.write(tmp_path / "a.png", image)
    pixels, metadata = image_io.read_with_metadata(tmp_path / "a.png")
    for given in (metadata, None):
        lost = image_io.write(tmp_path / "b.heic", pixels, metadata=given)
        assert lost == ("6 of 16 bits a channel (HEIC holds 10)",)
        assert pillow_heif.read_heif(tmp_path / "b.heic", False).info["bit_depth"] == 10
    assert image_io.write(tmp_path / "b.heic", photo()) == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    data = heif(photo(), exif=exif.tobytes())
    image = image_io.decode(data, name="x")
    assert image.shape == by_pillow(data).shape
    header = image_io.decode_header(data, name="x")
    assert (header.height, header.width) == image.shape[:2]


def test_metadata_of_heic_are_kept(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "Maker", "2026:01:02 03:04:05"
    profile = profile_of(b"RGB ")
    (tmp_path / "a.heic").write_bytes(heif(photo(), exif=exif.tobytes(), icc_profile=profile))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.heic")
    for name in ("b.heic", "b.HEIF", "b.hif", "b.jpg", "b.avif", "b.tif"):
        image_io.write(tmp_path / name, image, metadata=metadata)
        again, found = image_io.read_with_metadata(tmp_path / name)
        assert again.shape == image.shape  # upright
        assert found.icc_profile == profile
        loaded = Image.Exif()
        loaded.load(found.exif)
        assert (loaded[0x010F], loaded[0x0132]) == ("Maker", "2026:01:02 03:04:05")


def test_colors_that_would_be_lost_are_refused():
    for data in (heif_with(primaries=9), heif_with(transfer=16), heif_with(transfer=18)):
        for function in (image_io.decode_header, image_io.decode):
            with pytest.raises(ImageError, match=r"^x: has .* HDR or wide-gamut colors"):
                function(data, name="x")
    image_io.decode(heif_with(), name="x")


def test_a_cut_heic_and_several_pictures_are_errors():
    data = heif(photo())
    for part in (0.02, 0.3, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"^x: .*(damaged|cut short|contains no)"):
            image_io.decode(data[: int(len(data) * part)], name="x")
    file = pillow_heif.from_pillow(Image.fromarray(photo()))
    file.add_from_pillow(Image.fromarray(photo()[::-1].copy()))
    buffer = io.BytesIO()
    file.save(buffer)
    with pytest.raises(ImageError, match="holds 2 pictures"):
        image_io.decode(buffer.getvalue(), name="x")


def test_many_pixels_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ImageError, match=r"suspiciously many; raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        image_io.decode(heif(photo()), name="x")


def test_without_the_extra_only_heic_is_refused(tmp_path, monkeypatch):
    data = heif(photo())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for function in (image_io.decode_header, image_io.decode):
        with pytest.raises(ImageError, match=r"^x: HEIC needs .*pip install 'lcdnet-jax\[photo\]'"):
            function(data, name="x")
    with pytest.raises(ImageError, match=r"a\.heic: HEIC needs"):
        image_io.check_format(tmp_path / "a.heic", photo())
    image_io.write(tmp_path / "a.png", photo())
    image_io.read(tmp_path / "a.png")
