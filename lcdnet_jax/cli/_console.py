"""Console helpers of the commands: output lines, progress and common arguments."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lcdnet_jax.messages import escape, format_duration

if TYPE_CHECKING:  # a command imports the library only when it runs
    from lcdnet_jax.weights import Card


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions and keeps the line breaks of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        examples = "\n" in text
        return super()._fill_text(text, width, indent) if examples else textwrap.fill(text, width)


def print_line(line: str) -> None:
    """Prints a line in the encoding of standard output; work goes on if that cannot be written.

    The line is escaped, so it may hold text from files.
    """
    if sys.stdout is None:  # standard output was closed at the start
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(escape(line).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader has closed the pipe, as head does
            print(f"cannot write to standard output: {error.strerror}", file=sys.stderr)
        with open(os.devnull, "wb") as nowhere:  # also for what Python still buffers
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Progress:
    """Prints a line for each image and, on a terminal, a progress bar below.

    Args:
        names: Names of the images, in order.
    """

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._start = time.perf_counter()
        self._count = self._pixels = 0
        self._bar = sys.stderr.isatty()
        self._draw()

    def done(self, line: str, pixels: int = 0) -> None:
        """Counts an image and prints its line."""
        self._count += 1
        self._pixels += pixels
        self.close()
        print_line(line)
        self._draw()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def summary(self) -> str:
        """Time and speed."""
        seconds = time.perf_counter() - self._start
        return f"{format_duration(seconds)}, {self._pixels / 1e6 / seconds:.2g} megapixels/s"

    def _draw(self) -> None:
        if not self._bar or self._count == len(self._names):
            return
        total, seconds = len(self._names), time.perf_counter() - self._start
        filled = 20 * self._count // total
        line = f"[{'#' * filled}{'.' * (20 - filled)}] {self._count}/{total}"
        if self._count:
            eta = format_duration(seconds / self._count * (total - self._count))
            line += f"  {self._pixels / 1e6 / seconds:.2g} megapixels/s  ETA {eta}"
        line += f"  {escape(self._names[self._count])[-30:]}"
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap on some
        print(line[:width], end="", file=sys.stderr, flush=True)


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    help: str,
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    """Adds and returns the parser of a command; its default ``run`` is the function."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description, epilog=epilog, formatter_class=Formatter
    )
    parser.set_defaults(run=run)
    return parser


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the argument CHECKPOINT."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a working directory of train.py, a directory of convert or export, a .safetensors "
        "file, or the name of pretrained weights",
    )


def format_fields(fields: Mapping[str, Any], between: str = "=") -> str:
    """Formats fields as "name=value, name"; None means no value."""
    return ", ".join(
        str(field) if value is None else f"{field}{between}{value}"
        for field, value in fields.items()
    )


def format_network(card: Card) -> str:
    """Formats a card's network: its name, the preset that it matches, and other fields."""
    from lcdnet_jax import config as config_lib

    fields = config_lib.summarize(card["network"], card["kwargs"])
    return format_fields({card["network"]: None, **fields})
