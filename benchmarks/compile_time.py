"""What compilation costs: processor seconds in new processes, without and with a cache.

    python -m benchmarks.compile_time                        # networks
    python -m benchmarks.compile_time --only "sadnet small"
    python -m benchmarks.compile_time --command              # train.py up to the first step

Prints one JSON object a line. Each case runs in new processes that keep to one core and compile as
the commands do: once with an empty folder of compiled programs, once with the full one. Seconds are
processor time, user and system: ``trace_s`` of tracing and lowering, ``compile_s`` and ``cached_s``
of what XLA does then. Of several runs the least counts.

``--command`` starts ``train.py --config configs/lcdnet_quickstart.py`` and measures the whole
process until its line about compilation, which is printed after the first step.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]

# Network, preset, shape of the images, whether it is a training step.
CASES: dict[str, tuple[str, str, tuple[int, int, int, int], bool]] = {
    "sadnet small train": ("sadnet", "small", (4, 64, 64, 3), True),
    "sadnet base train": ("sadnet", "base", (1, 64, 64, 3), True),
    "lcdnet tiny train": ("lcdnet", "tiny", (2, 64, 64, 3), True),
    "lcdnet base forward": ("lcdnet", "base", (1, 64, 64, 3), False),
}
_LINE = re.compile(r"\d+ programs? (compiled|loaded)")  # of train.py, after the first step


def main() -> None:
    """Measures the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--config", default="configs/lcdnet_quickstart.py", help="of --command")
    parser.add_argument("--here", help="measure one case in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure_here(options.here)))
        return
    if options.command:
        print(json.dumps(measure_command(options.config, options.runs)), flush=True)
        return
    for case in CASES:
        if options.only in case:
            print(json.dumps(measure(case, options.runs)), flush=True)


def measure(case: str, runs: int) -> dict[str, Any]:
    """Measures one case in new processes.

    Args:
        case: One of :data:`CASES`.
        runs: Number of runs.

    Returns:
        Fields of the JSON line.
    """
    empty: list[dict[str, float]] = []
    full: list[dict[str, float]] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for results in (empty, full):
                command = [sys.executable, "-m", "benchmarks.compile_time", "--here", case]
                done = subprocess.run(
                    command, check=True, cwd=_ROOT, env=_environment(folder), stdout=subprocess.PIPE
                )
                results.append(json.loads(done.stdout))
    return {
        "case": case,
        "trace_s": min(result["trace_s"] for result in (*empty, *full)),
        "compile_s": min(result["compile_s"] for result in empty),
        "cached_s": min(result["compile_s"] for result in full),
        "runs": runs,
    }


def measure_here(case: str) -> dict[str, float]:
    """Compiles one case in this process, which must be a new one."""
    from lcdnet_jax.cli import _compilation

    _compilation.set_environment(quiet=True)  # as the commands do

    from benchmarks import bench_networks, timing

    timing.use_one_core()
    import numpy as np

    network, preset, shape, train = CASES[case]
    one = bench_networks.Case(network, preset, shape, train)
    _compilation.set_network_options(network)
    module = one.module(one.dtype)
    variables = bench_networks.random_variables(module)
    images = np.zeros(shape, np.float32)
    make = bench_networks._training if train else bench_networks._forward
    program, _, arguments = make(module, variables, images, images, 1)
    begin = time.process_time()
    lowered = program.lower(*arguments)
    middle = time.process_time()
    lowered.compile()
    return {
        "trace_s": round(middle - begin, 2),
        "compile_s": round(time.process_time() - middle, 2),
    }


def measure_command(config: str, runs: int) -> dict[str, Any]:
    """Measures train.py from its start to the line after the first step.

    Args:
        config: The experiment.
        runs: Number of runs.

    Returns:
        Fields of the JSON line: processor seconds, wall seconds, and the line.
    """
    seconds: dict[str, list[tuple[float, float, str]]] = {"empty": [], "full": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for kind, results in seconds.items():
                command = [sys.executable, "train.py", "--config", config]
                workdir = str(pathlib.Path(folder, kind))
                results.append(_run_to_first_step([*command, "--workdir", workdir], folder))
    fields: dict[str, Any] = {"config": config, "runs": runs}
    for kind, results in seconds.items():
        processor, wall, line = min(results)
        fields |= {f"{kind}_seconds": processor, f"{kind}_wall": wall, f"{kind}_line": line}
    return fields


def _run_to_first_step(command: Sequence[str], folder: str) -> tuple[float, float, str]:
    """Processor seconds and wall seconds of a command until its line about compilation."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=_ROOT, env=_environment(folder), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if _LINE.search(line):
                wall = time.perf_counter() - begin
                fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]
                ticks = sum(map(int, fields.split()[11:13]))  # user and system
                process.send_signal(signal.SIGKILL)
                return round(ticks / os.sysconf("SC_CLK_TCK"), 1), round(wall, 1), line.strip()
    raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} before a step")


def _environment(folder: str) -> dict[str, str]:
    """The environment of a user whose folder for caches is ``folder``, without settings of XLA."""
    left_out = ("JAX_", "XLA_", "LCDNET_JAX_NO", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    small = {  # keep every program, as the commands do
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {**kept, **small, "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(folder, "programs"))}


if __name__ == "__main__":
    main()
