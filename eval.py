"""Scores a trained network on data sets, noise levels and noise protocols.

    python eval.py --workdir runs/small
    python eval.py --workdir runs/small --data kodak24,photos --sigmas 30,50 --protocols float,8bit
    python eval.py --workdir runs/gopro --data gopro:/data/GoPro --modes full,local,tiled
    python eval.py --workdir runs/sr --data set5 --protocols sr,8bit --kernels gaussian:0.8,disk:2

Prints a table and writes results.json and results.csv. Every image has its own fixed noise (or
blur, or rain), so two runs agree exactly.
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import default
from input_pipeline import EvalDataset, create_eval_dataset
from input_pipeline.layouts import dnd
from input_pipeline.layouts.dnd import DND
from lcdnet_jax import (
    Restorer,
    atomic_io,
    checkpoints,
    data_sets,
    degradations,
    image_io,
    messages,
    protocols,
)
from lcdnet_jax import config as config_lib
from lcdnet_jax.evaluation import Evaluator, Scored, summarise
from lcdnet_jax.ops import TWO_VIEW_CHANNELS
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import interchange, pretrained

# A protocol and a noise level in 8-bit units, None for pairs.
Setting = tuple[protocols.Protocol, float | None]

_CONFIG = config_lib.define_config(
    None,
    "Experiment; by default the config.json of the checkpoint. Only data.eval and eval are used: "
    "the network is always the one of the checkpoint.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Working directory of train.py.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "The same as --workdir; also a directory or .safetensors file of lcdnet-jax convert or export, "
    "or the name of pretrained weights.",
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
_SIGMAS = flags.DEFINE_list(
    "sigmas",
    None,
    "Noise levels; by default config.eval.sigmas, or the degradation of the training where that is "
    "another than noise.",
)
_PROTOCOLS = flags.DEFINE_list(
    "protocols",
    None,
    "For clean images of float, clipped, 8bit, sadnet (the evaluation of that paper's code) and sr "
    "(Y, without a border as wide as the scale); by default that of the training. For pairs of "
    "pairs, gopro, realblur, dpdd, rain, sadnet-pairs and sr-pairs; by default that of the "
    "benchmark. A data set leaves out names of the other sort, and pairs take their default where "
    "none is left.",
)
_MODES = flags.DEFINE_list(
    "modes",
    ["full"],
    "Of full (whole images), local (whole images, but means over windows of --local_pool pixels; "
    "for LCDNet) and tiled (windows of --tile pixels; images that are no larger stay whole).",
)
_TILE = flags.DEFINE_integer(
    "tile", None, "Side of the windows of --modes tiled; 384 unless given.", 1
)
_OVERLAP = flags.DEFINE_integer(
    "overlap",
    None,
    "Pixels thrown away at their inner edges; by default what the network needs.",
    0,
)
_LOCAL_POOL = flags.DEFINE_integer(
    "local_pool", None, "Window of --modes local; by default 1.5 times the training crop.", 1
)
_SPECTRUM = flags.DEFINE_enum(
    "spectrum", None, degradations.SPECTRA, "Filter of the noise; by default that of the training."
)
_SPREAD = flags.DEFINE_float(
    "spread", 0.0, "Noise levels rise over the columns, from this much below to this much above.", 0
)
_KERNELS = flags.DEFINE_list(
    "kernels",
    None,
    "For super-resolution: kernels that blur clean images before they are made smaller, instead of "
    "those of the training, each with rows of its own: none, gaussian:WIDTH, disk:RADIUS, "
    "motion:LENGTH (pixels of the clean image) or pool:FOLDER.",
)
_BORDER = flags.DEFINE_integer("border", 0, "Pixels cut off each side before scoring.", 0)
_LUMA = flags.DEFINE_boolean("luma", False, "Score the Y channel of BT.601 of colour images.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the results; by default eval/ in the directory."
)
_SAVE = flags.DEFINE_boolean("save_images", False, "Also write the restored images as PNG.")


def main(argv: list[str]) -> None:
    """Reads flags, loads the network, scores, writes."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    checkpoints.silence_orbax()
    try:
        evaluate()
    except (ValueError, OSError, ImportError, checkpoints.CheckpointError) as error:
        sys.exit(f"error: {error}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not messages.is_out_of_memory(error):
            raise
        sys.exit("error: an image does not fit into memory; use --modes tiled, a smaller --tile")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def evaluate() -> None:
    """Scores every combination that the flags ask for."""
    if bool(_WORKDIR.value) == bool(_CHECKPOINT.value):
        raise ValueError("give one directory, as --workdir or as --checkpoint")
    if _WORKDIR.value and os.path.exists(_WORKDIR.value):
        checkpoint = pathlib.Path(_WORKDIR.value)  # also where it is called as pretrained weights
    else:
        checkpoint = pretrained.find(_WORKDIR.value or _CHECKPOINT.value or "")
    if not checkpoint.is_dir() and not _OUTPUT.value:
        raise ValueError(f"{checkpoint} is a file; give --output, a folder for the results")
    module, variables, card = interchange.load(checkpoint, ema=not _RAW.value, step=_STEP.value)
    if _RAW.value and card["averaged"]:
        raise ValueError(f"{checkpoint} holds averaged parameters only; leave --raw off")
    trained = _trained(checkpoint, card)
    config = trained if _CONFIG.value is None else _CONFIG.value
    scale = config_lib.scale(trained)
    made = _degradations(trained, scale)
    modes = {name: _mode_options(name, trained) for name in dict.fromkeys(_MODES.value)}
    if "tiled" not in modes and (_TILE.value or _OVERLAP.value is not None):
        raise ValueError("--tile and --overlap are of --modes tiled; add it, or leave them off")
    if "local" not in modes and _LOCAL_POOL.value:
        raise ValueError("--local_pool is of --modes local; add it, or leave it off")
    for options in modes.values():
        Restorer(module, variables, **options)  # mistakes show before anything is scored
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else checkpoint / "eval"
    output.mkdir(parents=True, exist_ok=True)

    # All data sets are opened first: a mistake in the last must not cost the scores of the others.
    for name in _PROTOCOLS.value or ():
        protocols.get(name)  # also where only DND is asked for
    datasets: dict[str, tuple[EvalDataset | DND, list[Setting]]] = {}
    for name, source in _sources(config):
        if name in datasets:
            raise ValueError(f"two data sets are called {name}; rename a folder")
        if source["source"] == "dnd":
            if len(modes) > 1:
                raise ValueError("a submission to DND is of one mode; give one as --modes")
            datasets[name] = DND(source["path"]), []
            continue
        examples = _open(source, trained)
        settings = _settings(
            source["source"],
            config,
            trained=trained,
            paired=examples.source.is_paired,
            made={label: kind for label, (kind, _) in made.items()},
            scale=scale,
        )
        datasets[name] = examples, settings
    steps = dict(made.values())
    names = [protocol.name for _, settings in datasets.values() for protocol, _ in settings]
    width = max([12, *map(len, names)])
    rows: list[dict[str, Any]] = []
    described: dict[str, None] = {}
    # A protocol that cuts sides to multiples of 8 does so that the network sees no padding.
    restorers: dict[tuple[str, int], Restorer] = {}
    evaluators: dict[protocols.Protocol, Evaluator] = {}
    for name, (data, settings) in datasets.items():
        if isinstance(data, DND):
            (how,) = modes.values()
            restorer = Restorer(module, variables, bucket=config.eval.bucket, **how)
            _submit(restorer, data, output / name)
            continue
        for (protocol, sigma), mode in itertools.product(settings, modes):
            bucket = protocol.multiple if protocol.multiple > 1 else config.eval.bucket
            if (mode, bucket) not in restorers:
                restorers[mode, bucket] = Restorer(module, variables, bucket=bucket, **modes[mode])
            restorer = restorers[mode, bucket]
            if protocol not in evaluators:
                degradation = steps[protocol.degradation] if protocol.degradation else None
                evaluators[protocol] = Evaluator(
                    protocol, degradation=degradation, bucket=config.eval.bucket
                )
            evaluator = evaluators[protocol]
            described[protocol.describe()] = None
            scored = evaluator.score_images(restorer, data, sigma=sigma)
            if _SAVE.value:
                level = "" if sigma is None else f"_sigma{sigma:g}"
                seen = "" if mode == "full" else f"_{mode}"
                scored = _saved(scored, output / f"{name}_{protocol.name}{level}{seen}")
            summary = summarise(scored)
            rows.append(
                {
                    "dataset": name,
                    "sigma": sigma,
                    "protocol": protocol.name,
                    "mode": restorer.mode,
                    "psnr": summary.psnr,
                    "ssim": summary.ssim,
                    "input_psnr": summary.input_psnr,
                    **summary.extra,
                    "n": summary.n,
                    "weights": card_lib.identity(card),
                }
            )
            _print_row(rows[-1], header=len(rows) == 1, width=width)
            _write(rows, output)  # each time: a damaged image must not cost the scores before it
    if rows:
        print("\n".join(described), flush=True)
        print(f"written: {output}/results.json and results.csv", flush=True)


def _trained(checkpoint: pathlib.Path, card: card_lib.Card) -> ConfigDict:
    """The configuration of a checkpoint, completed: converted weights bring the network alone."""
    stored = config_lib.load(checkpoint / "config.json") if checkpoint.is_dir() else ConfigDict()
    if "steps" not in stored:  # weights alone: what their card says
        stored = interchange.configuration(card, str(checkpoint))
        source = stored.data.get("eval", {}).get("source", "photos")
        in_folder = any(row.is_folder for row in data_sets.rows(source))
        if not _DATA.value and _CONFIG.value is None and in_folder:
            raise ValueError(
                f"{checkpoint} was evaluated in training on a folder that its card only names "
                f"({stored.data.eval.path}); give --data"
            )
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
        elif colon and kind in data_sets.DATA_SETS:
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
    dnd.check_folder(folder)
    for i in range(len(benchmark)):
        path = dnd.write(folder, i, [restorer(crop) for crop in benchmark.crops(i)])
        print(f"DND: image {i + 1} of {len(benchmark)}, {path.name}", flush=True)
    print(f"written: {folder}; DND's server scores these files, {dnd.SERVER}", flush=True)


def _mode_options(mode: str, trained: ConfigDict) -> dict[str, Any]:
    """Arguments of ``Restorer``."""
    if mode == "full":
        return {"max_pixels": None}
    if mode == "tiled":
        return {"tile": _TILE.value or 384, "overlap": _OVERLAP.value}
    if mode == "local":
        pool = _LOCAL_POOL.value or round(1.5 * trained.data.crop)
        return {"local_pool": pool, "max_pixels": None}
    raise ValueError(f"no mode {mode!r}; --modes are full, local and tiled")


def _open(source: dict[str, str], trained: ConfigDict) -> EvalDataset:
    """Pairs with as many channels as the network takes, or clean images to degrade."""
    channels = trained.data.channels
    made_here = channels == TWO_VIEW_CHANNELS and trained.degradation.kind != "none"
    if made_here and all(row.two_views is False for row in data_sets.rows(source["source"])):
        channels = 3  # of the clean images
    enlarges = config_lib.network(trained).scale
    return create_eval_dataset(source, channels, field="--data", scale=enlarges)


def _degradations(trained: ConfigDict, scale: int) -> dict[str, tuple[str, degradations.Step]]:
    """What is done to clean images, other than adding noise: by label, in words, as a function."""
    kind, options = trained.degradation.kind, trained.degradation.options.to_dict()
    if not _KERNELS.value:
        step = config_lib.degradation(trained)
        return {} if step is None else {kind: (kind, step)}
    if scale == 1:
        raise ValueError(
            "--kernels are for super-resolution, but this network neither enlarges nor was trained "
            "on low-resolution images; leave them off"
        )
    if "low_resolution" not in kind.split("+"):
        kind, options = "low_resolution", {"low_resolution": {"scale": scale}}
    found = {}
    for text in _KERNELS.value:
        label, kernel = _kernel(text)
        changed = {**options["low_resolution"], "pool": None, **kernel}
        step = degradations.from_kind(kind, {**options, "low_resolution": changed})
        if label in found:
            raise ValueError(f"--kernels: two are called {label} in the results; give them in turn")
        found[label] = f"{kind} with {label}", step
    return found


# Kinds of --kernels: of degradations.KERNELS, and how far they reach, in widths.
_KERNEL_KINDS = {"gaussian": ("isotropic", 4), "disk": ("disk", 1), "motion": ("motion", 0.5)}


def _kernel(text: str) -> tuple[str, dict[str, Any]]:
    """One of --kernels: what tables call it, and options of "low_resolution"."""
    kind, _, value = text.partition(":")
    if text == "none":
        return "no-blur", {"kernel": None}
    if kind == "pool" and value:
        return f"pool-{pathlib.Path(value).name}", {"kernel": "pool", "pool": value}
    try:
        name, reach = _KERNEL_KINDS[kind]
        width = float(value)
        size = 2 * math.ceil(reach * width) + 1
    except (KeyError, ValueError, OverflowError):
        raise ValueError(
            f"--kernels {text}: no such kernel; use none, gaussian:1.6, disk:2, motion:8 or "
            "pool:FOLDER"
        ) from None
    return f"{kind}{width:g}", {"kernel": name, "width": (width, width), "size": size}


def _settings(
    source: str,
    config: ConfigDict,
    *,
    trained: ConfigDict,
    paired: bool,
    made: dict[str, str],
    scale: int,
) -> list[Setting]:
    """Protocols and noise levels of one data set.

    ``made`` is what ``_degradations`` gives, in words, ``scale`` that of super-resolution.
    """
    if paired and (_SPECTRUM.value or _SPREAD.value or _KERNELS.value):
        raise ValueError(
            "--spectrum, --spread and --kernels are of what is done to clean images, but --data "
            "has pairs"
        )
    default = protocols.for_source(source) if paired else trained.degradation.protocol
    asked = _PROTOCOLS.value or default.split(",")
    # What only fits the data sets of the other sort in --data is left to them.
    names = [name for name in asked if (protocols.get(name).noise is None) == paired]
    if paired:
        if not names:  # all are of denoising
            names = list(dict.fromkeys(_PAIRED.get(name, default) for name in asked))
        return [(_cut(protocols.get(name).with_scale(scale)), None) for name in names]
    if not names:
        raise ValueError(
            f"--protocols {','.join(asked)} wants degraded images from disk, but --data ({source}) "
            "has clean ones; use float, clipped or 8bit"
        )
    chosen = [protocols.get(name).with_scale(scale) for name in names]
    if scale > 1 and (_SIGMAS.value or _SPECTRUM.value or _SPREAD.value):
        raise ValueError(
            "--sigmas, --spectrum and --spread are of noise that is added to clean images, but "
            "this network is for super-resolution; leave them off"
        )
    if made and not _SIGMAS.value:
        if _SPECTRUM.value or _SPREAD.value:
            raise ValueError(
                f"--spectrum and --spread are of noise, but clean images are degraded by "
                f"{', '.join(made.values())}, as in the training; add --sigmas, or leave them off"
            )
        return [
            (_cut(one.with_degradation(kind, label=label)), None)
            for label, kind in made.items()
            for one in chosen
        ]
    if scale > 1:
        raise ValueError(
            f"--data ({source}) has clean images, but the training does not say how to make small "
            "ones for this network; name kernels by --kernels, such as none for bicubic reduction"
        )
    texts = _SIGMAS.value or config.eval.sigmas
    try:
        sigmas = [float(text) for text in texts]
    except ValueError:
        raise ValueError(f"--sigmas must be numbers, got {texts}") from None
    if min(sigmas) < _SPREAD.value:
        spread = f" --spread ({_SPREAD.value:g})" if _SPREAD.value else " 0"
        raise ValueError(f"--sigmas must be at least{spread}, got {min(sigmas):g}")
    spectrum = _SPECTRUM.value or trained.degradation.spectrum
    settings: list[Setting] = []
    for one in chosen:
        protocol = one.with_noise(spectrum=spectrum, spread=_SPREAD.value)
        settings += [(_cut(protocol), sigma) for sigma in sigmas]
    return settings


# Protocols for clean images, and those that mean the same for pairs.
_PAIRED = {"sadnet": "sadnet-pairs", "sr": "sr-pairs"}


def _cut(protocol: protocols.Protocol) -> protocols.Protocol:
    """The protocol with --border and --luma, which its name then tells."""
    luma = _LUMA.value and not protocol.luma
    suffix = ("-y" if luma else "") + (f"-border{_BORDER.value}" * (_BORDER.value > 0))
    return dataclasses.replace(
        protocol,
        name=protocol.name + suffix,
        border=_BORDER.value or protocol.border,
        luma=luma or protocol.luma,
    )


def _write(rows: list[dict[str, Any]], output: pathlib.Path) -> None:
    """results.json and results.csv, all or nothing."""
    # JSON has no NaN (SSIM of a tiny image) and no infinity (PSNR of a perfect one).
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    table = io.StringIO(newline="")
    columns = dict.fromkeys(key for row in rows for key in row)  # not all have MAE
    writer = csv.DictWriter(table, fieldnames=[*columns])
    writer.writeheader()
    writer.writerows(rows)
    texts = {"results.json": json.dumps(plain, indent=2) + "\n", "results.csv": table.getvalue()}
    for name, text in texts.items():
        atomic_io.write(output / name, text.encode(), force=True)


def _saved(scored: Iterator[Scored], folder: pathlib.Path) -> Iterator[Scored]:
    folder.mkdir(parents=True, exist_ok=True)
    for one in scored:
        image_io.write(folder / f"{one.name}.png", image_io.to_uint8(one.restored))
        yield one


def _print_row(row: dict[str, Any], *, header: bool, width: int) -> None:
    """A line of the table, with ``width`` columns for the protocol."""
    if header:
        print(f"{'data set':<20} {'sigma':>5}  {'protocol':<{width}} {'mode':<14} {'input':>6} "
              f"{'PSNR':>6} {'SSIM':>7} {'images':>6}")  # fmt: skip
    sigma = "-" if row["sigma"] is None else f"{row['sigma']:g}"
    further = "".join(
        f"  {name.upper()} {row[name]:.4f}" for name in ("mae", "lpips") if name in row
    )
    print(
        f"{row['dataset']:<20} {sigma:>5}  {row['protocol']:<{width}} {row['mode']:<14} "
        f"{row['input_psnr']:6.2f} {row['psnr']:6.2f} {row['ssim']:7.4f} {row['n']:6d}{further}",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
