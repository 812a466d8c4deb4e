"""Working directories and parameters-only directories."""

import json
import shutil

import jax.numpy as jnp
import pytest

from lcdnet_jax import Restorer, checkpoints, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import CheckpointError, DamagedCheckpointError
from lcdnet_jax.config import ConfigError
from lcdnet_jax.weights import card as card_lib
from tests.random_weights import SMALL, assert_same, contents


class TestExport:
    def test_directory(self, run, tmp_path):
        workdir, saved = run
        output = tmp_path / "new folder" / "out"
        card = weights_lib.save_directory(workdir, output, licence="CC0", notes="a trial")
        assert sorted(p.name for p in output.parent.iterdir()) == ["out"]
        assert sorted(p.name for p in output.iterdir()) == [
            "card.json",
            "checkpoints",
            "config.json",
        ]
        checkpoint = output / "checkpoints" / "8"
        assert {p.name for p in checkpoint.iterdir() if p.is_dir()} == {"params", "batch_stats"}
        stored = json.loads((output / "config.json").read_text())
        assert len(stored.pop("sha256")) == 64
        assert stored == {
            "network": {"name": "dncnn", "kwargs": SMALL, "dtype": "bfloat16"},
            "data": {"channels": 1},
        }
        assert card_lib.read(output) == card
        described = {"step": 8, "data": "photos", "protocol": card["metrics"][0]["protocol"]}
        assert card["metrics"] == [
            {**described, "sigma": 25.0, "psnr": 21.0, "ssim": 0.6, "n": 3},
            {**described, "sigma": 50.0, "psnr": 18.0, "ssim": 0.4, "n": 3},
        ]
        (origin,) = card["origin"]
        assert origin["file"] == "checkpoints/8/manifest.json"
        assert card["training"]["steps"] == 8
        expected = {"network": "dncnn", "kwargs": SMALL, "channels": 1, "dtype": "bfloat16"}
        expected |= {"parameters": 224, "step": 8, "averaged": True, "storage": "float32"}
        expected |= {"licence": "CC0", "notes": "a trial", "dropped": []}
        assert {key: card[key] for key in expected} == expected

        module, variables, loaded = weights_lib.load(output)
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
        card = weights_lib.save_directory(workdir, tmp_path / "raw", step=4, ema=False)
        assert (card["step"], card["averaged"], card["metrics"]) == (4, False, [])
        assert_same(weights_lib.load(tmp_path / "raw").variables["params"], saved[4]["params"])
        card = weights_lib.save_directory(workdir, tmp_path / "ema", step=4)
        assert [row["psnr"] for row in card["metrics"]] == [20.0]
        assert_same(weights_lib.load(tmp_path / "ema").variables["params"], saved[4]["ema"])

    def test_a_card_beside_a_training_does_not_matter(self, run, exported, tmp_path):
        workdir, _ = run
        assert weights_lib.is_workdir(workdir)
        assert not weights_lib.is_workdir(exported)
        assert not weights_lib.is_workdir(exported / "card.json")
        copy = shutil.copytree(workdir, tmp_path / "copy")
        shutil.copy(exported / "card.json", copy)
        assert weights_lib.is_workdir(copy)
        assert weights_lib.load_card(copy) == weights_lib.load_card(workdir)
        with pytest.raises(ConfigError, match=r"config.json does not exist"):
            weights_lib.is_workdir(tmp_path)

    def test_damaged_sources(self, run, tmp_path):
        workdir, _ = run
        for name in ("config.json", "scores.jsonl"):
            (tmp_path / name).write_bytes((workdir / name).read_bytes())
        output = tmp_path / "out"
        with pytest.raises(CheckpointError, match="checkpoints does not exist"):
            weights_lib.save_directory(tmp_path, output)
        for path, content in contents(workdir / "checkpoints" / "8").items():
            copy = tmp_path / "checkpoints" / "8" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content[:-1] if copy.match("ema/*/*/*") else content)
        with pytest.raises(DamagedCheckpointError, match="is damaged: ema/"):
            weights_lib.save_directory(tmp_path, output)
        with pytest.raises(CheckpointError, match=r"has no step 5; there are: 8"):
            weights_lib.save_directory(tmp_path, output, step=5)
        (tmp_path / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"config.json does not exist"):
            weights_lib.save_directory(tmp_path, output)
        assert not output.exists()
        assert not list(tmp_path.glob(".*"))
