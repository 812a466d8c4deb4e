"""Weights of a small network: described, exported, and of a training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import checkpoints
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights import scores
from tests.random_weights import SMALL, drawn


@pytest.fixture(scope="module")
def weights():
    return weights_lib.create_weights("dncnn", drawn("dncnn", **SMALL), **SMALL)


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """A parameters-only directory, only to be read."""
    output = tmp_path_factory.mktemp("exported") / "out"
    weights_lib.save_directory(weights, output)
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Working directory of a training of 8 steps, only to be read; and what was saved in it."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny.get_config()
    config.network.name, config.data.channels = "dncnn", 1
    config.network.kwargs = ConfigDict(SMALL)
    config.network.dtype = "bfloat16"
    config_lib.save(config, workdir / "config.json")
    writer = checkpoints.Checkpoints(workdir, keep=2)
    saved = {}
    for step in (4, 8):
        variables = drawn("dncnn", step, **SMALL)
        ema = drawn("dncnn", step + 1, **SMALL)["params"]
        saved[step] = {**variables, "ema": ema, "opt_state": {"mu": np.ones(3, np.float32)}}
        writer.save(step, jax.tree.map(jnp.asarray, saved[step]))
        writer.finish(step)
    writer.close()
    evaluations = {4: [(20.0, 0.5)], 8: [(21.0, 0.6), (18.0, 0.4)], 12: [(9.0, 0.1)]}
    for step, values in evaluations.items():
        described = {"step": step, "data": "photos", "protocol": "float: unclipped float noise"}
        rows = [
            {**described, "sigma": sigma, "psnr": psnr, "ssim": ssim, "n": 3}
            for sigma, (psnr, ssim) in zip((25.0, 50.0), values, strict=False)
        ]
        scores.append(workdir, rows)
    return workdir, saved
