"""Every network in bfloat16 and in float32: time of a forward pass, one JSON line each.

    python -m benchmarks.compute_types
    python -m benchmarks.compute_types --only sadnet --side 128

``ratio`` is the time in bfloat16 over that in float32 in the same run, of networks that are called
directly. On a CPU these are processor seconds of one core, see benchmarks/timing.py. The library
itself computes in float32 where a CPU was asked for bfloat16 (``ops.precision.avoid_slow_type``),
because of these numbers. Weights are random.
"""

import argparse
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import Result, round_significant, run_cases, timing
from benchmarks.bench_networks import random_variables
from lcdnet_jax import networks

_TYPES = ("float32", "bfloat16")

# Fields of each network, for images of a moderate cost.
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sadnet small": ("sadnet", {"preset": "small"}),
    "sadnet base": ("sadnet", {"preset": "base"}),
    "lcdnet tiny": ("lcdnet", {"preset": "tiny"}),
    "nafnet": ("nafnet", {"preset": "sidd_width32"}),
    "restormer": ("restormer", {"width": 24, "blocks": (1, 1, 1, 1), "refinement_blocks": 1}),
    "dncnn": ("dncnn", {}),
    "memnet": ("memnet", {"blocks": 2, "units": 2}),
    "ridnet": ("ridnet", {}),
    "unet_n2n": ("unet_n2n", {}),
    "buifd": ("buifd", {}),
    "n3net": ("n3net", {"depth": 2}),
    "rcan": ("rcan", {"preset": "small"}),
    "rrdb": ("rrdb", {"blocks": 2}),
    "kmsr": ("kmsr", {}),
    "ikc": ("ikc", {"blocks": 2, "iterations": 1}),
}


def main() -> None:
    """Measures the networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--side", type=int, default=64, help="side of the image, pixels")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per network")
    options = parser.parse_args()
    timing.use_one_core()
    run_cases(
        "compute_types",
        [
            (name, functools.partial(measure, network, fields, options.side, options.seconds))
            for name, (network, fields) in CASES.items()
            if options.only in name
        ],
    )


def measure(network: str, fields: Mapping[str, Any], side: int, seconds: float) -> Result:
    """Measures one network.

    Args:
        network: Its name.
        fields: Its fields.
        side: Side of the image, pixels.
        seconds: Time to measure for.

    Returns:
        Fields of the JSON line.
    """
    module = networks.create(network, **fields)
    variables = jax.device_put(random_variables(module))
    shape = (1, side, side, module.channels)
    image = jax.device_put(np.random.default_rng(0).random(shape, np.float32))
    calls = []
    for dtype in _TYPES:
        program = jax.jit(module.clone(dtype=jax.numpy.dtype(dtype)).apply)
        calls.append(timing.Call(functools.partial(program, variables, image)))
    exact, coarse = (times.value for times in timing.measure_medians(calls, seconds))
    return {
        "value": round_significant(coarse),
        "unit": "ms",
        "float32_ms": round_significant(exact),
        "ratio": round_significant(coarse / exact),
        "image": list(shape),
    }


if __name__ == "__main__":
    main()
