"""A run cut into pieces is the run in one piece, also on other devices.

Bitwise on equal devices; to rounding where their number changes. The signals and failures that cut
a run are in test_training.py, several processes in test_distributed.py, kills at random moments in
benchmarks/soak_resume.py.
"""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from lcdnet_jax.networks import registered
from lcdnet_jax.training import loop, train_and_evaluate
from tests.training.conv_net import ConvNet

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module", autouse=True)
def by_name():
    with registered("conv", ConvNet):
        yield


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Whatever the strategy, no step after the first compiles anything."""

    def warning(*args):
        pytest.fail(str(args))

    monkeypatch.setattr(loop.logging, "warning", warning)


@pytest.fixture(scope="module")
def photos(noise_photos):
    return noise_photos((18, 25, 3), (19, 25, 3), (20, 25, 3))


def config_for(photos, **fields):
    config = tiny.get_config()
    kwargs = {"features": 48}  # large enough to be divided
    config.network = ConfigDict({"name": "conv", "kwargs": kwargs, "dtype": "float32"})
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", str(photos)
    config.steps, config.log_every, config.eval_every, config.checkpoint_every = 6, 1, 0, 0
    config.eval.panels = 0
    config.degradation.sigma_min = 5.0
    config.update_from_flattened_dict(fields)
    return config


def run(config, workdir, *, steps=6, devices=8, **changes):
    config = config.copy_and_resolve_references()
    config.steps = steps
    config.update_from_flattened_dict(changes)
    datasets = input_pipeline.create_datasets(config)
    return train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:devices])


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


SLOW = pytest.mark.slow
HOST = {"degradation.where": "host", "sfm.where": "host"}
SFM = {"sfm.rate": 0.5}


@pytest.mark.extended
@pytest.mark.parametrize(
    ("fields", "cuts"),
    [
        (SFM, (1, 3)),
        ({**SFM, **HOST}, (1, 2, 4)),
        pytest.param({**SFM, "accumulate": 2, "batch_size": 16}, (3,), marks=SLOW),
        ({**SFM, "data.where": "device"}, (2, 5)),
        pytest.param(
            {"data.where": "device", "steps_per_call": 2, "log_every": 2}, (2, 4), marks=SLOW
        ),
        ({"parallel.strategy": "pmap", **SFM}, (2,)),
        pytest.param({"parallel.state_shards": 4, "data.where": "device"}, (4,), marks=SLOW),
    ],
    ids=["device", "host", "accumulated", "resident", "calls", "pmap", "divided"],
)
def test_any_cut_changes_no_bit(photos, tmp_path, fields, cuts):
    config = config_for(photos, **fields)
    straight = run(config, tmp_path / "straight")
    for steps in (*cuts, 6):
        cut = run(config, tmp_path / "cut", steps=steps)
    assert jax.tree.structure(straight) == jax.tree.structure(cut)
    jax.tree.map(np.testing.assert_array_equal, straight, cut)
    assert int(cut.step) == 6
    assert cut.batch_stats
    assert losses(tmp_path / "cut") == losses(tmp_path / "straight")


@pytest.mark.extended
def test_on_other_devices(photos, tmp_path):
    """Saved on 8, continued on 4, 1 and back: the same batches, losses to rounding.

    At the end with the other strategy and with the state divided, which may change as well.
    """
    config = config_for(photos, **{**SFM, "data.where": "device"})
    run(config, tmp_path / "straight", steps=9)
    elastic = tmp_path / "elastic"
    for steps, devices in ((2, 8), (3, 4), (5, 1), (7, 8)):
        run(config, elastic, steps=steps, devices=devices)
    run(config, elastic, steps=8, devices=2, **{"parallel.strategy": "pmap"})
    run(config, elastic, steps=9, devices=2, **{"parallel.state_shards": 2})
    expected, actual = losses(tmp_path / "straight"), losses(elastic)
    assert sorted(actual) == list(range(1, 10))
    np.testing.assert_allclose([*actual.values()], [*expected.values()], rtol=1e-5)
