"""What a run tells of itself: times, compilations, memory, traces."""

import contextlib
import errno
import io
import json
import os
import signal
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import loop, metric_writer, preemption, profile, train_and_evaluate
from lcdnet_jax.training.metric_writer import Compilations, Progress, Reporter, device_memory
from lcdnet_jax.training.profile import Profile, parse_range
from tests.registered import registered


class ConvNet(networks.RestorationNetwork):
    channels: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + nn.Conv(self.channels, (3, 3))(x)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A network by name; no evaluation; programs compiled without LLVM's optimisation."""
    with pytest.MonkeyPatch.context() as patch, registered("conv", ConvNet):
        patch.setattr(loop, "PeriodicEvaluation", lambda *args: lambda step, variables: None)
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


class Images:
    """Batches whose images are larger from some step on."""

    def __init__(self, larger_from=None):
        self.larger_from = larger_from

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        while True:
            start_step += 1
            size = 12 if self.larger_from and start_step >= self.larger_from else 8
            rng = np.random.default_rng(start_step)
            clean = rng.uniform(size=(8, size, size, 3)).astype(np.float32)
            yield {"clean": clean, "mask": np.ones(8, np.float32)}


def run(workdir, data, *, profile=None, **fields):
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.data.crop = 8
    config.update(fields)
    return train_and_evaluate(
        config, workdir, datasets={"train": data, "eval": []}, profile=profile
    )


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A run of which steps 3 and 4, which are one call, are traced, on devices with memory."""
    workdir = tmp_path_factory.mktemp("traced")
    device = type(jax.local_devices()[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "memory_stats", lambda self: {"peak_bytes_in_use": 3 * 10**9})
        run(workdir, Images(), profile=(3, 3), steps_per_call=2)
    return workdir


class TestRun:
    def test_numbers(self, traced):
        compiled, *rows = rows_of(traced)
        assert compiled["step"] == 2
        assert compiled["compilations"] == 1
        assert compiled["compilation_seconds"] > 0
        assert [row["step"] for row in rows] == [2, 4, 6, 8]
        always = {f"train/{name}" for name in ("loss", "psnr", "grad_norm", "learning_rate")}
        always |= {"step", "images_seen", "device_memory_gb"}
        assert set(rows[0]) == always  # compiling is no measure
        for row in rows[1:]:
            parts = {f"time/{name}": row[f"time/{name}"] for name in ("data", "save", "compute")}
            assert set(row) == always | {"images_per_second", "time/step", *parts}
            assert row["images_seen"] == 8 * row["step"]
            assert row["device_memory_gb"] == 3
            np.testing.assert_allclose(sum(parts.values()), row["time/step"])
            np.testing.assert_allclose(row["images_per_second"], 8 / row["time/step"])

    def test_the_same_for_tensorboard(self, traced):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray

        events = EventAccumulator(str(traced))
        events.Reload()
        for name, value in rows_of(traced)[-1].items():
            if name != "step":
                last = events.Tensors(name)[-1]
                assert last.step == 8
                np.testing.assert_allclose(make_ndarray(last.tensor_proto), value, rtol=1e-6)

    def test_trace(self, traced):
        (trace,) = (traced / "profile").rglob("*.xplane.pb")
        assert trace.stat().st_size > 0

    def test_no_trace(self, tmp_path, caplog):
        for steps, wanted in ((4, None), (6, (3, 4)), (8, (9, 20))):  # resumed beyond it; too late
            run(tmp_path, Images(), profile=wanted, steps=steps, steps_per_call=2)
        assert not (tmp_path / "profile").exists()
        assert warnings_of(caplog) == [
            "no profiler trace: this run has made none of steps 3:4",
            "no profiler trace: this run has made none of steps 9:20",
        ]

    def test_another_shape_is_compiled_with_a_warning(self, tmp_path, caplog):
        assert int(run(tmp_path, Images(larger_from=5)).step) == 8
        (warning,) = warnings_of(caplog)
        assert warning.startswith("step 5 was compiled anew (programs so far: 2), because its inp")


class TestProfile:
    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []
        monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append("start"))
        monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
        return calls

    def test_range(self):
        assert parse_range(None) is None
        assert parse_range("11:15") == (11, 15)
        assert parse_range("3:3") == (3, 3)
        for text in ("", "3", "4:3", "0:3", "-1:3", "3:", "a:b", "1:2:3", "3:4 "):
            with pytest.raises(ConfigError, match=f"--profile={text} is no range of steps; use"):
                parse_range(text)

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ((2, 4), ["1", "start", "2", "3", "4", "stop", "5", "6"]),
            ((1, 1), ["start", "1", "stop", "2", "3", "4", "5", "6"]),
            ((5, 99), ["1", "2", "3", "4", "start", "5", "6", "stop"]),
            (None, ["1", "2", "3", "4", "5", "6"]),
        ],
        ids=str,
    )
    def test_starts_before_the_first_and_ends_after_the_last(
        self, tmp_path, calls, steps, expected
    ):
        trace = Profile(tmp_path, steps)
        for step in range(1, 7):
            trace.before(step, step)
            calls.append(str(step))
            if trace.ends_after(step):
                trace.end()
        trace.end()
        assert calls == expected

    def test_failing_to_write_ends_nothing(self, tmp_path, calls, monkeypatch, caplog):
        def stop():
            raise jax.errors.JaxRuntimeError("FAILED_PRECONDITION: no space")

        monkeypatch.setattr(profile.jax.profiler, "stop_trace", stop)
        trace = Profile(tmp_path, (1, 1))
        trace.before(1, 1)
        trace.end()
        trace.end()
        (warning,) = warnings_of(caplog)
        assert f"no profiler trace, as {tmp_path} cannot be written: FAILED_PREC" in warning


MEANS = {"loss": 0.5, "psnr": 20.0, "learning_rate": 1e-4}


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        clock = types.SimpleNamespace(now=100.0)
        monkeypatch.setattr(metric_writer.time, "perf_counter", lambda: clock.now)
        return clock

    def test_parts_of_the_time(self, clock):
        progress = Progress(10, 100, 4)

        def wait(context, seconds):
            with context:
                clock.now += seconds

        wait(progress.fetching(lambda: True), 2)
        wait(progress.fetching(lambda: False), 1)  # the devices were busy: no loss of time
        wait(progress.saving(), 3)
        wait(progress.paused(), 50)
        wait(contextlib.nullcontext(), 4)
        line, numbers = progress.line(20, MEANS)
        assert numbers == pytest.approx(
            {
                "images_per_second": 4.0,
                "time/step": 1.0,
                "time/data": 0.2,
                "time/save": 0.3,
                "time/compute": 0.5,
            }
        )
        assert line == (
            "step 20/100  loss 0.50000  psnr 20.00 dB  lr 1.00e-04  4.0 images/s  ETA 1:20  "
            "(waiting: data 20 %, save 30 %)"
        )
        clock.now += 0.5
        line, numbers = progress.line(21, MEANS)  # since the last line
        assert numbers["time/step"] == numbers["time/compute"] == pytest.approx(0.5)
        assert line.endswith("8.0 images/s  ETA 0:40")

    def test_nothing_was_timed(self, clock):
        progress = Progress(0, 10_000, 4)
        clock.now += 30  # compiling
        progress.restart(1)
        line, numbers = progress.line(1, MEANS)
        assert numbers == {}
        assert line.endswith("lr 1.00e-04")
        clock.now += 1
        assert progress.line(2, MEANS)[0].endswith("ETA 2:46:38")


class TestCompilations:
    def test_are_those_of_this_thread_inside(self):
        compilations = Compilations()
        program = jax.jit(lambda x: x * 2 + 1)
        numbers = np.ones(3, np.float32), np.ones(4, np.float32), np.ones(5, np.float32)
        other = threading.Thread(target=program, args=numbers[1:2])
        with compilations.watched():
            program(numbers[0])
            program(numbers[0])
            other.start()
            other.join()
        assert compilations.count == 1
        assert 0 < compilations.seconds < 60
        program(numbers[2])
        with compilations.watched():
            program(numbers[1])
            program(numbers[2])
        assert compilations.count == 1

    def test_end_with_an_error(self):
        compilations = Compilations()
        with pytest.raises(ZeroDivisionError), compilations.watched():
            _ = 1 / 0
        jax.jit(lambda x: x - 3)(np.ones(3, np.float32))
        assert compilations.count == 0


def test_device_memory(monkeypatch):
    stats = [None, {}, {"peak_bytes_in_use": 2e9, "bytes_in_use": 9e9}, {"peak_bytes_in_use": 1e9}]
    devices = [types.SimpleNamespace(memory_stats=lambda one=one: one) for one in stats]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert device_memory() == {"device_memory_gb": 2.0}
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:2])
    assert device_memory() == {}


def test_a_log_that_cannot_be_cut_stays_as_it_was(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = '{"step": 1}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_text(before)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(metric_writer.ReportError, match="No space left on device"):
            Reporter(tmp_path, start_step=1, active=True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == before
    Reporter(tmp_path, start_step=1, active=True).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_scores_of_a_run_that_was_cut_off_are_removed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    reporter = Reporter(tmp_path, start_step=0, active=True)
    for step in (4, 8):
        reporter.scores([{"step": step, "psnr": 30.0}])
    reporter.close()
    Reporter(tmp_path, start_step=4, active=True).close()
    assert (tmp_path / "scores.jsonl").read_text() == '{"step": 4, "psnr": 30.0}\n'
    idle = Reporter(tmp_path, start_step=0, active=False)
    idle.scores([{"step": 6}])
    assert "6" not in (tmp_path / "scores.jsonl").read_text()


def test_a_signal_in_the_middle_of_a_print(monkeypatch):
    """Where print would raise, and where a handler was set by C; and output that is no file."""
    reads, writes = os.pipe()

    def reentrant(text):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    busy = types.SimpleNamespace(fileno=lambda: writes, write=reentrant, flush=lambda: None)
    gone = types.SimpleNamespace(write=reentrant, flush=lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for stdout in (busy, gone, io.StringIO(), None):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", stdout)
                patch.setattr(signal, "getsignal", lambda number: None)
                with preemption.listening(None) as stop:
                    signal.raise_signal(signal.SIGTERM)
            assert stop.received == signal.SIGTERM
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            if isinstance(stdout, io.StringIO):
                assert stdout.getvalue().startswith("stopping after this step, then saving;")
        assert os.read(reads, 999).startswith(b"stopping after this step, then saving; once more")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reads)
        os.close(writes)


def test_numbers_that_json_lacks_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    reporter = Reporter(tmp_path, start_step=0, active=True)
    reporter.scalars(3, {"a": np.float32(0.5).item(), "b": np.nan, "c": np.inf, "d": 4})
    reporter.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "a": 0.5, "d": 4}\n'
