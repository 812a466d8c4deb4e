"""Loading of any format, and what cannot be loaded."""

import functools
import json
import os
import shutil

import jax
import numpy as np
import pytest

from lcdnet_jax import atomic_io, multihost, storage
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.config import ConfigError
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import CardError
from tests.random_weights import assert_same


class TestLoad:
    def test_runs(self, run):
        workdir, saved = run
        _, variables, card = weights_lib.load(workdir)
        assert_same(variables["params"], saved[8]["ema"])
        assert card["averaged"]
        assert weights_lib.load_card(workdir) == card
        assert weights_lib.load_card(workdir, step=4, ema=False)["step"] == 4

    def test_what_is_nothing_to_load(self, run, exported, tmp_path):
        (tmp_path / "a.txt").write_text("")
        (tmp_path / "checkpoints").mkdir()
        with pytest.raises(ValueError, match=r"a.txt is not a checkpoint: give a directory, or"):
            weights_lib.load(tmp_path / "a.txt")
        for name in ("none", "."):
            with pytest.raises(ConfigError, match=r"config.json does not exist"):
                weights_lib.load(tmp_path / name)
        with pytest.raises(OSError, match=r"cannot read .*none.safetensors: No such file"):
            weights_lib.load(tmp_path / "none.safetensors")
        (tmp_path / "config.json").write_bytes((run[0] / "config.json").read_bytes())
        with pytest.raises(CheckpointError, match="contains no complete checkpoint"):
            weights_lib.load_card(tmp_path)
        for read in (weights_lib.load, weights_lib.load_card):
            with pytest.raises(ValueError, match=r"a.txt is not a checkpoint"):
                read(tmp_path / "a.txt")

    @pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a"])
    def test_pipe_is_not_read(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        for read in (weights_lib.load, weights_lib.load_card):
            with pytest.raises(ValueError, match="is neither a file nor a directory"):
                read(tmp_path / name)

    def test_card_needs_a_device_too(self, run, monkeypatch):
        """Shapes are found by tracing, which asks JAX for its devices."""

        def fail():
            raise multihost.DeviceError("no device")

        monkeypatch.setattr(multihost, "check_devices", fail)
        for read in (weights_lib.load, weights_lib.load_card):
            with pytest.raises(multihost.DeviceError):
                read(run[0])

    def test_the_network_is_told_before_devices_start(self, run, weights, tmp_path, monkeypatch):
        file = tmp_path / "a.safetensors"
        weights_lib.save_safetensors(weights, file)
        calls = []
        monkeypatch.setattr(multihost, "check_devices", lambda: calls.append("devices"))
        for path in (run[0], file):
            weights_lib.load(path, on_network=calls.append)
        assert calls == ["dncnn", "devices"] * 2

    @pytest.mark.parametrize(
        ("name", "value"),
        [("degradation.options", {"a": 5}), ("data.train.path", ["a"]), ("data.eval.source", 5)],
    )
    def test_training_of_wrong_types(self, run, tmp_path, name, value):
        """With a right checksum, as an attacker makes it."""
        workdir = shutil.copytree(run[0], tmp_path / "run")
        path = workdir / "config.json"
        stored = json.loads(path.read_text())
        del stored["sha256"]
        *sections, key = name.split(".")
        functools.reduce(lambda fields, section: fields[section], sections, stored)[key] = value
        path.write_text(json.dumps(stored))
        with pytest.raises(ValueError, match="of a wrong type"):
            weights_lib.save_directory(workdir, tmp_path / "out")

    def test_arguments(self, weights, exported, tmp_path):
        path = tmp_path / "a.safetensors"
        weights_lib.save_safetensors(weights, path)
        for source in (exported, path):
            with pytest.raises(ValueError, match=r"names its network"):
                weights_lib.load(source, network="dncnn")
        for read in (weights_lib.load, weights_lib.load_card):
            with pytest.raises(ValueError, match="holds the weights of one step; leave step 3 off"):
                read(path, step=3)
            with pytest.raises(CheckpointError, match="has no step 3"):
                read(exported, step=3)
        assert weights_lib.load_card(exported, step=0) == weights_lib.load_card(exported)
        with pytest.raises(ValueError, match="step is for a path"):
            weights_lib.save_directory(weights, tmp_path / "out", step=3)

    def test_card_is_missing_or_of_another(self, weights, tmp_path):
        weights_lib.save_directory(weights, tmp_path / "out")
        card = card_lib.read(tmp_path / "out")
        card_lib.write(card | {"kwargs": {"depth": 4}}, tmp_path / "out")
        for read in (weights_lib.load, weights_lib.load_card):
            with pytest.raises(CardError, match=r"card.json describes another network than config"):
                read(tmp_path / "out")
        (tmp_path / "out" / "card.json").unlink()
        with pytest.raises(CardError, match=r"card.json does not exist"):
            weights_lib.load(tmp_path / "out")


@pytest.mark.extended
def test_a_bucket(bucket, weights, exported, run, tmp_path):
    """Each format, written there or copied, is what it is on a disk."""
    path = storage.to_path(bucket)
    weights_lib.save_directory(weights, path / "out")
    weights_lib.save_safetensors(weights, path / "w.safetensors")
    storage.upload(run[0], path / "run")
    for name in ("out", "w.safetensors"):
        loaded = weights_lib.load(f"{bucket}/{name}")
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, weights.variables)
        assert loaded.card == weights_lib.load_card(path / name) == weights.card
    for options in ({}, {"step": 4, "ema": False}):
        there, here = (weights_lib.load(one, **options) for one in (path / "run", run[0]))
        assert there.card == here.card == weights_lib.load_card(path / "run", **options)
        jax.tree.map(np.testing.assert_array_equal, there.variables, here.variables)
    weights_lib.save_safetensors(weights, path / "w.safetensors", force=True)
    with pytest.raises(atomic_io.TargetError, match=r"w.safetensors exists; choose another"):
        weights_lib.save_safetensors(weights, path / "w.safetensors")
    with pytest.raises(OSError, match=rf"cannot read {bucket}/none.safetensors: No such file"):
        weights_lib.load(f"{bucket}/none.safetensors")
    with pytest.raises(ConfigError, match=rf"{bucket}/none/config.json does not exist"):
        weights_lib.load(f"{bucket}/none")
    storage.write(path / "bad.safetensors", b"no tensors")
    with pytest.raises(CheckpointError, match=rf"^{bucket}/bad.safetensors is not a safetensors"):
        weights_lib.load(f"{bucket}/bad.safetensors")
    storage.remove_file(path / "out" / "card.json")  # as a process leaves it that was killed
    with pytest.raises(CardError, match=r"out/card.json does not exist"):
        weights_lib.load(path / "out")
