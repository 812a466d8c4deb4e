"""Scores a trained network on data sets, noise levels and noise protocols.

    python eval.py --workdir runs/small
    python eval.py --workdir runs/small --data kodak24,photos --sigmas 30,50 --protocols float,8bit
    python eval.py --workdir runs/gopro --data gopro:/data/GoPro --modes full,local,tiled
    python eval.py --workdir runs/sr --data set5 --protocols sr,8bit --kernels gaussian:0.8,disk:2

Prints a table and writes results.json and results.csv. The noise, blur or rain of an image depends
only on its name, so two runs agree exactly.
"""

from lcdnet_jax.cli import script_start  # isort: skip  # noqa: F401  # before JAX is imported

import pathlib
import shlex
import sys
from typing import Literal

from absl import app, flags, logging

from configs import default
from input_pipeline.eval_run import Job, evaluate
from lcdnet_jax import checkpoints, data_sets, degradations, file_names, multihost
from lcdnet_jax import config as config_lib
from lcdnet_jax.cli.script import (
    DistributedFlags,
    end_in_one_line,
    set_network_options,
    use_compilation_cache,
)
from lcdnet_jax.evaluation.settings import TILE, Request

_CONFIG = config_lib.define_config(
    None,
    "Experiment. Default: the config.json of the checkpoint. Only its data.eval and eval are used; "
    "the network is that of the checkpoint.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Working directory of train.py.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "Working directory, directory or .safetensors file of lcdnet-jax convert or export, or name of "
    "pretrained weights.",
)
_STEP = flags.DEFINE_string(
    "step",
    None,
    "Step to load, or 'best', if config.best_metric of the training keeps the best checkpoint. "
    "Default: the newest.",
)
flags.register_validator(
    "step",
    lambda text: text is None or text == "best" or text.isdecimal(),
    message="must be a number or 'best'",
)
_RAW = flags.DEFINE_boolean(
    "raw", False, "Use the parameters without averaging, even if the checkpoint has an EMA."
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "Data sets, separated by commas (a path that exists may hold commas): a folder (of clean "
    "images, or with input/ and target/), "
    "'photos', 'tfds:NAME' with the split and feature of config.data.eval, or SOURCE:FOLDER for "
    "another value of config.data.eval.source, such as 'sidd_validation:/data/SIDD'. 'dnd:FOLDER' "
    "restores the crops of DND and writes a submission, without scores. Default: config.data.eval.",
)
_SPLIT = flags.DEFINE_string(
    "split",
    None,
    "Split of the data sets of --data that have splits. 'test' of rain13k scores its five test "
    "sets and their mean. Default: config.data.eval.split.",
)
_SIGMAS = flags.DEFINE_list(
    "sigmas",
    None,
    "Noise levels in 8-bit units. Default: config.eval.sigmas. If the training used another "
    "degradation than noise, the default is that degradation.",
)
_PROTOCOLS = flags.DEFINE_list(
    "protocols",
    None,
    "Protocols. For clean images: float, clipped, 8bit, sadnet (the evaluation of that paper's "
    "code) and sr (Y channel, without a border as wide as the scale). Default: that of the "
    "training. For pairs: pairs, gopro, realblur, dpdd, rain, sidd, sadnet-pairs and sr-pairs. "
    "Default: that of the benchmark. Each data set uses the protocols that fit it.",
)
_MODES = flags.DEFINE_list(
    "modes",
    ["full"],
    "full: whole images. local: whole images with means over windows of --local_pool pixels, for "
    "LCDNet. tiled: tiles of --tile pixels; smaller images stay whole.",
)
_TILE = flags.DEFINE_integer(
    "tile", None, f"Side of the tiles of --modes tiled, pixels. Default: {TILE}.", 1
)
_OVERLAP = flags.DEFINE_integer(
    "overlap",
    None,
    "Pixels discarded at the inner edges of tiles. Default: the overlap of the network.",
    0,
)
_LOCAL_POOL = flags.DEFINE_integer(
    "local_pool", None, "Window of --modes local, pixels. Default: 1.5 times the training crop.", 1
)
_SPECTRUM = flags.DEFINE_enum(
    "spectrum", None, degradations.SPECTRA, "Spectrum of the noise. Default: that of the training."
)
_SPREAD = flags.DEFINE_float(
    "spread", 0.0, "Noise levels rise over the columns, from sigma - spread to sigma + spread.", 0
)
_KERNELS = flags.DEFINE_string(
    "kernels",
    None,
    "For super-resolution: kernels that blur clean images before downsampling, instead of those of "
    "the training: none, gaussian:WIDTH, disk:RADIUS, motion:LENGTH (pixels of the clean image) or "
    "pool:FOLDER. Each kernel has its own rows.",
)
_BORDER = flags.DEFINE_integer("border", 0, "Pixels cropped at each side before scoring.", 0)
_LUMA = flags.DEFINE_boolean("luma", False, "Score the Y channel (BT.601) of color images.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the results. Default: eval/ in the checkpoint directory."
)
_SAVE = flags.DEFINE_boolean("save_images", False, "Write the restored images as PNG files.")
_HOSTS = DistributedFlags()
_COMPILATION_CACHE = flags.DEFINE_enum(
    "compilation_cache",
    "user",
    ["user", "off"],
    "Where compiled programs are kept for the next start. user: in the user's folder for caches.",
)


def main(argv: list[str]) -> None:
    """Reads flags and evaluates."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    checkpoints.silence_orbax()
    request = Request(
        protocols=_PROTOCOLS.value or (),
        sigmas=_SIGMAS.value or (),
        spectrum=_SPECTRUM.value,
        spread=_SPREAD.value,
        kernels=file_names.split_list(_KERNELS.value or "", prefixes=("pool",)),
        border=_BORDER.value,
        luma=_LUMA.value,
        modes=_MODES.value,
        tile=_TILE.value,
        overlap=_OVERLAP.value,
        local_pool=_LOCAL_POOL.value,
    )
    job = Job(
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        step=_parse_step(_STEP.value),
        raw=_RAW.value,
        data=file_names.split_list(_DATA.value or "", prefixes=data_sets.DATA_SETS),
        split=_SPLIT.value,
        output=_OUTPUT.value,
        save_images=_SAVE.value,
        command=shlex.join(["python", pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    with end_in_one_line(
        out_of_memory="an image does not fit into memory; use --modes tiled, a smaller --tile"
    ):
        several = _HOSTS.join()
        use_compilation_cache(choice=_COMPILATION_CACHE.value)
        if several:
            multihost.check_devices()
            multihost.wait_for_all()  # from here on, they may take unequal times
        evaluate(
            job,
            request,
            config=_CONFIG.value,
            defaults=default.get_config(),
            on_network=set_network_options,
        )


def _parse_step(text: str | None) -> int | Literal["best"] | None:
    if text == "best":
        return "best"
    return None if text is None else int(text)


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
