"""Peak resident memory of training steps, beside PyTorch's; one JSON line per case. Linux only.

    python -m benchmarks.train_memory
    python -m benchmarks.train_memory --only "sadnet base" --peer torch

A case is that of ``bench_networks``: gradient of the mean squared error, Adam. Ours and the peer's
run in new processes of one core, which have the modules, weights and images in memory before
anything is counted. ``value`` is the peak above that in steps after the first one, and
``with_compilation`` the peak of the whole process. Memory is allocated as in ``train.py``; nothing
is taken from a cache of compiled programs.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import Result, compare_with_peer, round_significant, run_cases

_ROOT = pathlib.Path(__file__).parents[1]
_STEPS = 4  # after the first

# Network, preset, shape of the images.
CASES: dict[str, tuple[str, str, tuple[int, int, int, int]]] = {
    "sadnet base 1x64x64": ("sadnet", "base", (1, 64, 64, 3)),
    "sadnet base 4x128x128": ("sadnet", "base", (4, 128, 128, 3)),
    "lcdnet tiny 1x64x64": ("lcdnet", "tiny", (1, 64, 64, 3)),
    "lcdnet tiny 4x128x128": ("lcdnet", "tiny", (4, 128, 128, 3)),
}


def main() -> None:
    """Measures the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--peer", choices=["torch"], help="what to compare with")
    parser.add_argument("--here", choices=["jax", "torch"], help="measure in this process")
    options = parser.parse_args()
    if options.here:
        measure = measure_jax if options.here == "jax" else measure_torch
        print(json.dumps(measure(*CASES[options.only])))
        return
    cases = [name for name in CASES if options.only in name]
    if not cases:
        parser.error(f"no case has {options.only!r} in its name; there are {', '.join(CASES)}")
    run_cases(
        "train_memory",
        [(name, functools.partial(measure_case, name, options.peer)) for name in cases],
    )


def measure_case(name: str, peer: str | None) -> Result:
    """Measures one case in new processes.

    Args:
        name: One of :data:`CASES`.
        peer: "torch" or None.

    Returns:
        Fields of the JSON line, MB.
    """
    ours = _run("jax", name)
    fields = {"value": ours["steps"], "unit": "MB", **ours}
    if peer:
        theirs = _run(peer, name)
        fields |= compare_with_peer(ours["steps"], peer, theirs["steps"])
        fields |= {f"peer_{key}": number for key, number in theirs.items()}
    return fields


def _run(framework: str, name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.train_memory", "--here", framework]
    environment = {**os.environ, "LCDNET_JAX_NO_COMPILATION_CACHE": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [*command, "--only", name],
        check=True, cwd=_ROOT, env=environment, stdout=subprocess.PIPE,
    )  # fmt: skip
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def measure_jax(network: str, preset: str, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Measures our training steps in this process, which must be a new one.

    Args:
        network: Name of the network.
        preset: Its size.
        shape: Shape of the images, ``[N, H, W, C]``.

    Returns:
        "steps" and "with_compilation" above what was there before, and "before", MB; and XLA's
        "plan" of the step.
    """
    from lcdnet_jax.cli import script_start  # noqa: F401  # as train.py; before JAX

    # isort: split

    import jax

    from benchmarks import bench_networks, resident, timing
    from lcdnet_jax.cli import script
    from lcdnet_jax.freed_memory import return_freed_memory

    script.set_network_options(network)
    module, variables, images, target = _make_inputs(network, preset, shape)
    jax.block_until_ready(jax.numpy.zeros(()))  # JAX has started
    before = resident.read("VmRSS")
    program, run, arguments = bench_networks._training(module, variables, images, target, 1)
    plan = timing.count_planned_bytes(program.lower(*arguments).compile())
    jax.block_until_ready(run())
    first = resident.read("VmHWM")
    return_freed_memory()  # as train.py
    peaks = _measure_steps(lambda: jax.block_until_ready(run()), before, first)
    return {**peaks, "plan": round_significant(plan / 1e6)}


def measure_torch(network: str, preset: str, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Measures PyTorch's training steps likewise, in its contiguous format.

    Args:
        network: Name of the network.
        preset: Its size.
        shape: Shape of the images, ``[N, H, W, C]``.

    Returns:
        The same fields without the plan. Nothing is compiled: "with_compilation" has the first
        steps.
    """
    from benchmarks import resident, torch_steps

    module, variables, images, target = _make_inputs(network, preset, shape)
    makers = torch_steps.network_makers(
        network, module, variables, images, target, dtype=module.dtype
    )
    make = next(iter(makers.values()))
    before = resident.read("VmRSS")
    call = make().call
    return _measure_steps(call, before, resident.read("VmHWM"))


def _make_inputs(network: str, preset: str, shape: tuple[int, int, int, int]) -> tuple[Any, ...]:
    """The module, its variables, images and their targets, on one core."""
    from benchmarks import bench_networks, timing

    timing.use_one_core()
    import numpy as np

    case = bench_networks.Case(network, preset, shape, train=True)
    module = case.module(case.dtype)
    images, target = np.random.default_rng(0).random((2, *shape), np.float32)
    return module, bench_networks.random_variables(module), images, target


def _measure_steps(run: Callable[[], Any], before: float, first: float) -> dict[str, Any]:
    """Runs steps; their peak and that of the first one (GB), above ``before``, in MB."""
    from benchmarks import resident

    resident.reset_peak()
    for _ in range(_STEPS):
        run()
    steps = resident.read("VmHWM")
    numbers = {"steps": steps - before, "with_compilation": first - before, "before": before}
    return {name: round_significant(1e3 * number) for name, number in numbers.items()}


if __name__ == "__main__":
    main()
