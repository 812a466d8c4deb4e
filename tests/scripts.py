"""The scripts as a user starts them, in this process: only the interpreter's start is left out."""

import contextlib
import csv
import json
import logging
import pathlib
import runpy
import sys

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from absl import logging as absl_logging
from flax import linen as nn

from lcdnet_jax import image_io, networks
from lcdnet_jax.networks import registered

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = str(ROOT / "configs" / "tiny.py")


class StandIn(networks.RestorationNetwork):
    """Takes SADNet's place and arguments, and compiles in no time."""

    channels: int = 3
    width: int = 2
    offset_width: int = 2
    groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        y = nn.relu(nn.Conv(self.width, (3, 3), dtype=self.dtype)(x.astype(self.dtype)))
        return x + nn.Conv(self.channels, (3, 3), dtype=self.dtype)(y).astype(x.dtype)


@contextlib.contextmanager
def stand_in():
    """Makes "sadnet" the name of the stand-in."""
    with registered("sadnet", StandIn):
        yield


app.define_help_flags()  # what absl does once, it need not do inside the following


@contextlib.contextmanager
def clean_globals():
    """absl's flags, its logging and sys.argv belong to the process: gives them back."""
    known, handlers, argv = set(flags.FLAGS), logging.root.handlers[:], sys.argv
    level = absl_logging.get_verbosity()
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        absl_logging.set_verbosity(level)
        logging.root.handlers[:], sys.argv = handlers, argv


def run(script, *arguments):
    """``python script arguments``; returns what the process would exit with."""
    with clean_globals():
        sys.argv = [script, *map(str, arguments)]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return end.code


def error_of(script, *arguments):
    """The message of a command that must fail: printed alone, without a traceback, status 1."""
    code = run(script, *arguments)
    assert isinstance(code, str), code  # sys.exit(text) prints it and exits with 1
    assert code.startswith("error: ")
    return code.removeprefix("error: ")


def write_images(folder):
    """Folders of small blocky images: train/, kodim/ and pairs/."""
    rng = np.random.default_rng(0)

    def write(path, shape):
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (*shape, 3), np.uint8)
        image_io.write(path, coarse.repeat(4, axis=0).repeat(4, axis=1))

    for i in range(3):
        write(folder / "train" / f"t{i}.png", (5 + i, 6))
        write(folder / "kodim" / f"k{i}.png", (5, 6 + i))
    for part in ("input", "target"):
        for i in range(2):
            write(folder / "pairs" / part / f"p{i}.png", (6, 5))
    return folder


def images_of(data):
    return ("--config.data.train.source=folder", f"--config.data.train.path={data / 'train'}",
            "--config.data.eval.source=folder", f"--config.data.eval.path={data / 'kodim'}"
            )  # fmt: skip


def train(workdir, data, *arguments):
    return ("train.py", "--config", TINY, "--workdir", workdir, *images_of(data), *arguments)


def results(folder):
    rows = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:7] == list(rows[0])[:7]
    for row, texts in zip(rows, table, strict=True):
        missing = dict.fromkeys(texts, "")  # not all protocols have all scores
        assert missing | {k: "" if v is None else str(v) for k, v in row.items()} == texts
    return rows


def results_of_any_command(folder):
    return [{k: v for k, v in row.items() if k != "command"} for row in results(folder)]
