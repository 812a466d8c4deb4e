"""Prints one table of finished and running trainings: fields that differ, scores, time.

    python -m benchmarks.collect runs/lr
    python -m benchmarks.collect runs/small runs/base --csv > runs.csv

A folder is a working directory of train.py, or holds such directories; it may be in a bucket
(gs://BUCKET/runs). Scores are those of the
evaluations during training (``scores.jsonl``); a run has a line for each data set, protocol and
noise level. Folders that are no working directory or are damaged are named on stderr.
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import storage, strict_json
from lcdnet_jax.config.schema import flatten
from lcdnet_jax.messages import escape, format_count, format_duration
from lcdnet_jax.typing import JsonObject
from lcdnet_jax.weights import scores

Row = dict[str, Any]

# What distinguishes the scores of one evaluation.
_CASE = ("data", "protocol", "sigma")


class RunError(ValueError):
    """A folder is not a working directory that can be read; the message says why."""


def collect(folders: Iterable[pathlib.Path]) -> tuple[list[Row], list[str]]:
    """Reads working directories.

    Args:
        folders: Working directories, and folders of them. Each one in a bucket is listed once.

    Returns:
        Rows with equal keys, and a line for each folder that is left out. A row has "run" (the
        folder), "config.FIELD" for each field in which the runs differ, "data", "protocol",
        "sigma" (8-bit units), "step" and "steps" (done and planned), "psnr" (dB) and "ssim" of the
        newest evaluation, "best_psnr", "best_ssim" and "best_step" of that with the highest PSNR,
        and "seconds" (of steps: without compilations and evaluations). None is unknown.
    """
    runs: list[tuple[str, JsonObject, list[Row]]] = []
    problems = []
    for folder in folders:
        for workdir in _find_workdirs(storage.list_once(folder)):
            try:
                config = _read_config(workdir)
                rows, problem = _read_run(workdir, config["steps"])
            except RunError as error:
                problems.append(f"left out: {workdir}: {error}")
                continue
            runs.append((str(workdir), config, rows))
            problems += [f"{workdir}: {problem}"] if problem else []
    names = dict.fromkeys(name for _, config, _ in runs for name in config)
    differing = [name for name in names if len({repr(c.get(name)) for _, c, _ in runs}) > 1]
    table = [
        {"run": run, **{f"config.{name}": config.get(name) for name in differing}, **row}
        for run, config, rows in runs
        for row in rows
    ]
    return table, problems


def _find_workdirs(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder if one of them is a working directory, otherwise the folder."""
    if (folder / "config.json").exists() or not folder.is_dir():
        return [folder]
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    return inner if any((path / "config.json").exists() for path in inner) else [folder]


def _read_config(workdir: pathlib.Path) -> JsonObject:
    try:
        config = config_lib.load(workdir / "config.json", training=True)
    except config_lib.ConfigError as error:
        raise RunError(str(error)) from None
    fields: JsonObject = {}
    for name, value in flatten(config).items():
        # Fields of networks and options of degradations, one by one.
        is_mapping = isinstance(value, Mapping | ConfigDict)
        fields |= flatten(value, f"{name}.") if is_mapping else {name: value}
    return fields


def _read_run(workdir: pathlib.Path, steps: int) -> tuple[list[Row], str | None]:
    """The rows of a run without its fields, and what is wrong with its log."""
    reports, problem = _read_metrics(workdir / "metrics.jsonl")
    step, seconds = 0, 0.0
    for report in reports:
        seconds += report.get("time/step", 0.0) * (report["step"] - step)
        step = report["step"]
    cases: dict[tuple[Any, ...], list[JsonObject]] = {}
    for score in scores.read(workdir):
        if "psnr" in score:
            cases.setdefault(tuple(score.get(name) for name in _CASE), []).append(score)
    rows = []
    for case, evaluations in (cases or {(None,) * len(_CASE): []}).items():
        last: JsonObject = max(evaluations, key=lambda score: score["step"], default={})
        best: JsonObject = max(evaluations, key=lambda score: score["psnr"], default={})
        rows.append(
            {
                **dict(zip(_CASE, case, strict=True)),
                "step": step,
                "steps": steps,
                "psnr": last.get("psnr"),
                "ssim": last.get("ssim"),
                "best_psnr": best.get("psnr"),
                "best_ssim": best.get("ssim"),
                "best_step": best.get("step"),
                "seconds": round(seconds, 1),
            }
        )
    return rows, problem


def _read_metrics(path: pathlib.Path) -> tuple[list[JsonObject], str | None]:
    """The reports on steps in metrics.jsonl, and a line on damage, if there is any."""
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        return [], None  # the run has not reported yet
    except OSError as error:
        raise RunError(f"cannot read metrics.jsonl: {error.strerror}") from None
    # What follows the last line break is being written, or was when the process was killed.
    parsed = [_parse_report(line) for line in data.split(b"\n")[:-1]]
    damaged = parsed.count(None)
    problem = f"metrics.jsonl has {format_count(damaged, 'damaged line')}" if damaged else None
    return [line for line in parsed if line and "images_seen" in line], problem


def _parse_report(line: bytes) -> JsonObject | None:
    try:
        report = strict_json.parse(line)
    except strict_json.JSONError:
        return None
    numbers = report.get("time/step", 0.0) if isinstance(report, dict) else None
    is_report = isinstance(numbers, float | int) and isinstance(report.get("step"), int)
    return report if is_report else None


def format_table(rows: Sequence[Row]) -> str:
    """Formats rows of :func:`collect` as aligned text, without columns that say nothing."""
    fields = [name for name in rows[0] if name.startswith("config.")]
    scored = [row for row in rows if row["psnr"] is not None]
    cases = [name for name in _CASE if len({row[name] for row in scored}) > 1]
    names = ["run", *(name.removeprefix("config.") for name in fields), *cases]
    lines = [[*names, "step", "psnr", "ssim", "best psnr", "ssim", "at step", "time"]]
    for row in rows:
        lines.append(
            [
                row["run"],
                *(_format(row[name]) for name in (*fields, *cases)),
                f"{row['step']}/{row['steps']}",
                _format(row["psnr"], ".2f"),
                _format(row["ssim"], ".4f"),
                _format(row["best_psnr"], ".2f"),
                _format(row["best_ssim"], ".4f"),
                _format(row["best_step"]),
                format_duration(row["seconds"]),
            ]
        )
    lines = [[escape(cell).replace("\n", " ") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _format(value: object, spec: str = "") -> str:
    return "-" if value is None else format(value, spec) if spec else str(value)


def main() -> None:
    """Reads the arguments and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collect",
        description="Prints one table of trainings: fields that differ, scores, time.",
    )
    parser.add_argument("folders", nargs="+", help="working directories, or folders of them")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="print CSV with full numbers")
    output.add_argument("--json", action="store_true", help="print a JSON list of the rows")
    options = parser.parse_args()
    try:
        rows, problems = collect(map(storage.to_path, options.folders))
    except storage.StorageError as error:
        sys.exit(f"error: {escape(str(error))}")
    for problem in problems:
        print(escape(problem), file=sys.stderr)
    if not rows:
        sys.exit("error: no working directory of train.py; give the --workdir of a run or a sweep")
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        print(format_table(rows))


if __name__ == "__main__":
    main()
