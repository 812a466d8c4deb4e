"""Scores of a training and of eval.py in cards."""

import errno
import functools
import json
import os

import pytest

from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import scores


def row_of(step, **fields):
    described = {"step": step, "data": "photos", "protocol": "float: ...", "sigma": 25.0}
    return {**described, "psnr": 30.0 + step, "n": 3, **fields}


def test_newest_evaluation(tmp_path):
    assert scores.read_newest(tmp_path, 9) == []
    first, second = [row_of(4)], [row_of(8), row_of(8, sigma=None)]
    scores.append(tmp_path, first)
    scores.append(tmp_path, second)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    for step, expected in ((3, []), (4, first), (7, first), (8, second), (99, second)):
        assert scores.read_newest(tmp_path, step) == expected


def test_a_full_disk_leaves_the_scores(tmp_path, monkeypatch):
    scores.append(tmp_path, [row_of(4)])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*scores\.jsonl: No space left"):
        scores.append(tmp_path, [row_of(8)])
    assert scores.read_newest(tmp_path, 9) == [row_of(4)]


@pytest.fixture
def warnings(monkeypatch):
    """Messages of warnings in the log."""
    found = []
    monkeypatch.setattr(
        scores.logging, "warning", lambda text, *values: found.append(text % values)
    )
    return found


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[1]",
        "3",
        '{"step": 3}',
        json.dumps(row_of(4) | {"step": "4"}),
        json.dumps(row_of(4, psnr="x")),
    ],
)
def test_a_damaged_line_is_skipped_with_a_warning(tmp_path, line, warnings):
    (tmp_path / scores.FILE).write_text(f"{json.dumps(row_of(4))}\n{line}\n")
    assert scores.read_newest(tmp_path, 9) == [row_of(4)]
    assert warnings == [f"line 2 of {tmp_path / scores.FILE} contains no scores and is skipped"]


def test_a_file_that_cannot_be_read(tmp_path, warnings):
    (tmp_path / scores.FILE).write_bytes(b"\xff")
    assert scores.read_newest(tmp_path, 9) == []
    assert warnings[0].startswith(f"cannot read the scores in {tmp_path / scores.FILE}: ")


class TestBest:
    def test_mean_over_the_rows(self):
        rows = [row_of(s, sigma=g, psnr=p) for s, g, p in (
            (2, 25.0, 30), (2, 50.0, 26), (4, 25.0, 29), (4, 50.0, 28), (6, 25.0, 31), (6, 50.0, 26)
        )]  # fmt: skip
        find = functools.partial(scores.find_best, metric="psnr", count=2)
        assert find(rows, steps=(2, 4, 6)) == 4  # the first of equal ones
        assert find(rows, steps=(2, 6)) == 6
        assert find([*rows[:4], row_of(6, psnr=99)], steps=(2, 4, 6)) == 4  # it did not end
        others = [row_of(6, n=4, sigma=25.0, psnr=1), row_of(6, n=4, sigma=50.0, psnr=2)]
        assert find([*rows[:4], *others], steps=(2, 4, 6)) == 6  # of other images
        assert find(rows, steps=()) is None
        assert find(rows[:1], steps=(2,)) is None
        assert scores.find_best(rows, "ssim", count=2, steps=(2, 4)) is None

    def test_rows_that_are_removed(self, tmp_path):
        rows = [row_of(2), row_of(4), row_of(4, sigma=None)]
        scores.append(tmp_path, rows)
        scores.remove(tmp_path, 4)
        assert scores.read(tmp_path) == rows[:1]
        scores.remove(tmp_path, 4)
        assert scores.read(tmp_path) == rows[:1]


@pytest.mark.extended
def test_scores_of_eval(run, tmp_path):
    workdir, _ = run
    row = {"dataset": "a", "sigma": 25.0, "protocol": "8bit", "mode": "full", "psnr": 30.5}
    row |= {
        "ssim": None,
        "n": 3,
        "weights": card_lib.format_identity(weights_lib.load_card(workdir)),
        "command": "python eval.py",
        "date": "2026-11-30",
        "processor": "x",
        "lcdnet_jax": "0.1.0",
        "jax": "0.10.1",
    }
    tiled = row | {"mode": "tiled 384/64", "sigma": None}
    (tmp_path / "results.json").write_text(json.dumps([row, tiled]))
    metrics = weights_lib.read_results(tmp_path / "results.json")
    card = weights_lib.save_directory(workdir, tmp_path / "out", metrics=metrics)
    expected = {"data": "a", "protocol": "8bit", "sigma": 25.0, "psnr": 30.5, "n": 3}
    tiled = {"protocol": "8bit, tiled 384/64", "sigma": None}
    assert card["metrics"] == [expected, expected | tiled]
    assert (
        card_lib.format_identity(card) == row["weights"]
    )  # scores of what was exported fit as well
    others = [{**metrics[0], "weights": "dncnn, step 1"}]
    with pytest.raises(ValueError, match=r"of other weights \(dncnn, step 1\) than these"):
        weights_lib.save_directory(workdir, tmp_path / "others", metrics=others)
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
        with pytest.raises(ValueError, match=r"results\.json contains no scores; give the"):
            weights_lib.read_results(tmp_path / "results.json")
    with pytest.raises(OSError, match=r"none\.json: No such file.*; give the results\.json"):
        weights_lib.read_results(tmp_path / "none.json")
