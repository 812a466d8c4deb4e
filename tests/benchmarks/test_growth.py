"""Exponents of known rows, and the figure; the cases themselves run for minutes."""

import json

import pytest

from benchmarks import growth, train_memory

SERIES = "batch sadnet small"


def rows():
    return [
        {"series": SERIES, "size": n, "seconds": 0.1 * n**1.5, "wall": 2.0, "memory": 10 * n}
        for n in (1, 4, 2)
    ]


def test_exponents():
    (line,) = growth.fit_exponents([*rows(), {"series": "pixels sadnet-photo", "size": 1}])
    assert line["sizes"] == [1, 2, 4]
    assert (line["seconds"], line["wall"], line["memory"]) == (1.5, 0, 1)
    assert line["seconds_between_neighbors"] == [1.5, 1.5]


def test_a_measured_case_replaces_its_row(monkeypatch, capsys, tmp_path):
    path = tmp_path / "growth.json"
    path.write_text(json.dumps(rows()))
    monkeypatch.setattr(growth, "CASES", {SERIES: (1, 2, 4, 8)})

    def measure(series, size):
        return {"series": series, "size": size, "seconds": size, "wall": size, "memory": size}

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr("sys.argv", ["growth", f"--out={path}"])
    growth.main()
    assert [row["size"] for row in json.loads(path.read_text())] == [1, 2, 4, 8]
    *measured, line = map(json.loads, capsys.readouterr().out.splitlines())
    assert (len(measured), line["seconds"]) == (4, 1)
    drawn = path.with_suffix(".png")
    assert drawn.read_bytes().startswith(b"\x89PNG")
    drawn.unlink()
    monkeypatch.setattr("sys.argv", ["growth", f"--draw={path}"])
    growth.main()
    assert drawn.exists()


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    with pytest.raises(SystemExit, match="2 threads need 2 cores; use --only"):
        growth.measure_here("threads sadnet small", 2)


def test_a_case_that_fails_ends_with_one_line(monkeypatch):
    monkeypatch.setattr(growth.sys, "executable", "false")
    with pytest.raises(SystemExit, match=rf"error: {SERIES}, size 4, ended with status 1 \(see"):
        growth.measure(SERIES, 4)


@pytest.mark.parametrize("script", [growth, train_memory])
def test_a_name_of_no_case(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["script", "--only=nosuch"])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert "has 'nosuch' in its name; there are " in capsys.readouterr().err
