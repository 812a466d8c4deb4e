"""The command ``lcdnet-jax info``, which describes a checkpoint."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from lcdnet_jax.cli._console import (
    Commands,
    add_checkpoint,
    add_command,
    format_network,
    print_line,
)
from lcdnet_jax.messages import format_count

if TYPE_CHECKING:  # imports JAX
    from lcdnet_jax.typing import JsonObject


def add_parser(commands: Commands) -> None:
    """Adds the parser of the command ``info``.

    Args:
        commands: The subparsers of the program, as ``ArgumentParser.add_subparsers`` returns them.
    """
    parser = add_command(
        commands,
        "info",
        run,
        weights=("checkpoint",),
        help="describe a checkpoint",
        description="Shows the network of a checkpoint, how it was trained, its scores and its "
        "origin. The weights are neither read nor verified.",
        epilog="""examples:
  lcdnet-jax info quickstart
  lcdnet-jax info sadnet-photo""",
    )
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command ``info``.

    Args:
        arguments: The values that the parser of :func:`add_parser` returned.

    Raises:
        ValueError: If the path does not exist, or its card or configuration cannot be used.
        CheckpointError: If a checkpoint is damaged or missing.
    """
    from lcdnet_jax import checkpoints, storage
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.weights import pretrained

    path = pretrained.find(arguments.checkpoint)
    card = weights_lib.load_card(path)
    steps: list[int] = []
    if storage.is_dir(path):
        with contextlib.closing(checkpoints.Checkpoints(path)) as reader:
            steps = reader.steps()
    low, high = card["input_range"]
    others = [str(step) for step in steps if step != card["step"]]
    averaged = ", averaged weights (EMA)" if card["averaged"] else ""
    rows: JsonObject = {
        "network": format_network(card),
        "channels": card["channels"],
        "computes in": card["dtype"],
        "parameters": f"{card['parameters']:,}, stored as {card['storage']}",
        "data range": f"images in [0, 1], which the weights see as {low:g} to {high:g}",
        "step": f"{card['step']:,}{averaged}"
        + (f"; other steps: {', '.join(others)}" if others else ""),
    }
    if card["training"] is not None:
        rows |= _describe_training(card["training"])
    for scores in card["metrics"]:
        rows.setdefault("scores", []).append(_describe_scores(scores))
    rows |= {"license": card["licence"], "notes": card["notes"]}
    rows["origin"] = [f"{file['file']}, SHA-256 {file['sha256']}" for file in card["origin"]]
    rows["written by"] = f"lcdnet_jax {card['lcdnet_jax']}"
    for title, value in rows.items():
        for line in value if isinstance(value, list) else [value]:
            if line != "":
                print_line(f"{title:12} {line}")
                title = ""


def _describe_scores(scores: JsonObject) -> str:
    sigma = "" if scores["sigma"] is None else f", sigma {scores['sigma']:g}"
    described = ("data", "protocol", "sigma", "step", "n")
    names = sorted(scores.keys() - set(described), key=lambda name: (name != "psnr", name))
    numbers = [
        f"{name.replace('_', ' ').replace('psnr', 'PSNR').replace('ssim', 'SSIM')} "
        f"{scores[name]:.4g}" + " dB" * name.endswith("psnr")
        for name in names
    ]
    images = f" ({format_count(int(scores['n']), 'image')})" if "n" in scores else ""
    return f"{', '.join(numbers)} on {scores['data']}{images}{sigma}, {scores['protocol']}"


def _describe_training(stored: JsonObject) -> dict[str, str]:
    """Rows about the configuration of a training, of this version or an older one."""
    from lcdnet_jax import config as config_lib

    try:
        return _list_training(config_lib.upgrade(stored))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return {"trained": "by a configuration that this version cannot read"}


def _list_training(config: JsonObject) -> dict[str, str]:
    from lcdnet_jax import config as config_lib

    data, optimizer = config["data"], config["optimizer"]
    train = data["train"]
    stages = config["stages"]
    sizes = zip(stages["batch_sizes"], stages["crops"], strict=True)
    batches = ", then ".join(f"{format_count(count, 'crop')} of {crop}" for count, crop in sizes)
    batches = batches or f"{format_count(config['batch_size'], 'crop')} of {data['crop']}"
    decay = optimizer["weight_decay"]
    adam = f"AdamW, weight decay {decay:g}" if decay else "Adam"
    rate = f"learning rate {optimizer['learning_rate']:g}"
    return {
        "trained": f"{format_count(config['steps'], 'step')} of {batches} "
        f"pixels, {config['objective']}, seed {config['seed']}",
        "started from": config["init_from"],
        "data": f"{train['source']} {train['path']}".strip()
        + (f", names {train['names']}" if train["names"] else ""),
        "degradation": config_lib.describe_degradation(config),
        "masking": config_lib.describe_masking(config),
        "mixup": config_lib.describe_mixup(config),
        "loss": config["loss"],
        "optimizer": f"{adam}, {rate}, {optimizer['schedule']}"
        + (f", averaged with decay {config['ema_decay']:g}" if config["ema_decay"] else ""),
    }
