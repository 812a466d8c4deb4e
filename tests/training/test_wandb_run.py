"""Runs of Weights & Biases, whose files are read back without its code for reading them."""

import importlib.machinery
import json
import socket
import struct
import subprocess
import sys
import threading

import pytest

from lcdnet_jax import storage
from lcdnet_jax.training import train_and_evaluate, wandb_run
from lcdnet_jax.training.metric_writer import MetricWriter
from tests.training.short_run import Images, make_config

pytestmark = pytest.mark.usefixtures("quick_trainer")


def run(workdir, steps):
    datasets = {"train": Images(), "eval": []}
    train_and_evaluate(make_config(steps=steps, writers="wandb"), workdir, datasets=datasets)


def read_records(data):
    """The protobuf messages of a .wandb file: a header, then LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    assert data[:7] == b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    position, parts, records = 7, [], []
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:  # the end of a block is filled with zeros
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            records.append(record)
            parts = []
    return records


def read_run(workdir):
    """Identity, configuration and rows by step of the only run there."""
    workdir = storage.to_path(workdir)
    (name,) = [name for name in storage.list_files(workdir) if name.endswith(".wandb")]
    records = read_records(storage.read_bytes(workdir / name))
    (about,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for item in about.config.update}
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            rows.append({k: v for k, v in row.items() if k not in ("_runtime", "_timestamp")})
    return about.run_id, config, rows


def merge_lines(workdir):
    """metrics.jsonl with one row for each step."""
    text = storage.read_bytes(storage.to_path(workdir) / "metrics.jsonl").decode()
    merged = {}
    for row in map(json.loads, text.splitlines()):
        merged.setdefault(row["step"], {"_step": row["step"]}).update(row)
    for row in merged.values():
        del row["step"]
    return list(merged.values())


@pytest.fixture
def proxy(monkeypatch):
    """Counts connections to other machines, which would all pass here."""
    seen = []
    with socket.create_server(("localhost", 0)) as server:

        def accept():
            while True:
                try:
                    seen.append(server.accept())
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        address = f"http://localhost:{server.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("WANDB_BASE_URL", address)
        yield seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.extended
def test_a_run_that_was_killed_is_continued(tmp_path, proxy):
    """Steps after the last checkpoint are there once, and nothing is sent."""
    pytest.importorskip("wandb")
    run(tmp_path, 4)
    identity, config, rows = read_run(tmp_path)
    assert rows == merge_lines(tmp_path)
    assert [row["_step"] for row in rows] == [1, 2, 3, 4]
    assert config["batch_size"] == 8
    assert config["network"]["name"] == "conv"
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train/loss": 123.0}\n{"step": 6')
    run(tmp_path, 6)
    again, _, rows = read_run(tmp_path)
    assert again == identity
    assert rows == merge_lines(tmp_path)
    assert [row["_step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[4]["train/loss"] != 123
    assert proxy == []


@pytest.mark.extended
def test_in_a_bucket(bucket):
    pytest.importorskip("wandb")
    workdir = f"{bucket}/run"
    run(workdir, 2)
    identity, _, _ = read_run(workdir)
    run(workdir, 4)
    again, _, rows = read_run(workdir)
    assert again == identity
    assert rows == merge_lines(workdir)


# Kills wandb's process between two lines of the log.
KILLED = """
import os, pathlib, signal, subprocess, sys, time
from configs import tiny
from lcdnet_jax.training.metric_writer import MetricWriter

config = tiny.get_config()
config.writers = "wandb"
writer = MetricWriter(pathlib.Path(sys.argv[1]), start_step=0, active=True, config=config)
writer.write_scalars(1, {"a": 1.0})
(core,) = subprocess.check_output(["pgrep", "-f", "wandb-core", "-P", str(os.getpid())]).split()
os.kill(int(core), signal.SIGTERM)
while pathlib.Path(f"/proc/{int(core)}/cmdline").read_bytes():  # empty when it has ended
    time.sleep(0.01)
for step in range(2, 5):
    time.sleep(0.5)
    writer.write_scalars(step, {"a": float(step)})
writer.close()
"""


@pytest.mark.extended
def test_goes_on_without_its_process(tmp_path):
    """SLURM sends SIGTERM to all processes of a task. That of wandb ends at once."""
    pytest.importorskip("wandb")
    command = [sys.executable, "-c", KILLED, tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("wandb has stopped (") == 1
    assert "Traceback" not in ended.stderr
    assert [row["_step"] for row in merge_lines(tmp_path)] == [1, 2, 3, 4]
    MetricWriter(tmp_path, start_step=3, active=True, config=make_config(writers="wandb")).close()
    assert [row["_step"] for row in read_run(tmp_path)[2]] == [1, 2, 3]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_run.WandbRun, "__init__", lambda *args: pytest.fail("it starts"))
    writer = MetricWriter(tmp_path, start_step=0, active=False, config=make_config(writers="wandb"))
    writer.write_scalars(1, {"a": 1})
    writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [None, importlib.machinery.ModuleSpec("wandb", None)])
def test_a_missing_package_is_said_at_once(tmp_path, monkeypatch, found):
    monkeypatch.setattr(wandb_run.importlib.util, "find_spec", lambda name: found)
    message = r"^config.writers: 'wandb' needs the package wandb; pip install \"lcdnet-jax\[wandb\]"
    with pytest.raises(ImportError, match=message):
        run(tmp_path / "run", 2)
    assert not (tmp_path / "run").exists()
