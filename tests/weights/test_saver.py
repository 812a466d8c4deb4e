"""Saving in each format: the card, the type of the parameters, and what stays as it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import atomic_io, checkpoints
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import CheckpointError, manager
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import loader
from tests.random_weights import assert_same, contents


def test_again(exported, tmp_path):
    """What is known of the weights goes on with them."""
    first = weights_lib.load(exported)
    card = first.card | {"origin": [{"file": "a", "sha256": "b"}], "licence": "MIT"}
    weights_lib.save_directory(dataclasses.replace(first, card=card), tmp_path / "one")
    assert weights_lib.save_directory(tmp_path / "one", tmp_path / "two", notes="x") == {
        **card,
        "notes": "x",
    }
    assert_same(weights_lib.load(tmp_path / "two").variables, first.variables)


@pytest.mark.extended
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_smaller_storage(weights, exported, tmp_path, dtype):
    assert weights_lib.save_directory(weights, tmp_path / "out", dtype=dtype)["storage"] == dtype
    path = tmp_path / "out.safetensors"
    weights_lib.save_safetensors(exported, path, dtype=dtype)
    expected = {
        "params": jax.tree.map(
            lambda a: a.astype(jnp.dtype(dtype)).astype(np.float32), weights.variables["params"]
        ),
        "batch_stats": weights.variables["batch_stats"],
    }
    for source in (tmp_path / "out", path):
        loaded = weights_lib.load(source)
        assert_same(loaded.variables, expected)
        assert loaded.card["storage"] == dtype
    reader = checkpoints.Checkpoints(tmp_path / "out")
    stored = {leaf.dtype for leaf in jax.tree.leaves(reader.items(0)["params"])}
    reader.close()
    assert stored == {jnp.dtype(dtype)}


def test_storage_that_is_too_small(weights, tmp_path):
    params = jax.tree.map(lambda a: 1e6 * np.ones_like(a), weights.variables["params"])
    large = dataclasses.replace(weights, variables={**weights.variables, "params": params})
    with pytest.raises(ValueError, match=r"bias reaches 1e\+06, more than float16 holds"):
        weights_lib.save_directory(large, tmp_path / "out", dtype="float16")
    with pytest.raises(ValueError, match=r"dtype must be one of float32, .* got 'int8'"):
        weights_lib.save_directory(weights, tmp_path / "out", dtype="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.extended
def test_folders_stay_out_of_cards(run, tmp_path):
    weights = weights_lib.load(run[0])
    training = weights.card["training"]
    train, evaluated = training["data"]["train"], training["data"]["eval"]
    for path, name in {
        "/home/me/photos/": "photos",
        "../a/b,/c/d": "b,d",
        "~/x,": "x,",
    }.items():
        train["path"] = path
        train["source"] = ",".join(["folder"] * len(path.split(",")))
        output = tmp_path / name
        card = weights_lib.save_directory(weights, output)
        assert card["training"]["data"]["train"]["path"] == name
    train |= {"source": "tfds, folder", "path": "div2k/bicubic_x2,/c/d"}
    training["init_from"] = "/home/me/runs/first"
    pool = {"scale": 2, "pool": "/home/me/kernels"}
    training["degradation"]["options"] = {"low_resolution": pool}
    training["gan"]["vgg"] = "/home/me/vgg19.pth"
    card = weights_lib.save_directory(weights, tmp_path / "last")
    assert card["training"]["data"]["train"]["path"] == "div2k/bicubic_x2,d"
    assert card["training"]["init_from"] == "first"
    assert card["training"]["gan"]["vgg"] == "vgg19.pth"
    pool = card["training"]["degradation"]["options"]["low_resolution"]["pool"]
    assert pool == "kernels"
    assert training["init_from"] == "/home/me/runs/first"
    assert evaluated["path"] == config_lib.load(run[0] / "config.json").data.eval.path


class TestOutput:
    """That nothing is replaced or left half written."""

    def test_directories(self, weights, exported, tmp_path):
        output = tmp_path / "out"
        weights_lib.save_directory(weights, output)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=r"out is not empty; choose another directory"):
            weights_lib.save_directory(exported, output, notes="new")
        assert contents(tmp_path) == before
        weights_lib.save_directory(exported, output, notes="new", force=True)
        assert card_lib.read(output)["notes"] == "new"
        (output / "metrics.jsonl").write_text("")
        with pytest.raises(ValueError, match=r"is not an earlier conversion \(metrics.jsonl\)"):
            weights_lib.save_directory(exported, output, force=True)

    @pytest.mark.parametrize("force", [False, True])
    def test_full_disk(self, weights, tmp_path, monkeypatch, force):
        if force:
            weights_lib.save_directory(weights, tmp_path / "out")
            weights_lib.save_safetensors(weights, tmp_path / "out.safetensors")
        before = contents(tmp_path)

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(manager.ocp.AsyncCheckpointer, "wait_until_finished", full)
        with pytest.raises(CheckpointError, match=r"write the checkpoint .*: .*No space left") as e:
            weights_lib.save_directory(weights, tmp_path / "out", force=force, notes="new")
        assert "\n" not in str(e.value)
        monkeypatch.setattr(atomic_io.os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot write .*: No space left on device; choose a"):
            weights_lib.save_safetensors(
                weights, tmp_path / "out.safetensors", force=force, notes="new"
            )
        with pytest.raises(OSError, match=r"cannot write .*: Not a directory; choose a"):
            weights_lib.save_safetensors(weights, __file__ + "/out.safetensors")
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("force", [False, True])
    def test_what_appears_meanwhile_stays(self, exported, tmp_path, monkeypatch, force):
        """Without force; and with it, unless it is an earlier conversion."""
        load = loader.load

        def slow(path):
            for output in (tmp_path / "out", tmp_path / "out.safetensors" / "directory"):
                output.mkdir(parents=True, exist_ok=True)
                (output / "thesis.txt").write_text("of somebody else")
            return load(path)

        monkeypatch.setattr(loader, "load", slow)
        with pytest.raises(ValueError, match=r"out is not (empty|an earlier conversion)"):
            weights_lib.save_directory(exported, tmp_path / "out", force=force)
        with pytest.raises((ValueError, OSError), match=r"out\.safetensors"):
            weights_lib.save_safetensors(exported, tmp_path / "out.safetensors", force=force)
        assert set(contents(tmp_path).values()) == {b"of somebody else"}
        assert not list(tmp_path.glob(".*"))

    def test_a_folder_that_refuses_is_found_first(self, exported, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.delattr(loader, "load")
        for write in (weights_lib.save_directory, weights_lib.save_safetensors):
            with pytest.raises(OSError, match=r"cannot write .*: Not a directory; choose a"):
                write(exported, tmp_path / "file" / "out.safetensors")

    def test_files(self, weights, tmp_path):
        path = tmp_path / "new" / "out.safetensors"
        weights_lib.save_safetensors(weights, path)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"out.safetensors exists; choose another name"):
            weights_lib.save_safetensors(weights, path, notes="new")
        assert path.read_bytes() == before
        weights_lib.save_safetensors(weights, path, notes="new", force=True)
        assert weights_lib.load(path).card["notes"] == "new"
        assert [p.name for p in path.parent.iterdir()] == ["out.safetensors"]
        (tmp_path / "plain").write_bytes(b"")
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # umask, not private
        with pytest.raises(ValueError, match="is a directory; give a file"):
            weights_lib.save_safetensors(weights, tmp_path)
        with pytest.raises(ValueError, match=r"out.bin must end in .safetensors; rename it"):
            weights_lib.save_safetensors(weights, tmp_path / "out.bin")
