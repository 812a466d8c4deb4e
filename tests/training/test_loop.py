"""The trainer as a whole, on a tiny network and generated images."""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import Restorer, checkpoints, image_io, weights
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import CheckpointError, manager
from lcdnet_jax.config import ConfigError
from lcdnet_jax.networks import registered
from lcdnet_jax.training import (
    NonFiniteLossError,
    Preempted,
    loop,
    train_and_evaluate,
)
from lcdnet_jax.training.sharding import Partitioner
from tests.training.conv_net import ConvNet


class Noise:
    """Training data: smooth random images, each batch a pure function of its step."""

    def __init__(self, size=16, batch=8, poison_at=None, interrupt_at=None):
        self.size, self.batch = size, batch
        self.poison_at, self.interrupt_at = poison_at, interrupt_at

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        step = start_step
        while True:
            rng = np.random.default_rng(step)
            coarse = rng.uniform(size=(self.batch, self.size // 4, self.size // 4, 3))
            clean = coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
            if step == self.poison_at:
                clean[0, 0, 0, 0] = np.nan
            if step == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
            yield {"clean": clean, "mask": np.ones(self.batch, np.float32)}
            step += 1


def images(n=2):
    rng = np.random.default_rng(1)
    return [
        {"name": f"image{i}", "clean": rng.uniform(size=(17 + i, 23, 3)).astype(np.float32)}
        for i in range(n)
    ]


@pytest.fixture(scope="module", autouse=True)
def by_name():
    """The trainer takes networks by name."""
    with registered("conv", ConvNet):
        yield


def tiny_config():
    config = tiny.get_config()
    config.network.name = "conv"
    config.network.kwargs = ConfigDict()
    return config


@pytest.fixture
def config():
    return tiny_config()


def run(config, workdir, **data):
    return train_and_evaluate(config, workdir, datasets={"train": Noise(**data), "eval": images()})


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One finished run that several tests look at, and its final state."""
    workdir = tmp_path_factory.mktemp("trained")
    return workdir, run(tiny_config(), workdir)


@pytest.mark.extended
def test_a_run_leaves_everything_that_it_promises(trained, capsys):
    workdir, state = trained
    assert int(state.step) == 8
    assert config_lib.load(workdir / "config.json").steps == 8
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    reports = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in reports] == [2, 4, 6, 8]
    assert {"train/psnr", "train/grad_norm", "train/learning_rate", "images_seen"} <= set(
        reports[0]
    )
    assert reports[-1]["images_seen"] == 64
    parts = [reports[-1][f"time/{name}"] for name in ("data", "save", "compute")]
    assert min(parts) >= 0
    np.testing.assert_allclose(sum(parts), reports[-1]["time/step"], rtol=1e-6)
    assert [(row["step"], row["compilations"]) for row in rows if "compilations" in row] == [(1, 1)]
    assert [row["step"] for row in rows if "eval/sigma50/psnr" in row] == [4, 8]
    panel = image_io.read(workdir / "panels" / "0000008_image0_sigma50.png")
    assert panel.ndim == 3
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()) == [
        "4",
        "8",
    ]


@pytest.mark.extended
def test_bfloat16_is_float32_on_a_cpu(trained, config, tmp_path, capsys):
    """The file of the run keeps what was asked for."""
    config.network.dtype = "bfloat16"
    state = run(config, tmp_path)
    assert_equal_trees(state.params, trained[1].params)
    line = "conv in float32 (bfloat16, which the configuration asks for, is slower on a CPU), "
    assert capsys.readouterr().out.count(line) == 1
    assert config_lib.load(tmp_path / "config.json").network.dtype == "bfloat16"


def test_tensorboard_gets_scalars_and_pictures(trained):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workdir, _ = trained
    events = EventAccumulator(str(workdir))
    events.Reload()
    assert {"train/loss", "eval/sigma50/psnr", "image0_sigma50"} <= set(events.Tags()["tensors"])
    (text,) = events.Tensors("images")
    described = text.tensor_proto.string_val[0].decode()
    assert "degradation: awgn, sigma 50, protocol float" in described
    assert "frequency masking: none" in described
    assert "mixup: none" in described


@pytest.mark.extended
def test_without_tensorflow_the_json_lines_remain(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # makes the import fail
    config.steps = 2
    run(config, tmp_path)
    assert "no TensorBoard events" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text().count("train/loss") == 1
    assert not list(tmp_path.glob("events*"))


@pytest.mark.extended
def test_reported_means_cover_all_steps_since_the_last_line(config, tmp_path):
    config.log_every, config.checkpoint_every, config.eval_every = 1, 0, 0
    run(config, tmp_path / "each")
    config.log_every, config.checkpoint_every = 4, 3  # a checkpoint reads metrics in between
    run(config, tmp_path / "means")

    def losses(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]

    each = losses("each")
    expected = [np.mean(each[:4]), np.mean(each[4:])]
    np.testing.assert_allclose(losses("means"), expected, rtol=1e-6)


@pytest.mark.extended
def test_progress_is_shown(config, tmp_path, capsys):
    config.steps = 2
    run(config, tmp_path)
    out = capsys.readouterr().out
    assert "Total: 231" in out  # parameter overview
    assert "train: " not in out
    assert "damaged" not in out
    assert "step 2/2  loss 0." in out
    assert "images/s  ETA 0:00" in out
    assert "unclipped float noise; output clipped to [0, 1]" in out


def test_data_may_describe_itself_and_count_replaced_images(config, tmp_path, capsys):
    class Described(Noise):
        replaced = 3

        def describe(self):
            return "smooth noise"

    config.steps = 1
    train_and_evaluate(config, tmp_path, datasets={"train": Described(), "eval": images()})
    out = capsys.readouterr().out
    assert "train: smooth noise\n" in out
    assert "eval: " not in out
    assert "  3 damaged images replaced\n" in out


@pytest.mark.parametrize("change", [{}, {"accumulate": 1, "ema_decay": 0.0}])
def test_stopping_and_resuming_changes_no_bit(config, tmp_path, change, trained):
    config.update(change)
    straight = trained[1] if not change else run(config, tmp_path / "straight")
    halves = tmp_path / "halves"
    config.steps = 5
    run(config, halves)
    config.steps = 8
    resumed = run(config, halves)
    assert_equal_trees(straight, resumed)


@pytest.mark.extended
def test_checkpoints_hold_the_state_of_their_step(config, tmp_path, monkeypatch):
    """Saving goes on in the background while the next step reuses the memory of the state."""
    config.network.kwargs = ConfigDict({"features": 512})
    config.checkpoint_every, config.eval_every, config.keep_checkpoints = 1, 0, 8
    seen = {}
    save = checkpoints.Checkpoints.save

    def record(self, step, items):
        seen[step] = jax.tree.map(lambda x: np.array(x, copy=True), dict(items))
        save(self, step, items)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", record)
    run(config, tmp_path)
    reader = checkpoints.Checkpoints(tmp_path)
    for step in range(1, 9):
        assert_equal_trees(reader.restore(step, seen[step]), seen[step])
    reader.close()


@pytest.mark.extended
def test_resume_continues_a_copy_and_leaves_the_original(config, tmp_path, trained):
    first = tmp_path / "first"
    config.steps = 4
    run(config, first)
    before = sorted(first.rglob("*"))
    config.steps = 8
    config.resume = str(first)
    copied = run(config, tmp_path / "second")
    assert_equal_trees(copied.params, trained[1].params)
    assert sorted(first.rglob("*")) == before


def test_init_from_takes_parameters_and_starts_at_zero(config, tmp_path, trained):
    workdir, state = trained
    config.init_from = str(workdir)
    config.steps = 1
    config.optimizer.learning_rate = 0.0
    tuned = run(config, tmp_path)
    assert int(tuned.step) == 1
    assert_equal_trees(tuned.params, state.ema)  # averaged weights are what is tuned


def test_init_from_takes_a_file_and_a_name(config, tmp_path, trained, monkeypatch, capsys):
    """Pretrained weights by their name, and safetensors files, as ``Restorer`` does."""
    workdir, state = trained
    file = tmp_path / "small.safetensors"
    weights.save_safetensors(workdir, file)
    monkeypatch.setattr(weights.pretrained, "_FOLDER", tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  small.safetensors\n")
    config.steps = 1
    config.optimizer.learning_rate = 0.0
    for name in ("small", str(file)):
        config.init_from = name
        tuned = run(config, tmp_path / f"by_{name.endswith('s')}")
        assert f"starting from the parameters of step 8 of {name}" in capsys.readouterr().out
        assert int(tuned.step) == 1
        assert_equal_trees(tuned.params, state.ema)
    config.network.kwargs.features = 5
    with pytest.raises(ConfigError, match=r"init_from: .* another network \(7 arrays missing"):
        run(config, tmp_path / "other")
    config.init_from = "smal"
    with pytest.raises(ConfigError, match=r"config\.init_from: .*there are small; did you mean"):
        run(config, tmp_path / "none")
    assert not (tmp_path / "none" / "config.json").exists()


def test_finished_run_is_left_alone(config, trained, capsys):
    workdir, state = trained
    again = run(config, workdir)
    assert "nothing to do: the run has 8 of 8 steps" in capsys.readouterr().out
    assert_equal_trees(again, state)


@pytest.mark.extended
def test_loss_falls_and_average_lags(config, tmp_path):
    config.steps = 60
    config.eval_every = config.checkpoint_every = 0
    config.log_every = 10
    config.optimizer.learning_rate = 5e-3
    state = run(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    assert any((a != b).any() for a, b in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(state.ema), strict=True))  # fmt: skip


class TestFailures:
    @pytest.mark.extended
    def test_non_finite_loss_names_its_step_and_spares_the_checkpoint(self, config, tmp_path):
        with pytest.raises(NonFiniteLossError, match=r"step 7: loss nan.*; step 4 is saved"):
            run(config, tmp_path, poison_at=6)
        checkpoint = checkpoints.Checkpoints(tmp_path)
        assert checkpoint.latest_step() == 4
        checkpoint.close()
        assert np.isfinite(run(config, tmp_path).params["Conv_0"]["kernel"]).all()

    @pytest.fixture
    def interruptible(self):
        """Ctrl-C as in a terminal; in the background shells switch it off."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.extended
    def test_interrupt_saves_and_the_same_command_continues(
        self, config, tmp_path, trained, interruptible
    ):
        config.checkpoint_every = 0
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3; it is saved"):
            run(config, tmp_path, interrupt_at=2)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert_equal_trees(run(config, tmp_path).params, trained[1].params)

    @pytest.mark.extended
    def test_interrupt_in_the_last_step_takes_nothing_away(
        self, config, tmp_path, trained, interruptible
    ):
        state = run(config, tmp_path, interrupt_at=7)
        assert_equal_trees(state, trained[1])
        rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [r["step"] for r in map(json.loads, rows) if "eval/sigma50/psnr" in r] == [4, 8]

    def test_interrupt_while_the_first_step_compiles(self, config, tmp_path, interruptible):
        with pytest.raises(Preempted, match="stopped after step 1; it is saved") as preempted:
            run(config, tmp_path, interrupt_at=0)
        assert preempted.value.exit_code == 130
        assert (tmp_path / "checkpoints" / "1").is_dir()

    def test_second_interrupt_acts_at_once(self, config, tmp_path, interruptible):
        class Twice(Noise):
            def batches(self, *args, **kwargs):
                for step, batch in enumerate(super().batches(*args, **kwargs)):
                    if step == 2:
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(0.01)  # handled between two lines of Python
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(0.01)
                    yield batch

        with pytest.raises(KeyboardInterrupt) as preempted:
            train_and_evaluate(config, tmp_path, datasets={"train": Twice(), "eval": images()})
        assert not isinstance(preempted.value, Preempted)

    @pytest.mark.extended
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupt_during_evaluation_saves_too(self, config, tmp_path, interruptible, number):
        config.checkpoint_every = 0

        class Interrupting(list):
            def __iter__(self):
                os.kill(os.getpid(), number)
                return super().__iter__()

        with pytest.raises(KeyboardInterrupt, match="stopped after step 4; it is saved"):
            train_and_evaluate(
                config, tmp_path, datasets={"train": Noise(), "eval": Interrupting(images())}
            )
        assert (tmp_path / "checkpoints" / "4").is_dir()

    def test_failing_evaluation_saves_first(self, config, tmp_path):
        config.checkpoint_every = 0

        class Damaged(list):
            def __iter__(self):
                raise image_io.ImageError("image1.png: cut short")

        with pytest.raises(image_io.ImageError, match="cut short"):
            train_and_evaluate(
                config, tmp_path, datasets={"train": Noise(), "eval": Damaged(images())}
            )
        assert (tmp_path / "checkpoints" / "4").is_dir()

    def test_resume_of_another_configuration(self, config, tmp_path, trained):
        config.resume = str(trained[0])
        config.loss = "charbonnier"
        with pytest.raises(ConfigError, match="loss: 'l2' there, 'charbonnier' given"):
            run(config, tmp_path)

    @pytest.mark.extended
    def test_full_disk_at_resume_keeps_the_metrics(self, config, tmp_path, monkeypatch):
        config.steps = 4
        run(config, tmp_path)
        metrics = tmp_path / "metrics.jsonl"
        metrics.write_text(metrics.read_text() + '{"step": 99}\n')
        before = metrics.read_text()

        def replace(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(config_lib, "save", lambda *args: None)
        config.steps = 8
        with pytest.raises(CheckpointError, match="No space left on device"):
            run(config, tmp_path)
        assert metrics.read_text() == before

    def test_batches_without_degraded_images(self, config, tmp_path):
        config.degradation.where = "host"
        with pytest.raises(ValueError, match="have no 'degraded' images"):
            run(config, tmp_path)

    @pytest.mark.extended
    def test_ignored_interrupts_stay_ignored(self, config, tmp_path):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            assert int(run(config, tmp_path, interrupt_at=2).step) == 8
        finally:
            signal.signal(signal.SIGINT, before)

    def test_other_configuration_in_the_same_directory(self, config, trained):
        config.optimizer.learning_rate = 0.5
        with pytest.raises(ConfigError, match=r"learning_rate: 0.001 there, 0.5 given"):
            run(config, trained[0])
        assert config_lib.load(trained[0] / "config.json").optimizer.learning_rate == 1e-3

    def test_checkpoint_of_another_network(self, config, tmp_path, trained):
        config.network.kwargs = ConfigDict({"features": 6})
        config.init_from = str(trained[0])
        with pytest.raises(CheckpointError, match="belongs to another network") as error:
            run(config, tmp_path)
        assert "BatchNorm_0/bias: shape (4,) there, (6,) needed" in str(error.value)

    def test_unwritable_workdir(self, config, tmp_path):
        blocked = tmp_path / "file"
        blocked.write_text("")
        with pytest.raises(CheckpointError, match="use a writable --workdir"):
            run(config, blocked / "run")

    @pytest.mark.extended
    def test_full_disk_keeps_what_was_saved(self, config, tmp_path, monkeypatch):
        real = manager.ocp.AsyncCheckpointer.save

        def save(self, directory, **kwargs):
            if directory.name == "saving-8":
                raise OSError(28, "No space left on device")
            return real(self, directory, **kwargs)

        monkeypatch.setattr(manager.ocp.AsyncCheckpointer, "save", save)
        with pytest.raises(CheckpointError, match=r"cannot write the checkpoint of step 8"):
            run(config, tmp_path)
        monkeypatch.undo()
        assert int(run(config, tmp_path).step) == 8

    @pytest.mark.extended
    def test_full_disk_for_the_logs(self, config, tmp_path, monkeypatch):
        def write(path, image):
            raise image_io.ImageError(f"{path}: cannot be written (No space left on device)")

        monkeypatch.setattr(image_io, "write", write)
        with pytest.raises(CheckpointError, match=r"cannot write to .*No space left on device"):
            run(config, tmp_path)

    def test_batch_that_the_devices_cannot_share(self, config, tmp_path):
        config.batch_size = 12
        with pytest.raises(ConfigError, match=r"not divisible by the number of devices \(8\); use"):
            run(config, tmp_path)

    def test_damaged_checkpoint(self, config, tmp_path):
        config.steps = 4
        run(config, tmp_path)
        for path in (tmp_path / "checkpoints" / "4" / "params").rglob("*"):
            if path.is_file() and path.stat().st_size > 100:
                path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(CheckpointError, match=r"4 is damaged: params/.* has 50 bytes, not"):
            Restorer.from_checkpoint(tmp_path, ema=False)

    def test_directories_without_a_run(self, tmp_path):
        with pytest.raises(ConfigError, match="does not exist; give a working directory"):
            Restorer.from_checkpoint(tmp_path)


def test_restorer_uses_averaged_weights(trained):
    workdir, state = trained
    assert isinstance(workdir, pathlib.Path)
    averaged = Restorer.from_checkpoint(workdir)
    raw = Restorer.from_checkpoint(workdir, ema=False)
    assert_equal_trees(averaged.variables["params"], state.ema)
    assert_equal_trees(raw.variables["params"], state.params)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "global batch 8 on 1 device (cpu; "),
        (4, "global batch 8, 2 on each of 4 devices (cpu; "),
    ],
)
def test_the_line_about_devices(count, text):
    config = tiny.get_config()
    config.batch_size = 8
    partitioner = Partitioner.from_config(config, jax.devices()[:count])
    assert text in loop._describe_run(config, "float32", partitioner, 0, "starting")
