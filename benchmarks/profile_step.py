"""What the time of a training step on a CPU is made of, and the least it could take.

    python -m benchmarks.profile_step                       # SADNet `small` and `base`, 64x64
    python -m benchmarks.profile_step --only small --calls 40

Prints a Markdown table for each preset. A row is a kind of operation:

* ``ms``: time in JAX's profile, the sum over operations of the least of all calls, in one thread.
  Other work on the machine can only add to it. It does in long operations, which are interrupted in
  each call: measure on an idle machine.
* ``MB``: what the compiled operations read and write, by the shapes of their operands and results.
* ``GFLOP``: multiplications and additions of convolutions and matrix products.
* ``floor, ms``: the time of as many at the rate of a matrix product of 1024x1024, or of the bytes
  at the rate of a copy of 64 MB, whichever is more. Both are measured in the same process.
"""

import argparse
import collections
import json
import math
import pathlib
import re
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bench_networks, timing

_CASES = {"small": (4, 64, 64, 3), "base": (1, 64, 64, 3)}
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.-]+) = (.*?) ([\w-]+)\((.*)$")


def main() -> None:
    """Profiles and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=_CASES, help="one preset")
    parser.add_argument("--calls", type=int, default=20, help="in the profile")
    options = parser.parse_args()
    timing.use_one_core()
    product, copy = _measure_rates(options.calls)
    print(f"One core: {product:.1f} GFLOP/s in a matrix product, {copy:.1f} GB/s in a copy.\n")
    for preset, shape in _CASES.items():
        if options.only in (None, preset):
            _print_table(preset, profile(preset, shape, options.calls), product, copy)


def profile(
    preset: str, shape: tuple[int, int, int, int], calls: int
) -> dict[str, tuple[float, float, float]]:
    """Profiles a training step.

    Args:
        preset: Of SADNet.
        shape: ``[N, H, W, C]`` of the images.
        calls: Number of calls in the profile.

    Returns:
        Milliseconds, bytes and floating-point operations of each kind of operation.
    """
    case = bench_networks.Case("sadnet", preset, shape, train=True)
    module = case.module("float32")
    images, target = np.random.default_rng(0).random((2, *shape), np.float32)
    variables = bench_networks.random_variables(module)
    program, run, arguments = bench_networks._training(module, variables, images, target, 1)
    text = program.lower(*arguments).compile().as_text()
    instructions = read_instructions(text)
    milliseconds = _trace(timing.Call(run), calls)
    table: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, (kind, size, operations) in instructions.items():
        row = table[kind]
        row[0] += milliseconds.get(name, 0.0)
        row[1] += size
        row[2] += operations
    return {kind: (row[0], row[1], row[2]) for kind, row in table.items()}


def read_instructions(text: str) -> dict[str, tuple[str, int, float]]:
    """Reads the instructions of a compiled program that take time.

    Args:
        text: The program in XLA's notation.

    Returns:
        Kind, bytes read and written, and floating-point operations of each, by name.
    """
    computations = _split_computations(text)
    entry = next(lines for name, lines in computations.items() if name.startswith("ENTRY"))
    sizes: dict[str, int] = {}
    found: dict[str, tuple[str, int, float]] = {}
    for line in entry:
        if not (match := _INSTRUCTION.match(line)):
            continue
        name, shape, opcode, rest = match.groups()
        sizes[name] = _count_bytes(shape)
        if opcode in _FREE:
            continue
        operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
        size = sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
        called = re.search(r"calls=%([\w.-]+)", rest)
        inside = computations.get(called[1], []) if called else [line]
        operation = re.search(r'op_name="([^"]*)"', rest)
        kind = _name_kind(operation[1] if operation else "")
        found[name] = (kind, size, _count_operations(inside, entry))
    return found


def _name_kind(operation: str) -> str:
    """Names the kind of an operation, from where in the network it comes from."""
    direction = "gradient" if "transpose(" in operation else "forward"
    if "dcnpack" in operation and "conv_offset_mask" not in operation:
        return f"deformable convolutions, {direction}"
    if "conv_general_dilated" in operation:
        return f"convolutions, {'gradient of the image' if direction == 'gradient' else 'forward'}"
    if "/cond/" in operation:
        return "convolutions, gradient of the kernel"
    if "SADNet" in operation:
        return f"other layers, {direction}"
    return "loss, Adam, copies"


def _split_computations(text: str) -> dict[str, list[str]]:
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            lines = computations[line.removeprefix("%").partition(" (")[0]] = []
        else:
            lines.append(line)
    return computations


def _count_bytes(shape: str) -> int:
    """Bytes of an array or of all arrays of a tuple, written as XLA does."""
    return sum(
        _SIZES.get(kind, 4) * math.prod(map(int, filter(None, sides.split(","))))
        for kind, sides in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape)
    )


def _count_operations(inside: list[str], entry: list[str]) -> float:
    """Multiplications and additions of the products and convolutions in some instructions."""
    shapes = {}
    for line in [*entry, *inside]:
        if match := _INSTRUCTION.match(line):
            sides = re.search(r"\[([\d,]*)\]", match[2])
            shapes[match[1]] = [int(x) for x in sides[1].split(",") if x] if sides else []
    total = 0.0
    for line in inside:
        match = _INSTRUCTION.match(line)
        if not match or match[3] not in ("dot", "convolution"):
            continue
        operands = re.findall(r"%([\w.-]+)", match[4].partition(")")[0])
        outputs = math.prod(shapes[match[1]])
        if match[3] == "dot":
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line)
            contracted = [shapes[operands[0]][int(i)] for i in axes[1].split(",")] if axes else []
            total += 2.0 * outputs * math.prod(contracted)
        else:
            kernel = shapes[operands[1]]  # [kh, kw, C, O], as the networks have it
            total += 2.0 * outputs * math.prod(kernel[:-1])
    return total


def _trace(call: timing.Call, calls: int) -> dict[str, float]:
    """Milliseconds of each instruction of a program: the least of some calls."""
    for _ in range(2):
        call()
    found: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                call()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    name = dict(event.stats).get("hlo_op")
                    if name is not None:
                        found[str(name)].append(event.duration_ns / 1e6)
    # An instruction of a loop has several events a call.
    return {name: min(times) * round(len(times) / calls) for name, times in found.items()}


def _measure_rates(calls: int) -> tuple[float, float]:
    """The rates of a matrix product, GFLOP/s, and of a copy, GB/s read and written."""
    matrix = jnp.ones((1024, 1024))
    large = jnp.ones(2**24)

    def measure(function: Any, argument: Any) -> float:
        run = timing.Call(lambda: program(argument))
        program = jax.jit(function)
        run()
        times = []
        for _ in range(calls):
            begin = timing.clock()
            run()
            times.append(timing.clock() - begin)
        return min(times)

    product = 2 * 1024**3 / measure(lambda a: a @ a, matrix) / 1e9
    copy = 2 * large.nbytes / measure(lambda a: a + 1, large) / 1e9
    return product, copy


def _print_table(
    preset: str, table: dict[str, tuple[float, float, float]], product: float, copy: float
) -> None:
    print(f"SADNet `{preset}`, {'x'.join(map(str, _CASES[preset][:3]))}\n")
    print("| kind | ms | MB | GFLOP | floor, ms |\n|---|---|---|---|---|")
    rows = sorted(table.items(), key=lambda item: -item[1][0])
    floors = {k: 1e3 * max(f / product, b / copy) / 1e9 for k, (_, b, f) in rows}
    for kind, (ms, size, operations) in rows:
        amounts = f"{ms:.1f} | {size / 1e6:.0f} | {operations / 1e9:.2f} | {floors[kind]:.1f}"
        print(f"| {kind} | {amounts} |")
    sums = [sum(row[i] for _, row in rows) for i in range(3)]
    print(
        f"| all | {sums[0]:.1f} | {sums[1] / 1e6:.0f} | {sums[2] / 1e9:.2f} |"
        f" {sum(floors.values()):.1f} |\n"
    )
    print(json.dumps({"preset": preset, **timing.describe_device()}), flush=True)


if __name__ == "__main__":
    main()
