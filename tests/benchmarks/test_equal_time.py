"""Steps that fit into the same time, and the results; the costs themselves take minutes."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks import equal_time, sweep
from lcdnet_jax import image_io

# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = ("--config", "configs/tiny.py")


@pytest.fixture
def costs(monkeypatch):
    """Costs of a network by its width, and the trainings that were asked for."""

    def read(path, arguments):
        width = {name: int(given[-1].rpartition("=")[2]) for name, given in arguments.items()}
        return {
            name: {"parameters": w, "step_ms": 10.0 * w, "seconds_per_megapixel": w / 4}
            for name, w in width.items()
        }

    trained = []

    def run_all(runs):
        for run in runs:
            trained.append(run)
            steps = int(run.arguments[-2].rpartition("=")[2])
            folder = next(a for a in run.arguments if a.startswith("--workdir="))[10:]
            row = {"step": steps, "data": "d", "protocol": "float", "sigma": 50.0, "n": 1}
            rows = [{**row, "psnr": 20.0 + steps, "ssim": 0.5}, {**row, "psnr": 22.0, "ssim": 0.5}]
            folder = pathlib.Path(folder)
            folder.mkdir(parents=True)
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "scores.jsonl").write_text(text)
        return 0

    monkeypatch.setattr(equal_time, "_read_costs", read)
    monkeypatch.setattr(sweep, "run_all", run_all)
    return trained


def start(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["equal_time", *map(str, arguments)])
    equal_time.main()


def test_equal_time(costs, monkeypatch, tmp_path):
    tries = [f"--try={name} --config.network.kwargs.width={w}" for name, w in (("a", 2), ("b", 4))]
    options = (f"--output={tmp_path / 'out'}", "--seconds=0.2", "--seeds=3,5")
    start(monkeypatch, *options, *tries, *CONFIG)
    assert [run.name for run in costs] == ["a-3", "a-5", "b-3", "b-5"]
    assert "--config.seed=5" in costs[3].arguments
    rows = json.loads((tmp_path / "out/results.json").read_text())
    assert [(row["name"], row["steps"], row["psnr"]) for row in rows] == [
        ("a", 10, [26.0, 26.0]),
        ("b", 5, [23.5, 23.5]),
    ]
    assert np.ptp(image_io.read(tmp_path / "out/results.png")) > 100


def test_mistakes(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        start(monkeypatch, "--output", tmp_path, *CONFIG)
    assert "give --output, --seconds, and --try" in capsys.readouterr().err
    options = (f"--output={tmp_path}", "--seconds=1", "--try=blind")
    with pytest.raises(SystemExit, match=r"blind: unknown field config\.step"):
        start(monkeypatch, *options, *CONFIG, "--config.step=1")
    with pytest.raises(SystemExit, match=r"blind: .*; set config.stages to \(\)"):
        start(monkeypatch, *options, "--config", "configs/sadnet_photo.py")
