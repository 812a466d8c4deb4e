"""Progress of commands."""

import io
import os
import sys

import pytest

from lcdnet_jax.cli import _console
from tests.cli.halving import put

pytestmark = pytest.mark.usefixtures("stand_in")


class TestProgress:
    def test_bar_on_a_terminal(self, place, run, monkeypatch, capsys):
        for name in ("a", "b"):
            put(place / "in" / f"{name}.png")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seconds = iter([0.0, 0.0, 30.0, 60.0])
        monkeypatch.setattr(_console.time, "perf_counter", lambda: next(seconds))
        out = run("in", "-o", "out")
        assert out.endswith("2 of 2 images restored in 1:00, 2e-05 megapixels/s\n")

    def test_its_words(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seconds = iter([0.0, 0.0, 30.0, 60.0, 6000.0])
        monkeypatch.setattr(_console.time, "perf_counter", lambda: next(seconds))
        progress = _console.Progress(["a", "b", "c", "d"])
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
        _console.Progress(["abcdef"])
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
        _console.Progress(["a"]).done("a \udcff is done")
        assert capsys.readouterr() == ("a \\udcff is done\n", "")
