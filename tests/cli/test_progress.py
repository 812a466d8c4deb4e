"""The bar in a pseudo-terminal, and what a pipe gets."""

import os
import pty
import re
import sys
import threading
import time

import pytest

from lcdnet_jax.cli import _progress, main
from lcdnet_jax.cli._progress import ProgressBar
from lcdnet_jax.inference.program import Program
from tests.cli.halving import noise, put

pytestmark = pytest.mark.usefixtures("stand_in")


class Terminal:
    """A pseudo-terminal as standard error and, if asked for, standard output."""

    def __init__(self, monkeypatch, *streams):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        self._reading, writing = pty.openpty()
        self._stream = os.fdopen(writing, "w")
        for name in streams:
            monkeypatch.setattr(sys, name, self._stream)
        self._text = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while True:
            try:
                part = os.read(self._reading, 4096)
            except OSError:  # nobody writes any more
                return
            self._text += part

    def close(self):
        """Returns what was written, without colors; a drawing of the bar is a line."""
        self._stream.close()
        self._thread.join()
        os.close(self._reading)
        text = re.sub(r"\x1b\[[0-9;]*m", "", self._text.decode())
        return [line for line in re.split(r"[\r\n]+|\x1b\[2K|\x1b\[\?25[lh]", text) if line.strip()]


@pytest.fixture
def slow(monkeypatch):
    """Windows take a moment, in which the bar is drawn."""
    monkeypatch.setattr(_progress, "_DRAWINGS_PER_SECOND", 50)
    run = Program.run

    def wait(self, variables, windows):
        time.sleep(0.06)
        return run(self, variables, windows)

    monkeypatch.setattr(Program, "run", wait)


def test_moves_with_windows(place, run, monkeypatch, slow):
    put(place / "a.png", noise((60, 90, 3)))
    terminal = Terminal(monkeypatch, "stderr", "stdout")
    run("a.png", "-o", "b.png", "--tile=32", "--overlap=0", "--device=cpu")
    lines = terminal.close()
    shares = [int(found[1]) for line in lines if (found := re.search(r" (\d+)% ", line))]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert len(set(shares)) > 5  # of one image
    compiled = [i for i, line in enumerate(lines) if line.startswith("compiling for 32x32 ... ")]
    moved = [
        i for i, line in enumerate(lines) if line.startswith("restoring") and " 0% " not in line
    ]
    assert compiled
    assert max(compiled) < min(moved)
    assert any(re.search(r" 0/1 \d+% [0-9.e-]+ MP/s ETA 00:\d\d", line) for line in lines)
    assert "b.png  90x60" in lines
    assert re.fullmatch(r"1 of 1 image restored in 0:\d\d, [0-9.e-]+ megapixels/s", lines[-1])


def test_lines_go_above_the_bar(place, run, monkeypatch, slow):
    """They are no markup, and stand alone, in one line however long."""
    name = f"[red]{'long' * 40}.png"
    put(place / "in" / name)
    (place / "in" / "b\x1b[31m.png").write_bytes(b"text")
    terminal = Terminal(monkeypatch, "stderr", "stdout")
    with pytest.raises(SystemExit):
        run("in", "-o", "out")
    lines = terminal.close()
    assert f"out/{name}  30x20" in lines
    assert "failed in/b\\x1b[31m.png" in lines
    assert " 2/2 100% " in next(line for line in reversed(lines) if line.startswith("restoring"))


def test_output_to_a_pipe_beside_a_terminal(place, run, monkeypatch, capsys):
    put(place / "a.png")
    terminal = Terminal(monkeypatch, "stderr")
    out = run("a.png", "-o", "b.png")
    assert out.startswith("b.png  30x20\n1 of 1 image restored in 0:")
    assert any(line.startswith("restoring") for line in terminal.close())


def test_a_pipe_gets_no_control_characters(place, run, monkeypatch, capsys):
    """Not even where the environment asks for colors."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    put(place / "a.png")
    put(place / "b.png", noise((9, 9)))
    assert run("a.png", "-o", "c.png") == "c.png  30x20\n"
    out = run("a.png", "b.png", "-o", "out")
    assert out.startswith("out/a.png  30x20\nout/b.png  9x9\n2 of 2 images restored in 0:")
    assert all(char.isprintable() or char == "\n" for char in out)
    assert capsys.readouterr().err == ""


def test_the_cursor_comes_back(monkeypatch):
    terminal = Terminal(monkeypatch, "stderr")
    with pytest.raises(KeyboardInterrupt), ProgressBar(3):
        raise KeyboardInterrupt
    terminal.close()
    assert terminal._text.count(b"\x1b[?25l") == terminal._text.count(b"\x1b[?25h") == 1


def test_speed(monkeypatch):
    seconds = iter([0.0, 0.0, 30.0, 60.0, 6000.0, 6000.0])
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: next(seconds))
    with ProgressBar(4) as bar:
        bar.advance(1, 6_000_000)
        bar.advance(0.5, 6_000_000)
        monkeypatch.setattr(_progress.time, "perf_counter", lambda: 6000.0)
        assert bar.summarize() == "1:40:00, 0.002 megapixels/s"


def test_a_lack_of_memory_is_one_line(place, checkpoint, monkeypatch, capsys):
    real = Program.run

    def limit(self, variables, windows):
        if windows.shape[1] > 160:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return real(self, variables, windows)

    monkeypatch.setattr(Program, "run", limit)
    for name in ("a", "b"):
        put(place / "in" / f"{name}.png", noise((200, 200, 3)))
    options = ("--checkpoint", str(checkpoint), "--device=cpu")
    main.main(["restore", "in", "-o", "out", *options])
    shown = capsys.readouterr()
    assert "2 of 2 images restored" in shown.out
    assert shown.err == (
        "warning: windows of 256x256 pixels do not fit into memory; using tiles of 160x160 for "
        "images as large\n"
    )
