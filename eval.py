"""Scores a trained network on data sets, noise levels and noise protocols.

    python eval.py --workdir runs/small
    python eval.py --workdir runs/small --data kodak24,photos --sigmas 30,50 --protocols float,8bit

Prints a table and writes results.json and results.csv. Every image has its own fixed noise, so
two runs agree exactly.
"""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import default
from input_pipeline import EvalDataset, create_eval_dataset, dnd
from input_pipeline.dnd import DND
from lcdnet_jax import Restorer, checkpoints, degradations, image_io, protocols
from lcdnet_jax import config as config_lib
from lcdnet_jax.evaluation import Evaluator, Scored, summarise

# A protocol and a noise level in 8-bit units, None for pairs.
Setting = tuple[protocols.Protocol, float | None]

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment; by default the config.json of the checkpoint. Only data.eval and eval are used: "
    "the network is always the one of the checkpoint.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Working directory of train.py.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "The same as --workdir; also a directory of lcdnet-jax convert."
)
_STEP = flags.DEFINE_integer("step", None, "Step to load; by default the newest.")
_RAW = flags.DEFINE_boolean("raw", False, "Use the raw parameters even where there is an average.")
_DATA = flags.DEFINE_list(
    "data",
    None,
    "Data sets: folders (of clean images, or with input/ and target/), 'photos', 'tfds:NAME' with "
    "the split and feature of config.data.eval, or KIND:FOLDER for another kind of "
    "config.data.eval.source, such as 'sidd_validation:/data/SIDD'. 'dnd:FOLDER' scores nothing, "
    "but restores the crops of DND and writes a submission. Default: config.data.eval.",
)
_SIGMAS = flags.DEFINE_list("sigmas", None, "Noise levels; by default config.eval.sigmas.")
_PROTOCOLS = flags.DEFINE_list(
    "protocols",
    None,
    "Of float, clipped, 8bit and sadnet (the evaluation of that paper's code); by default that of "
    "the training. Pairs are scored under 'pairs', or 'sadnet-pairs' for sadnet.",
)
_SPECTRUM = flags.DEFINE_enum(
    "spectrum", None, degradations.SPECTRA, "Filter of the noise; by default that of the training."
)
_SPREAD = flags.DEFINE_float(
    "spread", 0.0, "Noise levels rise over the columns, from this much below to this much above.", 0
)
_BORDER = flags.DEFINE_integer("border", 0, "Pixels cut off each side before scoring.", 0)
_LUMA = flags.DEFINE_boolean("luma", False, "Score the Y channel of BT.601 of colour images.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results; by default WORKDIR/eval.")
_SAVE = flags.DEFINE_boolean("save_images", False, "Also write the restored images as PNG.")


def main(argv: list[str]) -> None:
    """Reads flags, loads the network, scores, writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    checkpoints.silence_orbax()
    try:
        evaluate()
    except (ValueError, OSError, checkpoints.CheckpointError) as error:
        sys.exit(f"error: {error}")


def evaluate() -> None:
    """Scores every combination that the flags ask for."""
    given = {path for path in (_WORKDIR.value, _CHECKPOINT.value) if path}
    if len(given) != 1:
        raise ValueError("give one directory, as --workdir or as --checkpoint")
    workdir = pathlib.Path(given.pop())
    trained = _with_defaults(config_lib.load(workdir / "config.json"))
    config = trained if _CONFIG.value is None else _CONFIG.value
    restorer = Restorer.from_checkpoint(
        workdir, ema=not _RAW.value, step=_STEP.value, bucket=config.eval.bucket
    )
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else workdir / "eval"
    output.mkdir(parents=True, exist_ok=True)

    # All data sets are opened first: a mistake in the last must not cost the scores of the others.
    names = _PROTOCOLS.value or [trained.degradation.protocol]
    spectrum = _SPECTRUM.value or trained.degradation.spectrum
    for name in names:
        protocols.get(name)  # also where only DND or pairs are asked for
    datasets: dict[str, tuple[EvalDataset | DND, list[Setting]]] = {}
    for name, source in _sources(config):
        if name in datasets:
            raise ValueError(f"two data sets are called {name}; rename a folder")
        if source["source"] == "dnd":
            datasets[name] = DND(source["path"]), []
            continue
        examples = create_eval_dataset(source, trained.data.channels, field="--data")
        datasets[name] = (
            examples,
            _settings(names, config, paired=examples.source.paired, spectrum=spectrum),
        )
    rows: list[dict[str, Any]] = []
    described: dict[str, None] = {}
    # A protocol that cuts sides to multiples of 8 does so that the network sees no padding.
    restorers = {1: restorer}
    for name, (data, settings) in datasets.items():
        if isinstance(data, DND):
            _submit(restorer, data, output / name)
            continue
        for protocol, sigma in settings:
            multiple = protocol.multiple
            if multiple not in restorers:
                restorers[multiple] = Restorer(restorer.module, restorer.variables, bucket=multiple)
            evaluator = Evaluator(protocol, bucket=config.eval.bucket)
            described[protocol.describe()] = None
            scored = evaluator.score_images(restorers[multiple], data, sigma=sigma)
            if _SAVE.value:
                level = "" if sigma is None else f"_sigma{sigma:g}"
                scored = _saved(scored, output / f"{name}_{protocol.name}{level}")
            summary = summarise(scored)
            rows.append(
                {
                    "dataset": name,
                    "sigma": sigma,
                    "protocol": protocol.name,
                    "psnr": summary.psnr,
                    "ssim": summary.ssim,
                    "input_psnr": summary.input_psnr,
                    "n": summary.n,
                }
            )
            _print_row(rows[-1], header=len(rows) == 1)
            _write(rows, output)  # each time: a damaged image must not cost the scores before it
    if rows:
        print("\n".join(described), flush=True)
        print(f"written: {output}/results.json and results.csv", flush=True)


def _with_defaults(stored: ConfigDict) -> ConfigDict:
    """The configuration of a checkpoint, completed: converted weights bring the network alone."""
    config = default.get_config()
    with config.ignore_type():
        config.update(stored)
        config.network = stored.network  # not mixed with the default network's fields
    return config


def _sources(config: ConfigDict) -> Iterator[tuple[str, dict[str, str]]]:
    """Names and sources of the data sets asked for."""
    default = config.data.eval.to_dict()
    if not _DATA.value:
        yield _name(default["source"], default["path"]), default
    for text in _DATA.value or ():
        kind, colon, path = text.partition(":")
        if text == "photos":
            yield text, {"source": "photos", "split": "test"}
        elif colon and kind == "photos":
            raise ValueError(f"--data {text}: photos are in no folder; say 'photos'")
        elif colon and kind in (*config_lib.SOURCES, "dnd"):
            yield _name(kind, path), {**default, "source": kind, "path": path}
        else:
            yield _name("folder", text), {"source": "folder", "path": text}


def _name(kind: str, path: str) -> str:
    """What results and folders of images call a data set."""
    if kind == "folder":
        return pathlib.Path(path).absolute().name
    if kind == "tfds":
        return path.replace("/", "_")
    kinds = kind.replace(" ", "").replace(",", "+")
    return kinds if kind == "dnd" or "+" in kinds else f"{kinds}_{pathlib.Path(path).name}"


def _submit(restorer: Restorer, benchmark: DND, folder: pathlib.Path) -> None:
    """Restores all crops of DND and writes what its server takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(benchmark)):
        path = dnd.write(folder, i, [restorer(crop) for crop in benchmark.crops(i)])
        print(f"DND: image {i + 1} of {len(benchmark)}, {path.name}", flush=True)
    print(f"written: {folder}; DND's server scores these files, {dnd.SERVER}", flush=True)


def _settings(
    names: list[str], config: ConfigDict, *, paired: bool, spectrum: str
) -> list[Setting]:
    """Protocols of these names and noise levels, for one data set."""

    def protocol(name: str) -> protocols.Protocol:
        suffix = ("-y" if _LUMA.value else "") + (f"-border{_BORDER.value}" * (_BORDER.value > 0))
        found = protocols.get(name)
        if not paired:
            found = found.with_noise(spectrum=spectrum, spread=_SPREAD.value)
        return dataclasses.replace(
            found, name=found.name + suffix, border=_BORDER.value, luma=_LUMA.value
        )

    if paired and (_SPECTRUM.value or _SPREAD.value):
        raise ValueError("--spectrum and --spread are of noise that is added, but --data has pairs")
    if paired:
        pairs = ["sadnet-pairs" if name.startswith("sadnet") else "pairs" for name in names]
        return [(protocol(name), None) for name in dict.fromkeys(pairs)]
    try:
        sigmas = [float(s) for s in _SIGMAS.value or config.eval.sigmas]
    except ValueError:
        raise ValueError(f"--sigmas must be numbers, got {_SIGMAS.value}") from None
    if min(sigmas) < _SPREAD.value:
        spread = f" --spread ({_SPREAD.value:g})" if _SPREAD.value else " 0"
        raise ValueError(f"--sigmas must be at least{spread}, got {min(sigmas):g}")
    return [(protocol(name), sigma) for name in names for sigma in sigmas]


def _write(rows: list[dict[str, Any]], output: pathlib.Path) -> None:
    """results.json and results.csv, all or nothing."""
    # JSON has no NaN (SSIM of a tiny image) and no infinity (PSNR of a perfect one).
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    texts = {"results.json": json.dumps(plain, indent=2) + "\n", "results.csv": table.getvalue()}
    for name, text in texts.items():
        temporary = output / f"{name}.tmp"
        with temporary.open("w", newline="") as file:
            file.write(text)
        os.replace(temporary, output / name)


def _saved(scored: Iterator[Scored], folder: pathlib.Path) -> Iterator[Scored]:
    folder.mkdir(parents=True, exist_ok=True)
    for one in scored:
        image_io.write(folder / f"{one.name}.png", image_io.to_uint8(one.restored))
        yield one


def _print_row(row: dict[str, Any], *, header: bool) -> None:
    if header:
        print(f"{'data set':<20} {'sigma':>5}  {'protocol':<12} {'input':>6} {'PSNR':>6} "
              f"{'SSIM':>7} {'images':>6}")  # fmt: skip
    sigma = "-" if row["sigma"] is None else f"{row['sigma']:g}"
    print(
        f"{row['dataset']:<20} {sigma:>5}  {row['protocol']:<12} {row['input_psnr']:6.2f} "
        f"{row['psnr']:6.2f} {row['ssim']:7.4f} {row['n']:6d}",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
