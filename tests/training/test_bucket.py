"""Runs whose working directory is in a bucket: the same bits as those of local ones."""

import json

import jax
import numpy as np
import pytest

from lcdnet_jax import checkpoints, storage
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.checkpoints.bucket import _describe_system
from lcdnet_jax.training import metric_writer, replay, train_and_evaluate
from tests.training.short_run import Images, make_config

pytestmark = pytest.mark.usefixtures("quick_trainer")


def run(workdir, steps, data=None, *, profile=None, **fields):
    config = make_config(steps=steps, **fields)
    datasets = {"train": data or Images(), "eval": []}
    return train_and_evaluate(config, workdir, datasets=datasets, profile=profile)


def rows_of(workdir):
    text = storage.read_bytes(storage.to_path(workdir) / "metrics.jsonl").decode()
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


def names(workdir):
    return list(storage.list_files(storage.to_path(workdir)))


def assert_equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A local run of six steps: its directory and its state."""
    workdir = tmp_path_factory.mktemp("local")
    return workdir, run(workdir, 6)


@pytest.mark.extended
def test_a_run_in_pieces(bucket, local, capsys):
    workdir = f"{bucket}/my/run"
    run(workdir, 2)
    state = run(workdir, 6)
    assert f"continuing after step 2 of {workdir}/checkpoints" in capsys.readouterr().out
    assert_equal(state, local[1])
    assert rows_of(workdir) == rows_of(local[0])
    found = names(workdir)
    steps = {name.split("/")[1] for name in found if name.startswith("checkpoints/")}
    assert steps == {"2", "4", "6"}  # no lock.json either
    others = [name for name in found if not name.startswith("checkpoints/")]
    events = [name for name in others if name.startswith("events.out.tfevents.")]
    assert sorted(set(others) - set(events)) == ["config.json", "metrics.jsonl"]
    assert len(events) <= 2


@pytest.mark.extended
def test_large_events_are_not_copied_again(bucket, monkeypatch):
    monkeypatch.setattr(metric_writer, "_LARGEST_EVENTS", 1)
    copied, upload_file = [], storage.upload_file
    monkeypatch.setattr(
        storage, "upload_file", lambda file, to: (copied.append(file.name), upload_file(file, to))
    )
    run(f"{bucket}/run", 6)
    events = [name for name in copied if name.startswith("events.")]
    assert len(set(events)) == len(events) >= 3
    assert set(events) <= set(names(f"{bucket}/run"))


@pytest.mark.extended
def test_killed_during_a_save(bucket, local, tmp_path):
    """What such a process leaves behind, and lines that were copied after the last save."""
    workdir = f"{bucket}/run"
    run(workdir, 4)
    path = storage.to_path(workdir)
    storage.write(path / "checkpoints" / "6" / "params" / "_METADATA", b"{")
    lock = {"token": "x", "host": "h", "process": 2**22 + 1, "system": _describe_system()}
    storage.write(path / "checkpoints" / "lock.json", json.dumps(lock).encode())
    log = storage.read_bytes(path / "metrics.jsonl")
    storage.write(path / "metrics.jsonl", log + b'{"step": 5, "train/loss": 1}\n{"st')
    assert_equal(run(workdir, 6), local[1])
    assert rows_of(workdir) == rows_of(local[0])
    assert not [name for name in names(workdir) if "lock" in name or "damaged" in name]


@pytest.mark.extended
def test_a_damaged_checkpoint_and_a_damaged_log(bucket, local, capsys):
    workdir = f"{bucket}/run"
    run(workdir, 4)
    path = storage.to_path(workdir)
    victim = next(name for name in names(workdir) if name.startswith("checkpoints/4/params/d/"))
    storage.write(path / victim, b"")
    log = storage.read_bytes(path / "metrics.jsonl")
    storage.write(path / "metrics.jsonl", b"#" + log)
    storage.write(path / "damaged-metrics.jsonl", b"older")
    assert_equal(run(workdir, 6), local[1])
    assert "it is kept as damaged-metrics.jsonl-2" in capsys.readouterr().out
    assert storage.read_bytes(path / "damaged-metrics.jsonl-2") == b"#" + log
    assert storage.read_bytes(path / "damaged-metrics.jsonl") == b"older"
    assert any(name.startswith("checkpoints/damaged-4/") for name in names(workdir))


@pytest.mark.extended
def test_other_runs_start_from_it(bucket, local, tmp_path):
    workdir = f"{bucket}/run"
    run(workdir, 4)
    assert_equal(run(tmp_path / "resumed", 6, resume=workdir), local[1])
    assert_equal(run(f"{bucket}/resumed", 6, resume=workdir), local[1])
    state = run(f"{bucket}/init", 1, init_from=workdir)
    assert_equal(state, run(tmp_path / "init", 1, init_from=workdir))
    with pytest.raises(ValueError, match=r"gs://.*/none/config.json does not exist; give a work"):
        run(f"{bucket}/other", 6, resume=f"{bucket}/none")


@pytest.mark.extended
def test_replay_and_profile(bucket, local):
    workdir = f"{bucket}/run"
    run(workdir, 6, profile=(3, 4))
    folder = replay(make_config(steps=6), workdir, 5, datasets={"train": Images()})
    assert str(folder) == f"{workdir}/replay/5"
    found = names(workdir)
    assert {"replay/5/batch.npz", "replay/5/batch.png"} <= set(found)
    assert [name for name in found if name.startswith("profile/")]


@pytest.mark.extended
def test_mistakes(bucket):
    run(f"{bucket}/run", 2)
    with pytest.raises(ValueError, match=r"gs://.*/run holds a run with another configuration"):
        run(f"{bucket}/run", 4, batch_size=16)
    storage.remove(storage.to_path(f"{bucket}/run/config.json"))
    with pytest.raises(ValueError, match=r"gs://.*/run holds checkpoints but no config.json"):
        run(f"{bucket}/run", 4)
    with pytest.raises(CheckpointError, match=r"cannot use gs://no-such/run/checkpoints"):
        run("gs://no-such/run", 4)


@pytest.mark.extended
@pytest.mark.slow
def test_a_server_that_stops(bucket, gcs, local, caplog):
    """The run ends as on a full disk, and continues when the server is back."""
    workdir = f"{bucket}/run"
    run(workdir, 2)
    try:
        with pytest.raises(CheckpointError) as error:
            run(workdir, 6, Images(3, gcs.stop))
    finally:
        gcs.start()
    message = str(error.value)
    assert f"cannot write to {workdir}: " in message
    assert "the bucket does not answer (Cannot connect" in message
    assert "step 2 is saved. Check the network and the access to the bucket, then run" in message
    lines = [record.getMessage() for record in caplog.records]
    assert sum("the request is repeated" in line for line in lines) >= 5
    assert [path for path in names(workdir) if path.startswith("checkpoints/2/")]
    assert_equal(run(workdir, 6), local[1])
    assert rows_of(workdir) == rows_of(local[0])
    assert checkpoints.Checkpoints(workdir).steps() == [2, 4, 6]
