"""Weights in and out of directories, safetensors and PyTorch files, to the last bit.

PyTorch is not needed: a stand-in writes and reads what these tests save. Where it is installed, its
own files are tested too.
"""

import json
import pathlib
import pickle
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import Restorer, atomic_io, checkpoints, convert, networks
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import CheckpointError, DamagedCheckpointError, manager
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training.eval_hook import EvalHook
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import interchange
from lcdnet_jax.weights.card import CardError
from tests.legacy_pth import read_pth

SMALL = {"depth": 3, "features": 4}  # of DnCNN
TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": SMALL,
    "ikc": {"features": 4, "blocks": 2, "code_length": 3, "kernel_size": 5, "iterations": 2},
    "kmsr": {"features": 4, "blocks": 2},
    "lcdnet": {"width": 16, "enc_blocks": (1, 2, 1, 1)},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {"width": 2, "features": 4, "depth": 3, "patch": 4, "stride": 2, "window": 3},
    "rcan": {"scale": 2, "groups": 2, "blocks": 2, "features": 16},
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 4, "blocks": 2, "features": 4, "growth": 2},
    "sadnet": {"width": 4, "offset_width": 4, "groups": 2},
}


def drawn(name, seed=0, **kwargs):
    """Variables of a network, every number its own."""
    rng = np.random.default_rng(seed)
    shapes = convert._leaves(networks.create(name, **kwargs))
    values = {path: rng.normal(size=leaf.shape) for path, leaf in shapes.items()}
    return unflatten_dict({path: value.astype(np.float32) for path, value in values.items()})


def assert_same(found, expected):
    """Of nested or flat dicts of arrays: the same names, types and bits."""
    found, expected = flatten_dict(dict(found)), flatten_dict(dict(expected))
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        ours, theirs = np.asarray(found[name]), np.asarray(array)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        assert ours.tobytes() == theirs.tobytes(), name


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def weights():
    return interchange.describe("dncnn", drawn("dncnn", **SMALL), **SMALL)


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """A parameters-only directory, only to be read."""
    output = tmp_path_factory.mktemp("exported") / "out"
    interchange.export_params(weights, output)
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Working directory of a training of 8 steps, only to be read; and what was saved in it."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny.get_config()
    config.network.name, config.data.channels = "dncnn", 1
    config.network.kwargs = ConfigDict(SMALL)
    config.network.dtype = "bfloat16"
    config_lib.save(config, workdir / "config.json")
    writer = checkpoints.Checkpoints(workdir, keep=2)
    saved = {}
    for step in (4, 8):
        variables = drawn("dncnn", step, **SMALL)
        ema = drawn("dncnn", step + 1, **SMALL)["params"]
        saved[step] = {**variables, "ema": ema, "opt_state": {"mu": np.ones(3, np.float32)}}
        writer.save(step, jax.tree.map(jnp.asarray, saved[step]))
        writer.finish(step)
    writer.close()
    rows = [
        {"step": 2, "loss": 0.5},
        {"step": 4, "eval/sigma25/psnr": 20.0, "eval/sigma25/ssim": 0.5},
        {"step": 8, "eval/sigma25/psnr": 21.0, "eval/sigma25/ssim": 0.6, "time/step": 1.0},
        {"step": 8, "eval/sigma50/psnr": 18.0, "eval/sigma50/ssim": 0.4},
        {"step": 8, "eval/sigmaX/psnr": 1.0, "eval/sigma15/psnr": float("nan")},
        {"step": "8", "eval/sigma15/psnr": 1.0},
    ]
    lines = [json.dumps(row) for row in rows]
    (workdir / "metrics.jsonl").write_text("\n".join([*lines, '[1]\n{"step": 12, "eval/sig']))
    return workdir, saved


class TestNames:
    """Round trips by PyTorch's names."""

    def test_own_names(self):
        """LCDNet's: numbered blocks, 1x1 convolutions for dense layers, factors, keywords."""
        variables = drawn("lcdnet", **TINY["lcdnet"])
        state_dict = convert.to_torch("lcdnet", variables, **TINY["lcdnet"])
        stage = variables["params"]["enc1"]
        blocks = stage["blocks"]
        for i in (0, 1):
            prefix = f"enc1.blocks.{i}"
            kernel = blocks["local_out"]["kernel"][i]
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.local_out.weight"], kernel.transpose(3, 2, 0, 1)
            )
            depthwise = state_dict[f"{prefix}.first_3.weight"]
            assert depthwise.shape == (64, 1, 3, 3)
            np.testing.assert_array_equal(
                depthwise[5, 0], blocks["first_3"]["kernel"][i, :, :, 0, 5]
            )
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.gamma"], blocks["gamma"][i][None, :, None, None]
            )
            np.testing.assert_array_equal(
                state_dict[f"{prefix}.norm1.weight"], blocks["norm1"]["scale"][i]
            )
            dense = state_dict[f"{prefix}.local_sca.weight"]
            np.testing.assert_array_equal(
                dense[:, :, 0, 0], blocks["local_sca"]["kernel"][i].transpose()
            )
            assert f"{prefix}.global_.out.bias" in state_dict
        assert "enc1.blocks.2.gamma" not in state_dict
        assert state_dict["enc1.msfm.in_.weight"].shape == (32, 32, 1, 1)
        assert state_dict["down0.weight"].shape == (32, 16, 2, 2)

    def test_a_block_is_missing(self):
        state_dict = convert.to_torch("lcdnet", drawn("lcdnet", **TINY["lcdnet"]), **TINY["lcdnet"])
        del state_dict["enc1.blocks.1.gamma"]
        state_dict["enc1.blocks.0.gamma"] = np.ones(32, np.float32)
        with pytest.raises(ValueError, match="not the weights of lcdnet") as error:
            convert.from_torch("lcdnet", state_dict, **TINY["lcdnet"])
        assert "missing: enc1.blocks.1.gamma\n" in str(error.value)
        wanted = "enc1.blocks.0.gamma gives (32,), the network needs (1, 32, 1, 1)"
        assert wanted in str(error.value)

    @pytest.mark.parametrize("name", networks.available())
    def test_every_network(self, name):
        kwargs = TINY.get(name, {})
        variables = drawn(name, **kwargs)
        state_dict = convert.to_torch(name, variables, **kwargs)
        assert sum(a.size for a in state_dict.values()) == sum(
            a.size for a in jax.tree.leaves(variables)
        )
        for array in state_dict.values():
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert not any(np.shares_memory(array, a) for a in jax.tree.leaves(variables))
        again = convert.from_torch(name, state_dict, **kwargs)
        assert_same(again, variables)
        assert_same(convert.to_torch(name, again, **kwargs), state_dict)

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("dncnn", "dncnn_gray_regular"),
            ("dncnn", "dncnn_gray_sfm_r0.85_s0.15"),
            ("memnet", "memnet_gray_regular"),
            ("memnet", "memnet_gray_sfm_r0.85_s0.15"),
            ("unet_n2n", "unet_n2n_bsd_regular"),
            ("unet_n2n", "unet_n2n_bsd_sfm"),
        ],
    )
    def test_official_weights(self, shared_data, name, file):
        official = read_pth(shared_data(f"weights/sfm/{file}.pth"))
        state_dict = convert.to_torch(name, convert.from_torch(name, official))
        alive = {k.removeprefix("module."): a for k, a in official.items() if "num_batch" not in k}
        assert_same(state_dict, alive)

    @pytest.mark.parametrize(
        ("name", "file", "kwargs"),
        [
            ("sadnet", "sadnet_color", {"width": 8, "offset_width": 8}),
            ("sadnet", "sadnet_gray", {"width": 8, "offset_width": 8, "channels": 1}),
            ("ridnet", "ridnet_gray", {}),
        ],
    )
    def test_official_modules(self, golden, name, file, kwargs):
        prefix = "state_dict/"
        official = {k.removeprefix(prefix): a for k, a in golden(file).items() if prefix in k}
        variables = convert.from_torch(name, official, **kwargs)
        assert_same(convert.to_torch(name, variables, **kwargs), official)

    def test_other_variables(self, weights):
        variables = {"params": {"dncnn": {**weights.variables["params"]["dncnn"], "x": np.ones(2)}}}
        with pytest.raises(ValueError, match=r"not variables of dncnn with {'depth': 3") as error:
            convert.to_torch("dncnn", variables, depth=3, features=5)
        for part in (
            "missing: batch_stats/dncnn/bn_1/mean; batch_stats/dncnn/bn_1/var\n",
            "unknown: params/dncnn/x\n",
            "params/dncnn/conv_0/kernel is (3, 3, 1, 4), the network needs (3, 3, 1, 5)",
        ):
            assert part in str(error.value)
        with pytest.raises(ValueError, match="not variables of dncnn"):
            interchange.describe("dncnn", variables, **SMALL)


class TestExport:
    def test_directory(self, run, tmp_path):
        workdir, saved = run
        output = tmp_path / "new folder" / "out"
        card = interchange.export_params(workdir, output, licence="CC0", notes="a trial")
        assert sorted(p.name for p in output.parent.iterdir()) == ["out"]
        assert sorted(p.name for p in output.iterdir()) == [
            "card.json",
            "checkpoints",
            "config.json",
        ]
        checkpoint = output / "checkpoints" / "8"
        assert {p.name for p in checkpoint.iterdir() if p.is_dir()} == {"params", "batch_stats"}
        assert json.loads((output / "config.json").read_text()) == {
            "network": {"name": "dncnn", "kwargs": SMALL, "dtype": "bfloat16"},
            "data": {"channels": 1},
        }
        assert card_lib.read(output) == card
        described = {"step": 8, "data": "photos", "protocol": card["metrics"][0]["protocol"]}
        assert card["metrics"] == [
            {**described, "sigma": 25.0, "psnr": 21.0, "ssim": 0.6},
            {**described, "sigma": 50.0, "psnr": 18.0, "ssim": 0.4},
        ]
        (origin,) = card["origin"]
        assert origin["file"] == "checkpoints/8/manifest.json"
        assert card["training"]["steps"] == 8
        expected = {"network": "dncnn", "kwargs": SMALL, "channels": 1, "dtype": "bfloat16"}
        expected |= {"parameters": 224, "step": 8, "averaged": True, "storage": "float32"}
        expected |= {"licence": "CC0", "notes": "a trial", "dropped": []}
        assert {key: card[key] for key in expected} == expected

        module, variables, loaded = interchange.load(output)
        assert loaded == card
        assert (module.depth, module.dtype) == (3, jnp.bfloat16)
        averaged = {"params": saved[8]["ema"], "batch_stats": saved[8]["batch_stats"]}
        assert_same(variables, averaged)
        # What others read it with: Restorer, eval.py and config.init_from.
        assert_same(Restorer.from_checkpoint(output).variables, averaged)
        wanted = networks.abstract_variables(module)
        assert_same(checkpoints.restore_variables(output, wanted)[0], averaged)

    def test_of_chosen_parameters(self, run, tmp_path):
        workdir, saved = run
        card = interchange.export_params(workdir, tmp_path / "raw", step=4, ema=False)
        assert (card["step"], card["averaged"], card["metrics"]) == (4, False, [])
        assert_same(interchange.load(tmp_path / "raw").variables["params"], saved[4]["params"])
        card = interchange.export_params(workdir, tmp_path / "ema", step=4)
        assert [row["psnr"] for row in card["metrics"]] == [20.0]
        assert_same(interchange.load(tmp_path / "ema").variables["params"], saved[4]["ema"])

    def test_again(self, exported, tmp_path):
        """What is known of the weights goes on with them."""
        first = interchange.load(exported)
        card = first.card | {"origin": [{"file": "a", "sha256": "b"}], "licence": "MIT"}
        interchange.export_params(first._replace(card=card), tmp_path / "one")
        assert interchange.export_params(tmp_path / "one", tmp_path / "two", notes="x") == {
            **card,
            "notes": "x",
        }
        assert_same(interchange.load(tmp_path / "two").variables, first.variables)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_smaller_storage(self, weights, exported, tmp_path, dtype):
        assert interchange.export_params(weights, tmp_path / "out", dtype=dtype)["storage"] == dtype
        path = tmp_path / "out.safetensors"
        interchange.save_safetensors(exported, path, dtype=dtype)
        expected = {
            "params": jax.tree.map(
                lambda a: a.astype(jnp.dtype(dtype)).astype(np.float32), weights.variables["params"]
            ),
            "batch_stats": weights.variables["batch_stats"],
        }
        for source in (tmp_path / "out", path):
            loaded = interchange.load(source)
            assert_same(loaded.variables, expected)
            assert loaded.card["storage"] == dtype
        reader = checkpoints.Checkpoints(tmp_path / "out")
        stored = {leaf.dtype for leaf in jax.tree.leaves(reader.items(0)["params"])}
        reader.close()
        assert stored == {jnp.dtype(dtype)}

    def test_storage_that_is_too_small(self, weights, tmp_path):
        params = jax.tree.map(lambda a: 1e6 * np.ones_like(a), weights.variables["params"])
        large = weights._replace(variables={**weights.variables, "params": params})
        with pytest.raises(ValueError, match=r"bias reaches 1e\+06, more than float16 holds"):
            interchange.export_params(large, tmp_path / "out", dtype="float16")
        with pytest.raises(ValueError, match=r"dtype must be one of float32, .* got 'int8'"):
            interchange.export_params(weights, tmp_path / "out", dtype="int8")
        assert not list(tmp_path.iterdir())

    def test_protocol_is_that_of_the_evaluations(self):
        for changes in (
            {},
            {"degradation.protocol": "8bit", "degradation.spectrum": "high"},
            {"degradation.kind": "none", "data.eval.source": "gopro"},
            {"degradation.kind": "none", "data.eval.source": "realblur_j"},
            {"degradation.kind": "none", "data.eval.source": "dpdd"},
            {"degradation.kind": "motion"},
            {"degradation.protocol": "float,8bit"},
            {"degradation.kind": "motion", "degradation.protocol": "8bit,clipped"},
            {
                "degradation.kind": "low_resolution",
                "degradation.options": {"low_resolution": {"scale": 2}},
                "network.name": "rcan",
                "network.kwargs": {"scale": 2},
            },
        ):
            config = tiny.get_config()
            config.update_from_flattened_dict(changes)
            evaluation = EvalHook(config, networks.create("dncnn"), [], None)
            scored = [evaluator.protocol for evaluator in evaluation._evaluators]
            assert interchange._protocols(config) == scored

    def test_scores_under_several_protocols(self, tmp_path):
        config = tiny.get_config()
        config.degradation.protocol = "float,8bit"
        config.eval.sigmas = (25.0, 50.0)
        config.eval.panels = 1
        lines, panels = [], []

        class Writer:
            def write_scalars(self, step, values):
                lines.append(json.dumps({"step": step, **values}))

            def write_panel(self, step, name, image):
                panels.append(name)

            def print_line(self, line):
                pass

        module = networks.create("dncnn", depth=2, features=2, channels=3)
        clean = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
        variables = module.init(jax.random.key(0), clean[None])
        examples = [{"name": "a", "clean": clean}]
        EvalHook(config, module, examples, Writer())(7, variables)
        assert panels == [f"a_{p}_sigma{s}" for p in ("float", "8bit") for s in (25, 50)]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
        rows = interchange._metrics(tmp_path, config, 7)
        assert [(row["protocol"].split(":")[0], row["sigma"]) for row in rows] == [
            *(("float", 25.0), ("float", 50.0), ("8bit", 25.0), ("8bit", 50.0))
        ]
        assert len({row["psnr"] for row in rows}) == 4

    def test_folders_stay_out_of_cards(self, run, tmp_path):
        weights = interchange.load(run[0])
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
            card = interchange.export_params(weights, output)
            assert card["training"]["data"]["train"]["path"] == name
        train |= {"source": "tfds, folder", "path": "div2k/bicubic_x2,/c/d"}
        training["init_from"] = "/home/me/runs/first"
        pool = {"scale": 2, "pool": "/home/me/kernels"}
        training["degradation"]["options"] = {"low_resolution": pool}
        training["gan"]["vgg"] = "/home/me/vgg19.pth"
        card = interchange.export_params(weights, tmp_path / "last")
        assert card["training"]["data"]["train"]["path"] == "div2k/bicubic_x2,d"
        assert card["training"]["init_from"] == "first"
        assert card["training"]["gan"]["vgg"] == "vgg19.pth"
        pool = card["training"]["degradation"]["options"]["low_resolution"]["pool"]
        assert pool == "kernels"
        assert training["init_from"] == "/home/me/runs/first"
        config = config_lib.load(run[0] / "config.json")
        config.data.eval.source, config.data.eval.path = "folder", "../some/where/"
        rows = interchange._metrics(run[0], config, 10**6)
        assert rows
        assert {row["data"] for row in rows} == {"folder where"}
        assert evaluated["path"] == config_lib.load(run[0] / "config.json").data.eval.path

    def test_scores_of_eval(self, run, tmp_path):
        workdir, _ = run
        row = {"dataset": "a", "sigma": 25.0, "protocol": "8bit", "mode": "full", "psnr": 30.5}
        row |= {"ssim": None, "n": 3, "weights": card_lib.identity(interchange.card(workdir))}
        tiled = row | {"mode": "tiled 384/64", "sigma": None}
        (tmp_path / "results.json").write_text(json.dumps([row, tiled]))
        metrics = interchange.scores(tmp_path / "results.json")
        card = interchange.export_params(workdir, tmp_path / "out", metrics=metrics)
        expected = {"data": "a", "protocol": "8bit", "sigma": 25.0, "psnr": 30.5, "n": 3}
        tiled = {"protocol": "8bit, tiled 384/64", "sigma": None}
        assert card["metrics"] == [expected, expected | tiled]
        assert card_lib.identity(card) == row["weights"]  # scores of what was exported fit as well
        others = [{**metrics[0], "weights": "dncnn, step 1"}]
        with pytest.raises(ValueError, match=r"of other weights \(dncnn, step 1\) than these"):
            interchange.export_params(workdir, tmp_path / "others", metrics=others)
        assert not (tmp_path / "others").exists()
        for text in (
            "{",
            "[]",
            "{}",
            "[1]",
            '[{"dataset": "a"}]',
            json.dumps([row | {"psnr": "x"}]),
        ):
            (tmp_path / "results.json").write_text(text)
            with pytest.raises(ValueError, match=r"results\.json holds no scores; give the"):
                interchange.scores(tmp_path / "results.json")
        with pytest.raises(OSError, match=r"none\.json: No such file.*; give the results\.json"):
            interchange.scores(tmp_path / "none.json")

    def test_configuration_of_a_card(self, run):
        workdir, _ = run
        card = interchange.load(workdir).card
        stored = config_lib.load(workdir / "config.json")
        assert interchange.configuration(card, "x") == stored
        alone = interchange.configuration(card | {"training": None}, "x")
        assert sorted(alone) == ["data", "network"]
        with pytest.raises(CardError, match=r"^x has weights whose training .*update lcdnet-jax"):
            interchange.configuration(card | {"training": {"steps": 3}}, "x")

    def test_damaged_sources(self, run, tmp_path):
        workdir, _ = run
        for name in ("config.json", "metrics.jsonl"):
            (tmp_path / name).write_bytes((workdir / name).read_bytes())
        output = tmp_path / "out"
        with pytest.raises(CheckpointError, match="checkpoints does not exist"):
            interchange.export_params(tmp_path, output)
        for path, content in contents(workdir / "checkpoints" / "8").items():
            copy = tmp_path / "checkpoints" / "8" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content[:-1] if copy.match("ema/*/*/*") else content)
        with pytest.raises(DamagedCheckpointError, match="is damaged: ema/"):
            interchange.export_params(tmp_path, output)
        with pytest.raises(CheckpointError, match=r"has no step 5; there are: 8"):
            interchange.export_params(tmp_path, output, step=5)
        (tmp_path / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"config.json does not exist"):
            interchange.export_params(tmp_path, output)
        assert not output.exists()
        assert not list(tmp_path.glob(".*"))


class TestOutput:
    """That nothing is replaced or left half written."""

    def test_directories(self, weights, exported, tmp_path):
        output = tmp_path / "out"
        interchange.export_params(weights, output)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=r"out is not empty; choose another directory"):
            interchange.export_params(exported, output, notes="new")
        assert contents(tmp_path) == before
        interchange.export_params(exported, output, notes="new", force=True)
        assert card_lib.read(output)["notes"] == "new"
        (output / "metrics.jsonl").write_text("")
        with pytest.raises(ValueError, match=r"is no earlier conversion \(metrics.jsonl\)"):
            interchange.export_params(exported, output, force=True)

    @pytest.mark.parametrize("force", [False, True])
    def test_full_disk(self, weights, tmp_path, monkeypatch, force):
        if force:
            interchange.export_params(weights, tmp_path / "out")
            interchange.save_safetensors(weights, tmp_path / "out.safetensors")
        before = contents(tmp_path)

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(manager.ocp.AsyncCheckpointer, "wait_until_finished", full)
        with pytest.raises(CheckpointError, match=r"write the checkpoint .*: .*No space left") as e:
            interchange.export_params(weights, tmp_path / "out", force=force, notes="new")
        assert "\n" not in str(e.value)
        monkeypatch.setattr(atomic_io.os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot write .*: No space left on device; choose a"):
            interchange.save_safetensors(
                weights, tmp_path / "out.safetensors", force=force, notes="new"
            )
        with pytest.raises(OSError, match=r"cannot write .*: Not a directory; choose a"):
            interchange.save_safetensors(weights, __file__ + "/out.safetensors")
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("force", [False, True])
    def test_what_appears_meanwhile_stays(self, exported, tmp_path, monkeypatch, force):
        """Without force; and with it, unless it is an earlier conversion."""
        load = interchange.load

        def slow(path):
            for output in (tmp_path / "out", tmp_path / "out.safetensors" / "directory"):
                output.mkdir(parents=True, exist_ok=True)
                (output / "thesis.txt").write_text("of somebody else")
            return load(path)

        monkeypatch.setattr(interchange, "load", slow)
        with pytest.raises(ValueError, match=r"out is no(t empty| earlier conversion)"):
            interchange.export_params(exported, tmp_path / "out", force=force)
        with pytest.raises((ValueError, OSError), match=r"out\.safetensors"):
            interchange.save_safetensors(exported, tmp_path / "out.safetensors", force=force)
        assert set(contents(tmp_path).values()) == {b"of somebody else"}
        assert not list(tmp_path.glob(".*"))

    def test_a_folder_that_refuses_is_found_first(self, exported, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.delattr(interchange, "load")
        for write in (interchange.export_params, interchange.save_safetensors):
            with pytest.raises(OSError, match=r"cannot write .*: Not a directory; choose a"):
                write(exported, tmp_path / "file" / "out.safetensors")

    def test_files(self, weights, tmp_path):
        path = tmp_path / "new" / "out.safetensors"
        interchange.save_safetensors(weights, path)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"out.safetensors exists; choose another name"):
            interchange.save_safetensors(weights, path, notes="new")
        assert path.read_bytes() == before
        interchange.save_safetensors(weights, path, notes="new", force=True)
        assert interchange.load(path).card["notes"] == "new"
        assert [p.name for p in path.parent.iterdir()] == ["out.safetensors"]
        (tmp_path / "plain").write_bytes(b"")
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # umask, not private
        with pytest.raises(ValueError, match="is a directory; give a file"):
            interchange.save_safetensors(weights, tmp_path)
        with pytest.raises(ValueError, match=r"out.bin must end in .safetensors; rename it"):
            interchange.save_safetensors(weights, tmp_path / "out.bin")


class TestSafetensors:
    @pytest.fixture
    def file(self, weights, tmp_path):
        path = tmp_path / "model.safetensors"
        interchange.save_safetensors(weights, path, licence="MIT")
        return path

    def test_one_file_is_enough(self, weights, file):
        module, variables, card = interchange.load(file)
        assert (type(module).__name__, module.depth, module.features) == ("DnCNN", 3, 4)
        assert_same(variables, weights.variables)
        assert card == weights.card | {"licence": "MIT"}
        assert interchange.card(file) == card
        x = jnp.full((1, 5, 6, 1), 0.5)
        assert module.apply(variables, x).shape == x.shape

    def test_names(self, weights, file):
        found = safetensors.numpy.load_file(file)
        assert "batch_stats/dncnn/bn_1/mean" in found
        np.testing.assert_array_equal(
            found["params/dncnn/conv_0/kernel"],
            weights.variables["params"]["dncnn"]["conv_0"]["kernel"],
        )

    def test_same_weights_same_bytes(self, exported, tmp_path):
        for name in ("a", "b"):
            interchange.save_safetensors(exported, tmp_path / f"{name}.safetensors")
        interchange.save_safetensors(tmp_path / "a.safetensors", tmp_path / "c.safetensors")
        bytes_of = {p.read_bytes() for p in tmp_path.iterdir()}
        assert len(bytes_of) == 1

    @pytest.mark.parametrize(
        ("network", "kwargs"),
        [
            ("sadnet", {"preset": "small", "dilations": (1, 1, 2, 3), "channels": 1}),
            ("unet_n2n", {"input_range": (-1.0, 1.0), "dtype": jnp.bfloat16}),
        ],
    )
    def test_fields_of_networks(self, tmp_path, network, kwargs):
        made = interchange.describe(network, drawn(network, **kwargs), **kwargs)
        interchange.save_safetensors(made, tmp_path / "a.safetensors")
        module, variables, _ = interchange.load(tmp_path / "a.safetensors")
        assert module == networks.create(network, **kwargs)
        assert_same(variables, made.variables)

    def test_cards_that_name_a_preset(self, tmp_path, monkeypatch):
        """Of older versions. The preset may mean something else by now."""
        kwargs = {"preset": "small", "use_rsab": False}
        made = interchange.describe("sadnet", drawn("sadnet", **kwargs), **kwargs)
        module = networks.create("sadnet", **kwargs)
        assert made.card["kwargs"]["width"] == 8
        assert "preset" not in made.card["kwargs"]
        interchange.save_safetensors(
            made._replace(card={**made.card, "kwargs": kwargs}), tmp_path / "new.safetensors"
        )
        assert interchange.card(tmp_path / "new.safetensors")["kwargs"] == made.card["kwargs"]
        tensors, header = interchange._read_safetensors(tmp_path / "new.safetensors")
        entry = {"card": {**header.card, "kwargs": kwargs}, "sha256": header.sha256}
        old = tmp_path / "old.safetensors"
        safetensors.numpy.save_file(tensors, old, metadata={"lcdnet_jax": json.dumps(entry)})
        changed = {"small": {"width": 16, "offset_width": 16, "groups": 4}}
        monkeypatch.setattr(networks.SADNet, "PRESETS", changed)
        assert interchange.load(old).module == module
        written = interchange.export_params(old, tmp_path / "directory")
        assert written["kwargs"] == made.card["kwargs"]
        assert interchange.load(tmp_path / "directory").module == module
        stored = json.loads((tmp_path / "directory" / "config.json").read_text())
        assert stored["network"]["kwargs"] == made.card["kwargs"]

    @pytest.mark.parametrize("keep", [0, 4, 100, -1])
    def test_cut(self, file, keep):
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(CheckpointError, match=r"model.safetensors is no safetensors file") as e:
            interchange.load(file)
        assert "\n" not in str(e.value)

    def test_a_flipped_bit(self, file):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"arrays are not as they were saved \(SHA-256"):
            interchange.load(file)

    @pytest.fixture
    def rewritten(self, file):
        """Writes the file again, with another header or arrays."""

        def rewrite(change=lambda entry: entry, tensors=None):
            with safetensors.safe_open(file, framework="numpy") as old:
                entry = json.loads(old.metadata()["lcdnet_jax"])
            tensors = safetensors.numpy.load_file(file) if tensors is None else tensors
            entry["sha256"] = interchange._digest(tensors)
            text = json.dumps(change(entry))
            file.write_bytes(safetensors.numpy.save(tensors, metadata={"lcdnet_jax": text}))
            return file

        return rewrite

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 2}, "the header of .* was written by a newer version"),
            ({"step": "3"}, "the header of .*: step must be a whole number"),
            ({"network": "resnet"}, "does not hold what its card says: no network 'resnet'"),
            ({"kwargs": {"depth": 4, "features": 4}}, "says: these are not variables of dncnn"),
            (
                {"kwargs": {"name": "x"}},
                "kwargs must be an object without name, channels and dtype",
            ),
            ({"dtype": "float3"}, "says: data type 'float3' not understood"),
            ({"channels": 2}, "says: channels must be one of 1, 3, 6, got 2"),
        ],
        ids=str,
    )
    def test_card_that_cannot_be_used(self, rewritten, change, message):
        path = rewritten(lambda entry: entry | {"card": entry["card"] | change})
        with pytest.raises((CardError, CheckpointError), match=message) as error:
            interchange.load(path)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("entry", [[], "x", {"card": {}}, {"sha256": "0"}], ids=str)
    def test_damaged_header(self, rewritten, entry):
        with pytest.raises(CardError, match=r"the header of .* is damaged; bring the file back"):
            interchange.load(rewritten(lambda _: entry))

    def test_arrays_of_another_network(self, rewritten):
        with pytest.raises(CheckpointError, match=r"says: these are not variables .* unknown: x"):
            interchange.load(rewritten(tensors={"x": np.ones(3, np.float32)}))

    def test_of_pytorch(self, weights, file, tmp_path):
        """A state dict without a card, as others keep it."""
        state_dict = convert.to_torch("dncnn", weights.variables, **SMALL)
        file.write_bytes(
            safetensors.numpy.save({**state_dict, "a.num_batches_tracked": np.ones(1)})
        )
        with pytest.raises(
            ValueError, match=r"does not say which network its weights are of; give"
        ):
            interchange.load(file)
        with pytest.raises(CardError, match=r"model.safetensors has no card"):
            interchange.card(file)
        loaded = interchange.load(file, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)
        assert loaded.card["origin"][0]["file"] == "model.safetensors"
        assert loaded.card["dropped"] == ["a.num_batches_tracked"]


class TestLoad:
    def test_runs(self, run):
        workdir, saved = run
        _, variables, card = interchange.load(workdir)
        assert_same(variables["params"], saved[8]["ema"])
        assert card["averaged"]
        assert interchange.card(workdir) == card
        assert interchange.card(workdir, step=4, ema=False)["step"] == 4

    def test_what_is_nothing_to_load(self, run, exported, tmp_path):
        (tmp_path / "a.txt").write_text("")
        (tmp_path / "checkpoints").mkdir()
        with pytest.raises(ValueError, match=r"a.txt is no checkpoint: give a directory, or a fil"):
            interchange.load(tmp_path / "a.txt")
        for name in ("none", "."):
            with pytest.raises(ConfigError, match=r"config.json does not exist"):
                interchange.load(tmp_path / name)
        with pytest.raises(OSError, match=r"cannot read .*none.safetensors: No such file"):
            interchange.load(tmp_path / "none.safetensors")
        (tmp_path / "config.json").write_bytes((run[0] / "config.json").read_bytes())
        with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
            interchange.card(tmp_path)
        for read in (interchange.load, interchange.card):
            with pytest.raises(ValueError, match=r"a.txt is no checkpoint"):
                read(tmp_path / "a.txt")

    def test_arguments(self, weights, exported, tmp_path):
        path = tmp_path / "a.safetensors"
        interchange.save_safetensors(weights, path)
        for source in (exported, path):
            with pytest.raises(ValueError, match=r"says itself what network it holds"):
                interchange.load(source, network="dncnn")
        for read in (interchange.load, interchange.card):
            with pytest.raises(ValueError, match="holds the weights of one step; leave step 3 off"):
                read(path, step=3)
            with pytest.raises(CheckpointError, match="has no step 3"):
                read(exported, step=3)
        assert interchange.card(exported, step=0) == interchange.card(exported)
        with pytest.raises(ValueError, match="step is for a path"):
            interchange.export_params(weights, tmp_path / "out", step=3)

    def test_card_is_missing_or_of_another(self, weights, tmp_path):
        interchange.export_params(weights, tmp_path / "out")
        card = card_lib.read(tmp_path / "out")
        card_lib.write(card | {"kwargs": {"depth": 4}}, tmp_path / "out")
        for read in (interchange.load, interchange.card):
            with pytest.raises(CardError, match=r"card.json describes another network than config"):
                read(tmp_path / "out")
        (tmp_path / "out" / "card.json").unlink()
        with pytest.raises(CardError, match=r"card.json does not exist"):
            interchange.load(tmp_path / "out")


class TestTorch:
    """With a stand-in that pickles arrays."""

    @pytest.fixture
    def torch(self, monkeypatch):
        class Tensor(np.ndarray):
            def detach(self):
                return self

            def is_floating_point(self):
                return self.dtype.kind == "f"

            def float(self):
                return self.astype(np.float32)

            def numpy(self):
                return np.asarray(self)

        def load(path, *, map_location, weights_only):
            stored = pickle.loads(pathlib.Path(path).read_bytes())
            return {name: array.view(Tensor) for name, array in stored.items()}

        module = types.ModuleType("torch")
        module.Tensor, module.load = Tensor, load
        module.from_numpy = lambda array: array
        module.save = lambda content, file: file.write(pickle.dumps(content))
        monkeypatch.setitem(sys.modules, "torch", module)

    def test_out_and_in(self, torch, weights, exported, tmp_path):
        path = tmp_path / "a.pth"
        assert interchange.save_torch(exported, path) == interchange.card(exported)
        stored = pickle.loads(path.read_bytes())
        assert_same(stored, convert.to_torch("dncnn", weights.variables, **SMALL))
        loaded = interchange.load(path, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)
        with pytest.raises(
            ValueError, match=r"a.pth does not say which .* lcdnet-jax convert NAME"
        ):
            interchange.load(path)
        with pytest.raises(CardError, match=r"a.pth has no card"):
            interchange.card(path)

    def test_output(self, torch, exported, tmp_path):
        path = tmp_path / "a.pth"
        path.write_text("old")
        with pytest.raises(ValueError, match=r"a.pth exists; choose another name"):
            interchange.save_torch(exported, path)
        with pytest.raises(ValueError, match=r"a.bin must end in .pth or .pt; rename it"):
            interchange.save_torch(exported, tmp_path / "a.bin")
        assert path.read_text() == "old"
        interchange.save_torch(exported, path, force=True)
        assert len(pickle.loads(path.read_bytes())) == 7

    def test_without(self, monkeypatch, exported, tmp_path):
        monkeypatch.setitem(sys.modules, "torch", None)  # makes the import fail
        with pytest.raises(ImportError, match=r"writing a .pth file needs PyTorch") as error:
            interchange.save_torch(exported, tmp_path / "a.pth")
        assert 'pip install "lcdnet-jax[torch]"' in str(error.value)
        assert not list(tmp_path.iterdir())


class TestRealTorch:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def torch(cls):
        return pytest.importorskip("torch")

    def test_out_and_in(self, torch, weights, exported, tmp_path):
        path = tmp_path / "a.pth"
        interchange.save_torch(exported, path)
        stored = torch.load(path, weights_only=True)
        expected = convert.to_torch("dncnn", weights.variables, **SMALL)
        assert_same({name: tensor.numpy() for name, tensor in stored.items()}, expected)
        loaded = interchange.load(path, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)

    def test_torch_takes_it(self, torch, tmp_path):
        """Strictly, though num_batches_tracked is left out; and computes the same."""
        variables = drawn("dncnn", **SMALL)
        stats = variables["batch_stats"]["dncnn"]["bn_1"]
        stats["var"] = np.abs(stats["var"]) + 1
        made = interchange.describe("dncnn", variables, **SMALL)
        interchange.save_torch(made, tmp_path / "a.pth")
        nn = torch.nn
        layers = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU(),
                  nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                  nn.Conv2d(4, 1, 3, padding=1, bias=False)]  # fmt: skip
        model = nn.ModuleDict({"dncnn": nn.ModuleDict({"dncnn": nn.Sequential(*layers)})}).eval()
        model.load_state_dict(torch.load(tmp_path / "a.pth", weights_only=True), strict=True)
        x = np.random.default_rng(0).uniform(size=(1, 1, 9, 10)).astype(np.float32)
        with torch.no_grad():
            expected = x - model["dncnn"]["dncnn"](torch.from_numpy(x)).numpy()
        actual = made.module.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)))
        np.testing.assert_allclose(actual[..., 0], expected[:, 0], rtol=1e-4, atol=1e-4)
