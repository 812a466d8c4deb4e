"""Converted weights in eval.py and in training: used as a start, refused elsewhere."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, image_io
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import train_and_evaluate
from tests.cli.commands import contents


class TestConfiguration:
    def test_loads_for_inference_only(self, converted):
        path = converted[0] / "config.json"
        assert config_lib.load(path).to_dict() == {
            "network": {"name": "dncnn", "kwargs": {"depth": 3, "features": 4}, "dtype": "float32"},
            "data": {"channels": 1},
        }
        with pytest.raises(ConfigError, match=r"which have no optimizer state .*config.init_from"):
            config_lib.load(path, training=True)

    @pytest.mark.parametrize(
        ("field", "value", "wanted"),
        [
            ("name", "resnet", r"network.name must be one of 'buifd', .*, got 'resnet'"),
            ("dtype", 3, "network.dtype must be one of 'float32', 'bfloat16', got 3"),
        ],
    )
    def test_wrong_fields(self, tmp_path, field, value, wanted):
        network = {"name": "dncnn", "kwargs": {}, "dtype": "float32"} | {field: value}
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"network": network, "data": {"channels": 1}}))
        with pytest.raises(ConfigError, match=rf"config.json: {wanted}"):
            config_lib.load(path)

    def test_half_a_training_is_none(self, tmp_path):
        stored = tiny.get_config().to_dict()
        del stored["eval"]
        (tmp_path / "config.json").write_text(json.dumps(stored))
        with pytest.raises(ConfigError, match=r"not a configuration of train.py; restore it"):
            config_lib.load(tmp_path / "config.json")


class TestEval:
    @pytest.fixture
    def start(self):
        """Starts a script of the repository; needs TensorFlow."""
        from tests.scripts import run

        return run

    @pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
    def test_what_the_program_suggests(self, converted, start, tmp_path):
        (tmp_path / "data").mkdir()
        image_io.write(tmp_path / "data" / "a.png", np.full((16, 24), 99, np.uint8))
        assert start("eval.py", "--checkpoint", converted[0], "--data", tmp_path / "data",
                     "--sigmas", "25", "--protocols", "clipped", "--save_images",
                     "--output", tmp_path / "results") is None  # fmt: skip
        (row,) = json.loads((tmp_path / "results" / "results.json").read_text())
        assert (row["dataset"], row["sigma"], row["protocol"]) == ("data", 25.0, "clipped")
        assert 20 < row["input_psnr"] < 20.6  # 20 log10(255 / 25) = 20.17
        assert start("eval.py", "--checkpoint", converted[0], "--data", tmp_path / "data",
                     "--output", tmp_path / "defaults") is None  # fmt: skip
        (row,) = json.loads((tmp_path / "defaults" / "results.json").read_text())
        assert (row["sigma"], row["protocol"]) == (50.0, "float")  # of configs/default.py


class Black:
    """Training data."""

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        while True:
            yield {
                "clean": np.zeros((8, 16, 16, 1), np.float32),
                "mask": np.ones(8, np.float32),
            }


class TestTraining:
    @pytest.fixture
    def train(self, tmp_path):
        def train(workdir=tmp_path / "run", **fields):
            config = tiny.get_config()
            config.network.name, config.data.channels = "dncnn", 1
            config.network.kwargs = ConfigDict({"depth": 3, "features": 4})
            config.steps, config.optimizer.learning_rate, config.eval.panels = 1, 0.0, 0
            config.update(fields)
            clean = np.zeros((16, 16, 1), np.float32)
            datasets = {"train": Black(), "eval": [{"name": "a", "clean": clean}]}
            return train_and_evaluate(config, workdir, datasets=datasets)

        return train

    @pytest.mark.extended
    def test_init_from(self, converted, train, capsys):
        directory, state = converted
        tuned = train(init_from=str(directory))
        assert f"starting from the parameters of step 0 of {directory}" in capsys.readouterr().out
        variables = convert.from_torch("dncnn", state, depth=3, features=4)
        jax.tree.map(np.testing.assert_array_equal, tuned.params, variables["params"])
        # Momentum 0.9: of the start 0.9 is left, and statistics of a batch are none below 0.
        for leaf in ("mean", "var"):
            old = np.asarray(variables["batch_stats"]["dncnn"]["bn_1"][leaf])
            new = np.asarray(tuned.batch_stats["dncnn"]["bn_1"][leaf])
            assert (new >= 0.9 * old - 1e-6).all()
            assert (new != old).all()

    def test_resume(self, converted, train):
        with pytest.raises(ConfigError, match="holds converted weights, which have no optimizer"):
            train(resume=str(converted[0]))

    def test_workdir(self, converted, train):
        before = contents(converted[0])
        with pytest.raises(ConfigError, match="train in another working directory"):
            train(workdir=converted[0])
        assert contents(converted[0]) == before

    def test_of_another_size(self, converted, train):
        fields = {"network": {"kwargs": {"features": 5}}, "init_from": str(converted[0])}
        with pytest.raises(CheckpointError, match="belongs to another network"):
            train(**fields)
