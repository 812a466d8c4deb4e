"""The command ``lcdnet-jax models``, which lists networks or pretrained weights."""

import argparse

from lcdnet_jax.cli._console import Commands, add_command, print_line


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``models``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "models",
        run,
        help="list the networks, or the pretrained weights",
        description="Lists the networks with their presets, parameters and cost: multiply-"
        "accumulates (MACs) of convolutions and matrix products, in thousands per pixel (billions "
        "per megapixel), and which networks cannot be exported in some form, or for one size only. "
        "With --pretrained, lists the weights that are installed with the library, what they are "
        "for, and their size; 'lcdnet-jax info NAME' says more about each.",
        epilog="""examples:
  lcdnet-jax models
  lcdnet-jax models --pretrained
  lcdnet-jax info sadnet-photo""",
    )
    parser.add_argument("--pretrained", action="store_true", help="list the pretrained weights")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``models``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If pretrained weights are missing or damaged.
    """
    if arguments.pretrained:
        _print_pretrained()
    else:
        _print_networks()


def _print_pretrained() -> None:
    from lcdnet_jax.weights import pretrained

    failures = []
    width = max(map(len, pretrained.names()))
    for name in pretrained.names():
        try:
            file = pretrained.path(name)
        except pretrained.PretrainedError as error:
            failures.append(str(error))
            continue
        default = ", the default of restore" if name == pretrained.DEFAULT else ""
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        print_line(f"{name:{width}}  {pretrained.PURPOSES[name]} ({size}{default})")
    if failures:
        raise ValueError("; ".join(failures))


def _print_networks() -> None:
    from lcdnet_jax import networks
    from lcdnet_jax.export import litert, onnx
    from lcdnet_jax.networks.costs import COSTS

    rows = [("network", "preset", "channels", "parameters", "kMAC/pixel")]
    for name in networks.available():
        default, presets = networks.create(name).channels, networks.get(name).PRESETS
        for preset, (parameters, macs) in COSTS[name].items():
            channels = str(presets.get(preset, {}).get("channels", default))
            rows.append((name, preset, channels, f"{parameters:,}", f"{macs / 1000:,.1f}"))
    for name, preset, *numbers in rows:
        print_line(f"{name:9} {preset:17}" + "".join(f"{number:>12}" for number in numbers))
    for name, reason in litert.UNSUPPORTED.items():
        print_line(f"{name} cannot be exported as {litert.SUFFIX}: {reason}")
    for name, reason in onnx.NEEDS_SIZE.items():
        print_line(f"{name} is exported as {onnx.SUFFIX} for one --size only: {reason}")
