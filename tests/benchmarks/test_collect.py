"""The table of several runs, some of them running, damaged or no runs at all."""

import csv
import io
import json
import re
import sys

import pytest

from benchmarks import collect
from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import storage


@pytest.fixture
def make_run(tmp_path):
    """Writes a working directory as train.py leaves it."""

    def make_run(name, reports=(), scores=(), **fields):
        workdir = tmp_path / "runs" / name
        workdir.mkdir(parents=True)
        config = tiny.get_config()
        config.steps = 40
        with config.unlocked():
            config.update_from_flattened_dict(fields)
        config_lib.save(config, workdir / "config.json")
        lines = [{"step": 1, "compilations": 1, "compilation_seconds": 9.0}]
        for step, seconds in reports:
            lines.append({"step": step, "images_seen": step, "time/step": seconds})
        lines.append({"step": 40, "eval/psnr": 1.0})
        write(workdir / "metrics.jsonl", lines)
        write(
            workdir / "scores.jsonl",
            [
                {"step": step, "data": "photos", "protocol": "float: x", "sigma": sigma,
                 "psnr": psnr, "ssim": psnr / 100, "n": 3}
                for step, sigma, psnr in scores
            ],
        )  # fmt: skip
        return workdir

    def write(path, lines):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    return make_run


@pytest.fixture
def main(monkeypatch, capsys):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["collect", *map(str, arguments)])
        collect.main()
        return capsys.readouterr()

    return main


def test_runs_in_a_bucket(make_run, main, tmp_path, bucket, monkeypatch):
    make_run("a", [(20, 0.5)], [(20, 25, 30.0)], seed=1)
    make_run("b", [(40, 0.5)], [(40, 25, 31.0)], seed=2)
    here = main(tmp_path / "runs").out
    storage.upload(tmp_path / "runs", storage.to_path(f"{bucket}/runs"))
    lists = []
    list_once = storage.list_once
    monkeypatch.setattr(storage, "list_once", lambda path: (lists.append(path), list_once(path))[1])
    there = main(f"{bucket}/runs").out
    assert [line.split() for line in there.splitlines()] == [
        line.replace(str(tmp_path), bucket).split() for line in here.splitlines()
    ]
    assert "31.00" in there
    assert len(lists) == 1
    with pytest.raises(SystemExit, match=r"error: .*names no bucket; write gs://BUCKET/PATH"):
        main("gs:/x/runs")


def test_table(make_run, main, tmp_path):
    make_run(
        "seed=0", [(20, 0.5), (40, 0.25)], [(20, 50.0, 28.5), (40, 50.0, 28.25)],
        **{"network.kwargs.width": 8},
    )  # fmt: skip
    make_run("seed=1", [(20, 2.0)], [(20, 50.0, 27.0)], seed=1)
    make_run("seed=2", seed=2)  # has not reported yet
    out, err = main(tmp_path / "runs")
    head, *rows = (line.split() for line in out.splitlines())
    fields = ["network.kwargs.width", "seed"]
    scores = ["psnr", "ssim", "best", "psnr", "ssim", "at", "step"]
    assert head == ["run", *fields, "step", *scores, "time"]
    first, second, third = rows
    assert first[0] == str(tmp_path / "runs" / "seed=0")
    assert first[-7:] == ["40/40", "28.25", "0.2825", "28.50", "0.2850", "20", "0:15"]
    assert second[-7:] == ["20/40", "27.00", "0.2700", "27.00", "0.2700", "20", "0:40"]
    assert third[-7:] == ["0/40", "-", "-", "-", "-", "-", "0:00"]
    assert err == ""


def test_only_fields_that_differ(make_run, main, tmp_path):
    make_run("a", seed=1)
    make_run("b", seed=2, **{"optimizer.learning_rate": 0.5})
    rows = json.loads(main(tmp_path / "runs", "--json").out)
    fields = [{k: v for k, v in row.items() if k.startswith("config.")} for row in rows]
    assert [row["config.seed"] for row in fields] == [1, 2]
    assert fields[1] == {"config.seed": 2, "config.optimizer.learning_rate": 0.5}
    (row,) = json.loads(main(tmp_path / "runs" / "a", "--json").out)
    assert not any(name.startswith("config.") for name in row)


def test_a_line_for_each_noise_level(make_run, main, tmp_path):
    run = make_run("a", [(40, 1.0)], [(40, 25.0, 30.0), (40, 50.0, 27.0), (20, 25.0, 29.0)])
    rows = list(csv.DictReader(io.StringIO(main(run, "--csv").out)))
    found = [(row["sigma"], row["psnr"], row["best_step"], row["seconds"]) for row in rows]
    assert found == [("25.0", "30.0", "40", "40.0"), ("50.0", "27.0", "40", "40.0")]
    head = main(run).out.splitlines()[0].split()
    assert head[:3] == ["run", "sigma", "step"]  # data and protocol are the same


def test_what_is_left_out_is_named(make_run, main, tmp_path):
    good = make_run("good", [(20, 1.0)])
    with (good / "metrics.jsonl").open("a") as file:
        file.write('damaged\n{"step": 30, "time/step": "x"}\n{"step": 40, "images')
    bad = make_run("bad")
    (bad / "config.json").write_text("{")
    changed = make_run("changed")
    text = (changed / "config.json").read_text()
    (changed / "config.json").write_text(text.replace('"steps": 40', '"steps": 41'))
    (tmp_path / "runs" / "foreign").mkdir()
    (tmp_path / "runs" / "note.txt").touch()
    out, err = main(tmp_path / "runs", tmp_path / "missing")
    assert len(out.splitlines()) == 2
    assert "20/40" in out
    for line, expected in zip(
        err.splitlines(),
        [
            f"left out: {bad}: .*not valid JSON",
            f"left out: {changed}: .*not as it was written",
            f"left out: {tmp_path}/runs/foreign: .*does not exist",
            rf"{good}: metrics.jsonl has 2 damaged lines",
            f"left out: {tmp_path}/missing: .*does not exist",
        ],
        strict=True,
    ):
        assert re.match(expected, line), line


def test_no_run_at_all(main, tmp_path):
    with pytest.raises(SystemExit, match=r"no working directory of train\.py"):
        main(tmp_path)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections
@pytest.mark.extended
def test_what_train_leaves(workdir, main):
    (row,) = json.loads(main(workdir, "--json").out)
    assert row["step"] == row["steps"] > 0
    assert row["psnr"] == row["best_psnr"] > 0
    assert row["seconds"] > 0
