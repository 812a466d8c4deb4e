"""Lines of commands."""

import io
import os
import sys

import pytest

from lcdnet_jax.cli import _console
from tests.cli.halving import put


@pytest.mark.usefixtures("stand_in")
def test_the_loss_of_lines_stops_nothing(place, run, monkeypatch):
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


def test_any_text_can_be_printed(capsys):
    _console.print_line("a \udcff is done")
    assert capsys.readouterr() == ("a \\udcff is done\n", "")
