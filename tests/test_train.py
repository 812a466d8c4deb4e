"""train.py as a user starts it."""

import json
import math
import os
import pathlib
import shutil

import numpy as np
import pytest

from lcdnet_jax import multihost, storage
from lcdnet_jax.cli import _compilation
from lcdnet_jax.config import checks
from tests.scripts import TINY, StandIn, error_of, run, train

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.usefixtures("sadnet_stand_in"),
    # ml_collections loads config files in an old way.
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]


class TestTrain:
    @pytest.mark.extended
    def test_leaves_a_run(self, workdir):
        assert json.loads((workdir / "config.json").read_text())["steps"] == 8
        assert (workdir / "checkpoints" / "8").is_dir()
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert math.isfinite(rows[-1]["eval/sigma50/psnr"])
        assert list((workdir / "panels").glob("0000008_k0_sigma50.png"))

    @pytest.mark.extended
    def test_continues(self, workdir, data, tmp_path, capsys):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        assert run(*train(copy, data, "--config.steps=9")) is None
        assert "continuing after step 8" in capsys.readouterr().out
        assert (copy / "checkpoints" / "9").is_dir()

    @pytest.mark.extended
    def test_validates_once(self, data, tmp_path, monkeypatch):
        """Not again in each library function that the script calls."""
        checked = []
        problems = checks.find_problems
        monkeypatch.setattr(
            checks, "find_problems", lambda config: checked.append(config) or problems(config)
        )
        assert run(*train(tmp_path, data, "--config.steps=1")) is None
        assert len(checked) == 1

    def test_options_of_the_network(self, data, tmp_path, monkeypatch):
        """They are set before JAX starts its devices, because XLA reads them then."""

        def check():
            raise multihost.DeviceError(os.environ["XLA_FLAGS"])

        monkeypatch.setattr(multihost, "check_devices", check)
        monkeypatch.setattr(StandIn, "xla_cpu_options", ("mine",))
        monkeypatch.setenv("XLA_FLAGS", _compilation._NO_UNROLLING)
        assert f"{_compilation._NO_UNROLLING},mine" in error_of(*train(tmp_path, data))

    def test_a_network_as_its_stored_fields(self, workdir, data, tmp_path):
        stored = json.loads((workdir / "config.json").read_text())["network"]["kwargs"]
        assert stored == {"width": 2, "offset_width": 2, "groups": 1}
        copy = shutil.copytree(workdir, tmp_path / "copy")
        width = "--config.network.kwargs.width=4"
        message = error_of(*train(copy, data, "--config.steps=9", width))
        assert "config.network.kwargs.width: 2 there, 4 given" in message

    @pytest.mark.extended
    def test_replays_a_step(self, workdir, data, capsys):
        before = (workdir / "metrics.jsonl").read_text()
        assert run(*train(workdir, data, "--replay=6")) is None
        out = capsys.readouterr().out
        assert "after step 4 of " in out
        assert "step 6: loss 0." in out
        with np.load(workdir / "replay" / "6" / "batch.npz") as batch:
            assert batch["restored"].shape == batch["degraded"].shape == (8, 16, 16, 3)
        assert (workdir / "replay" / "6" / "batch.png").is_file()
        assert (workdir / "metrics.jsonl").read_text() == before
        message = error_of(*train(workdir, data, "--replay=9"))
        assert message.startswith("the run has no step 9: config.steps is 8")

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--config.stepz=9", "unknown field config.stepz; did you mean steps?"),
            ("--config.data.train.colour=1", "unknown field config.data.train.colour; "),
            ("--config.optimizer.lr=9", "did you mean optimizer.learning_rate?"),
            ("--config.network.kwargs.depth=1", "config.network.kwargs.depth; 'sadnet' has the fi"),
            ("--config.degradation.options.rain.angle=1", "'rain' has the fields kind"),
            ("--config.steps=many", "flag --config.steps=many: invalid literal"),
            (
                "--config.loss=huber",
                "config.loss must be one of 'l1', 'l2', 'charbonnier', 'sse', 'psnr', 'l1_fft'",
            ),
            ("--config.data.train.path=nowhere", "config.data.train.path: nowhere: does not exist"),
            ("--config.data.train.path=", "config.data.train.path is ''; config.data.train.source"),
            ("--config.batch_size=12", "config.batch_size / config.accumulate (12 / 1) is not"),
            (
                "--config.init_from=sadnet-foto",
                "a name of pretrained weights: there are sadnet-col",
            ),
            ("--stpes=9", "Unknown command line flag 'stpes'. Did you mean"),
            ("--config=nowhere.py", "nowhere.py does not exist; configs holds default.py, "),
            (
                "--profile=bad",
                "--profile=bad is not a range of steps; use START:STOP with 1 <=",
            ),
        ],
    )
    def test_mistakes(self, data, tmp_path, argument, message):
        assert message in error_of(*train(tmp_path / "run", data, argument)).replace(
            f"{pathlib.Path.cwd()}/", ""
        )
        assert not list(tmp_path.glob("run/checkpoints/*"))

    @pytest.mark.parametrize(
        ("workdir", "message"),
        [
            ("gs://no-such/run", "the bucket gs://no-such does not exist; check its name, or cre"),
            ("gs:///run", "gs:///run names no bucket; write gs://BUCKET/PATH"),
            ("ftp://host/run", "ftp:// is not supported; use a local path, gs:// (Google Cloud"),
        ],
    )
    def test_buckets_that_cannot_be_used(self, data, bucket, monkeypatch, workdir, message):
        """Before anything is read."""
        monkeypatch.setattr("input_pipeline.create_datasets", None)
        assert message in error_of(*train(workdir, data))

    @pytest.mark.extended
    def test_a_run_in_a_bucket(self, data, bucket, capsys):
        """And its evaluation, whose results are in the bucket as well."""
        workdir = storage.to_path(f"{bucket}/run")
        assert run(*train(workdir, data, "--config.steps=4", "--config.checkpoint_every=2")) is None
        assert run(*train(workdir, data)) is None
        assert f"continuing after step 4 of {workdir}/checkpoints" in capsys.readouterr().out
        names = set(storage.list_files(workdir))
        assert {"config.json", "data.json", "metrics.jsonl", "scores.jsonl"} <= names
        assert {"checkpoints/8/manifest.json", "panels/0000008_k0_sigma50.png"} <= names
        kodim = ("--data", data / "kodim", "--save_images")
        assert run("eval.py", "--workdir", workdir, *kodim) is None
        assert run("eval.py", "--checkpoint", workdir, *kodim, "--output", f"{bucket}/out") is None
        for folder in (workdir / "eval", storage.to_path(f"{bucket}/out")):
            assert len(storage.list_files(folder)) == 5
        (row,) = json.loads(storage.read_bytes(workdir / "eval" / "results.json"))
        rows = storage.read_bytes(workdir / "scores.jsonl").decode().splitlines()
        assert row["n"] == json.loads(rows[-1])["n"] * 3  # config.eval.max_images is 1

    def test_missing_arguments(self, tmp_path):
        assert "--config is missing, such as --config=configs/sadnet_small.py" in error_of(
            "train.py", "--workdir", tmp_path
        )
        assert "--workdir is missing, such as --workdir=runs/first" in error_of(
            "train.py", "--config", TINY
        )

    @pytest.mark.parametrize("damage", ["text", "half", "empty"])
    def test_damaged_images_are_named(self, data, tmp_path, damage):
        folder = shutil.copytree(data, tmp_path / "data")
        victim = folder / "train" / "t1.png"
        content = victim.read_bytes()
        victim.write_bytes(
            {"text": b"not an image", "half": content[: len(content) // 2], "empty": b""}[damage]
        )
        assert str(victim) in error_of(*train(tmp_path / "run", folder))

    def test_folder_without_images(self, data, tmp_path):
        (tmp_path / "train").mkdir()
        shutil.copytree(data / "kodim", tmp_path / "kodim")
        assert f"{tmp_path}/train: contains no image" in error_of(
            *train(tmp_path / "run", tmp_path)
        )

    def test_other_configuration_in_the_workdir(self, workdir, data):
        message = error_of(*train(workdir, data, "--config.batch_size=16"))
        assert "holds a run with another configuration" in message
        assert "config.batch_size: 8 there, 16 given" in message

    def test_checkpoint_of_another_network(self, workdir, data, tmp_path):
        message = error_of(
            *train(tmp_path, data, f"--config.init_from={workdir}",
                   "--config.network.kwargs.width=3")
        )  # fmt: skip
        assert "belongs to another network" in message
        assert "/Conv_0/bias: shape (2,) there, (3,) needed" in message
