"""How time and memory grow with pixels, batch, threads and devices, on Linux; JSON lines.

    python -m benchmarks.growth --out docs/images/growth.json            # about an hour
    python -m benchmarks.growth --only "batch sadnet" --out docs/images/growth.json
    python -m benchmarks.growth --draw docs/images/growth.json           # growth.png beside it

Pixels: a photo restored in windows, as ``Restorer`` does it. Batch, threads, devices: a step of
``train.py`` with crops of 64 pixels; of threads and devices with 8 crops in all, the devices are
simulated ones that share a core. Each case runs in a process of its own after compilation.
``seconds`` is processor time and ``wall`` wall time, the least of several steps (of one photo of
more than 3 megapixels). ``memory`` is the peak resident memory, MB, above that before images, state
and program exist. A measured case replaces its row in the file of ``--out``; other rows stay.

Then a line per series has the exponents of time and memory: of the straight line that fits the
logarithms of all cases, and between neighboring sizes. 1 means in proportion, 0 constant.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_ROOT = pathlib.Path(__file__).parents[1]
_MEASURES = ("seconds", "wall", "memory")
_CROP, _CROPS = 64, 8
_SECONDS = 6.0  # of steps, at least three of them

# What grows, and its sizes. LCDNet ends earlier: more would take many minutes.
CASES: Mapping[str, Sequence[float]] = {
    "pixels sadnet-photo": (0.1, 0.4, 1.6, 6.25, 25),
    "pixels lcdnet-rain": (0.1, 0.4, 1.6, 6.25),
    "batch sadnet small": (1, 2, 4, 8, 16, 32, 64),
    "batch lcdnet tiny": (1, 4, 16),
    "threads sadnet small": (1, 2),
    "devices sadnet small": (1, 2, 4, 8),
}
_WEIGHTS = {"lcdnet-rain": "checkpoints/lcdnet-rain.safetensors"}

Row = dict[str, Any]


def main() -> None:
    """Measures, fits and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="series whose name contains this")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file of the measured cases")
    parser.add_argument("--draw", type=pathlib.Path, help="only draw this JSON file")
    parser.add_argument("--here", nargs=2, metavar=("SERIES", "SIZE"), help="in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure_here(options.here[0], float(options.here[1]))))
        return
    if options.draw:
        draw(json.loads(options.draw.read_text()), options.draw.with_suffix(".png"))
        return
    chosen = [series for series in CASES if options.only in series]
    if not chosen:
        parser.error(f"no series has {options.only!r} in its name; there are {', '.join(CASES)}")
    rows: list[Row] = []
    if options.out and options.out.exists():
        rows = json.loads(options.out.read_text())
    for series in chosen:
        for size in CASES[series]:
            row = measure(series, size)
            print(json.dumps(row), flush=True)
            rows = [old for old in rows if (old["series"], old["size"]) != (series, size)] + [row]
            if options.out:
                lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=_order))
                options.out.write_text(f"[\n{lines}\n]\n")
    for line in fit_exponents(rows):
        print(json.dumps(line))
    if options.out:
        draw(rows, options.out.with_suffix(".png"))


def _order(row: Row) -> tuple[int, float]:
    return list(CASES).index(row["series"]), row["size"]


def measure(series: str, size: float) -> Row:
    """Measures one case in a new process.

    Args:
        series: One of :data:`CASES`.
        size: Megapixels, crops, threads or devices.

    Returns:
        The row.
    """
    environment = dict(os.environ)
    if series.startswith("devices"):
        flag = f"--xla_force_host_platform_device_count={size:.0f}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flag}".strip()
    command = [sys.executable, "-m", "benchmarks.growth", "--here", series, str(size)]
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {series}, size {size:g}, ended with status {done.returncode} (see above)")
    numbers: Row = json.loads(done.stdout.splitlines()[-1])
    return {"series": series, "size": size, **numbers}


def measure_here(series: str, size: float) -> Row:
    """Measures one case in this process, which must be a new one.

    Args:
        series: One of :data:`CASES`.
        size: As for :func:`measure`.

    Returns:
        Measures of the row, date and processor.
    """
    axis, _, subject = series.partition(" ")
    threads = int(size) if axis == "threads" else 1
    if threads > len(os.sched_getaffinity(0)):
        sys.exit(f"error: {threads} threads need {threads} cores; use --only to leave them out")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    if axis == "pixels":
        numbers = _restore(_WEIGHTS.get(subject, subject), size)
    else:
        crops = int(size) if axis == "batch" else _CROPS
        network, preset = subject.split()
        numbers = _train(network, preset, crops, int(size) if axis == "devices" else 1)
    from lcdnet_jax import messages

    today = datetime.datetime.now(datetime.UTC).date()
    return {**numbers, "date": str(today), "machine": messages.describe_processor()}


def _restore(name: str, megapixels: float) -> Row:
    from lcdnet_jax.cli import _compilation

    _compilation.set_environment(quiet=True)  # as the command does

    from benchmarks import resident, restore_speed, train_step
    from lcdnet_jax import Restorer
    from lcdnet_jax import weights as weights_lib
    from lcdnet_jax.weights import pretrained

    weights = weights_lib.load(pretrained.find(name), on_network=_compilation.set_network_options)
    restorer = Restorer(weights.module, weights.variables)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    shape = (height, round(megapixels * 1e6 / height))
    before = resident.read("VmRSS")
    restore_speed._compile_windows(restorer, shape)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    resident.reset_peak()
    seconds = 0.0 if megapixels > 3 else _SECONDS
    times = train_step.time_calls(
        lambda: restorer(image), seconds=seconds, least=1 if megapixels > 3 else 2
    )
    return {**times, "memory": _megabytes(resident.read("VmHWM") - before)}


def _train(network: str, preset: str, crops: int, devices: int) -> Row:
    from lcdnet_jax.cli import script_start  # noqa: F401  # as train.py; before JAX

    # isort: split

    import jax

    from benchmarks import device_memory, resident, train_step
    from lcdnet_jax.cli import script
    from lcdnet_jax.freed_memory import return_freed_memory

    script.set_network_options(network)
    config = device_memory.make_config(network, preset, _CROP, crops, "float32")
    chosen = jax.devices()[:devices]
    before = resident.read("VmRSS")
    step = train_step.make_step(config, chosen)
    step()
    return_freed_memory()  # as train.py
    resident.reset_peak()
    times = train_step.time_calls(step, seconds=_SECONDS, least=3)
    return {**times, "memory": _megabytes(resident.read("VmHWM") - before)}


def _megabytes(gigabytes: float) -> int:
    return round(1e3 * gigabytes)


def fit_exponents(rows: Sequence[Row]) -> list[Row]:
    """Fits the exponents of all series and measures.

    Args:
        rows: Rows of :func:`measure`.

    Returns:
        For each series "sizes" and, for each measure, the exponent over all sizes, and those
        between neighbors.
    """
    lines = []
    for series in CASES:
        found = sorted((row for row in rows if row["series"] == series), key=_order)
        if len(found) < 2:
            continue
        line: Row = {"series": series, "sizes": [row["size"] for row in found]}
        for measure_ in _MEASURES:
            sizes, values = (np.log([row[key] for row in found]) for key in ("size", measure_))
            steps = np.diff(values) / np.diff(sizes)
            line[measure_] = round(float(np.polyfit(sizes, values, 1)[0]), 2)
            line[f"{measure_}_between_neighbors"] = [round(float(step), 2) for step in steps]
        lines.append(line)
    return lines


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draws processor time and memory against size, for each axis one column.

    Args:
        rows: Rows of :func:`measure`.
        path: A PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"pixels": "megapixels of a photo", "batch": "crops of a training step",
              "threads": "threads", "devices": "simulated devices, one core"}  # fmt: skip
    units = {"seconds": "processor time, s", "memory": "resident memory, MB"}
    axes = [axis for axis in labels if any(row["series"].startswith(axis) for row in rows)]
    figure, panels = pyplot.subplots(
        len(units), len(axes), figsize=(2.6 * len(axes), 4.4), squeeze=False, sharex="col"
    )
    for column, axis in enumerate(axes):
        for line, measure_ in enumerate(units):
            panel = panels[line, column]
            for series in (name for name in CASES if name.startswith(axis)):
                found = sorted((row for row in rows if row["series"] == series), key=_order)
                sizes, values = ([row[key] for row in found] for key in ("size", measure_))
                panel.plot(sizes, values, "o-", markersize=3, label=series.partition(" ")[2])
            panel.set(xscale="log", yscale="log")
            drawn = [row[measure_] for row in rows if row["series"].startswith(axis)]
            if max(drawn) < 10 * min(drawn):  # the axis would have no numbers
                panel.set_yticks(
                    [min(drawn), max(drawn)],
                    [f"{y:.0f}" if y >= 100 else f"{y:.3g}" for y in (min(drawn), max(drawn))],
                )
            panel.grid(alpha=0.3)
            panel.minorticks_off()
            ticks = sorted({row["size"] for row in rows if row["series"].startswith(axis)})
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panels[0, column].legend(fontsize=7)
        panels[-1, column].set_xlabel(labels[axis])
    for line, unit in enumerate(units.values()):
        panels[line, 0].set_ylabel(unit)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
