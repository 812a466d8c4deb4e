"""The command restore: which files are restored, what results are called, and what is replaced."""

import io
import os
import shutil
import sys

import pytest

from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import plan
from tests.cli.halving import contents, halved, noise, put, same

pytestmark = pytest.mark.usefixtures("stand_in")


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
        assert error_of("in/*.webp").startswith("no image matches in/*.webp")
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
