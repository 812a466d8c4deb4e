"""The command restore, in this process.

The network of these tests halves its images, so that every result is known.
"""

import errno
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lcdnet_jax import Restorer, atomic_io, image_io, inference, metrics, multihost, storage
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import _compilation, _progress, main
from lcdnet_jax.inference import batch, limits, plan
from lcdnet_jax.inference.pipeline import Pipeline
from lcdnet_jax.networks import registered
from tests.cli.commands import ROOT
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


class TestNames:
    def test_folders_keep_their_structure(self, place, run):
        for name in ("in/b.png", "in/x/y/a.png", "in/.hidden.png", "in/.trash/a.png"):
            put(place / name)
        (place / "in" / "notes.txt").write_text("")
        out = run("in", "-o", "in/out")
        assert sorted(contents(place / "in" / "out")) == ["b.png", "x/y/a.png"]
        assert "in/out/b.png  30x20\n" in out
        assert "2 of 2 images restored in 0:" in out
        out = run("in", "-o", "in/out", "--force")  # results are not inputs
        assert "2 of 2" in out

    def test_other_files_are_counted(self, place, run, error_of):
        for name in ("a.png", "sub/b.png"):
            put(place / "in" / name)
        for name in ("x.txt", "y.TXT", "sub/z.mp4", "Makefile", ".hidden.txt", ".git/config"):
            (place / "in" / name).parent.mkdir(exist_ok=True)
            (place / "in" / name).write_text("")
        (place / "in" / "link").symlink_to("sub")
        os.mkfifo(place / "in" / "pipe.png")
        last = (
            "6 files of other kinds skipped: 2 .txt, 1 .mp4, 1 linked folder, 1 pipe or device, "
            "1 without a suffix\n"
        )
        assert run("in", "-o", "in/out").endswith(last)
        assert run("in", "-o", "in/out", "--skip-existing").endswith(last)
        out = run("in/[!l]*", "-o", "in/out", "--force")
        assert "\n5 files of other kinds skipped: 2 .txt, 1 .mp4, 1 pipe or device, 1" in out
        assert "skipped" not in run("in/a.png", "-o", "out3")
        (place / "texts").mkdir()
        (place / "texts" / "a.txt").write_text("")
        found = error_of("texts", "-o", "out")
        assert found.startswith("texts: contains no image, only 1 .txt; put files with the suffix")
        found = error_of("texts/*.txt", "-o", "out")
        assert found == "no image matches texts/*.txt, only 1 .txt; check the pattern"

    def test_without_an_output(self, place, run, error_of):
        """Beside the image, and never over a file."""
        put(place / "in" / "a.b.png")
        assert run("in/a.b.png") == "in/a.b.restored.png  30x20\n"
        same(place / "in" / "a.b.restored.png", halved(noise()))
        before = contents(place)
        assert error_of("in/a.b.png") == (
            "in/a.b.restored.png exists; name another result with -o, or keep it with "
            "--skip-existing, or replace it with -o and --force"
        )
        assert error_of("in/a.b.png", "--force").startswith(
            "--force replaces files, and without -o"
        )
        out = run("in/a.b.png", "--skip-existing")
        assert out == "1 of 1 image skipped: their results exist\n"
        shutil.copy(place / "in" / "a.b.png", place / "photo")
        for inputs in (["in"], ["in/*.png"], ["-"], ["in/a.b.png", "in/a.b.restored.png"]):
            assert error_of(*inputs).startswith("without -o one image file can be restored; give")
        assert error_of("photo").startswith("photo has no suffix of a format in which its result")
        os.remove(place / "photo")
        assert contents(place) == before

    def test_patterns_lists_and_files(self, place, run, monkeypatch):
        for name in ("a1.png", "a2.png", "b.png", "deep/er/c.png", "[x].png", "d.png"):
            put(place / name)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.png\n\n./d.png\r\n")))
        run("a*.png", "-", "deep/**/*.png", "[x].png", "./b.png", "-o", "out")
        found = sorted(contents(place / "out"))
        assert found == ["[x].png", "a1.png", "a2.png", "b.png", "c.png", "d.png"]

    def test_the_output_below_a_pattern(self, place, run, error_of):
        """A second run does what is left, and does not restore its own results."""
        for name in ("x.png", "sub/y.png"):
            put(place / "p" / name)
        assert "2 of 2 images restored" in run("p/**/*.png", "-o", "p/restored")
        put(place / "p" / "sub" / "z.png")
        found = error_of("p/**/*.png", "-o", "p/restored")
        assert found.startswith("2 of 3 images failed:\n  p/restored/y.png exists")
        (place / "p" / "restored" / "z.png").unlink()
        for pattern in ("p/**", "p/*"):
            jobs = plan.plan_jobs([pattern], "p/restored")
            assert not any("restored" in job.source.parts for job in jobs)
        for pattern in ("p/**/*.png", "p/*/*.png"):
            out = run(pattern, "p/x.png", "-o", "p/restored", "--skip-existing")
            assert sorted(os.listdir(place / "p" / "restored")) == ["x.png", "y.png", "z.png"]
            assert "images skipped: their results exist" in out
            (place / "p" / "restored" / "z.png").unlink()

    def test_skip_existing(self, place, run, error_of, monkeypatch):
        for name in ("a.png", "b.png", "c.png"):
            put(place / "in" / name)
        put(place / "out" / "b.png", noise(seed=9))
        before = (place / "out" / "b.png").read_bytes()
        out = run("in", "-o", "out", "--skip-existing")
        assert out.startswith("1 of 3 images skipped: their results exist\n")
        assert "\n2 of 2 images restored in" in out
        assert (place / "out" / "b.png").read_bytes() == before
        monkeypatch.setattr(weights_lib, "load", None)  # is not needed
        out = run("in", "-o", "out", "--skip-existing")
        assert out == "3 of 3 images skipped: their results exist\n"
        assert error_of("in", "-o", "out", "--skip-existing", "--force").startswith("--force repl")

    def test_skip_existing_is_no_way_to_keep_the_input(self, place, error_of):
        put(place / "a.png")
        assert "a.png is the input itself" in error_of("a.png", "-o", "a.png", "--skip-existing")

    @pytest.mark.parametrize("output", ["out/", "out", "out.png", "made/", "made", "new/er/a.png"])
    def test_one_file(self, place, run, output):
        put(place / "a.png")
        (place / "made").mkdir()
        run("a.png", "-o", output)
        name = output if output.endswith("png") else os.path.join(output, "a.png")
        same(place / name, halved(noise()))

    def test_one_name_for_two(self, place, error_of):
        for name in ("x/a.png", "y/a.png", "y/b.png"):
            put(place / name)
        before = contents(place)
        message = error_of("x", "y", "-o", "out")
        assert message == (
            "x/a.png and y/a.png would both become a.png in out; restore them into different "
            "folders"
        )
        assert contents(place) == before

    @pytest.mark.parametrize(
        ("inputs", "output", "message"),
        [
            (["a.png"], "dir.png", "dir.png is a directory, though named as an image"),
            (["a.png", "x/b.png"], "out.png", "out.png is the name of one image; give a folder"),
            (["x"], "out.png", "out.png is the name of one image"),
            (["a.png", "x"], "notes", "notes is a file; give a folder"),
            (["a.png"], "notes/", "notes/ is a file; give a folder"),
            (["a.png"], "notes/out/", "cannot write notes/out/a.png: Not a directory; choose"),
            (["a.png"], "notes/out.png", "cannot write notes/out.png: Not a directory; choose"),
            (["q*.png"], "out", "no image matches q*.png; check the pattern"),
            (["empty"], "out", "empty: contains no image; put files with the suffix .png, .jpg"),
            (["-"], "out", "no image was named; give files"),
            ([""], "out", "a path is empty, as an unset variable is; give names"),
            (["a.png"], "", "a path is empty"),
            (["none.png"], "out", "none.png: cannot be read (No such file or directory)"),
            (["notes"], "out", "notes: the file is empty (0 bytes)"),
            (["a.png"], "x", "x/a.png is a directory; give a file"),
            (["a.png"], "a.png", "a.png is the input itself; choose another output, or --force"),
            (["a.png"], "./", "a.png is the input itself"),
            (
                ["a.png"],
                "x/b.png",
                "x/b.png exists; choose another name, or --force, or --skip-ex",
            ),
        ],
        ids=str,
    )
    def test_mistakes(self, place, error_of, monkeypatch, capsys, inputs, output, message):
        for name in ("a.png", "x/b.png"):
            put(place / name)
        for name in ("dir.png", "empty", "x/a.png"):
            (place / name).mkdir()
        (place / "notes").touch()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
        before = contents(place)
        if inputs == ["x"]:
            (place / "x" / "a.png").rmdir()
        found = error_of(*inputs, "-o", output)
        assert found.startswith(message)
        assert "\n" not in found
        assert capsys.readouterr() == ("", "")
        assert contents(place) == before

    def test_force_overwrites(self, place, run):
        put(place / "a.png")
        put(place / "b.png", noise((5, 5)))
        run("a.png", "-o", "b.png", "--force")
        same(place / "b.png", halved(noise()))
        run("a.png", "-o", "a.png", "--force")
        same(place / "a.png", halved(noise()))

    def test_a_link_is_not_overwritten_either(self, place, error_of):
        put(place / "a.png")
        (place / "b.png").symlink_to("nowhere.png")
        assert "b.png exists" in error_of("a.png", "-o", "b.png")

    def test_what_exists_does_not_stop_the_others(self, place, error_of):
        for name in ("in/a.png", "in/b.png", "out/a.png"):
            put(place / name)
        message = error_of("in", "-o", "out")
        assert message == (
            "1 of 2 images failed:\n  out/a.png exists; choose another name, or --force, or "
            "--skip-existing to keep it"
        )
        same(place / "out" / "a.png", noise())
        same(place / "out" / "b.png", halved(noise()))


class TestFailures:
    def test_broken_files_do_not_stop_the_others(self, place, error_of, capsys):
        for name in ("a", "c", "e", "g"):
            put(place / "in" / f"{name}.png")
        data = (place / "in" / "a.png").read_bytes()
        (place / "in" / "b.png").write_bytes(data[:200])
        (place / "in" / "d.png").touch()
        (place / "in" / "f.jpg").write_bytes(b"GIF89a" + bytes(50))
        frames = [Image.fromarray(noise(seed=i)) for i in range(2)]
        frames[0].save(place / "in" / "h.webp", save_all=True, append_images=frames[1:])
        lines = error_of("in", "none.png", "-o", "out").split("\n")
        assert lines[0] == "5 of 9 images failed:"
        for line, part in zip(
            lines[1:],
            [
                "  in/b.png: the PNG file is cut short",
                "  in/d.png: the file is empty (0 bytes); copy it again",
                "  in/f.jpg: contains no PNG, JPEG, TIFF or other image of a known format (it",
                "  in/h.webp: holds 2 pictures (animation or pages); save each",
                "  none.png: cannot be read (No such file or directory); check the path",
            ],
            strict=True,
        ):
            assert line.startswith(part)
        assert sorted(os.listdir(place / "out")) == ["a.png", "c.png", "e.png", "g.png"]
        same(place / "out" / "g.png", halved(noise()))

    def test_nan(self, place, error_of):
        image = np.ones((9, 11), np.float32)
        image[3, 4] = np.nan
        image_io.write(place / "a.tif", image)
        put(place / "b.tif")
        before = contents(place)
        found = error_of("a.tif", "-o", "b.tif", "--force")
        assert found.startswith("a.tif: ")
        assert "NaN" in found
        assert "\n" not in found
        assert contents(place) == before

    def test_a_result_that_is_no_number(self, place, error_of):
        """The mean of three channels overflows."""
        image_io.write(place / "a.tif", np.full((9, 11), 3e38, np.float32))
        found = error_of("a.tif", "-o", "b.tif")
        assert found.startswith("a.tif: the result holds NaN or infinity; scale the values")
        assert os.listdir(place) == ["a.tif"]

    @pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint32])
    def test_numbers_of_other_kinds(self, place, error_of, dtype):
        tifffile.imwrite(place / "a.tif", np.ones((9, 11), dtype))
        assert error_of("a.tif", "-o", "out").startswith("a.tif: ")

    def test_a_full_disk_leaves_what_was_there(self, place, error_of, monkeypatch):
        """The kernel refuses to write beyond 1000 bytes."""
        for name in ("in/a.png", "in/b.png", "out/b.png"):
            put(place / name)
        write = atomic_io.write
        lock = threading.Lock()  # several threads write, and the limit is that of the process

        def limited(*arguments, **options):
            with lock:
                soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
                try:
                    write(*arguments, **options)
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        monkeypatch.setattr(atomic_io, "write", limited)
        message = error_of("in", "-o", "out", "--force")
        assert message.startswith("2 of 2 images failed:\n  cannot write out/a.png: File too large")
        assert contents(place / "out") == {"b.png": (place / "in" / "b.png").read_bytes()}

    def test_a_full_disk_ends_the_run(self, place, error_of, monkeypatch):
        for name in ("a", "b", "c"):
            put(place / "in" / f"{name}.png")

        def full(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        message = error_of("in", "-o", "out")
        assert message.startswith("1 of 3 images failed, 2 not tried:\n  cannot write out/a.png: ")
        assert "No space left on device" in message
        assert os.listdir(place / "out") == []

    def test_sides_that_the_format_cannot_hold(self, place, error_of, monkeypatch):
        """Found before the work, and named with the file."""
        put(place / "in" / "a.png", noise((1, 16400, 3)))
        put(place / "b.png")
        monkeypatch.setattr(Restorer, "__call__", None)
        assert error_of("in/a.png", "-o", "a.webp") == (
            "a.webp: WEBP holds at most 16383 pixels a side, and the image has 16400x1; use .png "
            "or .tiff"
        )

    def test_photos_beyond_the_limit_of_pillow(self, place, run, monkeypatch):
        """They are restored, and the limit of this process stays as it was."""
        put(place / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        run("a.png", "-o", "b.png")
        assert Image.MAX_IMAGE_PIXELS == 100
        monkeypatch.undo()
        same(place / "b.png", halved(noise()))

    def test_too_little_memory(self, place, error_of, monkeypatch, capsys):
        put(place / "in" / "a.png", noise((1000, 500, 3)))
        put(place / "in" / "b.png")
        monkeypatch.setattr(limits, "find_available_memory", lambda: 5 * 10**6)
        assert error_of("in", "-o", "out") == (
            "1 of 2 images failed:\n  in/a.png: 500x1000 pixels need about 6.0 MB of memory, and "
            "5.0 MB are left; close other programs, or cut the picture into parts and restore each"
        )
        assert os.listdir(place / "out") == ["b.png"]

    def test_too_little_disk_space(self, place, error_of, monkeypatch, capsys):
        """It is foreseen for all files, and none is computed in vain."""
        for name in ("a.bmp", "b.bmp"):
            put(place / "in" / name)
        usage = shutil.disk_usage(place)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1799))
        monkeypatch.setattr(Restorer, "__call__", None)
        failures = [
            f"\n  cannot write out/{name}: it needs about 1.8 kB, and 1.8 kB are free; delete "
            "files, or choose a directory on another disk"
            for name in ("a.bmp", "b.bmp")
        ]
        assert error_of("in", "-o", "out") == f"2 of 2 images failed:{failures[0]}{failures[1]}"
        assert capsys.readouterr().err.startswith(
            "warning: the results need about 3.8 kB and 1.8 kB are free for out; the run ends where"
        )
        assert not (place / "out").exists()

    @pytest.mark.parametrize(("given", "made"), [(0o640, 0o640), (0o600, 0o600), (0o777, 0o644)])
    def test_others_see_no_more_than_of_the_input(self, place, run, given, made):
        put(place / "a.png").chmod(given)
        put(place / "old.png").chmod(0o664)
        before = os.umask(0o022)
        try:
            run("a.png")
            run("a.png", "-o", "old.png", "--force")
        finally:
            os.umask(before)
        assert (place / "a.restored.png").stat().st_mode & 0o777 == made
        assert (place / "old.png").stat().st_mode & 0o777 == 0o664

    def test_names_with_line_breaks_are_one_line(self, place, run, error_of, capsys):
        put(place / "in" / "a\nb.png")
        assert run("in", "-o", "out").splitlines()[0] == "out/a\\nb.png  30x20"
        put(place / "in" / "c.png")
        with pytest.raises(SystemExit):
            run("in", "-o", "out")
        assert "failed in/a\\nb.png\n" in capsys.readouterr().out

    def test_no_permission(self, place, error_of, monkeypatch):
        put(place / "a.png")
        put(place / "b.png", noise((5, 5)))
        before = contents(place)

        def refuse(*arguments, **options):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "replace", refuse)
        found = error_of("a.png", "-o", "b.png", "--force")
        assert found.startswith(
            "cannot write b.png: Permission denied; choose a writable directory"
        )
        monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
        found = error_of("a.png", "-o", "out/")
        assert found == (
            "cannot write out/a.png: Permission denied; choose a writable directory on a disk with "
            "free space"
        )
        assert contents(place) == before

    @pytest.mark.parametrize(("number", "tried"), [(errno.EACCES, 2), (errno.EROFS, 1)])
    def test_a_folder_that_refuses_is_found_first(
        self, place, error_of, monkeypatch, number, tried
    ):
        def refuse(**options):
            raise OSError(number, os.strerror(number))

        for name in ("in/a.png", "in/b.png"):
            put(place / name)
        monkeypatch.setattr(Restorer, "__call__", None)
        monkeypatch.setattr(atomic_io.tempfile, "TemporaryFile", refuse)
        lines = error_of("in", "-o", "out").split("\n")
        assert lines[0].startswith(f"{tried} of 2 images failed")
        assert lines[1] == (
            f"  cannot write out/a.png: {os.strerror(number)}; choose a writable directory on a "
            "disk with free space"
        )

    @pytest.mark.parametrize("links", [True, False])
    def test_what_appears_meanwhile_stays(self, place, run, error_of, monkeypatch, links):
        """With and without hard links in the file system."""
        put(place / "a.png")
        real = Restorer.__call__

        def slow(self, image):
            (place / "b.png").write_bytes(b"of somebody else")
            return real(self, image)

        def no_links(*arguments):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        if not links:
            monkeypatch.setattr(os, "link", no_links)
        run("a.png", "-o", "c.png")
        same(place / "c.png", halved(noise()))
        monkeypatch.setattr(Restorer, "__call__", slow)
        assert error_of("a.png", "-o", "b.png") == "b.png exists; choose another name, or --force"
        assert (place / "b.png").read_bytes() == b"of somebody else"
        assert sorted(os.listdir(place)) == ["a.png", "b.png", "c.png"]

    def test_pipes(self, place, run, error_of):
        put(place / "in" / "a.png")
        os.mkfifo(place / "in" / "b.png")
        run("in", "-o", "out")
        assert os.listdir(place / "out") == ["a.png"]
        assert error_of("in/b.png", "-o", "out").startswith("in/b.png: is not a regular file but a")
        os.remove(place / "in" / "a.png")
        assert error_of("in", "-o", "out").startswith("in: contains no image")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (MemoryError(), "a.png: does not fit into memory, not even in small tiles; close"),
            (RuntimeError("RESOURCE_EXHAUSTED: Out\nof memory"), "a.png: does not fit into memory"),
            (RuntimeError("some\nthing"), "a.png: RuntimeError: some thing"),
        ],
        ids=str,
    )
    def test_a_network_that_fails(self, place, error_of, monkeypatch, error, message):
        put(place / "a.png")

        def fail(self, image):
            raise error

        monkeypatch.setattr(Restorer, "__call__", fail)
        assert error_of("a.png", "-o", "out").startswith(message)

    def test_debug_shows_where(self, place, run):
        (place / "a.png").touch()
        with pytest.raises(image_io.ImageError, match="empty"):
            run("a.png", "-o", "out", "--debug")

    def test_an_interruption_while_a_line_is_printed(self, place, run, monkeypatch, capsys):
        """What has been written by then is listed, too."""
        for name in ("a.png", "b.png"):
            put(place / name)
        print_line, printed = _progress.ProgressBar.print_line, []

        def interrupt(self, line):
            printed.append(line)
            if len(printed) == 1:
                deadline = time.monotonic() + 20
                while not (place / "out" / "b.png").exists():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                raise KeyboardInterrupt
            print_line(self, line)

        monkeypatch.setattr(_progress.ProgressBar, "print_line", interrupt)
        with pytest.raises(SystemExit) as end:
            run("a.png", "b.png", "-o", "out/")
        assert end.value.code == 130
        out = capsys.readouterr().out
        assert "out/b.png  30x20" in out
        assert "2 of 2 images restored" in out

    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str
    )
    def test_signals_keep_what_is_finished(self, place, run, monkeypatch, capsys, number, status):
        """No file is half written, and no thread stays."""
        for i, name in enumerate(("a", "b", "c")):
            put(place / "in" / f"{name}.png", noise((20 + 64 * i, 30, 3)))
        create, call, pipelines, printed = Pipeline.__init__, Restorer.__call__, [], []
        monkeypatch.setattr(_progress, "print_line", lambda line: print(line) or printed.append(1))
        monkeypatch.setattr(
            Pipeline,
            "__init__",
            lambda self, **stages: pipelines.append(self) or create(self, **stages),
        )

        def wait_until(is_reached):
            deadline = time.monotonic() + 20
            while not is_reached():
                assert time.monotonic() < deadline
                time.sleep(0.001)

        def interrupt(self, image):
            if len(image) == 84:
                wait_until(lambda: printed)
                os.kill(os.getpid(), number)
                wait_until(lambda: pipelines[0].is_stopped)  # while this image is computed
            return call(self, image)

        monkeypatch.setattr(Restorer, "__call__", interrupt)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(SystemExit) as end:
            run("in", "-o", "out")
        signal.signal(signal.SIGINT, before)
        assert end.value.code == status
        shown = capsys.readouterr()
        assert shown.out.startswith("out/a.png  30x20\n1 of 3 images restored in 0:")
        assert shown.err == ("interrupted\n" if number == signal.SIGINT else "")
        assert os.listdir(place / "out") == ["a.png"]
        same(place / "out" / "a.png", halved(noise()))
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith(("files", "compute"))]


class TestReference:
    @pytest.mark.extended
    def test_scores_are_of_the_written_files(self, place, run):
        rng = np.random.default_rng(0)
        expected = []
        for name, shape in (("a", (20, 30, 3)), ("x/b", (70, 13, 3))):
            image = put(place / "in" / f"{name}.png", noise(shape))
            clean = rng.integers(0, 256, shape).astype(np.uint8)
            put(place / "clean" / f"{name}.{'tif' if name == 'a' else 'png'}", clean)
            pair = [image_io.to_float(x)[None] for x in (halved(image_io.read(image)), clean)]
            expected.append([float(f(*pair)[0]) for f in (metrics.psnr, metrics.ssim)])
        out = run("in", "-o", "out", "--reference", "clean").splitlines()
        found = [
            [float(line.split("PSNR ")[1].split()[0]), float(line.split("SSIM ")[1])]
            for line in out
            if "PSNR" in line
        ]
        np.testing.assert_allclose(found[:2], expected, atol=0.006)
        np.testing.assert_allclose(found[2], np.mean(expected, 0), atol=0.006)
        assert out[0].startswith("out/a.png  30x20  PSNR ")
        assert out[-1].startswith("mean  PSNR ")

    def test_loss_by_the_format_counts(self, place, run):
        image = noise((40, 40, 3)) // 2 * 2
        put(place / "a.png", image)
        put(place / "clean.png", image // 2)
        assert "PSNR inf dB  SSIM 1.0000" in run("a.png", "-o", "b.png", "--reference", "clean.png")
        out = run("a.png", "-o", "b.jpg", "--quality", "50", "--reference", "clean.png")
        assert 10 < float(out.split("PSNR ")[1].split()[0]) < 40

    def test_alpha_does_not_count_and_small_images_have_no_ssim(self, place, run):
        image = noise((8, 9, 4)) // 2 * 2 | [0, 0, 0, 2]  # nothing is hidden
        image = image.astype(np.uint8)
        put(place / "a.png", image)
        put(place / "clean.png", image[..., :3] // 2)
        out = run("a.png", "-o", "b.png", "--reference", "clean.png")
        assert out.startswith("b.png  9x8  PSNR inf dB\n")

    def test_other_suffixes(self, place, run, error_of):
        """Whatever their case; of several the first of IMAGE_SUFFIXES."""
        for name in ("a", "b", "c"):
            put(place / "in" / f"{name}.bmp", noise() // 2 * 2)
        for name in ("a.TIF", "a.png", "b.PNG", "c.bmp", "c.png"):
            good = name in ("a.png", "b.PNG", "c.bmp")
            put(place / "clean" / name, noise() // 2 if good else noise(seed=3))
        assert run("in", "-o", "out", "--reference", "clean").count("PSNR inf dB") == 4

    def test_gray_as_webp(self, place, run):
        """WebP has three channels."""
        put(place / "a.png", noise((20, 30)) // 2 * 2)
        put(place / "clean.webp", noise((20, 30)) // 2)
        assert "PSNR inf" in run("a.png", "-o", "b.webp", "--reference", "clean.webp")

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("none", "none is not a folder; give one with a reference for each image"),
            ("in/a.png", "in/a.png is not a folder; give one with a reference for each image"),
            ("clean", "clean has no reference called b.png or with another suffix; add it"),
        ],
    )
    def test_missing(self, place, error_of, reference, message):
        for name in ("in/a.png", "in/b.png", "clean/a.png"):
            put(place / name)
        assert error_of("in", "-o", "out", "--reference", reference) == message
        assert not (place / "out").exists()

    def test_of_another_size(self, place, error_of):
        put(place / "a.png")
        for shape, channels in (((20, 31, 3), "3 channels"), ((20, 30), "1 channel")):
            height, width = shape[:2]
            put(place / "clean.png", noise(shape))
            assert error_of("a.png", "-o", "c.png", "--reference", "clean.png") == (
                f"clean.png: it is {width}x{height} with {channels}, the restored image "
                "30x20 with 3 channels; give an image that matches"
            )
        assert "none.png does not exist; give the reference of the image" in error_of(
            "a.png", "-o", "c.png", "--reference", "none.png"
        )
        (place / "broken.png").touch()
        assert "broken.png: the file is empty" in error_of(
            "a.png", "-o", "c.png", "--reference", "broken.png"
        )
        assert not (place / "c.png").exists()


class TestOptions:
    def test_reach_the_restorer(self, place, run, monkeypatch, checkpoint):
        made = []

        def record(module, variables, **options):
            made.append(options)
            return Restorer(module, variables)

        monkeypatch.setattr(batch, "Restorer", record)
        put(place / "a.png")
        run("a.png", "-o", "b.png", "--tile=256", "--overlap=32", "--ensemble", "--local-pool=48",
            "--dtype=bfloat16", "--device=cpu", "--strength=0.25", "--tile-batch=3")  # fmt: skip
        options = {"tile": 256, "overlap": 32, "tile_batch": 3, "ensemble": True, "strength": 0.25,
                   "local_pool": 48,
                   "dtype": "bfloat16", "device": "cpu"}  # fmt: skip
        assert made == [options]

    def test_strength(self, place, run):
        image = noise((20, 30, 4), np.uint16)
        put(place / "a.png", image)
        for strength, exact in ((0, image), (0.5, image * 0.75), (1, image * 0.5)):
            run("a.png", "-o", "b.png", "--force", f"--strength={strength}")
            result = image_io.read(place / "b.png")
            np.testing.assert_allclose(result[..., :3], exact[..., :3], rtol=0, atol=1)
            np.testing.assert_array_equal(result[..., 3], image[..., 3])

    def test_tiles_give_the_same(self, place, run):
        image = noise((200, 150, 3))
        put(place / "a.png", image)
        run("a.png", "-o", "b.png", "--tile=96", "--overlap=16")
        same(place / "b.png", halved(image))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tile=abc"], "argument --tile: invalid int value: 'abc'"),
            (["--tile=31", "--overlap=0"], "--tile must be an integer of at least 32, got 31"),
            (["--tile=-64"], "--tile must be an integer of at least 32, got -64"),
            (
                ["--tile=100", "--overlap=64"],
                "--tile 100 is too small for --overlap 64 on both sides",
            ),
            (["--overlap=-1"], "--overlap must be an integer of at least 0, got -1"),
            (["--strength=1.5"], "--strength must be a number from 0 to 1, got 1.5"),
            (["--strength=nan"], "--strength must be a number from 0 to 1, got nan"),
            (["--strength=half"], "argument --strength: invalid float value: 'half'"),
            (["--local-pool=8"], "Halving has no --local-pool; leave it out, as the network"),
            (["--dtype=float16"], "argument --dtype: invalid choice: 'float16'"),
            (["--device=quantum"], "no device 'quantum'; use one of cpu:0, "),
            (["--device=cpu:-1"], "no device 'cpu:-1'; use one of cpu:0, "),
            (
                ["--tile-batch=0"],
                "argument --tile-batch: must be an integer of at least 1, got '0'",
            ),
            (["--local-pool=-8"], "argument --local-pool: must be an integer of at least 1, got"),
            (["--shard=2/2"], "argument --shard: must be I/N with I from 0 to N - 1, such as 0/4"),
            (["--shard=1"], "argument --shard: must be I/N"),
            (["--shard=-1/2"], "argument --shard: must be I/N"),
            (["--shard=0/2", "--distributed=on"], "--shard is for processes that are started"),
            (["--processes=2"], "a run on several hosts needs --coordinator, --processes and --pr"),
            (["--distributed=maybe"], "argument --distributed: invalid choice: 'maybe'"),
            (["--quality=0"], "argument --quality: must be a number from 1 to 100, got '0'"),
            (["--quality=101"], "argument --quality: must be a number from 1 to 100, got '101'"),
            (["--quality=ten"], "argument --quality: must be a number from 1 to 100, got 'ten'"),
            (["--ensemle"], "unrecognized arguments: --ensemle (lcdnet-jax restore --help "),
        ],
        ids=str,
    )
    def test_of_wrong_values(self, place, error_of, arguments, message):
        put(place / "a.png")
        found = error_of("a.png", "-o", "b.png", *arguments)
        assert found.startswith(message)
        assert "\n" not in found
        assert os.listdir(place) == ["a.png"]


class TestShares:
    def test_shards_partition(self, place, run):
        """The images that one run restores, under the same names."""
        for i in range(5):
            put(place / "in" / "x" / f"{i}.png", noise(seed=i))
        shares = []
        for i in range(3):
            out = run("in", "-o", f"out{i}", f"--shard={i}/3")
            shares.append(sorted(contents(place / f"out{i}")))
            assert out.startswith(f"share {i} of 3: {len(shares[i])} of 5 images\n")
        assert shares == [["x/0.png", "x/3.png"], ["x/1.png", "x/4.png"], ["x/2.png"]]
        same(place / "out1" / "x" / "4.png", halved(noise(seed=4)))

    def test_a_shard_is_the_same_after_an_interruption(self, place, run):
        for i in range(4):
            put(place / "in" / f"{i}.png")
        put(place / "out" / "0.png")
        out = run("in", "-o", "out", "--shard=0/2", "--skip-existing")
        assert "share 0 of 2: 2 of 4 images\n1 of 2 images skipped" in out
        assert sorted(contents(place / "out")) == ["0.png", "2.png"]
        assert run("0.png", "-o", "new", "--shard=1/2") == "share 1 of 2: 0 of 1 image\n"

    def test_an_error_does_not_keep_other_processes_waiting(self, place, monkeypatch, error_of):
        """They wait until each process has left."""
        left = []
        monkeypatch.setattr(multihost, "initialize", lambda **options: "process 0 of 2")
        monkeypatch.setattr(multihost, "leave", lambda: left.append(True))
        put(place / "a.png")
        assert "no device 'none'" in error_of("a.png", "-o", "b.png", "--device=none")
        assert left == [True]
        assert "none" in error_of("a.png", "-o", "b.png", "--reference=none")
        assert left == [True, True]

    @pytest.mark.parametrize("option", ["--process-index=1", "--process_index=1"])
    def test_number_of_a_process(self, place, option):
        with pytest.raises(SystemExit) as end:
            main.main(["restore", "a.png", option])
        assert "missing: --coordinator, --processes" in str(end.value.code)

    @pytest.mark.extended
    def test_two_processes(self, place):
        """Each restores its share of what process 0 finds, and stands alone then."""
        for i in range(5):
            put(place / "in" / f"{i}.png", noise((60, 60, 3), seed=i))
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        started = [
            subprocess.Popen(
                [
                    sys.executable, "-c", "from lcdnet_jax.cli.main import main; main()", "restore",
                    *(["in"] if i == 0 else ["in/0.png"]), "-o", "out", "--tile=32", "--overlap=0",
                    f"--coordinator=localhost:{port}", "--processes=2", f"--process-index={i}",
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place,
            )
            for i in range(2)
        ]  # fmt: skip
        outputs = [process.communicate(timeout=120) for process in started]
        assert [process.returncode for process in started] == [0, 0], outputs
        for i, (out, _) in enumerate(outputs):
            assert f"process {i} of 2 (found by flags), 8 of 16 devices here\n" in out
            assert f"share {i} of 2: {3 - i} of 5 images\n" in out
            assert f"out/{i + 2}.png  60x60\n" in out
        assert sorted(contents(place / "out")) == [f"{i}.png" for i in range(5)]


class TestCheckpoint:
    @pytest.fixture
    def copy(self, checkpoint, place):
        put(place / "a.png")
        return shutil.copytree(checkpoint, place / "copy")

    def error(self, directory):
        for command in (["restore", "a.png", "-o", "b.png", "--checkpoint"], ["info"]):
            with pytest.raises(SystemExit) as end:
                main.main([*command, str(directory)])
            assert isinstance(end.value.code, str)
            assert "\n" not in end.value.code
            yield end.value.code

    def test_missing(self, place):
        put(place / "a.png")
        assert all("none" in text and "does not exist" in text for text in self.error("none"))

    def test_without_configuration(self, copy):
        (copy / "config.json").unlink()
        assert all("config.json" in text for text in self.error(copy))

    def test_in_one_file(self, checkpoint, place):
        put(place / "a.png")
        weights_lib.save_safetensors(checkpoint, place / "w.safetensors")
        main.main(["restore", "a.png", "-o", "b.png", "--checkpoint", "w.safetensors"])
        same(place / "b.png", halved(noise()))

    def test_damaged(self, copy):
        for path in (copy / "checkpoints" / "0").rglob("*"):
            if path.is_file() and path.parent.name != "0":
                path.write_bytes(b"")
        assert "damaged" in next(self.error(copy))

    def test_of_another_network(self, copy):
        config = json.loads((copy / "config.json").read_text())
        config["network"]["name"] = "resnet"
        del config["sha256"]  # as the error of a changed file advises
        (copy / "config.json").write_text(json.dumps(config))
        assert all("'resnet'" in text for text in self.error(copy))

    @pytest.mark.parametrize("change", ["missing", "newer", "older", "text"])
    def test_card(self, copy, change):
        card = json.loads((copy / "card.json").read_text())
        if change == "missing":
            (copy / "card.json").unlink()
        elif change == "newer":
            (copy / "card.json").write_text(json.dumps({**card, "format": 99}))
        elif change == "older":
            (copy / "card.json").write_text(json.dumps({**card, "format": 0}))
        else:
            (copy / "card.json").write_text("{")
        assert all("card.json" in text for text in self.error(copy))

    def test_of_two_views(self, place, error_of, monkeypatch):
        class TwoViews(Halving):
            two_views = True

        put(place / "a.png")
        weights = weights_lib.Weights(TwoViews(6), {}, {})
        monkeypatch.setattr(weights_lib, "load", lambda path, on_network: weights)
        assert "takes two views of a dual-pixel camera at once" in error_of("a.png", "-o", "b.png")


@pytest.mark.extended
class TestBuckets:
    @pytest.fixture
    def photos(self, bucket, place):
        """Images in a bucket and in the folder ``in``."""
        for name in ("in/a.png", "in/sub/b.tif"):
            put(place / name)
        (place / "in/notes.txt").write_text("")
        storage.upload(place / "in", storage.to_path(f"{bucket}/in"))
        return bucket

    def test_in_and_out(self, place, run, photos):
        """As folders, with nothing left besides and no local folder called gs:."""
        local = run("in", "-o", "out", "--reference", "in")
        out = run(f"{photos}/in", "-o", f"{photos}/out/", "--reference", f"{photos}/in")
        assert without_time(out.replace(f"{photos}/", "")) == without_time(local)
        run("in", "-o", f"{photos}/up")
        run(f"{photos}/in/*/*.tif", "-o", "down")
        run(f"{photos}/in/a.png")
        files = storage.list_files(storage.to_path(photos))
        written = [name for name in files if not name.startswith("in/")]
        assert written == ["out/a.png", "out/sub/b.tif", "up/a.png", "up/sub/b.tif"]
        for name in ("a.png", "sub/b.tif"):
            expected = (place / "out" / name).read_bytes()
            for folder in ("out", "up"):
                path = storage.to_path(f"{photos}/{folder}/{name}")
                assert storage.read_bytes(path) == expected
        same(place / "down/b.tif", halved(image_io.read("in/sub/b.tif")))
        same(storage.to_path(f"{photos}/in/a.restored.png"), halved(image_io.read("in/a.png")))

    def test_skip_existing(self, place, run, photos, error_of):
        run(f"{photos}/in/a.png", "-o", f"{photos}/out/")
        assert "out/a.png exists; " in error_of(f"{photos}/in/", "-o", f"{photos}/out")
        out = run("in", "-o", f"{photos}/out", "--skip-existing")
        assert "2 of 2 images skipped" in out
        run(f"{photos}/in/a.png", "-o", f"{photos}/out/", "--force")

    def test_weights(self, photos, capsys, place, checkpoint):
        """Of all kinds, named as a directory or file is."""
        for name in ("w", "w.safetensors"):
            main.main(["export", str(checkpoint), "-o", f"{photos}/{name}"])
            arguments = ["restore", "in/a.png", "-o", "b.png", "--force"]
            main.main([*arguments, "--checkpoint", f"{photos}/{name}"])
            same(place / "b.png", halved(image_io.read("in/a.png")))
        shared = Restorer.from_checkpoint(f"{photos}/w")(image_io.read("in/a.png"))
        np.testing.assert_array_equal(shared, image_io.read("b.png"))

    @pytest.mark.slow  # tests/storage and tests/training have a quicker one
    def test_a_server_that_stops(self, place, photos, checkpoint, gcs):
        """Repetitions with a line each, then one clear error; it continues when it is back."""
        code = "import sys; from tests.cli.test_restore import run_halving; run_halving(sys.argv)"
        command = [sys.executable, "-c", code, "restore", f"{photos}/many", "-o", f"{photos}/out/"]
        command += ["--checkpoint", str(checkpoint)]
        put(place / "many.png", noise((200, 200, 3)))
        data = (place / "many.png").read_bytes()
        for k in range(200):
            storage.write(storage.to_path(f"{photos}/many/{k:03d}.png"), data)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        first = process.stdout.readline()
        gcs.stop()
        try:
            out, err = process.communicate(timeout=400)
        finally:
            gcs.start()
        assert process.returncode == 1
        *lines, last = err.splitlines()
        repeated = [line for line in lines if "the request is repeated" in line]
        assert 4 < len(repeated) < 200
        assert lines[-1].startswith("error: ")
        assert "not tried" in lines[-1]
        assert "the bucket does not answer" in last
        done = len([line for line in (first + out).splitlines() if line.endswith("200x200")])
        files = storage.list_files(storage.to_path(f"{photos}/out"))
        assert done <= len(files) < 200
        assert not [name for name in files if not name.endswith(".png")]
        finished = subprocess.run(
            [*command, "--skip-existing"], check=True, capture_output=True, text=True, cwd=ROOT
        )
        assert f"{len(files)} of 200 images skipped" in finished.stdout
        assert len(storage.list_files(storage.to_path(f"{photos}/out"))) == 200


def without_time(out):
    return [line for line in out.splitlines() if "megapixels/s" not in line]


def run_halving(arguments):
    """Runs a command in a process of its own, with the network of these tests."""
    with registered("sadnet", Halving):
        main.main(arguments[1:])


def test_options_of_the_network(place, run, monkeypatch):
    """They are set before JAX starts its devices, because XLA reads them then."""
    flags = []
    monkeypatch.setattr(multihost, "check_devices", lambda: flags.append(os.environ["XLA_FLAGS"]))
    monkeypatch.setenv("XLA_FLAGS", _compilation._NO_UNROLLING)
    monkeypatch.setattr(Halving, "xla_cpu_options", ("mine",))
    run(put(place / "a.png"), "-o", "b.png")
    assert flags[0] == f"{_compilation._NO_UNROLLING},mine"
