r"""Trains a configuration with every combination of some values of its fields.

    python -m benchmarks.sweep --config configs/sadnet_small.py --workdir runs/lr \
        --vary optimizer.learning_rate=1e-3,2e-3 --vary seed=0,1,2

makes six runs of train.py, one after another, each in a folder of ``runs/lr`` that is named after
its values. Other arguments go to train.py. The same command continues a sweep. All configurations
are checked before the first run starts. ``--print`` prints the command lines, and ``--index N``
runs one of them, from 0, such as a task of a SLURM array (scripts/slurm.sbatch).

Exit codes: 0 when all runs are complete, 1 after an error in any of them (the others still run),
130 or 143 after a signal, as for train.py. ``python -m benchmarks.collect runs/lr`` prints a table.
"""

import argparse
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from lcdnet_jax import config as config_lib
from lcdnet_jax import file_names
from lcdnet_jax.messages import format_count

_TRAIN = str(pathlib.Path(__file__).resolve().parents[1] / "train.py")

# Exit codes of train.py after Ctrl-C and SIGTERM.
_PREEMPTED = (130, 143)


class Run(NamedTuple):
    """One combination: the name of its folder, and the arguments of train.py."""

    name: str
    arguments: list[str]


class _Axis(NamedTuple):
    """A ``--vary``: fields that have the same value, and their values."""

    fields: list[str]
    values: list[str]


def list_runs(
    config: str, workdir: str, vary: Sequence[str], others: Sequence[str] = ()
) -> list[Run]:
    """Lists and checks all combinations; the first field of ``vary`` changes slowest.

    Args:
        config: Value of ``--config``.
        workdir: Folder of the sweep.
        vary: Texts such as "seed=0,1,2", see ``--help``.
        others: Further arguments of train.py.

    Returns:
        One run for each combination.

    Raises:
        ConfigError: If a text of ``vary`` cannot be read, if a combination is not a valid
            configuration, or if two combinations are the same.
    """
    axes = [_parse_axis(text) for text in vary]
    fields = [field for axis in axes for field in axis.fields]
    for field in fields:
        given = [text.partition("=")[0] for text in others]
        if fields.count(field) + given.count(f"--config.{field}") > 1:
            raise config_lib.ConfigError(f"config.{field} is set twice; keep one")
    short = [field.rpartition(".")[2] for field in fields]
    names = {
        field: name if short.count(name) == 1 else field
        for field, name in zip(fields, short, strict=True)
    }
    runs: list[Run] = []
    seen: dict[str, str] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = list(zip(axes, values, strict=True))
        name = ",".join(
            f"{'+'.join(names[field] for field in axis.fields)}={_quote(value)}"
            for axis, value in chosen
        )
        name = file_names.shorten_name(name, "")
        arguments = ["--config", config, *others]
        arguments += [
            f"--config.{field}={value}" for axis, value in chosen for field in axis.fields
        ]
        try:
            content = repr(config_lib.read_config(arguments).to_dict())
        except config_lib.ConfigError as error:
            raise config_lib.ConfigError(f"{name}: {error}") from None
        if content in seen:
            raise config_lib.ConfigError(f"{seen[content]} and {name} are the same; keep one")
        seen[content] = name
        runs.append(Run(name, [*arguments, "--workdir", os.path.join(workdir, name)]))
    return runs


def _parse_axis(text: str) -> _Axis:
    fields, _, values = text.partition("=")
    separator = ";" if ";" in values else ","
    parts = [value.strip() for value in values.split(separator)]
    if not all(fields.split("+")) or not all(parts):
        raise config_lib.ConfigError(
            f"--vary {text!r} is not FIELD=VALUE,VALUE,...; write it as seed=0,1,2"
        )
    return _Axis(fields.split("+"), parts)


def _quote(value: str) -> str:
    """A value as part of the name of a folder."""
    return urllib.parse.quote(value, safe="+(),;=", errors="surrogateescape")


def run_all(runs: Sequence[Run]) -> int:
    """Runs train.py for each combination, one after another.

    Args:
        runs: The combinations.

    Returns:
        The exit code, see the top of this file.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run.name}", flush=True)
        code = _call([sys.executable, _TRAIN, *run.arguments])
        if code in _PREEMPTED:
            return code
        if code:
            failed.append(f"{run.name} (exit code {code})")
    if failed:
        print(
            f"{len(failed)} of {format_count(len(runs), 'run')} failed: {'; '.join(failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _call(command: Sequence[str]) -> int:
    """Runs a program to its end, also after a signal, because it saves its state then."""
    process: subprocess.Popen[bytes] | None = None
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        # A terminal sends Ctrl-C to the program, too, and a second one would stop it at once.
        if number == signal.SIGTERM and process is not None:
            process.send_signal(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command)
        if received == signal.SIGTERM:  # before there was a process
            process.terminate()
        code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        return 128 + received
    return 128 - code if code < 0 else code


def main() -> None:
    """Reads the arguments and runs or prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description="Trains every combination of some values of fields. Other arguments go to "
        "train.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="experiment, as for train.py")
    parser.add_argument("--workdir", required=True, help="folder; each run has a folder in it")
    parser.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="FIELD=VALUE,VALUE,...",
        help="values of a field, separated by commas, or by semicolons if values have commas. "
        "FIELD+FIELD sets several fields to the same value. Can be repeated",
    )
    parser.add_argument("--print", action="store_true", help="print the command lines only")
    parser.add_argument("--index", type=int, metavar="N", help="only run N, counted from 0")
    options, others = parser.parse_known_args()
    try:
        runs = list_runs(options.config, options.workdir, options.vary, others)
    except config_lib.ConfigError as error:
        sys.exit(f"error: {error}")
    if options.index is not None:
        if not 0 <= options.index < len(runs):
            sys.exit(f"error: --index {options.index} is not one of the runs 0 to {len(runs) - 1}")
        runs = [runs[options.index]]
    if options.print:
        for run in runs:
            print(shlex.join(["python", "train.py", *run.arguments]))
    elif options.index is not None:
        # In place of this process, which gets the signals and the exit code of a launcher.
        os.execv(sys.executable, [sys.executable, _TRAIN, *runs[0].arguments])
    else:
        sys.exit(run_all(runs))


if __name__ == "__main__":
    main()
