"""The program ``lcdnet-jax``: the library without writing Python.

Each command is a module with two functions: ``add_parser`` adds its arguments, ``run`` runs it. The
library itself is imported only when a command runs, so that ``--help`` is fast.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from lcdnet_jax._version import __version__
from lcdnet_jax.cli import _compilation, convert, export, info, models, restore, score, serve
from lcdnet_jax.cli._console import Formatter, check_paths
from lcdnet_jax.messages import describe_system_error, escape

# Commands that run compiled programs.
_COMPUTE = (restore, score, serve, export)

# Scripts of the repository. The package has neither them nor the reading of training data.
_SCRIPTS = {"train": "train.py", "eval": "eval.py"}

# Longest error message, in characters. A message may quote a hostile file.
_LONGEST = 4000


class _Parser(argparse.ArgumentParser):
    """Ends with one line and status 1 for wrong arguments, as for all other errors."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {escape(' '.join(message.split()))} ({self.prog} --help explains)")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command.

    Args:
        argv: The arguments without the name of the program. None means those of the command line.

    Raises:
        SystemExit: With status 1 and a message of one line for an error, 1 and the help without a
            command, 128 plus the number of the signal after an interruption, and 0 after ``--help``
            and the like.
    """
    parser = _Parser(
        prog="lcdnet-jax",
        description="Image restoration in JAX and Flax.",
        formatter_class=Formatter,
        epilog="""examples:
  lcdnet-jax restore photo.jpg
  lcdnet-jax restore holiday/ -o restored/
  lcdnet-jax models --pretrained
  lcdnet-jax restore --help

train.py and eval.py, which train and evaluate networks, are in a clone of the repository
(address: pip show --verbose lcdnet-jax)""",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {__version__}",
        help="show the version and exit",
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for command in (restore, serve, score, models, info, convert, export):
        command.add_parser(commands)
        added = list(commands.choices.values())[-1]
        added.add_argument("--debug", action="store_true", help="show where errors arise")
        if command in _COMPUTE:
            added.add_argument(
                "--no-compilation-cache",
                action="store_true",
                help="neither read nor write the cache of compiled programs",
            )
    first = next(iter(sys.argv[1:] if argv is None else argv), "")
    if first in _SCRIPTS:
        parser.error(
            f"{_SCRIPTS[first]} is not part of the package; clone the repository (address: pip "
            f"show --verbose lcdnet-jax) and run python {_SCRIPTS[first]} there"
        )
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # argparse would name the help of the program instead of that of the command
        used = commands.choices.get(arguments.command, parser)
        used.error(f"unrecognized arguments: {' '.join(unknown)}")
    if not hasattr(arguments, "run"):  # without a command
        parser.print_help(sys.stderr)
        sys.exit(1)
    # Commands that compute nothing have no such option.
    keeps = not vars(arguments).get("no_compilation_cache", True)
    keeps = keeps and _compilation.is_allowed(os.environ)

    try:
        # An exception during the import of a C module crashes it, or is lost.
        with _handle_signals(_exit_at_once, signal.SIGINT, signal.SIGTERM):
            check_paths(arguments)
            _compilation.set_environment(quiet=keeps and not arguments.debug)
            from lcdnet_jax.checkpoints import silence_orbax

            silence_orbax()
            if keeps:
                _compilation.use_cache()
        with _handle_signals(_exit, signal.SIGTERM):
            arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # the exit status that shells expect
    except Exception as error:
        if arguments.debug:
            raise
        sys.exit(f"error: {_describe(error)}")


@contextlib.contextmanager
def _handle_signals(
    handler: Callable[[int, FrameType | None], NoReturn], *signals: int
) -> Iterator[None]:
    """Sets a handler for signals; does nothing outside the main thread, where Python forbids it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process at once; nothing has been written yet."""
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process by an exception, so that partial files are removed."""
    sys.exit(128 + number)


def _describe(error: Exception) -> str:
    """An error in one line; long indented lists are cut after three entries."""
    lines = []
    message = describe_system_error(error) if isinstance(error, OSError) else str(error)
    for line in message.splitlines():
        entries = line.split("; ")
        if line.startswith("  ") and len(entries) > 4:
            line = f"{'; '.join(entries[:3])}; and {len(entries) - 3} more (--debug lists all)."
        lines.append(line)
    text = " ".join(" ".join(lines).split())
    is_ours = type(error).__module__.startswith("lcdnet_jax.")
    text = escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
    if is_ours or isinstance(error, ValueError | OSError | ImportError):
        return text
    name = type(error).__name__
    return f"{f'{name}: {text}' if text else name} (--debug shows where)"
