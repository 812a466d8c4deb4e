"""The program lcdnet-jax: restore, models and info, in this process.

The network of these tests halves its images, so that every result is known.
"""

import errno
import io
import json
import os
import pathlib
import resource
import shutil
import sys

import numpy as np
import pytest
import tifffile
from flax import linen as nn
from PIL import Image, ImageCms

from benchmarks import macs
from lcdnet_jax import Restorer, atomic_io, image_io, inference, metrics, networks, ops
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.export import run_exported
from lcdnet_jax.inference import batch
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.ops.depthwise import depthwise_conv2d
from tests.registered import registered


class Halving(networks.RestorationNetwork):
    """Takes SADNet's place."""

    channels: int = 3
    width: int = 2
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x * self.param("gain", nn.initializers.constant(0.5), (1,))[0]


@pytest.fixture(scope="module", autouse=True)
def stand_in():
    with registered("sadnet", Halving):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, stand_in):
    """A checkpoint to be read only."""
    folder = tmp_path_factory.mktemp("weights") / "halving"
    variables = {"params": {"gain": np.float32([0.5])}}
    source = weights_lib.describe("sadnet", variables, width=3)
    weights_lib.save_directory(source, folder, licence="CC0")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, so that names in messages are short."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(checkpoint, capsys):
    """Restores and returns what was printed."""

    def run(*arguments):
        cli.main(["restore", *map(str, arguments), "--checkpoint", str(checkpoint)])
        return capsys.readouterr().out

    return run


@pytest.fixture
def error_of(run):
    """The message of a command that must fail, with status 1 and without a traceback."""

    def error_of(*arguments):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert isinstance(end.value.code, str)  # sys.exit(text) prints it and exits with 1
        assert end.value.code.startswith("error: ")
        return end.value.code.removeprefix("error: ")

    return error_of


def noise(shape=(20, 30, 3), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def put(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write(path, noise() if image is None else image)
    return path


def halved(image):
    """What the network makes of it; alpha stays."""
    result = image.astype(np.float32) / 2
    if image.dtype.kind == "u":
        result = np.rint(result).astype(image.dtype)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        result[..., -1] = image[..., -1]
    return result


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(path, image):
    found, _ = image_io.read_with_metadata(path)
    assert found.dtype == image.dtype
    # Halves are between two integers, and 1/255 is none of float32's numbers.
    np.testing.assert_allclose(
        found.astype(float), image, atol=1 if image.dtype.kind == "u" else 1e-6
    )


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

    def test_another_format_by_the_name_of_the_file(self, place, run, error_of):
        put(place / "a.png", noise(dtype=np.uint16))
        run("a.png", "-o", "b.tif")
        same(place / "b.tif", halved(noise(dtype=np.uint16)))
        assert "b.jpg: JPEG cannot hold 16 bits; use .png" in error_of("a.png", "-o", "b.jpg")
        assert "'.gif' names no known format" in error_of("a.png", "-o", "b.gif")
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
        out = run("in", "-o", "in/out", "--force")  # results are no inputs
        assert "2 of 2" in out

    def test_patterns_lists_and_files(self, place, run, monkeypatch):
        for name in ("a1.png", "a2.png", "b.png", "deep/er/c.png", "[x].png", "d.png"):
            put(place / name)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.png\n\n./d.png\r\n")))
        run("a*.png", "-", "deep/**/*.png", "[x].png", "./b.png", "-o", "out")
        found = sorted(contents(place / "out"))
        assert found == ["[x].png", "a1.png", "a2.png", "b.png", "c.png", "d.png"]

    def test_patterns_name_each_image_once(self, place):
        """Though they match it, and the folders that it lies in; and nothing but images."""
        for name in ("a/x.png", "a/sub/x.png", "a/sub/y.png"):
            put(place / name)
        for name in ("notes.txt", "sub/none/z.txt"):
            (place / "a" / name).parent.mkdir(exist_ok=True)
            (place / "a" / name).write_text("")
        for pattern, found in (
            ("a/**", {"x.png": "a/x.png", "sub/x.png": "a/sub/x.png", "sub/y.png": "a/sub/y.png"}),
            ("a/s*/**/y*", {"y.png": "a/sub/y.png"}),
            ("a/[nx]*", {"x.png": "a/x.png"}),
        ):
            jobs = batch.plan([pattern], "out")
            assert {str(job.target): str(job.source) for job in jobs} == {
                f"out/{name}": source for name, source in found.items()
            }
        for pattern in ("a/n*", "a/**/n*e", "q*"):
            with pytest.raises(ValueError, match=r"no image matches .*; check the pattern"):
                batch.plan([pattern], "out")

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
            (["empty"], "out", "empty: holds no image; put files with the suffix .png, .jpg"),
            (["-"], "out", "no image was named; give files"),
            ([""], "out", "a path is empty, as an unset variable is; give names"),
            (["a.png"], "", "a path is empty"),
            (["none.png"], "out", "none.png: cannot be read (No such file or directory)"),
            (["notes"], "out", "notes: the file is empty (0 bytes)"),
            (["a.png"], "x", "x/a.png is a directory; move it away or choose another output"),
            (["a.png"], "a.png", "a.png is the input itself; choose another output, or --force"),
            (["a.png"], "./", "a.png is the input itself"),
            (["a.png"], "x/b.png", "x/b.png exists and is left as it is; --force replaces it"),
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
            "1 of 2 images failed:\n  out/a.png exists and is left as it is; --force replaces it"
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
                "  in/f.jpg: holds no PNG, JPEG, WebP, BMP or TIFF image (it begins with b'GIF89a",
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
        assert found.startswith("a.tif: its result holds NaN or infinity; scale the values")
        assert os.listdir(place) == ["a.tif"]

    @pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.uint32])
    def test_numbers_of_other_kinds(self, place, error_of, dtype):
        tifffile.imwrite(place / "a.tif", np.ones((9, 11), dtype))
        assert error_of("a.tif", "-o", "out").startswith("a.tif: ")

    def test_a_full_disk_leaves_what_was_there(self, place, error_of, monkeypatch):
        """The kernel refuses to write beyond 1000 bytes."""
        for name in ("in/a.png", "in/b.png", "out/b.png"):
            put(place / name)
        write = atomic_io.write

        def limited(*arguments, **options):
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
        assert message.startswith(
            "1 of 3 images failed, and 2 were not tried:\n  cannot write out/a.png: "
        )
        assert "No space left on device" in message
        assert os.listdir(place / "out") == []

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
        monkeypatch.setattr(batch.pathlib.Path, "mkdir", refuse)
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
        assert error_of("in/b.png", "-o", "out").startswith("in/b.png: is no regular file but a")
        os.remove(place / "in" / "a.png")
        assert error_of("in", "-o", "out").startswith("in: holds no image")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (MemoryError(), "a.png: does not fit into memory; use --tile 512 or less"),
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

    def test_interrupt_keeps_what_is_finished(self, place, run, monkeypatch, capsys):
        for name in ("a", "b", "c"):
            put(place / "in" / f"{name}.png")
        sync, calls = os.fsync, []

        def interrupted(file):
            calls.append(file)
            if len(calls) == 2:
                raise KeyboardInterrupt
            sync(file)

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(SystemExit) as end:
            run("in", "-o", "out")
        assert end.value.code == 130
        shown = capsys.readouterr()
        assert "1 of 3 images restored" in shown.out
        assert shown.err == "interrupted\n"
        assert os.listdir(place / "out") == ["a.png"]
        same(place / "out" / "a.png", halved(noise()))


class TestReference:
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
        image = noise((8, 9, 4)) // 2 * 2
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

    def test_grey_as_webp(self, place, run):
        """WebP has three channels."""
        put(place / "a.png", noise((20, 30)) // 2 * 2)
        put(place / "clean.webp", noise((20, 30)) // 2)
        assert "PSNR inf" in run("a.png", "-o", "b.webp", "--reference", "clean.webp")

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("none", "none is no folder; give one with a reference for each image"),
            ("in/a.png", "in/a.png is no folder; give one with a reference for each image"),
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
        for shape in ((20, 31, 3), (20, 30)):
            height, width, channels = *shape[:2], len(shape) * 2 - 3
            put(place / "clean.png", noise(shape))
            assert error_of("a.png", "-o", "c.png", "--reference", "clean.png") == (
                f"clean.png: it is {width}x{height} with {channels} channels, the restored image "
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

        monkeypatch.setattr(inference, "Restorer", record)
        put(place / "a.png")
        run("a.png", "-o", "b.png", "--tile=256", "--overlap=32", "--ensemble", "--local-pool=48",
            "--dtype=bfloat16", "--device=cpu")  # fmt: skip
        options = {"tile": 256, "overlap": 32, "ensemble": True, "local_pool": 48,
                   "dtype": "bfloat16", "device": "cpu"}  # fmt: skip
        assert made == [options]

    def test_tiles_give_the_same(self, place, run):
        image = noise((200, 150, 3))
        put(place / "a.png", image)
        run("a.png", "-o", "b.png", "--tile=96", "--overlap=16")
        same(place / "b.png", halved(image))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tile=abc"], "argument --tile: invalid int value: 'abc'"),
            (["--tile=31", "--overlap=0"], "tile must be an integer of at least 32, got 31"),
            (["--tile=-64"], "tile must be an integer of at least 32, got -64"),
            (["--tile=100", "--overlap=64"], "tile 100 is used up by overlap 64 on both sides"),
            (["--overlap=-1"], "overlap must be an integer of at least 0, got -1"),
            (["--local-pool=8"], "Halving has no local_pool"),
            (["--dtype=float16"], "argument --dtype: invalid choice: 'float16'"),
            (["--device=quantum"], "no device 'quantum'; use one of cpu:0, "),
            (["--device=cpu:-1"], "no device 'cpu:-1'; use one of cpu:0, "),
            (["--quality=0"], "argument --quality: must be a number from 1 to 100, got '0'"),
            (["--quality=101"], "argument --quality: must be a number from 1 to 100, got '101'"),
            (["--quality=ten"], "argument --quality: must be a number from 1 to 100, got 'ten'"),
            (["--ensemle"], "unrecognized arguments: --ensemle"),
        ],
        ids=str,
    )
    def test_of_wrong_values(self, place, error_of, arguments, message):
        put(place / "a.png")
        found = error_of("a.png", "-o", "b.png", *arguments)
        assert found.startswith(message)
        assert "\n" not in found
        assert os.listdir(place) == ["a.png"]


class TestProgress:
    def test_bar_on_a_terminal(self, place, run, monkeypatch, capsys):
        for name in ("a", "b"):
            put(place / "in" / f"{name}.png")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seconds = iter([0.0, 0.0, 30.0, 60.0])
        monkeypatch.setattr(cli.time, "perf_counter", lambda: next(seconds))
        out = run("in", "-o", "out")
        assert out.endswith("2 of 2 images restored in 1:00, 2e-05 megapixels/s\n")

    def test_its_words(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seconds = iter([0.0, 0.0, 30.0, 60.0, 6000.0])
        monkeypatch.setattr(cli.time, "perf_counter", lambda: next(seconds))
        progress = cli._Progress(["a", "b", "c", "d"])
        progress.done("a is done", 12_000_000)
        progress.done("b is done")
        lines = capsys.readouterr().err.split("\r\x1b[K")
        assert lines == [
            "[....................] 0/4  a",
            "[#####...............] 1/4  0.4 megapixels/s  ETA 1:30  b",
            "[##########..........] 2/4  0.2 megapixels/s  ETA 1:00  c",
        ]
        assert progress.summary() == "1:40:00, 0.002 megapixels/s"

    def test_is_cut_to_the_terminal(self, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", "31")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        cli._Progress(["abcdef"])
        assert capsys.readouterr().err == "[....................] 0/1  ab"

    def test_its_loss_stops_nothing(self, place, run, monkeypatch):
        """As by ``lcdnet-jax restore ... | head -1``."""

        class Closed(io.StringIO):
            def write(self, text):
                raise BrokenPipeError

            def fileno(self):
                return file.fileno()

        for name in ("a", "b", "c"):
            put(place / "in" / f"{name}.png")
        with open(place / "output", "w") as file:
            monkeypatch.setattr(sys, "stdout", Closed())
            run("in", "-o", "out")
        assert sorted(os.listdir(place / "out")) == ["a.png", "b.png", "c.png"]

    def test_no_bar_in_a_file(self, capsys):
        cli._Progress(["a"]).done("a \udcff is done")
        assert capsys.readouterr() == ("a \\udcff is done\n", "")


class TestCheckpoint:
    @pytest.fixture
    def copy(self, checkpoint, place):
        put(place / "a.png")
        return shutil.copytree(checkpoint, place / "copy")

    def error(self, directory):
        for command in (["restore", "a.png", "-o", "b.png", "--checkpoint"], ["info"]):
            with pytest.raises(SystemExit) as end:
                cli.main([*command, str(directory)])
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
        cli.main(["restore", "a.png", "-o", "b.png", "--checkpoint", "w.safetensors"])
        same(place / "b.png", halved(noise()))

    def test_damaged(self, copy):
        for path in (copy / "checkpoints" / "0").rglob("*"):
            if path.is_file() and path.parent.name != "0":
                path.write_bytes(b"")
        assert "damaged" in next(self.error(copy))

    def test_of_another_network(self, copy):
        config = json.loads((copy / "config.json").read_text())
        config["network"]["name"] = "resnet"
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
        put(place / "a.png")
        weights = weights_lib.Weights(Halving(6), {}, {})
        monkeypatch.setattr(weights_lib, "load", lambda path: weights)
        assert "takes two views of a dual-pixel camera at once" in error_of("a.png", "-o", "b.png")


class TestInfo:
    def test_of_weights(self, checkpoint, capsys):
        cli.main(["info", str(checkpoint)])
        assert capsys.readouterr().out.splitlines() == [
            "network      sadnet, width=3",
            "channels     3",
            "computes in  float32",
            "parameters   1, stored as float32",
            "data range   images in [0, 1], which the weights see as 0 to 1",
            "step         0",
            "licence      CC0",
            f"written by   lcdnet_jax {cli_version()}",
        ]

    def test_of_a_training(self, monkeypatch, capsys, tmp_path):
        card = {
            "network": "sadnet",
            "kwargs": {"preset": "small"},
            "channels": 3,
            "dtype": "float32",
            "parameters": 307283,
            "storage": "float32",
            "input_range": [0.0, 1.0],
            "step": 1600,
            "averaged": True,
            "training": {
                "steps": 3200, "batch_size": 4, "objective": "supervised", "seed": 0,
                "data": {"crop": 64, "train": {"source": "folder", "path": "photos"}},
                "degradation": {"kind": "awgn", "sigma_min": 0.0, "sigma_max": 50.0,
                                "protocol": "8bit", "options": {}},
                "sfm": {"rate": 0.5}, "loss": "l1", "ema_decay": 0.99,
                "optimizer": {"learning_rate": 3e-3, "schedule": "cosine"},
            },
            "metrics": [
                {"step": 1600, "data": "photos", "sigma": 50.0, "protocol": "8bit: rounded",
                 "psnr": 27.8432, "ssim": 0.78123}
            ],
            "licence": "not stated", "notes": "", "lcdnet_jax": "0.1.0",
            "origin": [{"file": name, "sha256": "ab"} for name in ("a", "b")],
        }  # fmt: skip
        monkeypatch.setitem(networks._REGISTRY, "sadnet", networks.SADNet)  # which has presets
        monkeypatch.setattr(weights_lib, "load_card", lambda path: card)
        file = tmp_path / "some.safetensors"
        file.touch()
        cli.main(["info", str(file)])
        assert capsys.readouterr().out.splitlines() == [
            "network      sadnet, preset=small",
            "channels     3",
            "computes in  float32",
            "parameters   307,283, stored as float32",
            "data range   images in [0, 1], which the weights see as 0 to 1",
            "step         1,600, averaged weights (EMA)",
            "trained      3,200 steps of 4 crops of 64 pixels, supervised, seed 0",
            "data         folder photos",
            "degradation  awgn, sigma 0 to 50, protocol 8bit, frequencies masked at rate 0.5",
            "loss         l1",
            "optimiser    Adam, learning rate 0.003, cosine, averaged with decay 0.99",
            "scores       psnr 27.84, ssim 0.7812 on photos, sigma 50, 8bit: rounded",
            "licence      not stated",
            "origin       a, SHA-256 ab",
            "             b, SHA-256 ab",
            "written by   lcdnet_jax 0.1.0",
        ]


def cli_version():
    import lcdnet_jax

    return lcdnet_jax.__version__


class TestModels:
    def test_table(self, capsys):
        cli.main(["models"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["network", "preset", "channels", "parameters", "kMAC/pixel"]
        assert "dncnn                       1     556,032       554.1" in lines
        assert {line.split()[0] for line in lines[1:]} == set(networks.available())
        document = pathlib.Path(__file__).parents[2] / "docs" / "inference.md"
        assert "\n".join(["```", *lines, "```"]) in document.read_text()

    def test_has_every_network_and_preset(self):
        """Run python -m benchmarks.macs for what a new one costs."""
        with registered("sadnet", networks.SADNet):
            assert {name: set(presets) for name, presets in COSTS.items()} == {
                name: set(networks.get(name).PRESETS) or {""} for name in networks.available()
            }


def test_help_has_examples(capsys):
    for command, example in (
        ("restore", "restore - -o restored/\n"),
        ("models", "lcdnet-jax models"),
        ("info", "lcdnet-jax info sadnet-photo"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
        assert example in capsys.readouterr().out


class TestCosts:
    """Of the networks that are counted quickly."""

    @pytest.mark.parametrize(
        ("name", "preset"), [("dncnn", ""), ("unet_n2n", ""), ("ridnet", ""), ("buifd", "")]
    )
    def test_are_as_counted(self, name, preset):
        module = networks.create(name, preset=preset or None)
        shape = (1, 256, 256, module.channels)
        parameters, cost = COSTS[name][preset]
        assert macs.count_parameters(module, shape) == parameters
        assert round(macs.count_macs(module, shape) / 256**2) == cost

    def test_shifted_products_are_a_convolution(self):
        class Depthwise(nn.Module):
            @nn.compact
            def __call__(self, x):
                kernel = self.param("kernel", nn.initializers.ones, (3, 3, 1, 8))
                scale = self.param("scale", nn.initializers.ones, (1, 1, 1, 8))
                return depthwise_conv2d(x, kernel) * scale

        assert macs.count_macs(Depthwise(), (2, 10, 12, 4)) == 2 * 10 * 12 * 9 * 8


class Spectral(networks.RestorationNetwork):
    """Needs to know sizes."""

    channels: int = 1
    dtype: type = np.float32

    def __call__(self, x):
        return ops.irfft2(ops.rfft2(x), x.shape[2])


class TestExport:
    @pytest.fixture
    def export(self, checkpoint, place, capsys):
        def export(*arguments):
            cli.main(["export", str(checkpoint), *arguments])
            return capsys.readouterr().out

        return export

    def test_weights(self, export, place):
        out = export("-o", "w.safetensors", "--licence", "CC0", "--dtype", "bfloat16")
        assert out == "written      w.safetensors\n"
        assert export("-o", "new/w", "--notes", "n") == "written      new/w\n"
        for path, notes in (("w.safetensors", ""), ("new/w", "n")):
            weights = weights_lib.load(place / path)
            assert weights.variables["params"]["gain"] == np.float32(0.5)
            assert (weights.card["licence"], weights.card["notes"]) == ("CC0", notes)

    def test_program(self, export, place):
        out = export("-o", "w.jaxprog", "--platforms", "cpu")
        assert "images       of any size, any number of them\nplatforms    cpu\nverified" in out
        restore = run_exported.load(place / "w.jaxprog")
        image = np.random.default_rng(0).random((1, 9, 11, 3), np.float32)
        np.testing.assert_allclose(restore(image), image / 2)
        assert restore.card["about"]["kwargs"] == {"width": 3}
        assert "images       9x11, any" in export(
            "-o", "w.jaxprog", "--size", "9x11", "--platforms=cpu", "--force"
        )

    def test_a_network_that_needs_sizes(self, export, checkpoint, monkeypatch):
        """Is told in words of the command line."""
        weights = weights_lib.load(checkpoint)
        weights = weights._replace(module=Spectral(), variables={"params": {}})
        monkeypatch.setattr(weights_lib, "load", lambda path, step: weights)
        with pytest.raises(SystemExit, match=r"give those you need, as in --size 256x256$"):
            export("-o", "w.jaxprog")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "w.onnx"], "the suffix '.onnx' of w.onnx says no kind of export; use .safe"),
            (["-o", "w", "--size", "9x9"], "--size is for a program, and w is none; leave it off"),
            (["-o", "w.jaxprog", "--dtype", "bfloat16"], "--dtype is for weights, and w.jaxprog"),
            (["-o", "w.pth", "--notes", "n"], "--notes is for a directory or .safetensors, and"),
            (["-o", "w", "--dtype", "int8"], "dtype must be one of float32, bfloat16, float16"),
            *(
                (
                    ["-o", "w.jaxprog", "--size", size],
                    f"argument --size: must be height and width as in 512x768, got '{size}'",
                )
                for size in ("9", "9x", "0x9", "9x-9", "9x9x9", 30 * "9" + "x9")
            ),
            (["-o", "w.jaxprog", "--size", "99999x99999"], "99999x99999 pixels are too many"),
            (["-o", "w.jaxprog", "--platforms", "abacus"], "no platform 'abacus'; choose of cpu"),
            (["-o", "w", "--step", "7"], "{checkpoint}/checkpoints has no step 7; there are: 0"),
            (["-o", "there"], "{place}/there is not empty; choose another directory, or --force"),
            (["-o", "there.jaxprog"], "there.jaxprog exists; choose another name, or --force"),
            (["-o", "there.safetensors"], "{place}/there.safetensors exists; choose another name"),
        ],
        ids=str,
    )
    def test_mistakes(self, export, checkpoint, place, arguments, message):
        message = message.format(checkpoint=checkpoint, place=place)
        for name in ("there/file", "there.jaxprog", "there.safetensors"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text("")
        before = contents(place)
        with pytest.raises(SystemExit) as end:
            export(*arguments)
        assert isinstance(end.value.code, str)
        assert end.value.code.startswith(f"error: {message}")
        assert "\n" not in end.value.code
        assert contents(place) == before
