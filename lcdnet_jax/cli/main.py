"""The program ``lcdnet-jax``: what of the library needs no Python to be written.

Each command is one function that adds its arguments and one that runs it. The library itself is
imported where a command runs, so that ``--help`` comes at once.
"""

import argparse
import ast
import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions, but leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        examples = "\n" in text
        return super()._fill_text(text, width, indent) if examples else textwrap.fill(text, width)


class _Parser(argparse.ArgumentParser):
    """Mistakes in arguments end as all others do: one line and status 1."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {' '.join(message.split())} ({self.prog} --help explains)")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; ``argv`` is by default the command line."""
    parser = _Parser(
        prog="lcdnet-jax",
        description="Image restoration in JAX and Flax.",
        formatter_class=_Formatter,
        epilog="""examples:
  lcdnet-jax restore photo.jpg -o restored.jpg
  lcdnet-jax models --pretrained
  lcdnet-jax restore --help""",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_restore, _add_models, _add_info, _add_convert, _add_export):
        add(commands).add_argument("--debug", action="store_true", help="show where errors arise")
    arguments = parser.parse_args(argv)

    try:
        # Modules in C crash, or lose the signal, if an exception ends their import.
        with _handling(_leave, signal.SIGINT, signal.SIGTERM):
            from lcdnet_jax.checkpoints import silence_orbax

            silence_orbax()
        with _handling(_end, signal.SIGTERM):
            arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # as shells have it
    except Exception as error:
        if arguments.debug:
            raise
        sys.exit(f"error: {_described(error)}")


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], NoReturn], *signals: int) -> Iterator[None]:
    """Signals have another handler; in the main thread, the only one that may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def _leave(number: int, frame: Any) -> NoReturn:
    """Ends the process as it is, before anything was begun."""
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


def _end(number: int, frame: Any) -> NoReturn:
    """As Ctrl-C: what is half written is taken away."""
    sys.exit(128 + number)


def _described(error: Exception) -> str:
    """An error in one line; of a list, whose lines are indented, the first entries."""
    lines = []
    for line in str(error).splitlines():
        entries = line.split("; ")
        if line.startswith("  ") and len(entries) > 4:
            line = f"{'; '.join(entries[:3])}; and {len(entries) - 3} more (--debug lists all)."
        lines.append(line)
    text = " ".join(" ".join(lines).split())
    ours = type(error).__module__.startswith("lcdnet_jax.")
    if ours or isinstance(error, ValueError | OSError | ImportError):
        return text
    name = type(error).__name__
    return f"{f'{name}: {text}' if text else name} (--debug shows where)"


def _say(line: str) -> None:
    """Prints a line in the encoding of standard output; if that is lost, work goes on."""
    if sys.stdout is None:  # closed from the start
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # which says that nobody wants to read more
            print(f"cannot write to standard output: {error.strerror}", file=sys.stderr)
        with open(os.devnull, "wb") as nowhere:  # also for what Python still holds
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _add_restore(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "restore",
        help="restore image files",
        description="Restores image files of any size. Results keep format, bit depth, channels, "
        "alpha, colour profile and EXIF data, upright. Files that exist are never overwritten, "
        "unless by --force, and none is ever half written. A file that cannot be restored does not "
        "stop the others; the exit status is then 1.",
        formatter_class=_Formatter,
        epilog="""examples:
  lcdnet-jax restore photo.jpg -o restored.jpg
  lcdnet-jax restore holiday/ 'more/*.png' -o restored/
  find . -name '*.tiff' | lcdnet-jax restore - -o restored/
  lcdnet-jax restore huge.tif -o out.tif --tile 512
  lcdnet-jax restore scan.png -o clean.png --checkpoint sadnet-color-blind
  lcdnet-jax restore noisy/ -o restored/ --checkpoint quickstart --reference clean/""",
    )
    parser.add_argument(
        "inputs",
        metavar="IN",
        nargs="+",
        help="files; folders, with all images in and below them but hidden ones; patterns, such as "
        "'a/**/*.png'; or - for a list on standard input, one path a line",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="folder for the results, which keep their names, those of a folder in its structure; "
        "or, for one image, the name of a file (its suffix says the format)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="trained network: working directory of train.py, what convert or export wrote, or the "
        "name of pretrained weights, which 'lcdnet-jax models --pretrained' lists; by default "
        "sadnet-photo",
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=int,
        help="restore in windows of N pixels, best a multiple of 32; by default whole, and large "
        "images in windows",
    )
    parser.add_argument(
        "--overlap",
        metavar="N",
        type=int,
        help="pixels thrown away along the edges of windows inside the image (64; U-Net 96)",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="mean over the eight orientations of the image: a little better, eight times the time",
    )
    parser.add_argument(
        "--local-pool",
        metavar="N",
        type=int,
        help="LCDNet: means over windows of N pixels, as large as in training, not over the image",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="type to compute in")
    parser.add_argument("--device", metavar="NAME", help='such as "cpu" or "gpu:1"')
    parser.add_argument(
        "--reference",
        metavar="PATH",
        help="clean image, or folder with one of the same name for each image: reports PSNR and "
        "SSIM of each written file, read back, against it (RGB or grey in [0, 1], all pixels)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files, even the inputs")
    parser.add_argument(
        "--quality", metavar="N", type=_quality, default=95, help="of JPEG files, 1 to 100 (95)"
    )
    parser.set_defaults(run=_restore)
    return parser


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 100, got {text!r}")
    return int(text)


def _restore(arguments: argparse.Namespace) -> None:
    from lcdnet_jax import inference
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.inference import batch
    from lcdnet_jax.weights import pretrained

    jobs = batch.plan(
        arguments.inputs, arguments.output, listed=_listed_paths(), reference=arguments.reference
    )
    options = ("tile", "overlap", "ensemble", "local_pool", "dtype", "device")
    checkpoint = (
        pretrained.path(pretrained.DEFAULT)
        if arguments.checkpoint is None
        else pretrained.find(arguments.checkpoint)
    )
    module, variables, _ = weights_lib.load(checkpoint)
    restorer = inference.Restorer(
        module, variables, **{option: getattr(arguments, option) for option in options}
    )
    if restorer.module.takes_two_views:
        raise ValueError(
            f"{checkpoint} takes two views of a dual-pixel camera at once, which files "
            "do not hold; join them in Python and call Restorer"
        )
    results, failures = [], []
    progress = _Progress([str(job.source) for job in jobs])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # on metadata, and large images
            outcomes = batch.restore(
                restorer, jobs, force=arguments.force, quality=arguments.quality
            )
            for job, outcome in outcomes:
                if isinstance(outcome, Exception):
                    if arguments.debug:
                        raise outcome
                    failures.append(" ".join(str(outcome).split()))
                    if len(jobs) > 1:
                        progress.done(f"failed {job.source}")
                else:
                    results.append(outcome)
                    progress.done(
                        f"{job.target}  {outcome.width}x{outcome.height}{_scores([outcome])}",
                        outcome.width * outcome.height,
                    )
    finally:
        progress.close()
        if len(jobs) > 1:
            _say(f"{len(results)} of {len(jobs)} images restored in {progress.summary()}")
        if len(results) > 1 and arguments.reference:
            _say(f"mean{_scores(results)}")
    if failures:
        _fail(failures, len(jobs), len(jobs) - len(results) - len(failures))


def _listed_paths() -> Iterator[str]:
    for line in sys.stdin.buffer if sys.stdin else ():
        yield os.fsdecode(line)


def _scores(results: Sequence[Any]) -> str:
    """Means of the scores of some results, nothing without scores."""
    from lcdnet_jax.evaluation import mean

    psnr = [result.psnr for result in results if result.psnr is not None]
    if not psnr:
        return ""
    ssim = mean(result.ssim for result in results if result.ssim is not None)
    shown = "" if math.isnan(ssim) else f"  SSIM {ssim:.4f}"
    return f"  PSNR {mean(psnr):.2f} dB{shown}"


def _fail(failures: Sequence[str], count: int, left: int) -> NoReturn:
    if count == 1:
        sys.exit(f"error: {failures[0]}")
    rest = f", and {left} were not tried" if left else ""
    lines = [f"error: {len(failures)} of {count} images failed{rest}:", *failures]
    sys.exit("\n  ".join(lines))


class _Progress:
    """A line for each image on standard output; on a terminal, below them, a bar.

    Args:
        names: Of the images to come.
    """

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._start = time.perf_counter()
        self._count = self._pixels = 0
        self._bar = sys.stderr.isatty()
        self._draw()

    def done(self, line: str, pixels: int = 0) -> None:
        """One image more."""
        self._count += 1
        self._pixels += pixels
        self.close()
        _say(line)
        self._draw()

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def summary(self) -> str:
        """Time and speed."""
        seconds = time.perf_counter() - self._start
        return f"{_clock(seconds)}, {self._pixels / 1e6 / seconds:.2g} megapixels/s"

    def _draw(self) -> None:
        if not self._bar or self._count == len(self._names):
            return
        total, seconds = len(self._names), time.perf_counter() - self._start
        filled = 20 * self._count // total
        line = f"[{'#' * filled}{'.' * (20 - filled)}] {self._count}/{total}"
        if self._count:
            left = seconds / self._count * (total - self._count)
            line += f"  {self._pixels / 1e6 / seconds:.2g} megapixels/s  ETA {_clock(left)}"
        line += f"  {self._names[self._count][-30:]}"
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap on some
        print(line[:width], end="", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _add_models(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list the networks, or the pretrained weights",
        description="Lists the networks with their presets, parameters and cost: multiply-"
        "accumulates (MACs) of convolutions and matrix products, in thousands for each pixel, "
        "which is as many billions for each megapixel. Or the weights that are installed with the "
        "library, of which info tells more.",
        formatter_class=_Formatter,
        epilog="""examples:
  lcdnet-jax models
  lcdnet-jax models --pretrained
  lcdnet-jax info sadnet-photo""",
    )
    parser.add_argument("--pretrained", action="store_true", help="list pretrained weights")
    parser.set_defaults(run=_models)
    return parser


def _models(arguments: argparse.Namespace) -> None:
    if arguments.pretrained:
        _list_pretrained()
    else:
        _list_networks()


def _list_pretrained() -> None:
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.weights import pretrained

    failures = []
    for name in pretrained.names():
        try:
            file = pretrained.path(name)
        except pretrained.PretrainedError as error:
            failures.append(str(error))
            continue
        card = weights_lib.load_card(file)
        colours = "grey" if card["channels"] == 1 else "colour"
        default = ", used where none are named" if name == pretrained.DEFAULT else ""
        _say(
            f"{name}: {_network(card)}, {colours}, "
            f"{card['parameters']:,} parameters, {file.stat().st_size / 1e6:.2f} MB{default}"
        )
        for text in (card["notes"], f"Licence: {card['licence']}"):
            _say(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  "))
    if failures:
        raise ValueError("; ".join(failures))


def _list_networks() -> None:
    from lcdnet_jax import networks
    from lcdnet_jax.networks.costs import COSTS

    rows = [("network", "preset", "channels", "parameters", "kMAC/pixel")]
    for name in networks.available():
        channels = str(networks.create(name).channels)
        for preset, (parameters, macs) in COSTS[name].items():
            rows.append((name, preset, channels, f"{parameters:,}", f"{macs / 1000:,.1f}"))
    for name, preset, *numbers in rows:
        _say(f"{name:9} {preset:7}" + "".join(f"{number:>12}" for number in numbers))


def _add_info(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "info",
        help="tell what a checkpoint is",
        description="Tells which network a checkpoint holds, how it was trained, how it scored "
        "there, and where it comes from. The weights are neither read nor verified.",
        formatter_class=_Formatter,
        epilog="""examples:
  lcdnet-jax info quickstart
  lcdnet-jax info sadnet-photo""",
    )
    _add_checkpoint(parser)
    parser.set_defaults(run=_info)
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="working directory of train.py, directory of convert or export, .safetensors file, or "
        "name of pretrained weights",
    )


def _info(arguments: argparse.Namespace) -> None:
    from lcdnet_jax import checkpoints
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.weights import pretrained

    path = pretrained.find(arguments.checkpoint)
    card = weights_lib.load_card(path)
    steps: list[int] = []
    if os.path.isdir(path):
        with contextlib.closing(checkpoints.Checkpoints(path)) as reader:
            steps = reader.steps()
    low, high = card["input_range"]
    others = [str(step) for step in steps if step != card["step"]]
    averaged = ", averaged weights (EMA)" if card["averaged"] else ""
    rows: dict[str, Any] = {
        "network": _network(card),
        "channels": card["channels"],
        "computes in": card["dtype"],
        "parameters": f"{card['parameters']:,}, stored as {card['storage']}",
        "data range": f"images in [0, 1], which the weights see as {low:g} to {high:g}",
        "step": f"{card['step']:,}{averaged}"
        + (f"; also there: {', '.join(others)}" if others else ""),
    }
    if card["training"] is not None:
        rows |= _training(card["training"])
    for scores in card["metrics"]:
        described = ("data", "protocol", "sigma", "step")
        numbers = {k: f"{v:.4g}" for k, v in scores.items() if k not in described}
        sigma = "" if scores["sigma"] is None else f"sigma {scores['sigma']:g}, "
        rows.setdefault("scores", []).append(
            f"{_listed(numbers, ' ')} on {scores['data']}, {sigma}{scores['protocol']}"
        )
    rows |= {"licence": card["licence"], "notes": card["notes"]}
    rows["origin"] = [f"{file['file']}, SHA-256 {file['sha256']}" for file in card["origin"]]
    rows["written by"] = f"lcdnet_jax {card['lcdnet_jax']}"
    for title, value in rows.items():
        for line in value if isinstance(value, list) else [value]:
            if line != "":
                _say(f"{title:12} {line}")
                title = ""


def _network(card: Mapping[str, Any]) -> str:
    """A card's network with the preset that its fields agree with, and other fields."""
    from lcdnet_jax import config as config_lib

    fields = config_lib.summarize(card["network"], card["kwargs"])
    return _listed({card["network"]: None, **fields})


def _training(stored: Mapping[str, Any]) -> dict[str, str]:
    """What to tell of a training's configuration, of this version or an older one."""
    from lcdnet_jax import config as config_lib

    try:
        return _training_rows(config_lib.upgrade(stored))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return {"trained": "by a configuration that this version cannot read"}


def _training_rows(config: Mapping[str, Any]) -> dict[str, str]:
    data, degradation, optimizer = config["data"], config["degradation"], config["optimizer"]
    low, high = degradation["sigma_min"], degradation["sigma_max"]
    sigma = {"sigma": f"{low:g}" if low == high else f"{low:g} to {high:g}"}
    how = {**(sigma if "awgn" in degradation["kind"] else {}), **degradation["options"]}
    masked = config["sfm"]["rate"]
    return {
        "trained": f"{config['steps']:,} steps of {config['batch_size']} crops of {data['crop']} "
        f"pixels, {config['objective']}, seed {config['seed']}",
        "data": f"{data['train']['source']} {data['train']['path']}".strip(),
        "degradation": _listed({degradation["kind"]: None, **how}, " ")
        + (f", protocol {degradation['protocol']}" if degradation["kind"] != "none" else "")
        + (f", frequencies masked at rate {masked:g}" if masked else ""),
        "loss": config["loss"],
        "optimiser": f"Adam, learning rate {optimizer['learning_rate']:g}, {optimizer['schedule']}"
        + (f", averaged with decay {config['ema_decay']:g}" if config["ema_decay"] else ""),
    }


def _listed(fields: Mapping[str, Any], between: str = "=") -> str:
    return ", ".join(
        str(field) if value is None else f"{field}{between}{value}"
        for field, value in fields.items()
    )


def _add_convert(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="turn an official PyTorch file into a checkpoint",
        description="Turns an official PyTorch file into a checkpoint directory, which eval.py, "
        "Restorer.from_checkpoint and config.init_from of train.py take. No code of the file is "
        'run. Needs PyTorch: pip install "lcdnet-jax[torch]"',
        formatter_class=_Formatter,
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
    from lcdnet_jax import weights as weights_lib

    channels = [] if arguments.channels is None else [f"channels={arguments.channels}"]
    card = weights_lib.save_directory(
        arguments.file,
        arguments.output,
        network=arguments.name,
        network_kwargs=_fields([*channels, *arguments.set]),
        force=arguments.force,
    )
    dropped = card["dropped"]
    shown = ", ".join(dropped[:2]) + (", ..." if len(dropped) > 2 else "")
    low, high = card["input_range"]
    directory = arguments.output
    _say(f"network      {_network(card)}")
    _say(f"channels     {card['channels']}")
    _say(f"parameters   {card['parameters']:,}")
    _say(f"trained for  images from {low:g} to {high:g}; give them in [0, 1]")
    _say(f"dropped      {f'{len(dropped)} unused keys: {shown}' if dropped else 'no keys'}")
    _say(f"written      {directory}")
    _say("next, in Python on one image, or in a checkout on a folder of clean images:")
    _say(f"  lcdnet_jax.Restorer.from_checkpoint({directory!r})(image)")
    command = ["python", "eval.py", "--checkpoint", directory, "--data", "FOLDER"]
    _say(f"  {shlex.join(command)} --sigmas 25 --protocols clipped")


def _add_export(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a checkpoint's weights, or the network as a program",
        description="Writes the weights of a checkpoint, or the network with its weights as a "
        "program that needs JAX or TensorFlow and none of this library. The name of OUT says "
        "which.",
        formatter_class=_Formatter,
        epilog="""OUT:
  NAME              directory with the weights alone and card.json, which all commands take
  NAME.safetensors  the same in one file
  NAME.pth, .pt     PyTorch state dict with the names of the official code; needs PyTorch
  NAME.jaxprog      program of StableHLO, which lcdnet_jax/export/run_exported.py runs
  NAME, --saved-model  SavedModel of TensorFlow

examples:
  lcdnet-jax export quickstart -o weights/quickstart --licence CC-BY-4.0
  lcdnet-jax export quickstart -o quickstart.safetensors --dtype bfloat16
  lcdnet-jax export sadnet-photo -o photo.pth
  lcdnet-jax export quickstart -o quickstart.jaxprog
  lcdnet-jax export runs/lcdnet -o lcdnet.jaxprog --size 512x768 --size 768x512""",
    )
    _add_checkpoint(parser)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="see below")
    parser.add_argument(
        "--step", metavar="N", type=int, help="of a training; by default the newest"
    )
    weights = parser.add_argument_group("weights")
    weights.add_argument("--licence", metavar="TEXT", help="of the weights, for the card")
    weights.add_argument("--notes", metavar="TEXT", help="for the card")
    weights.add_argument(
        "--scores",
        metavar="FILE",
        help="results.json of eval.py, for the card in place of the scores that it has",
    )
    weights.add_argument(
        "--dtype", metavar="TYPE", help="store as float32, bfloat16 or float16 (not .pth)"
    )
    programs = parser.add_argument_group("programs")
    programs.add_argument("--saved-model", action="store_true", help="a SavedModel of TensorFlow")
    programs.add_argument(
        "--size",
        metavar="HxW",
        type=_size,
        action="append",
        help="of images; for networks that have to know it (LCDNet, N3Net); may be repeated",
    )
    programs.add_argument(
        "--platforms", metavar="LIST", help="of cpu, cuda, rocm, tpu, with commas (cpu,cuda,tpu)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT")
    parser.set_defaults(run=_export)
    return parser


def _size(text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if not sides:
        raise argparse.ArgumentTypeError(f"must be height and width as in 512x768, got {text!r}")
    return int(sides[1]), int(sides[2])


def _export(arguments: argparse.Namespace) -> None:
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.weights import pretrained

    output = arguments.output
    suffix = os.path.splitext(output)[1].lower()
    program = suffix == ".jaxprog" or arguments.saved_model
    for_weights = ("licence", "notes", "scores", "dtype")
    made_for = {
        "a program": ("size", "platforms") if not program else (),
        "weights": for_weights if program else (),
        "a directory or .safetensors": for_weights if suffix in (".pth", ".pt") else (),
    }
    for kind, options in made_for.items():
        for option in options:
            if getattr(arguments, option) is not None:
                raise ValueError(f"--{option} is for {kind}, and {output} is none; leave it off")
    if suffix and not program and suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(
            f"the suffix {suffix!r} of {output} says no kind of export; use .safetensors, .pth, "
            ".jaxprog, or none for a directory"
        )
    metrics = None if arguments.scores is None else weights_lib.read_results(arguments.scores)
    weights = weights_lib.load(pretrained.find(arguments.checkpoint), step=arguments.step)
    if program:
        _export_program(arguments, weights)
    elif suffix in (".pth", ".pt"):
        weights_lib.save_torch(weights, output, force=arguments.force)
    else:
        save = weights_lib.save_safetensors if suffix else weights_lib.save_directory
        fields = {name: getattr(arguments, name) for name in ("licence", "notes", "dtype")}
        save(weights, output, force=arguments.force, metrics=metrics, **fields)
    _say(f"written      {output}")


def _export_program(arguments: argparse.Namespace, weights: Any) -> None:
    from lcdnet_jax import export

    about = ("network", "kwargs", "step", "averaged", "licence", "notes", "origin")
    write = export.write_saved_model if arguments.saved_model else export.write
    try:
        card = write(
            arguments.output,
            weights.module,
            weights.variables,
            sizes=arguments.size,
            platforms=(arguments.platforms or "cpu,cuda,tpu").split(","),
            about={field: weights.card[field] for field in about},
            force=arguments.force,
        )
    except export.ExportError as error:  # in words of Python
        raise ValueError(str(error).replace("sizes=[(256, 256)]", "--size 256x256")) from error
    sizes = [f"{height}x{width}" for height, width in card["sizes"] or ()]
    _say(f"images       {', '.join(sizes) or 'of any size'}, any number of them")
    _say(f"platforms    {', '.join(card['platforms'])}")
    worst = max(case["difference"] for case in card["verified"])
    _say(f"verified     {len(card['verified'])} cases, largest difference {worst:.1g}")


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
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            pass
    return text
