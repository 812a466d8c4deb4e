"""The program ``lcdnet-jax``: what of the library needs no Python to be written.

Each command is one function that adds its arguments and one that runs it. The library itself is
imported where a command runs, so that ``--help`` comes at once.
"""

import argparse
import ast
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


class _Parser(argparse.ArgumentParser):
    """Mistakes in arguments end as all others do: one line and status 1."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message} ({self.prog} --help explains)")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; ``argv`` is by default the command line."""
    parser = _Parser(prog="lcdnet-jax", description="Image restoration in JAX and Flax.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_convert,):
        add(commands).add_argument("--debug", action="store_true", help="show where errors arise")
    arguments = parser.parse_args(argv)

    from lcdnet_jax.checkpoints import CheckpointError, silence_orbax

    silence_orbax()
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError, CheckpointError) as error:
        if arguments.debug:
            raise
        sys.exit(f"error: {error}")


def _add_convert(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="turn an official PyTorch file into a checkpoint",
        description="Turns an official PyTorch file into a checkpoint directory, which eval.py, "
        "Restorer.from_checkpoint and config.init_from of train.py take. No code of the file is "
        'run. Needs PyTorch: pip install "lcdnet-jax[torch]"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  lcdnet-jax convert dncnn dncnn_gray.pth -o weights/dncnn
  lcdnet-jax convert sadnet sadnet_color.pth -o weights/sadnet --channels 3 --set preset=base
  lcdnet-jax convert unet_n2n microscopy.pth -o weights/fmd --set input_range=-0.5,0.5""",
    )
    parser.add_argument("name", metavar="NAME", help="network; a wrong name lists those known")
    parser.add_argument("file", metavar="FILE.pth", help="state dict that torch.save wrote")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="directory to write")
    parser.add_argument(
        "--channels", metavar="N", help="1 for grey or 3 for colour; by default the network's"
    )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="fields of the network, values as in Python or JSON; a wrong field lists those known",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace DIR where it is an earlier conversion, with all that it holds",
    )
    parser.set_defaults(run=_convert)
    return parser


def _convert(arguments: argparse.Namespace) -> None:
    from lcdnet_jax import convert

    channels = [] if arguments.channels is None else [f"channels={arguments.channels}"]
    card = convert.convert_file(
        arguments.name,
        arguments.file,
        arguments.output,
        network_kwargs=_fields([*channels, *arguments.set]),
        force=arguments.force,
    )
    dropped = card["dropped"]
    shown = ", ".join(dropped[:2]) + (", ..." if len(dropped) > 2 else "")
    low, high = card["input_range"]
    directory = arguments.output
    fields = [f"{field}={value}" for field, value in card["kwargs"].items()]
    print(f"network      {', '.join([card['network'], *fields])}")
    print(f"channels     {card['channels']}")
    print(f"parameters   {card['parameters']:,}")
    print(f"trained for  images from {low:g} to {high:g}; give them in [0, 1]")
    print(f"dropped      {f'{len(dropped)} unused keys: {shown}' if dropped else 'no keys'}")
    print(f"written      {directory}")
    print("next, in Python on one image, or in a checkout on a folder of clean images:")
    print(f"  lcdnet_jax.Restorer.from_checkpoint({directory!r})(image)")
    command = ["python", "eval.py", "--checkpoint", directory, "--data", "FOLDER"]
    print(f"  {shlex.join(command)} --sigmas 25 --protocols clipped")


def _fields(texts: Sequence[str]) -> dict[str, Any]:
    """Values by field, from "field=value" each."""
    fields: dict[str, Any] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not field.isidentifier():
            raise ValueError(f"--set takes FIELD=VALUE, such as depth=17; got {text!r}")
        if field in fields:
            raise ValueError(f"{field} is given twice; keep one")
        fields[field] = _value(value)
    return fields


def _value(text: str) -> Any:
    """A value as Python or JSON writes it; text that is neither stands for itself."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            pass
    return text
