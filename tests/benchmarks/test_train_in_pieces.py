"""Pieces of a training: exact with the optimizer state, a labelled warm restart without."""

import functools
import json
import os
import signal
import time

import jax
import numpy as np
import pytest

from benchmarks import train_in_pieces
from benchmarks.train_in_pieces import PieceError
from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights
from lcdnet_jax.networks import registered
from lcdnet_jax.training import loop, train_and_evaluate
from lcdnet_jax.training.preemption import Preempted
from tests.training.conv_net import ConvNet

pytestmark = [pytest.mark.extended, pytest.mark.usefixtures("quickly_compiled")]


@pytest.fixture
def config(noise_photos):
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", {}
    for split in ("train", "eval"):
        config.data[split].source = "folder"
        config.data[split].path = str(noise_photos((20, 24, 3), (18, 30, 3)))
    config.data.where, config.steps, config.checkpoint_every = "device", 6, 0
    config.data.crop, config.log_every = 8, 1
    config.optimizer.schedule, config.optimizer.reset_warmup_steps = "cosine", 1
    with registered("conv", ConvNet):
        yield config


@pytest.fixture
def train(config, tmp_path, monkeypatch):
    """Makes a piece that ends after a step, in place of the time."""

    def stop(self, step, state, progress, preemption, *, last):
        finish(self, step, state, progress, preemption)
        if step == last < self._config.steps:
            self._save(step, state)
            self._checkpoints.finish(step)
            raise Preempted("stopped", 15)

    finish = loop._Loop._finish_call

    def train(last, **options):
        monkeypatch.setattr(loop._Loop, "_finish_call", functools.partialmethod(stop, last=last))
        options = {"minutes": 10, "limit": 60, **options}
        return train_in_pieces.train(config, tmp_path, tmp_path, **options)

    return train


def losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def rates(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["train/learning_rate"] for row in rows if "train/loss" in row}


@pytest.fixture
def straight(config, tmp_path):
    datasets = train_in_pieces.input_pipeline.create_datasets(config)
    train_and_evaluate(config, tmp_path / "straight", datasets=datasets)
    return tmp_path / "straight"


def unpack(pieces, to):
    train_in_pieces.main(["--unpack", str(pieces), "--output", str(to)])
    return to


def test_with_optimizer_state(train, tmp_path, straight):
    assert [path.name for path in sorted(train(2).iterdir())] == ["piece.json", "state.000"]
    train(5)
    last = train(6)
    assert last.name == "piece-003"
    history = json.loads((last / "piece.json").read_text())["pieces"]
    assert [(one["first_step"], one["last_step"]) for one in history] == [(0, 2), (2, 5), (5, 6)]
    assert [one["start"] for one in history] == [
        "from scratch", *(f"exact continuation after step {step}" for step in (2, 5))
    ]  # fmt: skip
    whole = unpack(tmp_path, tmp_path / "whole")
    found, wanted = weights.load(whole), weights.load(straight)
    jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)
    assert losses(whole) == losses(straight)
    with pytest.raises(PieceError, match=r"nothing to do: .*piece-003 has all 6 steps"):
        train(6)


def test_warm_restart(train, tmp_path, straight, monkeypatch, capsys):
    """The batches and the schedule go on; Adam starts anew, with a warm-up, and it says so."""
    monkeypatch.setattr(train_in_pieces, "_PART", 1000)
    first = train(3, limit=0)
    parts = sorted(path.name for path in first.iterdir())
    assert parts[:3] == ["piece.json", "state.000", "state.001"]
    assert "without optimizer state" in capsys.readouterr().out
    assert not [name for name in train_in_pieces.read(first).arrays if "opt_state" in name]
    last = train(6, limit=0)
    piece = train_in_pieces.read(last)
    assert piece.history[1]["start"] == "warm restart after step 3, warm-up of 1 step"
    assert json.loads(piece.config)["optimizer"]["resets"] == [3]
    whole = unpack(tmp_path, tmp_path / "whole")
    assert config_lib.load(whole / "config.json").optimizer.resets == (3,)
    before, after = losses(straight), losses(whole)
    assert [after[step] for step in (1, 2, 3, 4)] == [before[step] for step in (1, 2, 3, 4)]
    assert after[6] != before[6]
    factors = [rates(whole)[step] / rates(straight)[step] for step in range(1, 6)]
    np.testing.assert_allclose(factors, [1, 1, 1, 0.5, 1])


def test_time_ends_a_piece(config, tmp_path):
    config.steps = 1_000_000
    piece = train_in_pieces.train(config, tmp_path, tmp_path, minutes=0.2, limit=60)
    assert 0 < train_in_pieces.read(piece).step < 1_000_000


def test_the_time_ends_before_the_first_step(config, tmp_path, monkeypatch):
    def stay(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(train_in_pieces, "train_and_evaluate", stay)
    with pytest.raises(train_in_pieces.PieceError, match="before the first step, so no piece"):
        train_in_pieces.train(config, tmp_path, tmp_path, minutes=10, limit=60)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.glob("piece-*"))


def test_messages(train, config, tmp_path):
    piece = train(2)
    config.seed = 1
    with pytest.raises(ValueError, match=r"another configuration:\n  config.seed"):
        train(3)
    (piece / "state.000").write_bytes(b"")
    with pytest.raises(PieceError, match=r"state\.000 is damaged; copy the piece again"):
        train(3)
    with pytest.raises(SystemExit):
        train_in_pieces.main(["--unpack", str(tmp_path / "none")])
