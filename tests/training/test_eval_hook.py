"""Evaluation during a training: its protocols, and the scores that it leaves for cards."""

import json
import os

import jax
import numpy as np
import pytest

from configs import tiny
from lcdnet_jax import networks
from lcdnet_jax.evaluation import results
from lcdnet_jax.training.eval_hook import EvalHook
from lcdnet_jax.training.metric_writer import MetricWriter
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import scores


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["float"]),
        ({"degradation.protocol": "8bit", "degradation.spectrum": "high"}, ["8bit-high"]),
        ({"degradation.kind": "none", "data.eval.source": "gopro"}, ["gopro"]),
        ({"degradation.kind": "none", "data.eval.source": "realblur_j"}, ["pairs"]),
        ({"degradation.kind": "none", "data.eval.source": "dpdd"}, ["dpdd"]),
        ({"degradation.kind": "motion"}, ["motion-float"]),
        ({"degradation.protocol": "float,8bit"}, ["float", "8bit"]),
        (
            {"degradation.kind": "motion", "degradation.protocol": "8bit,clipped"},
            ["motion-8bit", "motion-clipped"],
        ),
        (
            {
                "degradation.kind": "low_resolution",
                "degradation.options": {"low_resolution": {"scale": 2}},
                "network.name": "rcan",
                "network.kwargs": {"scale": 2},
            },
            ["low_resolution-float-x2"],
        ),
    ],
    ids=str,
)
def test_protocols(changes, names):
    config = tiny.get_config()
    config.update_from_flattened_dict(changes)
    evaluation = EvalHook(config, networks.create("dncnn"), [], None)
    settings = evaluation._dataset.settings
    assert list(dict.fromkeys(setting.protocol.name for setting in settings)) == names
    assert {setting.protocol.lpips for setting in settings} == {False}


class Writer:
    """Keeps what the evaluation reports; scores go to a working directory."""

    def __init__(self, workdir):
        self.workdir = workdir
        self.lines, self.panels = [], []

    def write_scalars(self, step, values):
        self.lines.append({"step": step, **values})

    def write_scores(self, rows):
        scores.append(self.workdir, rows)

    def write_panel(self, step, name, ending, image):
        self.panels.append(name + ending)

    def print_line(self, line):
        pass


@pytest.fixture(scope="module")
def network():
    module = networks.create("dncnn", depth=2, features=2, channels=3)
    return module, module.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))


@pytest.fixture
def examples(rng):
    return [{"name": name, "clean": rng.random((16, 16, 3), np.float32)} for name in "ab"]


def test_scores_under_several_protocols(tmp_path, network, examples):
    config = tiny.get_config()
    config.degradation.protocol = "float,8bit"
    config.eval.sigmas = (25.0, 50.0)
    config.eval.panels = config.eval.max_images = 1
    writer = Writer(tmp_path)
    module, variables = network
    evaluate = EvalHook(config, module, examples, writer)
    evaluate(7, variables)
    assert writer.panels == [f"a_{p}_sigma{s}" for p in ("float", "8bit") for s in (25, 50)]
    rows = scores.read_newest(tmp_path, 7)
    assert [(row["protocol"].split(":")[0], row["sigma"]) for row in rows] == [
        *(("float", 25.0), ("float", 50.0), ("8bit", 25.0), ("8bit", 50.0))
    ]
    assert len({row["psnr"] for row in rows}) == 4
    for row, line in zip(rows, writer.lines, strict=True):
        name = f"eval/{row['protocol'].split(':')[0]}/sigma{row['sigma']:g}"
        assert line == {
            "step": 7, f"{name}/psnr": row["psnr"], f"{name}/ssim": row["ssim"]
        }  # fmt: skip
        assert (row["step"], row["n"], row["data"]) == (7, 1, "photos")
    assert card_lib.are_scores(rows)

    evaluate(9, variables)
    again = scores.read_newest(tmp_path, 9)
    assert again == [row | {"step": 9} for row in rows]
    assert scores.read_newest(tmp_path, 8) == rows


@pytest.mark.parametrize("name", [b"caf\xe9", b"a" * 251, "ü".encode() * 120, b"\x1b[2J"])
def test_any_name_of_a_file(tmp_path, network, name):
    """Panels have shortened names, and TensorBoard, whose names are UTF-8, escaped ones."""
    config = tiny.get_config()
    config.eval.sigmas, config.eval.panels, config.eval.max_images = (50.0,), 2, 2
    names = [os.fsdecode(name), os.fsdecode(name[:-1] + b"b")]
    images = [{"name": one, "clean": np.full((16, 16, 3), 0.5, np.float32)} for one in names]
    writer = MetricWriter(tmp_path, start_step=0, active=True)
    module, variables = network
    EvalHook(config, module, images, writer)(7, variables)
    writer.close()
    panels = os.listdir(tmp_path / "panels")
    assert len(panels) == len(names)
    assert {one[:8] + one[-12:] for one in panels} == {"0000007__sigma50.png"}
    assert len(scores.read_newest(tmp_path, 7)) == 1


def test_folders_with_any_name(tmp_path, network, examples):
    config = tiny.get_config()
    config.data.eval.source, config.data.eval.path = "folder", "../f\udce9"
    module, variables = network
    EvalHook(config, module, examples, Writer(tmp_path))(7, variables)
    assert {row["data"] for row in scores.read_newest(tmp_path, 7)} == {"folder f\udce9"}
    results.write([{"dataset": "f\udce9"}], tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == b"dataset\r\nf\xe9\r\n"


def test_folders_stay_out_of_scores(tmp_path, network, examples):
    config = tiny.get_config()
    config.data.eval.source, config.data.eval.path = "folder", "../some/where/"
    config.eval.max_images = 0  # all
    module, variables = network
    EvalHook(config, module, examples, Writer(tmp_path))(7, variables)
    rows = scores.read_newest(tmp_path, 7)
    assert rows
    assert {row["data"] for row in rows} == {"folder where"}
    assert {row["n"] for row in rows} == {2}
    assert "some" not in (tmp_path / scores.FILE).read_text()


def test_scores_that_json_cannot_hold(tmp_path, network, examples):
    """SSIM of images that are smaller than its window is not a number, and left out."""
    config = tiny.get_config()
    small = [example | {"clean": example["clean"][:8]} for example in examples]
    module, variables = network
    EvalHook(config, module, small, Writer(tmp_path))(7, variables)
    (line,) = (tmp_path / scores.FILE).read_text().splitlines()
    row = json.loads(line)
    assert set(row) == {"step", "data", "protocol", "sigma", "psnr", "n"}
