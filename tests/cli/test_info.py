"""The command info."""

import functools
import json
import operator
import shutil

import pytest

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main
from lcdnet_jax.config import schema
from lcdnet_jax.networks import registered
from tests.cli.commands import error_of, run

pytestmark = pytest.mark.usefixtures("stand_in")


def cli_version():
    import lcdnet_jax

    return lcdnet_jax.__version__


class TestOldCards:
    """Of cards of older versions, and of others."""

    @pytest.fixture
    def rows(self, converted, tmp_path, capsys):
        """What is told of a training, by title."""

        def rows(training):
            copy = shutil.copytree(converted[0], tmp_path / "copy")
            card = json.loads((copy / "card.json").read_text())
            (copy / "card.json").write_text(json.dumps({**card, "training": training}))
            run("info", copy)
            return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

        return rows

    def test_older(self, rows):
        """Of the first version: without what came later, and other names."""
        stored = json.loads(json.dumps(tiny.get_config().to_dict()))
        for name, row in config_lib.FIELDS.items():
            *sections, field = name.split(".")
            if row.absent is not schema.REQUIRED:
                del functools.reduce(operator.getitem, sections, stored)[field]
        del stored["sfm"], stored["parallel"]
        stored["steps"] = 1
        stored["optimizer"]["halve_every"] = stored["optimizer"].pop("decay_every")
        found = rows(stored)
        assert found["trained"].startswith("1 step of ")
        assert ", supervised, seed 0" in found["trained"]
        assert found["masking"] == "none"

    @pytest.mark.parametrize(
        "training",
        [{}, {"steps": 3}, {"data": {"train": 4}, "steps": "x", "sfm": [], "optimizer": None}],
        ids=str,
    )
    def test_of_something_else(self, rows, training):
        assert rows(training)["trained"] == "by a configuration that this version cannot read"

    @pytest.mark.parametrize("kwargs", [{"channels": 1}, {"name": "dncnn"}], ids=str)
    def test_fields_twice(self, converted, tmp_path, kwargs):
        copy = shutil.copytree(converted[0], tmp_path / "copy")
        for name in ("config.json", "card.json"):
            content = json.loads((copy / name).read_text())
            (content["network"] if name == "config.json" else content)["kwargs"] |= kwargs
            content.pop("sha256", None)  # as a user who changes the file on purpose
            (copy / name).write_text(json.dumps(content))
            for command in (["info"], ["restore", "a.png", "-o", "b.png", "--checkpoint"]):
                message = error_of(*command, copy)
                assert "without name, channels and dtype, which" in message


class TestInfo:
    def test_of_weights(self, checkpoint, capsys):
        main.main(["info", str(checkpoint)])
        assert capsys.readouterr().out.splitlines() == [
            "network      sadnet, width=3",
            "channels     3",
            "computes in  float32",
            "parameters   1, stored as float32",
            "data range   images in [0, 1], which the weights see as 0 to 1",
            "step         0",
            "license      CC0",
            f"written by   lcdnet_jax {cli_version()}",
        ]

    def test_of_a_training(self, monkeypatch, capsys, tmp_path):
        card = {
            "network": "sadnet",
            "kwargs": {"preset": "small"},
            "channels": 3,
            "dtype": "float32",
            "parameters": 307283,
            "storage": "float32",
            "input_range": [0.0, 1.0],
            "step": 1600,
            "averaged": True,
            "training": {
                "steps": 3200, "batch_size": 4, "objective": "supervised", "seed": 0,
                "data": {
                    "crop": 64, "train": {"source": "folder", "path": "photos", "names": "!*7"}
                },
                "init_from": "sadnet-photo",
                "degradation": {"kind": "awgn", "sigma_min": 0.0, "sigma_max": 50.0,
                                "spectrum": "white", "protocol": "8bit", "options": {}},
                "sfm": {"rate": 0.5, "mode": "uniform", "unselected": "keep", "target": "clean"},
                "loss": "l1", "ema_decay": 0.99,
                "optimizer": {"learning_rate": 3e-3, "schedule": "cosine"},
            },
            "metrics": [
                {"step": 1600, "data": "photos", "sigma": 50.0, "protocol": "8bit: rounded",
                 "psnr": 27.8432, "ssim": 0.78123}
            ],
            "licence": "not stated", "notes": "", "lcdnet_jax": "0.1.0",
            "origin": [{"file": name, "sha256": "ab"} for name in ("a", "b")],
        }  # fmt: skip
        monkeypatch.setattr(weights_lib, "load_card", lambda path: card)
        file = tmp_path / "some.safetensors"
        file.touch()
        with registered("sadnet", networks.SADNet):  # which has presets
            main.main(["info", str(file)])
        assert capsys.readouterr().out.splitlines() == [
            "network      sadnet, preset=small",
            "channels     3",
            "computes in  float32",
            "parameters   307,283, stored as float32",
            "data range   images in [0, 1], which the weights see as 0 to 1",
            "step         1,600, averaged weights (EMA)",
            "trained      3,200 steps of 4 crops of 64 pixels, supervised, seed 0",
            "started from sadnet-photo",
            "data         folder photos, names !*7",
            "degradation  awgn, sigma 0 to 50, protocol 8bit",
            "masking      uniform at rate 0.5",
            "mixup        none",
            "loss         l1",
            "optimizer    Adam, learning rate 0.003, cosine, averaged with decay 0.99",
            "scores       PSNR 27.84 dB, SSIM 0.7812 on photos, sigma 50, 8bit: rounded",
            "license      not stated",
            "origin       a, SHA-256 ab",
            "             b, SHA-256 ab",
            "written by   lcdnet_jax 0.1.0",
        ]
