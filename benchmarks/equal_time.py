r"""Trains networks for the same processor time and scores them on the same images; Linux only.

    python -m benchmarks.equal_time --output runs/equal --seconds 240 --seeds 0,1,2 \
        --try "small --config.network.kwargs.preset=small" \
        --try "fast --config.network.kwargs.preset=fast" \
        --config configs/sadnet_quickstart.py --config.data.train.source=folder \
        --config.data.train.path=photos --config.data.eval.source=folder \
        --config.data.eval.path=held_out

Each ``--try`` is a name and arguments of train.py that differ; the other arguments of train.py
follow. First the processor time of a training step and of a forward pass is measured for each, in a
process of its own on one core. Then each is trained with as many steps as fit into ``--seconds``,
without compilation and evaluation, and for each seed. The images of ``config.data.eval`` are scored
after the last step. The same command continues, and trains only what is missing.

Writes ``results.json``, rows with the parameters, milliseconds of a step, steps, seconds for a
megapixel, and the PSNR of each seed; and ``results.png``, PSNR against seconds for a megapixel.
"""

import argparse
import json
import math
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_ROOT = pathlib.Path(__file__).parents[1]
_SIZE = (512, 768)  # of the image of the forward pass
_SECONDS = 5.0  # of steps and of forward passes, each

Row = dict[str, Any]


def main() -> None:
    """Measures, trains, scores and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, help="folder of the runs and the results")
    parser.add_argument("--seconds", type=float, help="of processor time for the steps of a run")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--try", dest="tries", action="append", help="a name and arguments")
    parser.add_argument("--cost", action="store_true", help="only print the cost of one network")
    options, common = parser.parse_known_args()
    if options.cost:
        print(json.dumps(measure_cost(common)))
        return
    if not (options.output and options.seconds and options.tries):
        parser.error("give --output, --seconds, and --try at least once")
    arguments = {}
    for text in options.tries:
        name, *changes = shlex.split(text)
        arguments[name] = [*common, *changes]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    compare(arguments, options.output, seconds=options.seconds, seeds=seeds)


def compare(
    arguments: Mapping[str, list[str]],
    output: pathlib.Path,
    *,
    seconds: float,
    seeds: Sequence[int],
) -> None:
    """Measures, trains and scores all networks, and writes the results.

    Args:
        arguments: Name -> arguments of train.py.
        output: Folder of the runs and the results.
        seconds: Processor time for the steps of a run.
        seeds: Of the runs.
    """
    from benchmarks.sweep import Run, run_all
    from lcdnet_jax import config as config_lib

    for name, given in arguments.items():  # an error now, not after hours
        try:
            config = config_lib.read_config(given)
        except config_lib.ConfigError as error:
            sys.exit(f"error: {name}: {error}")
        if config.stages.steps:
            sys.exit(f"error: {name}: steps of stages take unequal times; set config.stages to ()")
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, cost in _read_costs(output / "costs.json", arguments).items():
        steps = max(1, round(1e3 * seconds / cost["step_ms"]))
        runs = [
            Run(f"{name}-{seed}", _train(arguments[name], output, name, seed, steps))
            for seed in seeds
        ]
        if code := run_all(runs):
            sys.exit(code)
        psnr = [_read_psnr(output / run.name, steps) for run in runs]
        rows.append({"name": name, **cost, "steps": steps, "psnr": psnr})
        print(json.dumps(rows[-1]), flush=True)
    (output / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, output / "results.png")


def _train(
    arguments: list[str], output: pathlib.Path, name: str, seed: int, steps: int
) -> list[str]:
    """Arguments of train.py for one run."""
    return [
        *arguments,
        f"--workdir={output / f'{name}-{seed}'}",
        f"--config.seed={seed}",
        f"--config.steps={steps}",
        "--config.eval_every=0",
    ]


def _read_psnr(workdir: pathlib.Path, steps: int) -> float:
    """The mean over noise levels and protocols after the last step, dB."""
    from lcdnet_jax.weights import scores

    rows = scores.read_newest(workdir, steps)
    return round(statistics.mean(row["psnr"] for row in rows), 3)


def _read_costs(path: pathlib.Path, arguments: Mapping[str, list[str]]) -> dict[str, Row]:
    """Costs by name. What ``path`` has for the same arguments is not measured again."""
    known = json.loads(path.read_text()) if path.exists() else {}
    for name, given in arguments.items():
        if known.get(name, {}).get("arguments") == given:
            continue
        command = [sys.executable, "-m", "benchmarks.equal_time", "--cost", *given]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"error: {name} ended with status {done.returncode} (see above)")
        known[name] = {"arguments": given, "cost": json.loads(done.stdout.splitlines()[-1])}
        path.write_text(json.dumps(known, indent=1) + "\n")
    return {name: known[name]["cost"] for name in arguments}


def measure_cost(arguments: Sequence[str]) -> Row:
    """Measures processor time in this process, which must be a new one.

    Args:
        arguments: Of train.py.

    Returns:
        Parameters, milliseconds of a training step and seconds of a forward pass for a megapixel
        (of 512x768 pixels in one program), each the least of several calls.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from lcdnet_jax.cli import script_start  # noqa: F401  # as train.py; before JAX

    # isort: split

    import jax

    from benchmarks import train_step
    from lcdnet_jax import config as config_lib
    from lcdnet_jax.cli import script

    config = config_lib.read_config(list(arguments))
    script.set_network_options(config.network.name)
    module = config_lib.network(config)
    image = np.random.default_rng(0).random((1, *_SIZE, module.channels), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), image[:, :64, :64])
    forward = jax.jit(module.apply)
    step = train_step.make_step(config, jax.devices()[:1])

    def measure(call: Callable[[], object]) -> float:
        call()  # compiles
        return float(train_step.time_calls(call, seconds=_SECONDS, least=3)["seconds"])

    restoring = measure(lambda: jax.block_until_ready(forward(variables, image)))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "step_ms": round(1e3 * measure(step), 1),
        "seconds_per_megapixel": round(1e6 * restoring / math.prod(_SIZE), 3),
    }


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draws the PSNR of all seeds against the seconds for a megapixel.

    Args:
        rows: Rows of ``results.json``.
        path: A PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6, 4))
    for row in rows:
        seconds, mean = row["seconds_per_megapixel"], statistics.mean(row["psnr"])
        (points,) = panel.plot([seconds] * len(row["psnr"]), row["psnr"], "o", markersize=4)
        panel.annotate(f"  {row['name']}", (seconds, mean), color=points.get_color(), va="center")
    panel.set(xlabel="processor time, s per megapixel", ylabel="PSNR, dB", xscale="log")
    panel.set_xticks(ticks := sorted({row["seconds_per_megapixel"] for row in rows}),
                     [f"{tick:g}" for tick in ticks])  # fmt: skip
    panel.minorticks_off()
    panel.margins(x=0.15)  # for the names
    panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
