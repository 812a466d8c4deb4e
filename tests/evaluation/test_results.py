"""Rows as files and as a table."""

import csv
import datetime
import json
import math

import jax
import numpy as np
import pytest

from lcdnet_jax import image_io, messages, protocols
from lcdnet_jax._version import __version__
from lcdnet_jax.evaluation import results
from lcdnet_jax.evaluation.evaluator import ScoredImage, Summary
from lcdnet_jax.evaluation.sweep import Case, DataSet, Row, Setting
from lcdnet_jax.weights import scores

PROTOCOL = protocols.get("8bit")
COMMAND = "python eval.py --data 'my photos'"


def make_row(name="photos", sigma=25.0, mode="full", **scores):
    summary = {"psnr": 30.25, "ssim": 0.875, "input_psnr": 20.5, "n": 3, **scores}
    return Row(name, PROTOCOL, sigma, mode, mode, Summary(**summary))


@pytest.fixture
def table(tmp_path):
    datasets = [DataSet("photos", [], [Setting(PROTOCOL, 25.0)])]
    return results.Results(tmp_path, datasets, weights="sadnet, step 1", command=COMMAND)


def test_files(tmp_path, table):
    table.add(make_row())
    table.add(make_row(sigma=None, ssim=math.nan, psnr=math.inf, extra={"mae": 0.5}))
    first = {
        "dataset": "photos", "sigma": 25.0, "protocol": "8bit", "mode": "full", "psnr": 30.25,
        "ssim": 0.875, "input_psnr": 20.5, "n": 3, "weights": "sadnet, step 1",
        "command": COMMAND, "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": messages.describe_processor(), "lcdnet_jax": __version__,
        "jax": jax.__version__,
    }  # fmt: skip
    assert set(scores._RUN) | {"weights"} == set(table._run)  # a card repeats none of them
    second = {**first, "sigma": None, "ssim": None, "psnr": None, "mae": 0.5}
    assert json.loads((tmp_path / "results.json").read_text()) == [first, second]
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sigma"] for row in rows] == ["25.0", ""]
    assert [row["mae"] for row in rows] == ["", "0.5"]
    assert (rows[1]["ssim"], rows[1]["psnr"]) == ("nan", "inf")
    assert rows[0]["weights"] == "sadnet, step 1"


def test_every_row_is_written_at_once(tmp_path, table):
    table.add(make_row())
    before = json.loads((tmp_path / "results.json").read_text())
    table.add(make_row(sigma=50.0))
    assert json.loads((tmp_path / "results.json").read_text())[:1] == before


def again(tmp_path, *rows, weights="sadnet, step 1"):
    table = results.Results(tmp_path, [], weights=weights, command=COMMAND)
    for row in rows:
        table.add(row)
    return json.loads((tmp_path / "results.json").read_text())


def test_earlier_rows_of_the_same_weights_stay(tmp_path):
    again(tmp_path, make_row(), make_row(sigma=50.0, psnr=math.inf))
    rows = again(tmp_path, make_row(psnr=31.0), make_row(name="kodak24"))
    assert [(row["dataset"], row["sigma"], row["psnr"]) for row in rows] == [
        ("photos", 50.0, None),
        ("photos", 25.0, 31.0),
        ("kodak24", 25.0, 30.25),
    ]
    assert [path.name for path in tmp_path.glob("*.json")] == ["results.json"]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("other", [None, "{", "[1]", "[{}]"])
def test_other_rows_are_kept_in_another_file(tmp_path, other, capsys):
    again(tmp_path, make_row())
    if other is not None:
        (tmp_path / "results.json").write_text(other)
    before = (tmp_path / "results.json").read_bytes()
    (tmp_path / "results-1.json").write_text("taken")
    (row,) = again(tmp_path, make_row(), weights="sadnet, step 2")
    assert row["weights"] == "sadnet, step 2"
    assert (tmp_path / "results-2.json").read_bytes() == before
    assert "results of other weights are kept in results-2.json" in capsys.readouterr().out


def test_printed_table(tmp_path, table, capsys):
    table.add(make_row(name="a\x1b[2J"))
    table.add(make_row(sigma=None, extra={"mae": 0.5}))
    table.close()
    header, first, second, protocol, written = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "data", "set", "sigma", "protocol", "mode", "input", "PSNR", "SSIM", "images",
    ]  # fmt: skip
    assert first.split() == ["a\\x1b[2J", "25", "8bit", "full", "20.50", "30.25", "0.8750", "3"]
    assert second.split()[1] == "-"
    assert second.endswith("MAE 0.5000")
    assert protocol == PROTOCOL.describe()
    assert written == f"written: {tmp_path}/results.json and results.csv"


def test_no_rows(tmp_path, table, capsys):
    table.close()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("case", "folder"),
    [
        (Case("photos", PROTOCOL, 25.0, "full"), "photos_8bit_sigma25"),
        (Case("photos", PROTOCOL, None, "tiled"), "photos_8bit_tiled"),
    ],
)
def test_save_image(tmp_path, rng, case, folder):
    restored = rng.uniform(-0.2, 1.2, (6, 5, 3)).astype(np.float32)
    name = "a" * 300
    image = ScoredImage(name, restored, restored, restored, 30.0, 0.9, 20.0)
    results.save_image(tmp_path, case, 0, image)
    (file,) = (tmp_path / folder).iterdir()
    assert file.name.startswith("aaa")
    assert file.suffix == ".png"
    expected = np.clip(np.round(restored.astype(np.float64) * 255), 0, 255)
    assert np.abs(image_io.read(file).astype(float) - expected).max() <= 1
