"""The command restore: formats of images, their bits and their metadata."""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from lcdnet_jax import image_io, inference
from lcdnet_jax.cli import main
from tests.cli.halving import Halving, contents, halved, noise, put, same
from tests.image_io.files import dng, photo

pytestmark = pytest.mark.usefixtures("stand_in")


class TestFormats:
    @pytest.mark.parametrize(
        ("suffix", "dtype", "channels"),
        [
            (".png", np.uint8, (1, 2, 3, 4)),
            (".PNG", np.uint16, (1, 2, 3, 4)),
            (".tif", np.uint8, (1, 2, 3, 4)),
            (".tiff", np.uint16, (1, 3, 4)),
            (".bmp", np.uint8, (1, 3, 4)),
            (".webp", np.uint8, (3, 4)),
        ],
    )
    def test_are_kept(self, place, run, suffix, dtype, channels):
        for count in channels:
            shape = (20, 30) if count == 1 else (20, 30, count)
            put(place / "in" / f"{count}{suffix}", noise(shape, dtype))
        run("in", "-o", "out")
        for path in (place / "out").iterdir():
            same(path, halved(image_io.read(place / "in" / path.name)))

    def test_of_floating_point_is_neither_clipped_nor_rounded(self, place, run):
        for shape in ((9, 11), (9, 11, 3)):
            image = np.random.default_rng(0).normal(0, 5, shape).astype(np.float32)
            image_io.write(place / "a.tif", image)
            run("a.tif", "-o", "b.tif", "--force")
            same(place / "b.tif", image / 2)

    def test_jpeg_and_its_quality(self, place, run):
        rows = np.linspace(40, 200, 64).astype(np.uint8)
        put(place / "a.jpg", np.stack([np.add.outer(rows, rows // 8)] * 3, -1))
        run("a.jpg", "-o", "b.jpg")
        image = image_io.read(place / "a.jpg")
        assert np.abs(image_io.read(place / "b.jpg").astype(int) - halved(image)).mean() < 1
        run("a.jpg", "-o", "c.jpg", "--quality", "10")
        assert (place / "c.jpg").stat().st_size < (place / "b.jpg").stat().st_size

    @pytest.mark.parametrize(
        ("name", "dtype"),
        [("a.avif", np.uint8), ("a.heic", np.uint8), ("a.HIF", np.uint16)],
    )
    def test_of_phones_are_kept(self, place, run, name, dtype):
        put(place / "in" / name, photo(dtype))
        run("in", "-o", "out")
        result, expected = (image_io.read(place / folder / name) for folder in ("out", "in"))
        assert result.dtype == dtype
        error = np.abs(result.astype(int) - halved(expected))
        assert error.mean() < np.iinfo(dtype).max / 100

    def test_of_cameras_become_tiff(self, place, run, error_of):
        """In the colors of the camera, never its preview."""
        for name in ("in/a.dng", "in/b.DNG"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(dng(orientation=6))
        out = run("in", "-o", "out")
        assert "raw files are developed and written in another format: a.dng -> a.tif" in out
        assert sorted(contents(place / "out")) == ["a.tif", "b.tif"]
        same(place / "out" / "a.tif", halved(image_io.read(place / "in" / "a.dng")))
        assert "use .tif" in error_of("in/a.dng", "-o", "b.dng")
        run("in/a.dng")
        same(place / "in" / "a.restored.tif", halved(image_io.read(place / "in" / "a.dng")))
        (place / "in" / "a.restored.tif").unlink()

    def test_of_cameras_beside_their_exports(self, place, run):
        put(place / "in" / "a.tif")
        for name in ("a.DNG", "b.dng"):
            (place / "in" / name).write_bytes(dng())
        out = run("in", "-o", "out")
        assert "beside an image of the same name keep their suffix: a.DNG -> a.DNG.tif" in out
        assert sorted(contents(place / "out")) == ["a.DNG.tif", "a.tif", "b.tif"]
        same(place / "out" / "a.tif", halved(image_io.read(place / "in" / "a.tif")))
        same(place / "out" / "a.DNG.tif", halved(image_io.read(place / "in" / "a.DNG")))

    def test_without_their_packages(self, place, run, error_of, monkeypatch):
        """A folder is restored without them; a file that is named is an error."""
        for name in ("a.tif", "b.heic"):
            put(place / "in" / name)
        for name in ("a.DNG", "c.dng"):
            (place / "in" / name).write_bytes(dng())
        monkeypatch.setitem(sys.modules, "rawpy", None)
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        out = run("in", "-o", "out")
        assert "3 files of other kinds skipped: 2 .dng, 1 .heic" in out
        assert out.count("to read .dng, .heic: pip install 'lcdnet-jax[photo]'") == 1
        assert contents(place / "out").keys() == {"a.tif"}
        for name in ("in/c.dng", "in/b.heic"):
            assert "pip install 'lcdnet-jax[photo]'" in error_of(name, "-o", "new/")
        message = error_of("in/*.dng", "-o", "new/")
        assert "only 1 .dng (to read .dng: pip install 'lcdnet-jax[photo]')" in message

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
    def test_profile_and_exif_survive_upright(self, place, run, name):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "Maker"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(noise()).save(place / name, exif=exif, icc_profile=profile)
        run(name, "-o", "out/")
        with Image.open(place / "out" / name) as result:
            assert result.size == (20, 30)  # 30x20 as stored
            assert result.getexif()[0x010F] == "Maker"
            assert result.getexif().get(0x0112, 1) == 1
            assert result.info["icc_profile"] == profile

    def test_all_suffixes_of_jpeg(self, place, run):
        """Results keep them."""
        (place / "in").mkdir()
        names = ["a.jpg", "b.jpeg", "c.jpe", "d.jfif", "e.JFIF"]
        for name in names:
            Image.fromarray(np.full((8, 9, 3), 128, np.uint8)).save(place / "in" / name, "JPEG")
        assert "5 of 5 images restored" in run("in", "-o", "out")
        assert sorted(os.listdir(place / "out")) == names
        for name in names:
            with Image.open(place / "out" / name) as result:
                assert result.format == "JPEG"

    def test_gray_pictures_stored_as_color_stay_gray(self, place, run):
        image = np.repeat(noise((20, 30))[..., None], 3, axis=-1)
        put(place / "a.png", image)
        run("a.png", "-o", "b.png")
        same(place / "b.png", halved(image))
        assert np.ptp(image_io.read(place / "b.png"), axis=-1).max() == 0

    def test_values_of_8_bits_in_floating_point(self, place, checkpoint, capsys):
        """A warning names the file and the fix, once for each file, after the other lines."""
        for name in ("in/a.tif", "in/b.tif", "in/c.tif"):
            put(place / name, np.float32(noise() / (255 if "c" in name else 1)))
        main.main(["restore", "in", "-o", "out", "--checkpoint", str(checkpoint)])
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(" the pixels")[0] for line in lines] == [
            "warning: in/a.tif:",
            "warning: in/b.tif:",
        ]
        assert all(line.endswith("divide them by 255") for line in lines)

    def test_metadata_that_is_left_out_is_said_once(self, place, run):
        for name, options in (
            ("a.jpg", {"comment": "text"}),
            ("b.jpg", {"comment": "text", "dpi": (300, 300)}),
            ("c.jpg", {}),
        ):
            Image.fromarray(noise()).save(place / name, **options)
        printed = run("a.jpg", "b.jpg", "c.jpg", "-o", "out/")
        assert "left out" not in printed
        assert run("c.jpg", "-o", "c.webp").count("\n") == 1
        assert run("a.jpg", "-o", "a.bmp").splitlines()[1:] == ["left out: comment"]
        # A name from the file is printed without its control characters.
        data = (place / "c.jpg").read_bytes()
        for name in ("x.jpg", "y.jpg"):
            segment = b"\xff\xe3\0\x10Meta\x1b[31m\0\0\0\0\0"
            (place / name).write_bytes(data[:2] + segment + data[2:])
        printed = run("c.jpg", "x.jpg", "y.jpg", "-o", "more/")
        assert printed.splitlines()[-1] == "left out: APP3 Meta (2 of 3)"
        printed = run("b.jpg", "x.jpg", "-o", "single/")
        assert printed.splitlines()[-1] == "left out: APP3 Meta (x.jpg)"

    def test_a_larger_image_has_more_pixels_per_inch(self, place, run, monkeypatch):
        monkeypatch.setattr(Halving, "scale", 2, raising=False)
        monkeypatch.setattr(
            inference.Restorer, "__call__", lambda self, image: image.repeat(2, 0).repeat(2, 1)
        )
        Image.fromarray(noise()).save(place / "a.jpg", dpi=(300, 300))
        run("a.jpg", "-o", "b.jpg")
        with Image.open(place / "b.jpg") as result:
            assert result.info["dpi"] == (600, 600)

    def test_a_jpeg_with_a_hole_fails_by_name(self, place, run, error_of):
        rows = np.linspace(40, 200, 400).astype(np.uint8)
        put(place / "in/a.jpg", np.add.outer(rows, noise((400,)) // 4))
        shutil.copy(place / "in/a.jpg", place / "in/c.jpg")
        data = (place / "in/a.jpg").read_bytes()
        middle = len(data) // 2
        (place / "in/b.jpg").write_bytes(data[:middle] + bytes(4096) + data[middle + 4096 :])
        message = error_of("in", "-o", "out")
        assert "in/b.jpg: the JPEG file is cut short or damaged (Corrupt JPEG data" in message
        assert contents(place / "out").keys() == {"a.jpg", "c.jpg"}

    def test_another_format_by_the_name_of_the_file(self, place, run, error_of):
        put(place / "a.png", noise(dtype=np.uint16))
        run("a.png", "-o", "b.tif")
        same(place / "b.tif", halved(noise(dtype=np.uint16)))
        assert "b.jpg: JPEG cannot hold 16 bits; use .png" in error_of("a.png", "-o", "b.jpg")
        assert "'.gif' is not a known format" in error_of("a.png", "-o", "b.gif")
        assert sorted(os.listdir(place)) == ["a.png", "b.tif"]
