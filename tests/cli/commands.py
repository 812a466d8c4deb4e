"""Running commands, and small files for them."""

import pathlib
import pickle

import numpy as np
import pytest

from lcdnet_jax.cli import main

ROOT = pathlib.Path(__file__).resolve().parents[2]

SMALL = ("--set", "depth=3", "features=4")  # of DnCNN


def small_state(channels=1):
    """State dict of DnCNN with 3 convolutions and 4 features, as its official code names it."""
    rng = np.random.default_rng(0)
    shapes = {
        "0.weight": (4, channels, 3, 3),
        "2.weight": (4, 4, 3, 3),
        **{f"3.{leaf}": (4,) for leaf in ("weight", "bias", "running_mean", "running_var")},
        "5.weight": (channels, 4, 3, 3),
    }
    state = {
        f"module.dncnn.dncnn.{key}": rng.uniform(0.1, 0.3, shape).astype(np.float32)
        for key, shape in shapes.items()
    }
    return {**state, "module.dncnn.dncnn.3.num_batches_tracked": np.int64(7)}


def saved(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def run(*arguments):
    main.main([*map(str, arguments)])


def error_of(*arguments):
    """The message of a command that must fail, with status 1 and without a traceback."""
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert isinstance(end.value.code, str)  # sys.exit(text) prints it and exits with 1
    assert end.value.code.startswith("error: ")
    assert "\n" not in end.value.code
    return end.value.code.removeprefix("error: ")


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
