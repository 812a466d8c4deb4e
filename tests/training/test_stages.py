"""Progressive training: the crop and the batch change, and any cut changes no bit."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from lcdnet_jax import networks, resident_images
from lcdnet_jax.training import loop, replay, train_and_evaluate
from tests.training.conv_net import ConvNet

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module", autouse=True)
def by_name():
    with networks.registered("conv", ConvNet):
        yield


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """No step compiles anything, except the first of a stage."""
    monkeypatch.setattr(loop.logging, "warning", lambda *args: pytest.fail(str(args)))


@pytest.fixture(scope="module")
def photos(noise_photos):
    return noise_photos((18, 25, 3), (19, 25, 3), (20, 25, 3))


def config_for(photos, **fields):
    config = tiny.get_config()
    config.network = ConfigDict({"name": "conv", "kwargs": {}, "dtype": "float32"})
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", str(photos)
    config.steps, config.log_every, config.eval_every, config.checkpoint_every = 7, 1, 0, 0
    config.eval.panels = 0
    config.data.crop, config.batch_size = 16, 8
    config.stages = ConfigDict({"steps": (2, 3, 1), "crops": (8, 12, 16), "batch_sizes": (8, 4, 2)})
    config.optimizer.weight_decay = 0.1
    config.loss = "psnr"
    config.update_from_flattened_dict(fields)
    return config


def run(config, workdir, *, steps, devices=2):
    config = config.copy_and_resolve_references()
    config.steps = steps
    datasets = input_pipeline.create_datasets(config)
    return train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:devices])


def rows(workdir, name):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row[name] for row in map(json.loads, lines) if name in row}


CASES = {
    "host": {},
    "resident": {"data.where": "device"},
    "pmap": {"data.where": "device", "parallel.strategy": "pmap"},
}


@pytest.mark.extended
@pytest.mark.parametrize("name", ["host", "resident", pytest.param("pmap", marks=pytest.mark.slow)])
def test_any_cut_changes_no_bit(photos, tmp_path, name):
    """In the middle of a stage (1, 3), at its border (2, 5) and in the last, which goes on."""
    config = config_for(photos, **CASES[name])
    straight = run(config, tmp_path / "straight", steps=7)
    for steps in (1, 2, 3, 5, 6, 7):
        cut = run(config, tmp_path / "cut", steps=steps)
    assert jax.tree.structure(straight) == jax.tree.structure(cut)
    jax.tree.map(np.testing.assert_array_equal, straight, cut)
    loss = rows(tmp_path / "straight", "train/loss")
    assert loss == rows(tmp_path / "cut", "train/loss")
    assert sorted(loss) == list(range(1, 8))
    seen = rows(tmp_path / "straight", "images_seen")
    assert [*seen.values()] == [8, 16, 20, 24, 28, 30, 32]
    # One program for each stage.
    assert rows(tmp_path / "straight", "compilations") == {1: 1, 3: 2, 6: 3}


@pytest.mark.extended
def test_several_steps_in_a_call(photos, tmp_path):
    """The steps are those of single calls, up to rounding."""
    fields = {"stages.steps": (2, 4, 1), "data.where": "device"}
    single = config_for(photos, **fields)
    run(single, tmp_path / "single", steps=8)
    double = config_for(photos, **fields, **{"steps_per_call": 2, "log_every": 2})
    run(double, tmp_path / "double", steps=8)
    one, two = (rows(tmp_path / name, "train/loss") for name in ("single", "double"))
    expected = [(one[k - 1] + one[k]) / 2 for k in (2, 4, 6, 8)]
    np.testing.assert_allclose([*two.values()], expected, rtol=1e-4)


@pytest.mark.extended
@pytest.mark.parametrize("where", ["host", "device"])
def test_replay_makes_the_batch_of_its_stage(photos, tmp_path, where):
    config = config_for(photos, **{"data.where": where, "checkpoint_every": 1})
    config.keep_checkpoints = 1
    run(config, tmp_path / "run", steps=3)
    config.steps = 3
    datasets = input_pipeline.create_datasets(config)
    folder = replay(config, tmp_path / "run", 3, datasets=datasets)
    assert np.load(folder / "batch.npz")["clean"].shape == (4, 12, 12, 3)


class TestData:
    @pytest.mark.extended
    def test_of_the_host_is_a_function_of_the_step(self, photos):
        config = config_for(photos)
        data = input_pipeline.create_dataset(config, "train")
        batches = data.batches()
        every = [next(batches) for _ in range(8)]
        sizes = [batch["clean"].shape[:2] for batch in every]
        assert sizes == [(8, 8)] * 2 + [(4, 12)] * 3 + [(2, 16)] * 3
        for start in range(8):
            again = data.batches(start)
            for batch in every[start : start + 2]:
                for name, array in next(again).items():
                    np.testing.assert_array_equal(array, batch[name])
            again.close()
        halves = [data.batches(2, process_index=p, process_count=2) for p in (0, 1)]
        joined = np.concatenate([next(half)["clean"] for half in halves])
        np.testing.assert_array_equal(joined, every[2]["clean"])
        with pytest.raises(ValueError, match="batch_size 2 is not divisible by 4 hosts"):
            data.batches(process_count=4)

    def test_of_the_host_goes_on_with_the_next_example(self, photos):
        """Example 20 is that of a run with one stage of this batch: no image is drawn twice."""
        config = config_for(photos)
        data = input_pipeline.create_dataset(config, "train")
        single = config_for(photos, **{"stages.steps": (), "stages.crops": ()})
        single.stages.batch_sizes, single.data.crop, single.batch_size = (), 12, 4
        other = input_pipeline.create_dataset(single, "train")
        np.testing.assert_array_equal(
            next(data.batches(3))["clean"], next(other.batches(5))["clean"]
        )

    @pytest.mark.extended
    def test_of_the_device_goes_on_with_the_next_example(self, photos):
        from lcdnet_jax import config as config_lib
        from lcdnet_jax.training import program, sharding

        config = config_for(photos, **{"data.where": "device"})
        images = input_pipeline.create_dataset(config, "train").resident
        partitioner = sharding.Partitioner.from_config(config, jax.devices()[:1])
        stage = config_lib.stage_at(config, 3)
        drawn = program.draw_batch(images, np.int32(3), config, partitioner, stage=stage)
        options = {"seed": config.seed, "crop": 12, "augment": True, "batch_size": 4}
        expected = resident_images.draw(images, 5, **options)
        np.testing.assert_array_equal(drawn["clean"], expected["clean"])
