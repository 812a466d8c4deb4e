"""Console helpers of the commands: output lines and common arguments."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from lcdnet_jax.messages import escape

if TYPE_CHECKING:  # a command imports the library only when it runs
    from lcdnet_jax.weights import Card

# The commands of the program, to which each adds its parser.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions and keeps the line breaks of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        examples = "\n" in text
        return super()._fill_text(text, width, indent) if examples else textwrap.fill(text, width)


def print_line(line: str) -> None:
    """Prints a line in the encoding of standard output; the command continues if that fails.

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


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    help: str,
    description: str,
    epilog: str,
    reads: Sequence[str] = (),
    weights: Sequence[str] = (),
    writes: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Adds and returns the parser of a command; its default ``run`` is the function.

    ``reads``, ``weights`` and ``writes`` name the arguments that are paths of files or folders to
    read, weights to read, and files or folders to write, for :func:`check_paths`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description, epilog=epilog, formatter_class=Formatter
    )
    parser.set_defaults(run=run, paths={"reads": reads, "weights": weights, "writes": writes})
    return parser


def check_paths(arguments: argparse.Namespace) -> None:
    """Checks URLs and their buckets. Neither JAX nor the library is imported for that.

    Raises:
        StorageError: If a URL is of an unknown kind, or a bucket cannot be used.
    """
    from lcdnet_jax import storage

    for use, names in arguments.paths.items():
        for name in names:
            given = vars(arguments)[name]
            for text in [given] if isinstance(given, str) else given or ():
                if use != "weights" or storage.names_bucket(text):  # weights have other URLs, too
                    storage.check_bucket(storage.to_path(text), write=use == "writes")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the argument CHECKPOINT."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a working directory of train.py, a directory of convert or export, a .safetensors "
        "file, the name of pretrained weights, or hf://ORG/NAME[@REVISION] on the Hugging Face hub",
    )


def format_network(card: Card) -> str:
    """Formats a card's network: its name, the preset that it matches, and other fields."""
    from lcdnet_jax import config as config_lib

    fields = config_lib.summarize(card["network"], card["kwargs"])
    return ", ".join([card["network"], *(f"{name}={value}" for name, value in fields.items())])
