"""The command ``lcdnet-jax convert``, which converts a PyTorch file to a checkpoint."""

import argparse
import ast
import json
import shlex
from collections.abc import Sequence

from lcdnet_jax.cli._console import Commands, add_command, format_network, print_line
from lcdnet_jax.messages import format_count


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``convert``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "convert",
        run,
        reads=("file",),
        writes=("output",),
        help="convert an official PyTorch file to a checkpoint",
        description="Converts an official PyTorch file to a checkpoint directory for eval.py, "
        "Restorer.from_checkpoint and config.init_from of train.py. No code in the file is "
        'executed. Needs PyTorch: pip install "lcdnet-jax[torch]"',
        epilog="""examples:
  lcdnet-jax convert dncnn dncnn_gray.pth -o weights/dncnn
  lcdnet-jax convert sadnet sadnet_color.pth -o weights/sadnet --channels 3 --set preset=base
  lcdnet-jax convert unet_n2n microscopy.pth -o weights/fmd --set input_range=-0.5,0.5""",
    )
    parser.add_argument("name", metavar="NAME", help="network; 'lcdnet-jax models' lists the names")
    parser.add_argument("file", metavar="FILE.pth", help="state dict that torch.save wrote")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="directory to write")
    parser.add_argument(
        "--channels", metavar="N", help="1 for gray or 3 for color; default: that of the network"
    )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="fields of the network, with values as in Python or JSON; an unknown field lists the "
        "known ones",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace DIR and all its content if it is an earlier conversion",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``convert``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If the file is not converted, a field is wrong, or the directory exists.
        ImportError: If PyTorch is not installed.
        OSError: If writing fails.
    """
    from lcdnet_jax import weights as weights_lib

    channels = [] if arguments.channels is None else [f"channels={arguments.channels}"]
    card = weights_lib.save_directory(
        arguments.file,
        arguments.output,
        network=arguments.name,
        network_kwargs=_parse_fields([*channels, *arguments.set]),
        force=arguments.force,
    )
    dropped = card["dropped"]
    shown = ", ".join(dropped[:2]) + (", ..." if len(dropped) > 2 else "")
    low, high = card["input_range"]
    directory = arguments.output
    print_line(f"network      {format_network(card)}")
    print_line(f"channels     {card['channels']}")
    print_line(f"parameters   {card['parameters']:,}")
    print_line(f"trained for  images from {low:g} to {high:g}; give them in [0, 1]")
    count = format_count(len(dropped), "unused key")
    print_line(f"dropped      {f'{count}: {shown}' if dropped else 'no keys'}")
    print_line(f"written      {directory}")
    print_line("next, in Python on one image, or in a clone on a folder of clean images:")
    print_line(f"  lcdnet_jax.Restorer.from_checkpoint({directory!r})(image)")
    command = ["python", "eval.py", "--checkpoint", directory, "--data", "FOLDER"]
    print_line(f"  {shlex.join(command)} --sigmas 25 --protocols clipped")


def _parse_fields(texts: Sequence[str]) -> dict[str, object]:
    """Parses fields and values such as "depth=17"."""
    fields: dict[str, object] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not field.isidentifier():
            raise ValueError(f"--set takes FIELD=VALUE, such as depth=17; got {text!r}")
        if field in fields:
            raise ValueError(f"{field} is given twice; keep one")
        fields[field] = _parse_value(value)
    return fields


def _parse_value(text: str) -> object:
    """Parses a value of Python or JSON; any other text is a string."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            pass
    return text
