"""What a run finds in its working directory, and what it writes there."""

import json
import os
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, networks
from lcdnet_jax.checkpoints import CheckpointError, Checkpoints
from lcdnet_jax.config import ConfigError
from lcdnet_jax.networks import registered
from lcdnet_jax.training import (
    NonFiniteLossError,
    data_record,
    optimizer,
    replay,
    train_and_evaluate,
)
from lcdnet_jax.training import (
    workdir as workdir_lib,
)
from tests.training.conv_net import ConvNet

pytestmark = [pytest.mark.extended, pytest.mark.usefixtures("quick_trainer")]


class Images:
    """Batches, and a list of the images that they come from."""

    def __init__(self, names=("a", "b"), on_step=None, count=8):
        self.names, self.on_step, self.count = names, on_step or (lambda step: None), count

    def list_images(self):
        return dict.fromkeys(self.names, "8x8, 3 channels, 8 bits, 99 bytes")

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        while True:
            start_step += 1
            self.on_step(start_step)
            rng = np.random.default_rng(start_step)
            clean = rng.uniform(size=(self.count, 8, 8, 3)).astype(np.float32)
            yield {"clean": clean, "mask": np.ones(self.count, np.float32)}


def make_config(**fields):
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.data.crop, config.checkpoint_every, config.steps = 8, 2, 4
    config.update_from_flattened_dict(fields)
    return config


def run(workdir, data=None, *, accept=False, **fields):
    datasets = {"train": data or Images(), "eval": []}
    return train_and_evaluate(
        make_config(**fields), workdir, datasets=datasets, accept_changed_data=accept
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    run(workdir)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


class TestImages:
    def test_same_ones(self, workdir, capsys):
        run(workdir, steps=6)
        assert "training images" not in capsys.readouterr().out

    def test_others_are_refused(self, workdir, capsys):
        with pytest.raises(ConfigError) as error:
            run(workdir, Images("bcd"), steps=6)
        assert type(error.value) is ConfigError  # which processes tell each other
        first, added, missing, fix = str(error.value).splitlines()
        assert first == f"the training images are not those of the run in {workdir}:"
        assert (added, missing) == ("  added: c, d", "  missing: a")
        assert "--accept_changed_data" in fix
        run(workdir, Images("bcd"), steps=6, accept=True)
        assert "are not those of the run" in capsys.readouterr().out
        run(workdir, Images("bcd"), steps=8)  # they are recorded
        with pytest.raises(ConfigError, match="added: a"):
            run(workdir, steps=10)

    def test_changed_ones(self, workdir):
        data = Images()
        data.list_images = lambda: {"a": "9x9", "b": "8x8, 3 channels, 8 bits, 99 bytes"}
        with pytest.raises(ConfigError, match=r"changed: a \(8x8, .* before, 9x9 now\)"):
            run(workdir, data, steps=6)

    def test_of_a_resumed_run(self, workdir, tmp_path):
        with pytest.raises(ConfigError, match=f"those of the run in {workdir}"):
            run(tmp_path / "new", Images("a"), steps=6, resume=str(workdir))
        assert int(run(tmp_path / "new", steps=6, resume=str(workdir)).step) == 6

    def test_of_a_replay(self, workdir):
        config = make_config()
        with pytest.raises(ConfigError, match="missing: b"):
            replay(config, workdir, 3, datasets={"train": Images("a")})

    def test_replay_after_a_change(self, workdir):
        """A step is repeated with the images that it was made with."""
        run(workdir, Images("bcd"), steps=6, accept=True)
        config = make_config(steps=6)
        with pytest.raises(ConfigError, match="added: c, d"):
            replay(config, workdir, 3, datasets={"train": Images("bcd")})
        replay(config, workdir, 3, datasets={"train": Images()})
        with pytest.raises(ConfigError, match="missing: c, d"):
            replay(config, workdir, 6, datasets={"train": Images()})

    def test_run_without_a_record(self, workdir, capsys):
        """A run of an older version."""
        (workdir / data_record.NAME).unlink()
        with pytest.raises(ConfigError, match=r"data.json is missing, .*'' there and 'x' here"):
            run(workdir, steps=6, **{"data.train.path": "x"})
        run(workdir, steps=6)
        assert "data.json is missing, so the training images" in capsys.readouterr().out
        run(workdir, steps=8, **{"data.train.path": "x"})

    def test_damaged_record(self, workdir, capsys):
        (workdir / data_record.NAME).write_bytes(b"{}")
        run(workdir, steps=6)
        assert "data.json is damaged" in capsys.readouterr().out
        assert data_record.check(workdir, Images()) is None

    @pytest.mark.parametrize("where", ["host", "device"])
    def test_files(self, tmp_path, where):
        """The same files continue elsewhere; a file that is added, replaced or gone does not."""
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            (tmp_path / "here").mkdir(exist_ok=True)
            image = rng.integers(0, 256, (12, 10, 3), np.uint8)
            image_io.write(tmp_path / "here" / f"{name}.png", image)

        def train(workdir, folder, steps):
            data = {"source": "folder", "path": str(folder), "split": "", "feature": ""}
            config = make_config(steps=steps, **{"data.where": where})
            config.data.train = ConfigDict({**data, "names": ""})
            datasets = {"train": input_pipeline.create_dataset(config, "train"), "eval": []}
            return train_and_evaluate(config, workdir, datasets=datasets)

        whole = train(tmp_path / "whole", tmp_path / "here", 4)
        train(tmp_path / "run", tmp_path / "here", 2)
        shutil.move(tmp_path / "here", tmp_path / "there")
        assert_same_bits(train(tmp_path / "run", tmp_path / "there", 4), whole)
        shutil.copy(tmp_path / "there" / "a.png", tmp_path / "there" / "c.png")
        with pytest.raises(ConfigError, match="added: c"):
            train(tmp_path / "run", tmp_path / "there", 6)


class TestDamage:
    """What can be done without stops no run."""

    @pytest.mark.parametrize("name", ["metrics.jsonl", "scores.jsonl"])
    def test_log(self, workdir, capsys, name):
        path = workdir / name
        lines = [json.dumps({"step": step, "x": 1}).encode() for step in (1, 2, 9)]
        path.write_bytes(b"\n".join([lines[0], b'{"step": \x80}', *lines[1:], b'{"st']))
        damaged = path.read_bytes()
        run(workdir, steps=6)
        assert f"{name} is damaged; it is kept as damaged-{name}" in capsys.readouterr().out
        assert (workdir / f"damaged-{name}").read_bytes() == damaged
        assert path.read_bytes().startswith(b"\n".join(lines[:2]) + b"\n")
        assert all(json.loads(line)["step"] < 9 for line in path.read_text().splitlines())
        path.write_bytes(b"x\n")  # once more: the first copy stays
        run(workdir, steps=8)
        assert (workdir / f"damaged-{name}").read_bytes() == damaged
        assert (workdir / f"damaged-{name}-2").read_bytes() == b"x\n"

    def test_incomplete_last_line_is_none(self, workdir, capsys):
        with (workdir / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "tr')
        run(workdir, steps=6)
        assert "damaged" not in capsys.readouterr().out

    def test_configuration(self, workdir):
        path = workdir / "config.json"
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
        with pytest.raises(ConfigError, match="is not as it was written"):
            run(workdir, steps=6)


class TestState:
    def test_that_is_not_finite_is_not_saved(self, tmp_path, monkeypatch):
        """The loss and gradient of the last step are finite, but the update is not."""
        schedule = lambda config, *, peak=None: lambda step: np.float32("inf")  # noqa: E731
        monkeypatch.setattr(optimizer, "make_schedule", schedule)
        with pytest.raises(NonFiniteLossError) as error:
            run(tmp_path, steps=1)
        assert "the state after step 1 is not finite (ema/" in str(error.value)
        assert "there is no checkpoint yet" in str(error.value)
        assert Checkpoints(tmp_path).steps() == []

    @pytest.mark.parametrize("value", [1e39, float("inf"), float("nan")])
    def test_rate_that_float32_cannot_hold(self, tmp_path, value):
        with pytest.raises(ConfigError, match=r"learning_rate.*in float32"):
            run(tmp_path / "run", **{"optimizer.learning_rate": value})
        assert not (tmp_path / "run").exists()


class TestMetricsOfTheNetwork:
    def test_warnings(self, tmp_path, caplog):
        """Metrics are logged at every report, and the network warns once of each."""

        class Sampler(ConvNet):
            def measure(self, intermediates):
                return {"offset/1": jnp.float32(8), "offset/8": jnp.float32(8.5)}

            def find_warnings(self, metrics, *, crop):
                assert {"loss", "offset/1", "offset/8"} <= set(metrics)
                return {"offset/8": f"{metrics['offset/8']} is more than the crop of {crop}"}

        with registered("sampler", Sampler):
            run(tmp_path, steps=4, log_every=1, **{"network.name": "sampler"})
        rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        reports = [row for row in rows if "train/loss" in row]
        assert [row["train/offset/8"] for row in reports] == [8.5] * 4
        (record,) = [r for r in caplog.records if "crop" in r.getMessage()]
        assert record.getMessage() == "step 1: 8.5 is more than the crop of 8"

    @pytest.mark.slow
    def test_offsets_of_sadnet(self, tmp_path, caplog):
        """In a run that is continued, of several devices, calls and parts."""
        fields = {
            "network.name": "sadnet",
            "network.kwargs": ConfigDict({"width": 2, "offset_width": 2, "groups": 1}),
            "parallel.strategy": "pmap",
            "steps_per_call": 2,
            "accumulate": 2,
            "batch_size": 16,
            "log_every": 2,
        }
        for steps in (2, 4):
            run(tmp_path, Images(count=16), steps=steps, **fields)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        reports = [row for row in map(json.loads, lines) if "train/loss" in row]
        assert [row["step"] for row in reports] == [2, 4]
        for row in reports:
            offsets = [row[f"train/offset/{size}"] for size in (1, 2, 4, 8)]
            assert all(0 < offset < 8 for offset in offsets)
        assert not [r for r in caplog.records if "offsets" in r.getMessage()]


class TestDirectory:
    def test_other_files_are_no_checkpoints(self, trained, tmp_path):
        """Such as those that a file browser leaves. The origin of the run is recorded."""
        for name in ("config.json", "checkpoints/.DS_Store"):
            (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / "checkpoints" / ".DS_Store").write_bytes(b"")
        run(tmp_path / "run", steps=2, init_from=str(trained))
        assert config_lib.load(tmp_path / "run" / "config.json").init_from == str(trained)

    def test_path_that_is_not_utf8(self, tmp_path):
        workdir = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
        with pytest.raises(CheckpointError, match=r"caf\\xe9.*valid UTF-8; use another"):
            run(workdir)
        assert not workdir.exists()

    @pytest.mark.parametrize("replaced", [False, True])
    def test_moved_during_the_run(self, tmp_path, replaced):
        """As a disk that is unmounted, whose empty folder stays."""

        def move(step):
            if step == 4:
                while not (tmp_path / "run" / "checkpoints" / "2").exists():
                    time.sleep(0.05)  # batches are made ahead of the step
                (tmp_path / "run").rename(tmp_path / "elsewhere")
                if replaced:
                    (tmp_path / "run" / "checkpoints").mkdir(parents=True)

        match = "is not the directory any more" if replaced else "cannot write|any more"
        with pytest.raises(CheckpointError, match=match):
            run(tmp_path / "run", Images(on_step=move), steps=6, log_every=2)
        assert not replaced or list((tmp_path / "run" / "checkpoints").iterdir()) == []
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "elsewhere").rename(tmp_path / "run")
        assert int(run(tmp_path / "run", steps=6).step) == 6

    def test_nothing_is_written_without_the_lock(self, workdir):
        holder = Checkpoints(workdir, keep=2)
        before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
        with pytest.raises(CheckpointError, match="is in use by another training"):
            run(workdir, Images("xyz"), steps=6, log_every=1, accept=True)
        assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
        holder.close()

    def test_path_with_brackets(self, tmp_path):
        workdir = tmp_path / "runs [v2]" / "a*"
        whole = run(tmp_path / "plain", steps=4)
        run(workdir, steps=2)
        assert_same_bits(run(workdir, steps=4), whole)
        assert config_lib.load(workdir / "config.json").steps == 4


def test_fields_that_differ_from_those_of_init_from():
    """Also those that leave the shapes of parameters equal."""
    module = networks.create("sadnet", preset="small")
    source = networks.create("sadnet", preset="small", dilations=(1, 2, 3, 5), dtype="bfloat16")
    assert workdir_lib._describe_differences(module, module) == ""
    assert workdir_lib._describe_differences(source, module) == (
        "dilations is (1, 2, 3, 5) there and (1, 2, 3, 4) here"
    )
