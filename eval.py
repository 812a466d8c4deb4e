"""Scores a trained network on data sets, noise levels and noise protocols.

    python eval.py --workdir runs/small
    python eval.py --workdir runs/small --data kodak24,photos --sigmas 30,50 --protocols float,8bit
    python eval.py --workdir runs/gopro --data gopro:/data/GoPro --modes full,local,tiled
    python eval.py --workdir runs/sr --data set5 --protocols sr,8bit --kernels gaussian:0.8,disk:2

Prints a table and writes results.json and results.csv. Every image has its own fixed noise (or
blur, or rain), so two runs agree exactly.
"""

import functools
import os
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

import input_pipeline
from configs import default
from input_pipeline.layouts import dnd
from lcdnet_jax import checkpoints, data_sets, degradations, evaluation, messages, protocols
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.evaluation import results, settings

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
    """Opens the data sets that the flags name, scores them, and writes the results."""
    checkpoint = _find_checkpoint()
    weights = weights_lib.load(checkpoint, ema=not _RAW.value, step=_STEP.value)
    if _RAW.value and weights.card["averaged"]:
        raise ValueError(f"{checkpoint} holds averaged parameters only; leave --raw off")
    trained = _trained_config(checkpoint, weights.card)
    config = trained if _CONFIG.value is None else _CONFIG.value
    request = settings.Request(
        protocols=_PROTOCOLS.value or (),
        sigmas=_SIGMAS.value or (),
        spectrum=_SPECTRUM.value,
        spread=_SPREAD.value,
        kernels=_KERNELS.value or (),
        border=_BORDER.value,
        luma=_LUMA.value,
    )
    synthetic = settings.choose_degradations(request, trained)
    restorers = settings.create_restorers(
        weights.module,
        weights.variables,
        _MODES.value,
        tile=_TILE.value,
        overlap=_OVERLAP.value,
        local_pool=_LOCAL_POOL.value,
        crop=trained.data.crop,
        bucket=config.eval.bucket,
    )
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else checkpoint / "eval"
    output.mkdir(parents=True, exist_ok=True)
    for name in request.protocols:
        protocols.get(name)  # also where only DND is asked for

    # All data sets are opened first: a mistake in the last must not cost the scores of the others.
    datasets, submissions = [], {}
    for name, source in input_pipeline.parse_sources(_DATA.value or (), config.data.eval).items():
        if source["source"] == "dnd":
            if len(restorers) > 1:
                raise ValueError("a submission to DND is of one mode; give one as --modes")
            submissions[name] = dnd.DND(source["path"])
            continue
        examples = input_pipeline.open_for_network(source, trained, field="--data")
        chosen = settings.choose_settings(
            request,
            source["source"],
            is_paired=examples.source.is_paired,
            trained=trained,
            sigmas=config.eval.sigmas,
            synthetic=synthetic,
        )
        datasets.append(evaluation.DataSet(name, examples, chosen))

    table = results.Results(output, datasets, weights=weights_lib.identify(weights.card))
    for row in evaluation.sweep(
        datasets,
        restorers,
        degradations={one.kind: one.step for one in synthetic},
        bucket=config.eval.bucket,
        on_image=functools.partial(results.save_image, output) if _SAVE.value else None,
    ):
        table.add(row)
    table.close()
    for name, benchmark in submissions.items():
        (restorer,) = restorers.values()
        dnd.submit(restorer, benchmark, output / name)


def _find_checkpoint() -> pathlib.Path:
    if bool(_WORKDIR.value) == bool(_CHECKPOINT.value):
        raise ValueError("give one directory, as --workdir or as --checkpoint")
    if _WORKDIR.value and os.path.exists(_WORKDIR.value):
        checkpoint = pathlib.Path(_WORKDIR.value)  # even if pretrained weights have the same name
    else:
        checkpoint = weights_lib.pretrained.find(_WORKDIR.value or _CHECKPOINT.value or "")
    if not checkpoint.is_dir() and not _OUTPUT.value:
        raise ValueError(f"{checkpoint} is a file; give --output, a folder for the results")
    return checkpoint


def _trained_config(checkpoint: pathlib.Path, card: weights_lib.Card) -> ConfigDict:
    """The configuration of the training, completed: converted weights have the network alone."""
    if weights_lib.is_workdir(checkpoint):
        stored = ConfigDict(config_lib.upgrade(card["training"] or {}))
    else:
        stored = weights_lib.training_config(card, str(checkpoint))
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


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
