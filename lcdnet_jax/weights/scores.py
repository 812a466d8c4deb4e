"""Scores for cards, from the evaluations during a training run or from ``eval.py``.

A training run writes ``scores.jsonl`` into its working directory. Each line is a JSON object for
one step, protocol and noise level. It holds "step", "data", "protocol", "sigma" (8-bit units, null
without a noise level), the scores ("psnr", "ssim" and further ones) and "n", the number of images.
"""

import json
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from absl import logging

from lcdnet_jax import atomic_io, strict_json
from lcdnet_jax.typing import Json, JsonObject
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import Card

FILE = "scores.jsonl"

# Fields of results.json that say how it was made, which a card does not repeat.
_RUN = ("command", "date", "processor", "lcdnet_jax", "jax")


def append(workdir: pathlib.Path, rows: Sequence[Mapping[str, Json]]) -> None:
    """Adds the rows of one evaluation to ``scores.jsonl``, all or nothing.

    Raises:
        OSError: If writing fails. Then the file is not changed.
    """
    path = workdir / FILE
    written = path.read_bytes() if path.exists() else b""
    added = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    atomic_io.write(path, written + added.encode(), force=True)


def read(workdir: pathlib.Path) -> list[JsonObject]:
    """Reads the rows of all evaluations of a run, in the order of the file.

    Working directories of versions before ``scores.jsonl`` have none. A damaged line is skipped
    with a warning, since the weights are good without their scores.
    """
    path = workdir / FILE
    try:
        lines = strict_json.read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logging.warning("cannot read the scores in %s: %s", path, error)
        return []
    parsed = [_parse(line, f"line {number} of {path}") for number, line in enumerate(lines, 1)]
    return [row for row in parsed if row is not None]


def read_newest(workdir: pathlib.Path, step: int) -> list[JsonObject]:
    """Reads the rows of the newest evaluation up to a step, as :func:`read`."""
    rows = read(workdir)
    newest = max((row["step"] for row in rows if row["step"] <= step), default=None)
    return [row for row in rows if row["step"] == newest]


def remove(workdir: pathlib.Path, step: int) -> None:
    """Removes the rows of a step, such as those of an evaluation that did not end.

    Raises:
        OSError: If writing fails. Then the file is not changed.
    """
    rows = read(workdir)
    kept = [row for row in rows if row["step"] != step]
    if len(kept) < len(rows):
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
        atomic_io.write(workdir / FILE, text.encode(), force=True)


def find_best(
    rows: Sequence[Mapping[str, Any]], metric: str, *, count: int, steps: Collection[int]
) -> int | None:
    """Finds the step with the best evaluation.

    Evaluations are compared if they have the same data, number of images, protocols and noise
    levels as the newest one. Those with fewer or more rows than ``count`` did not end, or are of
    other settings.

    Args:
        rows: The rows of :func:`read`.
        metric: "psnr" or "ssim". The mean over the rows of an evaluation counts.
        count: Number of rows of an evaluation.
        steps: Steps that can be chosen.

    Returns:
        The step, of several equal ones the first. None if no evaluation can be compared.
    """
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row)
    ended = {step: of_step for step, of_step in by_step.items() if len(of_step) == count}
    if not ended:
        return None
    newest = _list_cases(ended[max(ended)])
    means = {
        step: sum(row[metric] for row in of_step) / count
        for step, of_step in sorted(ended.items())
        if step in steps
        and _list_cases(of_step) == newest
        and all(metric in row for row in of_step)
    }
    return max(means, key=lambda step: means[step], default=None)


def _list_cases(rows: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row.get(name) for name in ("data", "n", "protocol", "sigma")) for row in rows}


def _parse(line: str, where: str) -> JsonObject | None:
    try:
        row: Json = strict_json.parse(line)
    except strict_json.JSONError:
        row = None
    if not card_lib.are_scores([row]) or not isinstance(row.get("step"), int):
        logging.warning("%s contains no scores and is skipped", where)
        return None
    return dict(row)


def read_results(results: str | os.PathLike[str]) -> list[JsonObject]:
    """Reads the results of ``eval.py`` as ``metrics`` of a card.

    "weights" in each row names the weights. Saving compares it with the weights and removes it.

    Args:
        results: Path of the ``results.json`` of ``eval.py``.

    Returns:
        The rows, see ``metrics`` of :class:`Card`.

    Raises:
        ValueError: If the file is empty or holds other content.
        OSError: If it cannot be read.
    """
    try:
        text = strict_json.read_bytes(results)
    except OSError as error:
        raise OSError(
            f"cannot read {results}: {error.strerror}; give the results.json of eval.py"
        ) from error
    try:
        metrics = [_from_result(row) for row in strict_json.parse(text)]
        good = bool(metrics) and card_lib.are_scores([_remove_weights(row) for row in metrics])
    except (ValueError, TypeError, KeyError, AttributeError):
        good = False
    if not good:
        raise ValueError(f"{results} contains no scores; give the results.json of eval.py")
    return metrics


def check_weights(card: Card, row: Mapping[str, Json]) -> JsonObject:
    """Removes "weights" from scores. It must name the weights of the card.

    Results of older versions have no "weights".

    Raises:
        ValueError: If it names other weights.
    """
    own = card_lib.format_identity(card)
    if row.get("weights", own) != own:
        raise ValueError(
            f"the scores are of other weights ({row['weights']}) than these ({own}); score these "
            "with eval.py"
        )
    return _remove_weights(row)


def _remove_weights(row: Mapping[str, Json]) -> JsonObject:
    return {field: value for field, value in row.items() if field != "weights"}


def _from_result(row: Mapping[str, Json]) -> JsonObject:
    named = ("dataset", "protocol", "mode", "sigma", *_RUN)
    mode = "" if row["mode"] == "full" else f", {row['mode']}"
    described = {"data": row["dataset"], "protocol": row["protocol"] + mode, "sigma": row["sigma"]}
    # Scores that are not finite are null, such as the SSIM of a tiny image.
    numbers = {k: v for k, v in row.items() if k not in named and v is not None}
    return {**described, **numbers}
