"""The command restore: damaged files, full disks, interruptions, and what they leave."""

import errno
import os
import pathlib
import resource
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from lcdnet_jax import Restorer, atomic_io, image_io
from lcdnet_jax.cli import _progress
from lcdnet_jax.inference import limits
from lcdnet_jax.inference.pipeline import Pipeline
from tests.cli.halving import contents, halved, noise, put, same

pytestmark = pytest.mark.usefixtures("stand_in")


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
