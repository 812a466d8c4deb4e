"""Parameters, multiply-accumulates and time at 480x320, beside table 7 of the SADNet paper.

    python -m benchmarks.bench_table7                # each network for about 20 seconds
    python -m benchmarks.bench_table7 --size 1920x1080 --only sadnet
    python -m benchmarks.bench_table7 --quick

One color image in float32, jitted and warm, each call waited for, on all cores; the median of the
time on the wall is reported. The paper's times are those of an NVIDIA GTX 1080 Ti, so only the
first two columns compare, and these at 480x320 only. What the paper calls FLOPs are
multiply-accumulates; docs/results/sadnet.md explains why its two numbers for SADNet are
larger.
"""

import argparse
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import Result, run_cases, timing
from benchmarks.macs import count_macs, count_parameters
from lcdnet_jax import networks
from lcdnet_jax.typing import JsonObject

_SIZE = "480x320"

# name in the paper -> thousands of parameters, 1e9 "FLOPs", milliseconds
_PAPER = {
    "DnCNN": (558, 86.1, 21.3),
    "MemNet": (2908, 449.2, 154.2),
    "RNAN": (8960, 1163.5, 1072.2),
    "RIDNet": (1499, 230.0, 84.4),
    "SADNet": (4321, 50.1, 26.7),
}

# what is measured -> name in the paper, if it is there, and how to make it
_NETWORKS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "sadnet base": ("SADNet", {"name": "sadnet", "preset": "base"}),
    "sadnet small": (None, {"name": "sadnet", "preset": "small"}),
    "dncnn": ("DnCNN", {"name": "dncnn"}),
    "ridnet": ("RIDNet", {"name": "ridnet"}),
    # 20 channels and unshared units, not the MemNet of the table.
    "memnet of SFM": (None, {"name": "memnet"}),
}


def main() -> None:
    """All networks, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0, help="time per network")
    parser.add_argument("--quick", action="store_true", help="two seconds per network")
    parser.add_argument("--size", default=_SIZE, help="width x height of the image")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    seconds = 2.0 if options.quick else options.seconds
    chosen = [case for case in _NETWORKS if options.only in case]
    rows: list[tuple[str, Mapping[str, Any]]] = []

    def measure(case: str) -> Result:
        paper, kwargs = _NETWORKS[case]
        result = _measure(kwargs, (1, height, width, 3), seconds)
        if paper and options.size == _SIZE:
            result["paper"] = _PAPER[paper]
        rows.append((case, result))
        return result

    try:
        run_cases("table7", [(case, functools.partial(measure, case)) for case in chosen])
    finally:  # ends the program where a case failed
        print("\n" + _table(rows, options.size), flush=True)


def _measure(
    kwargs: Mapping[str, Any], shape: tuple[int, int, int, int], seconds: float
) -> JsonObject:
    module = networks.create(**{"channels": shape[-1], **kwargs})
    x = jax.random.uniform(jax.random.key(0), shape)
    variables = module.init(jax.random.key(1), jnp.zeros((1, 8, 8, shape[-1])))
    apply = jax.jit(module.apply)
    call = timing.Call(lambda: apply(variables, x))
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    (times,) = timing.measure_medians([call], seconds)
    return {
        "value": round(times.wall, 1),
        "unit": "ms",
        "clock": "wall",
        "parameters": count_parameters(module, shape),
        "gmacs": round(count_macs(module, shape) / 1e9, 2),
        "first_call_in_seconds": round(first, 1),
        "rounds": times.rounds,
        **timing.describe_device(),
    }


def _table(rows: list[tuple[str, Mapping[str, Any]]], size: str) -> str:
    """Ours, then at its size the paper's."""
    line = "{:<14} {:>12} {:>8} {:>10} {:>16} {:>12} {:>12}".format
    lines = [line(f"{size} color", "parameters", "GMAC", "ms here", "paper: k params", "GFLOPs",
                  "ms 1080Ti")]  # fmt: skip
    for case, result in rows:
        paper = result.get("paper", ("", "", ""))
        lines.append(line(case, f"{result['parameters']:,}", result["gmacs"], result["value"],
                          *paper))  # fmt: skip
    if size != _SIZE:
        return "\n".join(text.rstrip() for text in lines)
    measured = {_NETWORKS[case][0] for case, _ in rows}
    lines += [line(name, "", "", "", *row) for name, row in _PAPER.items() if name not in measured]
    return "\n".join(text.rstrip() for text in lines)


if __name__ == "__main__":
    main()
