"""The artifacts by name, and the training that made the working directory."""

import copy

from tests.guards import cases, guarded
from tests.guards.records import HERE

ARTIFACTS = HERE / "artifacts"

# What Restorer.from_checkpoint takes, and what run_exported takes.
WEIGHTS = ("workdir", "converted", "exported", "dncnn.safetensors", "sadnet.safetensors")
PROGRAMS = ("dncnn.jaxprog", "sadnet.jaxprog")

# The preset gives the number of groups. That of the class does not divide this width.
SADNET = {"preset": "small", "width": 2, "offset_width": 2, "channels": 1}


def image(name):
    """Gray, of odd sides."""
    return cases.floats(1, 19, 22, 1, seed=len(name))[0]


def config(steps=4):
    """Of a training that leaves a checkpoint with everything in it."""
    fields = {"steps": steps, "ema_decay": 0.9, "checkpoint_every": 4, "keep_checkpoints": 1}
    return cases.config_of(guarded.default_config, fields)


def datasets(config):
    """In memory."""
    return {"train": cases.Batches(config), "eval": cases.evaluation_images(config)}


def as_first_stored(stored):
    """A config.json without the fields that came later, and with an old name."""
    old = copy.deepcopy(stored)
    for section in ("sfm", "gan", "parallel"):
        del old[section]
    for name in ("tile", "tile_stride", "scales", "where"):
        del old["data"][name]
    for name in ("spectrum", "options"):
        del old["degradation"][name]
    for name in ("objective", "fft_weight", "dct_loss_weight", "skip_nonfinite", "steps_per_call"):
        del old[name]
    optimizer = old["optimizer"]
    for name in ("beta2", "decay_factor"):
        del optimizer[name]
    optimizer["halve_every"] = optimizer.pop("decay_every")
    optimizer["schedule"] = "halving"
    return old
