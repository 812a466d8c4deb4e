"""Working directories and parameters-only directories."""

import contextlib
import json
import pathlib
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, checkpoints, image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import CheckpointError, DamagedCheckpointError
from lcdnet_jax.cli import main
from lcdnet_jax.config import ConfigError
from lcdnet_jax.weights import card as card_lib
from tests import scripts
from tests.random_weights import SMALL, assert_same, contents


class TestExport:
    @pytest.mark.filterwarnings("ignore:DnCNN computes in float32")
    def test_directory(self, run, tmp_path):
        workdir, saved = run
        output = tmp_path / "new folder" / "out"
        card = weights_lib.save_directory(workdir, output, license="CC0", notes="a trial")
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
        assert weights_lib.load(workdir).is_workdir
        assert not weights_lib.load(exported).is_workdir
        copy = shutil.copytree(workdir, tmp_path / "copy")
        shutil.copy(exported / "card.json", copy)
        assert weights_lib.load(copy).is_workdir
        assert weights_lib.load_card(copy) == weights_lib.load_card(workdir)
        with pytest.raises(ConfigError, match=r"config.json does not exist"):
            weights_lib.load(tmp_path)

    def test_weights_can_be_unpacked(self, run):
        weights = weights_lib.load(run[0])
        module, variables, card = weights
        assert module is weights.module
        assert variables is weights.variables
        assert card is weights.card

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


class TestReads:
    """A command reads ``config.json`` once, so that its parts cannot see two versions of it."""

    @pytest.fixture
    def opened(self):
        """The paths of all files that Python has opened since."""
        paths, watching = [], True

        def watch(event, arguments):  # Python has no way to remove it
            if watching and event == "open":
                paths.append(pathlib.Path(str(arguments[0])))

        sys.addaudithook(watch)
        yield paths
        watching = False

    @pytest.fixture
    def photo(self, tmp_path):
        path = tmp_path / "photos" / "a.png"
        path.parent.mkdir()
        image_io.write(path, np.random.default_rng(0).integers(0, 256, (12, 10), np.uint8))
        return path

    @pytest.mark.parametrize("command", ["export", "info", "restore"])
    def test_of_commands(self, run, opened, photo, tmp_path, command):
        workdir, out = str(run[0]), str(tmp_path / "out")
        arguments = {
            "export": [workdir, "-o", out],
            "info": [workdir],
            "restore": [str(photo), "-o", f"{out}.png", "--checkpoint", workdir],
        }
        with contextlib.suppress(SystemExit):  # random weights restore an image to NaN
            main.main([command, *arguments[command]])
        assert opened.count(run[0] / "config.json") == 1

    @pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:DnCNN computes in float32")
    def test_of_eval(self, run, opened, photo, tmp_path):
        pytest.importorskip("tensorflow")
        arguments = ("--workdir", run[0], "--data", photo.parent, "--output", tmp_path / "out")
        assert scripts.run("eval.py", *arguments) is None
        assert opened.count(run[0] / "config.json") == 1
