"""The command ``lcdnet-jax export``, which writes weights or a program."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from lcdnet_jax.cli._console import Commands, add_checkpoint, add_command, print_line
from lcdnet_jax.messages import format_count

if TYPE_CHECKING:  # the library is imported only when the command runs
    from lcdnet_jax.weights import Weights


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``export``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "export",
        run,
        reads=("scores",),
        weights=("checkpoint",),
        writes=("output",),
        help="write a checkpoint's weights, or the network as a program",
        description="Writes the weights of a checkpoint, or the network with its weights as a "
        "program that runs with JAX, TensorFlow or ONNX Runtime, without this library. The suffix "
        "of OUT selects the form. Or uploads the weights to the Hugging Face hub.",
        epilog="""OUT:
  NAME              directory with the weights and card.json, which all commands accept
  NAME.safetensors  the same in one file
  NAME.pth, .pt     PyTorch state dict with the names of the official code; needs PyTorch
  NAME.jaxprog      StableHLO program, which lcdnet_jax/export/run_exported.py runs
  NAME.onnx         ONNX file, which lcdnet_jax/export/run_onnx.py runs
  NAME.tflite       LiteRT (TensorFlow Lite) file for one image of one --size
  NAME, --saved-model  SavedModel of TensorFlow

examples:
  lcdnet-jax export quickstart -o weights/quickstart --license CC-BY-4.0
  lcdnet-jax export quickstart -o quickstart.safetensors --dtype bfloat16
  lcdnet-jax export sadnet-photo -o photo.pth
  lcdnet-jax export quickstart -o quickstart.jaxprog
  lcdnet-jax export runs/lcdnet -o lcdnet.jaxprog --size 512x768 --size 768x512
  lcdnet-jax export sadnet-photo -o photo.onnx --dtype float16
  lcdnet-jax export quickstart -o quickstart.tflite --size 256x256 --quantize int8
  lcdnet-jax export quickstart --push-to-hub my-name/quickstart --license CC-BY-4.0""",
    )
    add_checkpoint(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="see below")
    parser.add_argument(
        "--push-to-hub",
        metavar="ORG/NAME",
        help="upload the weights, their card and a page about them to this model repository of the "
        "Hugging Face hub, which is created if needed; needs a token ('hf auth login' or HF_TOKEN)",
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--step",
        metavar="N",
        type=_parse_step,
        help="step of a training, or 'best', if its config.best_metric keeps the best; default: "
        "the newest",
    )
    weights = parser.add_argument_group("weights")
    weights.add_argument(
        "--license", "--licence", metavar="TEXT", help="license of the weights, for the card"
    )
    weights.add_argument("--notes", metavar="TEXT", help="notes for the card")
    weights.add_argument(
        "--scores",
        metavar="FILE",
        help="results.json of eval.py; replaces the scores of the card",
    )
    weights.add_argument(
        "--dtype",
        metavar="TYPE",
        help="stored type: float32, bfloat16 or float16 (not for .pth; .onnx: float32 or float16)",
    )
    programs = parser.add_argument_group("programs")
    programs.add_argument(
        "--saved-model", action="store_true", help="write a SavedModel of TensorFlow"
    )
    programs.add_argument(
        "--size",
        metavar="HxW",
        type=_parse_size,
        action="append",
        help="size of images, for networks that need a fixed size (N3Net, networks with "
        "local_pool, LCDNet except for .onnx) and for .tflite; may be repeated, except for .tflite "
        "and .onnx",
    )
    programs.add_argument(
        "--batch",
        metavar="N",
        type=_parse_count,
        help="number of images that a SavedModel takes; default: any",
    )
    programs.add_argument(
        "--quantize",
        choices=("int8",),
        help="store weights of a .tflite as 8-bit integers (dynamic range)",
    )
    programs.add_argument(
        "--platforms",
        metavar="LIST",
        help="comma-separated list of cpu, cuda, rocm, tpu (default: cpu,cuda,tpu)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace OUT, or files of the repository"
    )


def _parse_size(text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if not sides:
        raise argparse.ArgumentTypeError(f"must be height and width as in 512x768, got {text!r}")
    return int(sides[1]), int(sides[2])


def _parse_step(text: str) -> int | Literal["best"]:
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or 'best', got {text!r}")
    return int(text)


def _parse_count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"must be a number of images from 1, got {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``export``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If an option does not fit the output, or the network cannot be exported.
        CheckpointError: If a checkpoint is damaged or missing.
        ImportError: If a package that the format needs is not installed.
        OSError: If writing fails.
    """
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.export import litert, onnx, stablehlo
    from lcdnet_jax.weights import hub, pretrained, safetensors_file, torch_file

    output, repo = arguments.output, arguments.push_to_hub
    if output is None and repo is None:
        raise ValueError("nothing would be written; give -o OUT, --push-to-hub ORG/NAME, or both")
    suffix = os.path.splitext(output or "")[1].lower()
    lite = suffix == litert.SUFFIX
    onnx_file = suffix == onnx.SUFFIX
    program = suffix == stablehlo.SUFFIX or lite or onnx_file or arguments.saved_model
    torch = suffix in torch_file.SUFFIXES
    one_file = suffix in safetensors_file.SUFFIXES
    for_card = ("license", "notes", "scores")
    for_weights = (*for_card, "dtype")
    options_by_kind = {
        "a program": ("size", "platforms") if not program else (),
        "a SavedModel": ("batch",) if not arguments.saved_model else (),
        "a .tflite": ("quantize",) if not lite else (),
        "a .jaxprog or SavedModel": ("platforms",) if lite or onnx_file else (),
        "weights": (*(for_card if onnx_file else for_weights), "push_to_hub") if program else (),
        "a directory or .safetensors": (*for_weights, "push_to_hub") if torch else (),
    }
    for kind, options in options_by_kind.items():
        for option in options:
            if getattr(arguments, option) is not None:
                written = output or f"the upload to {repo}"
                raise ValueError(
                    f"--{option.replace('_', '-')} is for {kind}, which {written} is not; leave it "
                    "off"
                )
    if suffix and not (program or torch or one_file):
        first = (safetensors_file.SUFFIXES[0], torch_file.SUFFIXES[0], stablehlo.SUFFIX)
        raise ValueError(
            f"the suffix {suffix!r} of {output} is not a kind of export; use {', '.join(first)}, "
            f"{onnx.SUFFIX}, {litert.SUFFIX}, or none for a directory"
        )
    if onnx_file and len(arguments.size or ()) > 1:
        raise ValueError(f"{output} takes one size of images; give --size once, or leave it off")
    if (lite or onnx_file) and arguments.saved_model:
        raise ValueError(f"--saved-model writes a directory; leave off it or {suffix}")
    if lite and len(arguments.size or ()) != 1:
        raise ValueError(f"{output} needs one size of images; give one, as in --size 256x256")
    if arguments.private and repo is None:
        raise ValueError("--private is for --push-to-hub; leave it off")
    metrics = None if arguments.scores is None else weights_lib.read_results(arguments.scores)
    if repo is not None:
        hub.check_upload(repo)  # before the network is loaded
    weights = weights_lib.load(pretrained.find(arguments.checkpoint), step=arguments.step)
    described = {
        "license": arguments.license,
        "notes": arguments.notes,
        "metrics": metrics,
        "dtype": arguments.dtype,
        "force": arguments.force,
    }
    if program:
        _export_program(arguments, weights)
    elif torch:
        weights_lib.save_torch(weights, output, force=arguments.force)
    elif output is not None:
        save = weights_lib.save_safetensors if one_file else weights_lib.save_directory
        save(weights, output, **described)
    if output is not None:
        print_line(f"written      {output}")
    if repo is not None:
        name = weights_lib.save_to_hub(weights, repo, private=arguments.private, **described)
        print_line(f"uploaded     {name}")


def _export_program(arguments: argparse.Namespace, weights: Weights) -> None:
    from lcdnet_jax import export

    stored: Mapping[str, Any] = weights.card
    about = ("network", "kwargs", "step", "averaged", "licence", "notes", "origin")
    network = (arguments.output, weights.module, weights.variables)
    options: dict[str, Any] = {
        "about": {field: stored[field] for field in about},
        "force": arguments.force,
    }
    if arguments.output.lower().endswith(export.litert.SUFFIX):
        size = arguments.size[0]
        card = export.write_litert(*network, size=size, quantize=arguments.quantize, **options)
        _print_program(card)
        return
    if arguments.output.lower().endswith(export.onnx.SUFFIX):
        options |= {"size": (arguments.size or [None])[0], "dtype": arguments.dtype or "float32"}
        _print_program(_write(export.write_onnx, *network, **options))
        return
    if arguments.platforms:
        options["platforms"] = arguments.platforms.split(",")
    if arguments.saved_model:
        options["batch"] = arguments.batch
    write = export.write_saved_model if arguments.saved_model else export.write
    _print_program(_write(write, *network, sizes=arguments.size, **options))


def _write(write: Callable[..., Any], *network: Any, **options: Any) -> Mapping[str, Any]:
    from lcdnet_jax import export

    try:
        return write(*network, **options)
    except export.ExportError as error:  # it names an argument of Python
        text = re.sub(r"sizes?=\[?\(256, 256\)\]?", "--size 256x256", str(error))
        raise ValueError(text) from error


def _print_program(card: Mapping[str, Any]) -> None:
    sizes = [f"{height}x{width}" for height, width in card["sizes"] or ()]
    batch = card.get("batch")
    number = "one at a time" if batch == 1 else f"{batch or 'any number'} of them"
    print_line(f"images       {', '.join(sizes) or 'of any size'}, {number}")
    if "opset" in card:
        stride = (
            f", sides that are multiples of {card['stride']}" if (card["stride"] or 1) > 1 else ""
        )
        print_line(f"operators    ONNX opset {card['opset']}, {card['dtype']}{stride}")
    elif card["format"] != "LiteRT":
        print_line(f"platforms    {', '.join(card['platforms'])}")
    if quantization := card.get("quantization"):
        scores = ", ".join(
            f"{psnr:.1f} dB on {name}" for name, psnr in quantization["psnr"].items()
        )
        print_line(f"quantized    {quantization['type']}; results against float32: {scores}")
        return
    worst = max(case["difference"] for case in card["verified"])
    cases = format_count(len(card["verified"]), "case")
    print_line(f"verified     {cases}, largest difference {worst:.1g}")
