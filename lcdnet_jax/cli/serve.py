"""The command ``lcdnet-jax serve``, which runs the web page and the HTTP API."""

import argparse
import os
import sys
import warnings
from typing import Any

from lcdnet_jax.cli import _compilation
from lcdnet_jax.cli._console import Commands, add_command, print_line

# Packages of the extra "serve", by the names that are imported.
_PACKAGES = ("python_multipart", "starlette", "uvicorn")


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``serve``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "serve",
        run,
        weights=("checkpoint",),
        help="open a web page and an HTTP API that restore photographs",
        description="Runs a web page on this machine: drop a photograph, compare before and after, "
        "download the result, which is the file that restore writes. The same server is an HTTP "
        "API for apps. Only this machine can reach it, unless --host and "
        "--token say otherwise, and nothing leaves it. Ctrl-C ends it and deletes all uploads.",
        epilog="""examples:
  lcdnet-jax serve --open
  lcdnet-jax serve --checkpoint quickstart --port 8000
  lcdnet-jax serve --host 0.0.0.0 --token "$(openssl rand -hex 16)"
  curl -F image=@photo.jpg 'http://127.0.0.1:7860/restore?strength=0.8' -o restored.jpg""",
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 means all of this machine, and needs --token "
        "(default: 127.0.0.1, which only this machine reaches)",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=_parse_port,
        default=7860,
        help="port; 0 means any free one (default: 7860)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        action="append",
        default=[],
        help="weights to offer besides the pretrained ones, as for restore; may be given several "
        "times, and the first is the default of the page",
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="text that every request must have: open http://ADDRESS:PORT/?token=TEXT once, or "
        "send the header 'Authorization: Bearer TEXT'",
    )
    parser.add_argument(
        "--open", action="store_true", help="open the page in the browser of this machine"
    )
    parser.add_argument(
        "--max-megapixels",
        metavar="N",
        type=_parse_megapixels,
        default=100.0,
        help="largest image, in millions of pixels (default: 100)",
    )
    parser.add_argument(
        "--queue",
        metavar="N",
        type=_parse_count,
        default=16,
        help="most images that wait while one is computed; more are refused (default: 16)",
    )


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, got {text!r}")
    return int(text)


def _parse_megapixels(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 10_000:
        raise argparse.ArgumentTypeError(f"must be a number up to 10000, got {text!r}")
    return number


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``serve`` until SIGINT or SIGTERM.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ImportError: If the packages of the extra ``serve`` are not installed.
        ServeError: If the server cannot start, as when the port is in use.
        CheckpointError, ConfigError, CardError, ValueError: If weights cannot be used.
    """
    try:
        import python_multipart  # noqa: F401  # Starlette would miss it only later

        from lcdnet_jax.serve import Server, Settings
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise
        raise ImportError(
            f"lcdnet-jax serve needs extra packages ({missing} is not installed): pip install "
            "'lcdnet-jax[serve]'"
        ) from error

    from lcdnet_jax.inference import MemoryWarning, PixelRangeWarning

    server = Server(
        Settings(
            host=arguments.host,
            port=arguments.port,
            token=arguments.token,
            checkpoints=tuple(arguments.checkpoint),
            max_megapixels=arguments.max_megapixels,
            queue=arguments.queue,
        )
    )
    suffix = "" if arguments.token is None else "?token=..."
    print_line(f"{server.url}{suffix}  (Ctrl-C ends it)")
    if arguments.open:
        _open_page(server.url, arguments.token)
    # Warnings about metadata. Jobs have those about pixels, with the name of the file.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", category=PixelRangeWarning)
    warnings.filterwarnings("always", category=MemoryWarning)

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, MemoryWarning) and server.add_note(str(message)):
            return
        print(f"warning: {_compilation.describe_warning(str(message))}", file=sys.stderr)

    warnings.showwarning = show_warning
    if not server.run():
        # A thread still computes. The interpreter would wait for it, perhaps for minutes.
        sys.stdout.flush()
        os._exit(0)


def _open_page(url: str, token: str | None) -> None:
    """Opens the page in a browser."""
    import urllib.parse
    import webbrowser

    query = "" if token is None else f"?{urllib.parse.urlencode({'token': token})}"
    if not webbrowser.open(url + query):
        print_line("no browser was found; open the address yourself")
