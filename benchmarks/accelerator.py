"""All that is asked of an accelerator, the most important first, by one command in limited time.

    python -m benchmarks.accelerator --peer torch --budget 500 --out profile
    python -m benchmarks.accelerator --set tiny          # the same in small, also on a CPU

First whether all networks and operations compute what the CPU computes: ``parity``. Then SADNet and
LCDNet forward and in training, the deformable convolution at SADNet's scales, several steps a call:
the cases of ``bench_networks`` and ``bench_deform_conv``. One JSON line each, then a table. On an
H200 a line also says which part of the time the hardware needs at least. What does not fit into the
budget is skipped, and what still runs at its end is left.
"""

import argparse
import functools
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Sequence

import jax

from benchmarks import (
    Result,
    bench_deform_conv,
    bench_networks,
    format_table,
    parity,
    run_case,
    timing,
)

# Milliseconds that an H200 needs at least in bfloat16: the sum over operators, each taken as one
# fused pass, of the longer of its arithmetic (790 TFLOP/s) and its bytes (4.3 TB/s), the columns of
# deformable convolutions among them. That of LCDNet is of a plainer net of as many blocks, NAFNet's
# with a Fourier branch, so that its share reads low.
FLOORS_H200 = {
    "sadnet base 16x128x128 forward": 0.44,
    "sadnet base 16x128x128 train": 1.41,
    "sadnet base 256x128x128 forward": 7.0,
    "sadnet base 256x128x128 train": 22.1,
    "sadnet base 1x320x480 forward": 0.26,
    "sadnet base 1x1080x1920 forward": 3.5,
    "lcdnet base 8x256x256 forward": 2.6,
    "lcdnet base 8x256x256 train": 7.0,
}

Case = parity.Case | bench_networks.Case | bench_deform_conv.Case


def main() -> None:
    """Measures the cases in order of rank, until the budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", choices=["torch"], help="what to compare with")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer, too")
    parser.add_argument("--set", choices=["accelerator", "tiny"], help="cases; on a CPU tiny")
    parser.add_argument("--budget", type=float, default=500.0, help="seconds for all")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per case, once compiled")
    parser.add_argument("--out", type=pathlib.Path, help="folder for a profile of a training step")
    options = parser.parse_args()
    end = time.monotonic() + options.budget
    timing.use_one_core()
    options.set = options.set or ("tiny" if timing.on_cpu() else "accelerator")
    cases: list[Case] = [
        *parity.SETS[options.set],
        *bench_networks.SETS[options.set],
        *bench_deform_conv.SETS[options.set],
    ]
    sys.exit(run(sorted(cases, key=lambda case: case.rank), options, end))


def run(cases: Sequence[Case], options: argparse.Namespace, end: float) -> int:
    """Measures until ``time.monotonic()`` is ``end``; returns the status to exit with."""
    results: list[Result] = []

    def report() -> int:
        for case in cases[len(results) :]:
            results.append(_skip(case, "the budget was spent"))
        print("\n" + format_table(results), flush=True)
        return int(any("error" in result for result in results))

    # What runs in another thread, compiling say, cannot be stopped; the process can.
    timer = threading.Timer(end - time.monotonic(), lambda: os._exit(report()))
    timer.daemon = True
    timer.start()
    traced = next((case for case in cases if getattr(case, "train", False)), None)
    for case in cases:
        left = end - time.monotonic()
        if options.set == "accelerator" and left < _expected_seconds(case):
            results.append(_skip(case, f"{left:.0f} seconds were left"))
            continue
        trace = options.out if case is traced else None
        results.append(
            run_case(_benchmark(case), case.name, _make_measurement(case, options, trace))
        )
    timer.cancel()
    return report()


def _benchmark(case: Case) -> str:
    if isinstance(case, parity.Case):
        return "parity"
    return "networks" if isinstance(case, bench_networks.Case) else "deform_conv"


def _make_measurement(
    case: Case, options: argparse.Namespace, trace: pathlib.Path | None
) -> Callable[[], Result]:
    if isinstance(case, parity.Case):
        return functools.partial(parity.measure, case)
    if isinstance(case, bench_deform_conv.Case):
        return functools.partial(
            bench_deform_conv.measure, case, options.seconds / 2, peer=options.peer
        )
    measure = functools.partial(
        bench_networks.measure,
        case,
        options.seconds,
        peer=options.peer,
        compiled=options.compile,
        trace=trace,
    )
    return lambda: _add_share(case, measure())


def _add_share(case: bench_networks.Case, result: Result) -> Result:
    """Adds the floor and which part of the time it is."""
    floor = FLOORS_H200.get(case.name.removesuffix(" bfloat16"))
    if floor is None or "H200" not in jax.devices()[0].device_kind:
        return result
    return {**result, "floor_ms": floor, "share": round(floor / result["value"], 3)}


def _expected_seconds(case: Case) -> float:
    """Guessed: mostly compilation, cold and from the cache, of a training step more."""
    if isinstance(case, (parity.Case, bench_deform_conv.Case)):
        return 8
    return (60 if case.train else 20) * (2 if case.network == "lcdnet" else 1)


def _skip(case: Case, reason: str) -> Result:
    return run_case(_benchmark(case), case.name, lambda: {"skipped": reason})


if __name__ == "__main__":
    main()
