"""Metrics, TensorBoard events and traces that a run writes; warnings that it gives."""

import errno
import json
import os
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax.config.schema import FIELDS
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.metric_writer import MetricWriter, MetricWriterError

pytestmark = pytest.mark.usefixtures("quick_trainer")


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
    config.network.name, config.network.kwargs = "conv", ConfigDict({"norm": False})
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
    @pytest.mark.extended
    def test_numbers(self, traced):
        compiled, *rows = rows_of(traced)
        assert compiled["step"] == 2
        assert compiled["compilations"] == 1
        assert compiled["compilation_seconds"] > 0
        assert [row["step"] for row in rows] == [2, 4, 6, 8]
        always = {f"train/{name}" for name in ("loss", "psnr", "grad_norm", "learning_rate")}
        always |= {"step", "images_seen", "device_memory_gb"}
        assert set(rows[0]) == always  # compiling is not measured
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

    def test_hyperparameters_for_tensorboard(self, traced):
        """As its HParams tab reads them."""
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import metadata

        events = EventAccumulator(str(traced))
        events.Reload()
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        found = metadata.parse_session_start_info_plugin_data(content).hparams
        assert set(found) == set(FIELDS)
        assert found["batch_size"].number_value == 8
        assert found["steps_per_call"].number_value == 2
        assert found["network.name"].string_value == "conv"
        assert found["network.kwargs"].string_value == '{"norm": false}'
        assert found["eval.sigmas"].string_value == "[50.0]"
        assert found["data.augment"].WhichOneof("kind") == "bool_value"

    def test_trace(self, traced):
        (trace,) = (traced / "profile").rglob("*.xplane.pb")
        assert trace.stat().st_size > 0

    @pytest.mark.extended
    def test_no_trace(self, tmp_path, caplog):
        for steps, wanted in ((4, None), (6, (3, 4)), (8, (9, 20))):  # resumed beyond it; too late
            run(tmp_path, Images(), profile=wanted, steps=steps, steps_per_call=2)
        assert not (tmp_path / "profile").exists()
        assert warnings_of(caplog) == [
            "no profiler trace: this run has made none of steps 3:4",
            "no profiler trace: this run has made none of steps 9:20",
        ]

    @pytest.mark.extended
    def test_another_shape_is_compiled_with_a_warning(self, tmp_path, caplog):
        assert int(run(tmp_path, Images(larger_from=5)).step) == 8
        (warning,) = warnings_of(caplog)
        assert warning.startswith("step 5 was compiled again (programs so far: 2), because its in")


def test_a_log_that_cannot_be_cut_stays_as_it_was(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = '{"step": 1}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_text(before)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MetricWriterError, match="No space left on device"):
            MetricWriter(tmp_path, start_step=1, active=True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == before
    MetricWriter(tmp_path, start_step=1, active=True).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_scores_of_a_run_that_was_cut_off_are_removed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    writer = MetricWriter(tmp_path, start_step=0, active=True)
    for step in (4, 8):
        writer.write_scores([{"step": step, "psnr": 30.0}])
    writer.close()
    MetricWriter(tmp_path, start_step=4, active=True).close()
    assert (tmp_path / "scores.jsonl").read_text() == '{"step": 4, "psnr": 30.0}\n'
    idle = MetricWriter(tmp_path, start_step=0, active=False)
    idle.write_scores([{"step": 6}])
    assert "6" not in (tmp_path / "scores.jsonl").read_text()


def test_numbers_that_json_lacks_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    writer = MetricWriter(tmp_path, start_step=0, active=True)
    writer.write_scalars(3, {"a": np.float32(0.5).item(), "b": np.nan, "c": np.inf, "d": 4})
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "a": 0.5, "d": 4}\n'


def test_only_the_writers_that_are_named(tmp_path):
    config = tiny.get_config()
    config.writers = ""
    writer = MetricWriter(tmp_path, start_step=0, active=True, config=config)
    writer.write_scalars(1, {"a": 1})
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
