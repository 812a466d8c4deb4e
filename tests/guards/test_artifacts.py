"""Files that an earlier version wrote are read, and give what they gave then."""

import importlib.util
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.guards import artifact_cases, guarded, records, stand_in_torch
from tests.guards.artifact_cases import ARTIFACTS
from tests.legacy_pth import read_pth


@pytest.fixture
def artifact(tmp_path):
    """Copies one, so that nothing is written among them."""

    def copy(name):
        copied = shutil.copytree if (ARTIFACTS / name).is_dir() else shutil.copy
        return copied(ARTIFACTS / name, tmp_path / name)

    return copy


def stored(name):
    """Input and output of the version that wrote it."""
    with np.load(ARTIFACTS / f"{name}.npz") as file:
        return file["input"], file["output"]


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, strict=True)


@pytest.mark.parametrize("name", artifact_cases.WEIGHTS)
def test_weights(artifact, name):
    x, expected = stored(name)
    path = artifact(name)
    assert_close(guarded.Restorer.from_checkpoint(path)(x), expected)
    with np.load(ARTIFACTS / f"{name}.npz") as file:
        weights = str(file["weights"])  # to the last bit
    assert records.summary(guarded.load_weights(path).variables)["sha256"] == weights


@pytest.mark.parametrize("name", artifact_cases.WEIGHTS)
def test_card(artifact, name):
    """What is known of the network: made anew for a working directory, else as it was stored."""
    card = guarded.read_card(artifact(name))
    assert card["network"] == ("sadnet" if "sadnet" in name else "dncnn")
    expected = artifact_cases.SADNET if "sadnet" in name else {"depth": 3, "features": 4}
    kwargs = dict(card["kwargs"])
    assert kwargs == {k: v for k, v in expected.items() if k != "channels"}
    assert card["channels"] == 1
    trained = name in ("workdir", "exported", "dncnn.safetensors")
    assert (card["step"], card["averaged"]) == ((4, True) if trained else (0, False))
    assert card["storage"] == ("bfloat16" if name == "dncnn.safetensors" else "float32")
    if name == "exported":
        assert (card["licence"], card["notes"]) == ("CC0", "a trial")


@pytest.mark.parametrize("name", artifact_cases.PROGRAMS)
def test_program(name):
    """Without the library: run_exported.py imports nothing of it."""
    x, expected = stored(name)
    program = guarded.run_exported.load(ARTIFACTS / name)
    written_by = tuple(map(int, program.card["jax"].split(".")[:3]))
    if jax.__version_info__ < written_by:
        pytest.skip(f"written by JAX {program.card['jax']}, which is newer")
    assert_close(program(x), expected)


def test_pytorch(artifact, monkeypatch):
    """The file in PyTorch's format holds what the directory made of it does, and back."""
    if importlib.util.find_spec("torch") is None:
        monkeypatch.setitem(sys.modules, "torch", stand_in_torch.module())
    fields = {"depth": 3, "features": 4}
    path = artifact("dncnn.pth")
    loaded = guarded.load_weights(path, network="dncnn", network_kwargs=fields)
    converted = guarded.load_weights(artifact("converted"))
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, converted.variables)
    state_dict = guarded.convert.to_torch("dncnn", loaded.variables, **fields)
    expected = read_pth(path)
    assert sorted(state_dict) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state_dict[name], array, strict=True)


@pytest.mark.extended
def test_working_directory_goes_on(artifact):
    """Two steps more, from parameters, statistics, averages and the state of the optimizer."""
    config = artifact_cases.config(steps=6)
    datasets = artifact_cases.datasets(config)
    devices = jax.devices()[:1]
    workdir = artifact("workdir")
    resumed = guarded.train_and_evaluate(config, workdir, datasets=datasets, devices=devices)
    assert int(resumed.step) == 6
    straight = guarded.train_and_evaluate(
        config, workdir.with_name("straight"), datasets=datasets, devices=devices
    )
    for part in ("params", "ema", "batch_stats"):
        records.assert_same(
            records.summary(getattr(resumed, part)),
            records.summary(getattr(straight, part)),
            tolerance=1e-3,
        )


def test_first_configuration(artifact):
    """Fields that it lacks are completed as they were."""
    loaded = guarded.load_config(artifact("old_config") / "config.json")
    expected = json.loads((ARTIFACTS / "old_config.expected.json").read_text())
    expected = flatten_dict(expected, keep_empty_nodes=True, sep=".")
    found = json.loads(json.dumps(loaded.to_dict()))
    found = flatten_dict(found, keep_empty_nodes=True, sep=".")
    assert {name: found.get(name, "missing") for name in expected} == expected
    guarded.validate_config(loaded)


def test_working_directory_with_first_configuration(artifact, capsys):
    """It serves inference, and a run of today's configuration goes on in it."""
    workdir, old = artifact("workdir"), artifact("old_config")
    shutil.copy(old / "config.json", workdir / "config.json")
    x, expected = stored("workdir")
    assert_close(guarded.Restorer.from_checkpoint(workdir)(x), expected)
    config = artifact_cases.config()
    datasets = artifact_cases.datasets(config)
    guarded.train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:1])
    assert "4 of 4 steps" in capsys.readouterr().out
