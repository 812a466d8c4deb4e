"""Steps that are not finite: passed over, or the end of a run; and made again to be looked at."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import checkpoints, image_io, networks
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.config import ConfigError
from lcdnet_jax.networks import registered
from lcdnet_jax.resident_images import ResidentImages, draw
from lcdnet_jax.training import (
    NonFiniteLossError,
    create_state,
    loop,
    make_optimizer,
    replay,
    train_and_evaluate,
)
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.step import prepare
from tests.training.conv_net import ConvNet

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class TwoViews(networks.RestorationNetwork):
    """As LCDNet: two views in, three channels out, at two scales if asked."""

    channels: int = 6
    dtype: jnp.dtype = jnp.float32
    two_views = True
    has_scales = True

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None, all_scales=False):
        fine = nn.Conv(3, (3, 3), name="fine")(x)
        coarse = nn.Conv(3, (3, 3), (2, 2), name="coarse")(x)
        return [fine, coarse] if all_scales else fine


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Networks by name; no evaluation."""
    with (
        pytest.MonkeyPatch.context() as patch,
        registered("conv", ConvNet),
        registered("two_views", TwoViews),
    ):
        patch.setattr(loop, "EvalHook", lambda *args: lambda step, variables: None)
        patch.setitem(sys.modules, "tensorflow", None)
        yield


def config_of(**fields):
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.data.crop = 8
    for name, value in fields.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    config_lib.validate(config)
    return config


class Images:
    """Batches by their step, in some of which (counted from 1) one value of image 2 is bad."""

    def __init__(self, config, *bad, value=np.nan):
        self.bad, self.value = bad, value
        self.count, self.size = config.batch_size, config.data.crop
        self.channels = config.data.channels
        self.pairs = config.degradation.kind == "none"

    def batch(self, step):
        rng = np.random.default_rng(step)
        shape = (self.count, self.size, self.size)
        batch = {
            "clean": rng.uniform(size=(*shape, 3)).astype(np.float32),
            "mask": np.ones(self.count, np.float32),
        }
        if self.pairs:
            batch["degraded"] = rng.uniform(size=(*shape, self.channels)).astype(np.float32)
        if step in self.bad:
            batch["clean"][2, 3, 1, 0] = self.value
        return batch

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        while True:
            start_step += 1
            yield self.batch(start_step)


def datasets(config, *bad):
    if config.data.where == "device":
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (12, 9 + i, 3), np.uint8) for i in range(3)]
        train = types.SimpleNamespace(resident=ResidentImages.from_arrays(images))
    else:
        train = Images(config, *bad)
    return {"train": train, "eval": []}


def run(config, workdir, *bad):
    return train_and_evaluate(config, workdir, datasets=datasets(config, *bad))


def rows_of(workdir):
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    return {row["step"]: row for row in rows if "train/learning_rate" in row}


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_finite(tree):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


class TestStep:
    @pytest.mark.extended
    @pytest.mark.parametrize(
        ("fields", "value"),
        [
            ({}, np.nan),
            ({"parallel__strategy": "pmap"}, np.inf),
            # Finite, but for the norm of the gradient, whose square overflows.
            ({"accumulate": 2, "batch_size": 16, "loss": "l1",
              "network__kwargs": ConfigDict({"norm": False})}, 1e30),
        ],
        ids=["jit", "pmap", "accumulate"],
    )  # fmt: skip
    def test_changes_nothing_but_the_counts(self, fields, value):
        config = config_of(skip_nonfinite=1, **fields)
        partitioner, module, tx = Partitioner.from_config(config), config_lib.network(config), None
        tx = make_optimizer(config)
        state = create_state(
            jax.random.key(0), module, tx, ema=True, get_sharding=partitioner.get_state_sharding
        )
        program = compile_program(module, tx, config, partitioner, state)
        data = Images(config, 3, value=value)

        def step(state, number):
            state, metrics = program(state, partitioner.put_batches([data.batch(number)]))
            return state, partitioner.fetch(state), jax.device_get(metrics)

        for number in (1, 2):
            state, before, metrics = step(state, number)
        state, after, bad = step(state, 3)
        assert np.isfinite(metrics["loss"])
        assert np.isfinite(metrics["grad_norm"])
        assert not np.isfinite(bad["grad_norm"])
        assert np.isfinite(bad["loss"]) == (value == 1e30)
        assert int(after.step) == 3
        for one, other in zip(
            jax.tree.leaves(after.items()), jax.tree.leaves(before.items()), strict=True
        ):
            count = jnp.issubdtype(one.dtype, jnp.integer)  # of the schedule, goes on with the step
            np.testing.assert_array_equal(one, other + 1 if count else other)
        _, after, metrics = step(state, 4)
        assert np.isfinite(metrics["loss"])
        assert_finite(after)
        changed = jax.tree.map(lambda a, b: (a != b).any(), after.items(), before.items())
        for name, tree in changed.items():
            assert any(jax.tree.leaves(tree)), name


@pytest.fixture(scope="module")
def passed_over(tmp_path_factory):
    """A run that has passed over some steps, and its final state."""
    workdir = tmp_path_factory.mktemp("passed_over")
    return workdir, run(config_of(skip_nonfinite=2), workdir, 3, 4, 6)


class TestRun:
    @pytest.mark.extended
    def test_goes_on_and_reports_the_others(self, passed_over, tmp_path, capsys):
        workdir, state = passed_over
        assert int(state.step) == 8
        assert_finite(state)
        rows = rows_of(workdir)
        assert [row.get("train/skipped") for row in rows.values()] == [None, 2, 1, None]
        assert "train/loss" not in rows[4]
        assert rows[4]["images_seen"] == 32

        for steps in (4, 8):  # resuming from a step that was passed over changes no bit
            config = config_of(skip_nonfinite=2, log_every=1, steps=steps)
            resumed = run(config, tmp_path, 3, 4, 6)
        assert_equal_trees(resumed, state)
        assert rows[6]["train/loss"] == rows_of(tmp_path)[5]["train/loss"]
        out = capsys.readouterr().out
        assert "step 3: loss nan, gradient norm nan; skipped, the parameters are unchanged" in out
        assert "adding --replay=3 to the same command" in out

    @pytest.mark.extended
    @pytest.mark.parametrize("calls", [1, 2])
    def test_one_in_a_row_more_ends_it(self, tmp_path, calls):
        config = config_of(skip_nonfinite=2, steps_per_call=calls)
        message = r"step 8: loss nan.*; step 4 is saved\..*--replay=8"
        with pytest.raises(NonFiniteLossError, match=message):
            run(config, tmp_path, 2, 3, 6, 7, 8)
        rows_of(tmp_path)


@pytest.fixture(scope="module")
def died(tmp_path_factory):
    """A run that ended at step 7, for one value of image 2."""
    workdir = tmp_path_factory.mktemp("died")
    with pytest.raises(NonFiniteLossError, match="step 7"):
        run(config_of(log_every=1), workdir, 7)
    return workdir


def seen(config, batch, step):
    """What ``step`` makes of a batch."""
    program = jax.jit(lambda batch, step: prepare(batch, config, step=step, axis_name=None))
    return jax.device_get(program(batch, jnp.int32(step - 1)))


def untrained(config, workdir):
    """A run that ended before its first checkpoint."""
    (workdir / "checkpoints").mkdir(parents=True)
    config_lib.save(config, workdir / "config.json")
    return workdir


def load(folder):
    with np.load(folder / "batch.npz") as file:
        return dict(file)


class TestReplay:
    @pytest.mark.extended
    def test_shows_what_the_step_saw(self, died, capsys):
        def files():
            paths = [path for path in died.rglob("*") if "replay" not in path.parts]
            return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}

        config, before = config_of(log_every=1), files()
        folder = replay(config, died, 7, datasets=datasets(config, 7))
        assert folder == died / "replay" / "7"
        assert files() == before
        arrays = load(folder)
        expected = seen(config, Images(config, 7).batch(7), 7)
        assert set(arrays) == {"clean", "degraded", "mask", "restored"}
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array)
        assert arrays["restored"].shape == arrays["clean"].shape
        assert image_io.read(folder / "batch.png").shape[2] == 3

        out = capsys.readouterr().out
        assert f"continuing after step 4 of {died}/checkpoints; steps to make before step 7: 2" in (
            out
        )
        assert "step 7: loss nan, gradient norm nan\n" in out
        lines = [line for line in out.splitlines() if line.startswith("  image")]
        assert len(lines) == 8
        for i, line in enumerate(lines):
            bad = "not finite in 1 of 192 values (the first at [3, 1, 0])"
            assert line.count(bad) == (2 if i == 2 else 0)  # input and target
        assert "gradients not finite: BatchNorm_0/scale, Conv_0/bias" in out
        assert "state before the step" not in out
        assert f"written to {folder}: batch.npz, batch.png" in out

    @pytest.mark.extended
    def test_starts_from_the_state_of_the_run(self, died, capsys):
        config = config_of(log_every=1)
        arrays = load(replay(config, died, 6, datasets=datasets(config, 7)))
        partitioner, module, tx = Partitioner.from_config(config), config_lib.network(config), None
        tx = make_optimizer(config)
        state = create_state(
            jax.random.key(0), module, tx, ema=True, get_sharding=partitioner.get_state_sharding
        )
        program = compile_program(module, tx, config, partitioner, state)
        data = Images(config)
        for step in range(1, 6):
            state, _ = program(state, partitioner.put_batches([data.batch(step)]))
        batch = partitioner.put_batches([seen(config, data.batch(6), 6)])
        restored, _ = jax.jit(
            lambda variables, x: module.apply(variables, x, train=True, mutable=["batch_stats"])
        )({"params": state.params, "batch_stats": state.batch_stats}, batch["degraded"])
        np.testing.assert_array_equal(arrays["restored"], restored)
        row = rows_of(died)[6]
        loss, norm = row["train/loss"], row["train/grad_norm"]
        assert f"step 6: loss {loss:.4g}" in capsys.readouterr().out
        assert norm > 0

    @pytest.mark.extended
    @pytest.mark.parametrize(
        "fields",
        [
            {"steps_per_call": 2, "skip_nonfinite": 2},
            {"parallel__strategy": "pmap", "accumulate": 2, "batch_size": 16},
        ],
        ids=["steps_per_call", "pmap, accumulate"],
    )
    def test_has_the_numbers_of_the_run(self, tmp_path, capsys, fields):
        """The losses that replays say are those that the run has reported the mean of."""
        config = config_of(steps=4, checkpoint_every=2, **fields)
        run(config, tmp_path)
        capsys.readouterr()
        losses = []
        for step in (3, 4):
            arrays = load(replay(config, tmp_path, step, datasets=datasets(config)))
            (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step ")]
            losses.append(float(line.removeprefix(f"step {step}: loss ").split(",")[0]))
        np.testing.assert_allclose(np.mean(losses), rows_of(tmp_path)[4]["train/loss"], rtol=2e-5)
        # Parts of a step are put together in the order of the batch: outputs are like their inputs.
        distances = np.abs(arrays["restored"][:, None] - arrays["degraded"]).mean(axis=(2, 3, 4))
        np.testing.assert_array_equal(distances.argmin(axis=1), np.arange(config.batch_size))

    @pytest.mark.extended
    def test_batches_drawn_on_the_device(self, tmp_path):
        config = config_of(data__where="device", parallel__state_shards=4)
        arrays = load(replay(config, untrained(config, tmp_path), 1, datasets=datasets(config)))
        resident = datasets(config)["train"].resident
        batch = jax.jit(lambda x: draw(x, 0, seed=0, crop=8, augment=True, batch_size=8))(resident)
        for name, array in seen(config, batch, 1).items():
            np.testing.assert_array_equal(arrays[name], array)

    @pytest.mark.extended
    @pytest.mark.parametrize(
        "fields",
        [
            {"objective": "noise2noise"},
            {"objective": "noise2self"},
            {"degradation__kind": "none", "data__channels": 6, "network__name": "two_views",
             "loss": "l1_fft"},
        ],
        ids=["noise2noise", "noise2self", "pairs of two views"],
    )  # fmt: skip
    def test_every_objective_from_the_first_step(self, tmp_path, capsys, fields):
        config = config_of(**fields)
        arrays = load(replay(config, untrained(config, tmp_path), 1, datasets=datasets(config)))
        expected = seen(config, Images(config).batch(1), 1)
        assert set(arrays) == {*expected, "restored"}
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array)
        assert arrays["restored"].shape == (8, 8, 8, 3)
        assert ("scored" in arrays) == (config.objective == "noise2self")
        out = capsys.readouterr().out
        assert "starting from scratch with seed 0; steps to make before step 1: 0" in out
        assert "not finite" not in out

    @pytest.mark.extended
    def test_starts_where_the_run_did(self, died, tmp_path, capsys):
        config = config_of()
        tuned = config_of(init_from=str(died), seed=1)
        untrained(tuned, tmp_path / "tuned")
        tuned.init_from = ""  # as stored, whatever the command says
        replay(tuned, tmp_path / "tuned", 2, datasets=datasets(config))
        assert f"starting from the parameters of step 4 of {died}; steps to make before step 2: 1" \
            in capsys.readouterr().out  # fmt: skip
        copy = config_of(resume=str(died))
        untrained(copy, tmp_path / "copy")
        replay(copy, tmp_path / "copy", 5, datasets=datasets(config))
        assert f"continuing after step 4 of {died}; steps to make before step 5: 0" in (
            capsys.readouterr().out
        )
        message = (
            f"step 3 was not made in .*, which continues after step 4 of {died}; use --workdir="
        )
        with pytest.raises(ConfigError, match=message):
            replay(copy, tmp_path / "copy", 3, datasets=datasets(config))

    @pytest.mark.extended
    def test_names_what_the_run_had_spoilt_before(self, died, tmp_path, capsys):
        """Such a checkpoint is none of ours, but the weights may come from elsewhere."""
        config = config_of()
        workdir = untrained(config, tmp_path)
        module, tx = config_lib.network(config), make_optimizer(config)
        state = create_state(jax.random.key(0), module, tx, ema=True)
        state = state.replace(batch_stats=jax.tree.map(lambda x: x * jnp.inf, state.batch_stats))
        writer = checkpoints.Checkpoints(workdir, keep=1)
        writer.save(2, state.items())
        writer.finish(2)
        writer.close()
        replay(config, workdir, 3, datasets=datasets(config))
        out = capsys.readouterr().out
        assert "state before the step not finite: batch_stats/BatchNorm_0/mean, batch_stats/" in out

    @pytest.mark.parametrize(
        ("step", "fields", "error", "message"),
        [
            (9, {}, ConfigError, "the run has no step 9: config.steps is 8, and steps count from"),
            (0, {}, ConfigError, "the run has no step 0"),
            (7, {"loss": "l1"}, ConfigError, "loss: 'l2' there, 'l1' given"),
        ],
    )
    def test_mistakes(self, died, step, fields, error, message):
        with pytest.raises(error, match=message):
            replay(config_of(**fields), died, step, datasets={})

    def test_directory_without_a_run(self, tmp_path):
        with pytest.raises(ConfigError, match="does not exist; give a working directory"):
            replay(config_of(), tmp_path, 1, datasets={})
        config_lib.save(config_of(), tmp_path / "config.json")
        with pytest.raises(CheckpointError, match="does not exist; give a working directory"):
            replay(config_of(), tmp_path, 1, datasets={"train": None})

    def test_several_processes(self, died, monkeypatch):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        with pytest.raises(ConfigError, match="by one process, but there are 2; start one, with"):
            replay(config_of(), died, 7, datasets={})

    def test_unwritable(self, died, tmp_path):
        config = config_of()
        workdir = untrained(config, tmp_path)
        (workdir / "replay").write_text("")
        message = r"cannot write to .*: Not a directory; free disk space"
        with pytest.raises(CheckpointError, match=message):
            replay(config, workdir, 1, datasets={"train": None})  # before anything is made
