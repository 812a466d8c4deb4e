"""Trains a small denoiser in a few minutes and compares it with non-local means.

Command: make quickstart. It takes the same path as any experiment: configs/sadnet_quickstart.py,
tf.data, jitted steps, an Orbax checkpoint, restored photographs. Non-local means gets the true
noise level; its strength is tuned on the training photographs. Results are written to quickstart/.
"""

from lcdnet_jax.cli import script_start  # isort: skip  # noqa: F401  # before JAX is imported

import contextlib
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

import input_pipeline
from lcdnet_jax import (
    Restorer,
    atomic_io,
    image_io,
    multihost,
    protocols,
    storage,
    training,
    visualization,
)
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import silence_orbax
from lcdnet_jax.cli.script import end_in_one_line, use_compilation_cache
from lcdnet_jax.evaluation import Evaluator, non_local_means
from lcdnet_jax.training.program import Datasets

_CONFIG = config_lib.define_config("configs/sadnet_quickstart.py", "Experiment.")
_OUTPUT = flags.DEFINE_string("output", "quickstart", "Folder of the results.")


def main(argv: list[str]) -> None:
    """Trains, restores the held-out photographs and writes the comparison."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    silence_orbax()
    config, output = _CONFIG.value, pathlib.Path(_OUTPUT.value)
    with end_in_one_line():
        if storage.names_bucket(_OUTPUT.value):
            raise ValueError(
                f"--output={_OUTPUT.value} is in a bucket, but quickstart.py writes to a local "
                "folder; name one, or use train.py, whose --workdir may be in a bucket"
            )
        use_compilation_cache()
        multihost.check_devices()
        run(config, output)


def run(config: ConfigDict, output: pathlib.Path) -> None:
    """Runs the quickstart; ``output`` is also the working directory of the training."""
    if config.degradation.kind != "awgn":
        raise ValueError(
            f"config.degradation.kind is {config.degradation.kind!r}, but non-local means removes "
            "noise; use a configuration with 'awgn', or train.py"
        )
    if "," in config.degradation.protocol:
        raise ValueError(
            f"config.degradation.protocol is {config.degradation.protocol!r}, but methods are "
            "compared under one protocol; set one, or use train.py"
        )
    datasets = input_pipeline.create_datasets(config)
    seconds = _train(config, output, datasets)
    sigma = config.degradation.sigma_max
    (protocol,) = protocols.of_training(
        "awgn",
        protocol=config.degradation.protocol,
        spectrum=config.degradation.spectrum,
        source=config.data.eval.source,
    )
    evaluator = Evaluator(protocol)
    training_photos = input_pipeline.create_eval_dataset(
        config.data.train, config.data.channels, field="config.data.train"
    )
    strength = non_local_means.tune_strength(training_photos, evaluator, sigma=sigma)
    print(f"non-local means: h = {strength} sigma, best on the training photographs", flush=True)
    restorer = Restorer.from_checkpoint(output, bucket=config.eval.bucket)

    rows, strips = [], []
    for scored in evaluator.score_images(restorer, datasets["eval"], sigma=sigma):
        classical = non_local_means.denoise(scored.degraded, sigma=sigma, strength=strength)
        row = {
            "name": scored.name,
            "noisy_psnr": scored.input_psnr,
            "classical_psnr": evaluator.score(classical, scored.clean)["psnr"],
            "restored_psnr": scored.psnr,
        }
        rows.append(row)
        versions = {
            "clean": scored.clean,
            "noisy": scored.degraded,
            "classical": classical,
            "restored": scored.restored,
        }
        for version, image in versions.items():
            np.save(output / f"{scored.name}_{version}.npy", image.astype(np.float32))
        for version in ("noisy", "clean"):  # files for lcdnet-jax restore
            file = output / version / f"{scored.name}.png"
            file.parent.mkdir(exist_ok=True)
            image_io.write(file, image_io.to_uint8(versions[version]))
        panels = [
            (f"{scored.name}: clean", scored.clean),
            (f"noisy, sigma {sigma:g}: {row['noisy_psnr']:.2f} dB", scored.degraded),
            (f"non-local means: {row['classical_psnr']:.2f} dB", classical),
            (f"SADNet: {row['restored_psnr']:.2f} dB", scored.restored),
        ]
        strips.append(visualization.draw_panel(panels, clean=scored.clean))
        print(_format_row(row), flush=True)
    mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k != "name"}
    result = {"images": rows, "mean": mean, "train_seconds": seconds}
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    image_io.write(output / "panel.png", np.concatenate(strips))
    print(_format_row({"name": "mean", **mean}))
    print(f"[{evaluator.protocol.describe()}]")
    print(
        f"\nLook at {output}/panel.png. The training took {seconds:.0f} s.\n"
        f"Files: lcdnet-jax restore {output}/noisy -o restored --checkpoint {output} --reference "
        f"{output}/clean\n"
        "Next: python train.py --config configs/sadnet_quickstart.py --workdir runs/longer "
        "--config.steps=20000 trains longer;\n--config.data.train.source=folder "
        "--config.data.train.path=DIR trains on your own images.",
        flush=True,
    )


def _train(config: ConfigDict, output: pathlib.Path, datasets: Datasets) -> float:
    """Trains or continues, if there are steps left; returns the seconds of all runs together."""
    clock = output / "train_seconds.txt"
    earlier = float(clock.read_text()) if clock.exists() else 0.0
    if (output / "checkpoints" / str(config.steps)).exists() and earlier:
        training.train_and_evaluate(config, output, datasets=datasets)  # says it is complete
        return earlier
    begin = time.perf_counter()
    try:
        training.train_and_evaluate(config, output, datasets=datasets)
    finally:
        seconds = earlier + time.perf_counter() - begin
        with contextlib.suppress(OSError):  # on a full disk the training reports a better error
            atomic_io.write(clock, f"{seconds:.1f}\n".encode(), force=True)
    return seconds


def _format_row(row: Mapping[str, Any]) -> str:
    return (
        f"{row['name']:<10} noisy {row['noisy_psnr']:.2f} dB, non-local means "
        f"{row['classical_psnr']:.2f} dB, SADNet {row['restored_psnr']:.2f} dB"
    )


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
