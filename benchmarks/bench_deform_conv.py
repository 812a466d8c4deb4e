"""Deformable convolution at SADNet's scales, against other code in the same process.

    python -m benchmarks.bench_deform_conv                  # against a textbook version in JAX
    python -m benchmarks.bench_deform_conv --peer torch     # against PyTorch
    python -m benchmarks.bench_deform_conv --quick

The textbook version fetches the four corners of each sample by four ``jnp.take_along_axis``;
PyTorch's are ``torchvision.ops.deform_conv2d``, where that is installed, and ``grid_sample``, of
which the faster counts. All compute the same (checked before timing); in bfloat16 only features
are, as in the network. "gradient" is the output and its gradients with respect to all five inputs.
Times are processor time on a CPU, in one thread, and wall time elsewhere, see
benchmarks/timing.py. Sizes on a CPU are those of 64x64 images: batches of 4 through the preset
"small", single images through "base"; on an accelerator 16 of 128x128 through "base".
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import Result, round_significant, run_cases, timing
from lcdnet_jax.networks.sadnet import SADNet
from lcdnet_jax.ops import deform_conv2d

_TAPS = 9
_NAMES = ("the output", *(f"d/d {name}" for name in ("x", "offset", "mask", "kernel", "bias")))
_TOLERANCES = {"float32": 1e-4, "TF32": 1e-2, "bfloat16": 2e-2}

# Arguments of ``deform_conv2d`` by the name of the variant.
VARIANTS: Mapping[str, Mapping[str, Any]] = {"": {}, "low memory": {"low_memory": True}}

Arrays = tuple[Array, ...]
# (inputs, gradient of the output) -> output, or output and gradients
Timed = Callable[[Arrays, Array], Arrays]


@dataclasses.dataclass(frozen=True)
class Case:
    """A case to measure.

    Attributes:
        preset: Preset of SADNet.
        batch: Number of images.
        side: Height and width of the images at this scale, pixels.
        channels: Channels of input and output.
        groups: Groups of offsets.
        gradient: Whether gradients are computed, too.
        dtype: Type of the features.
        variant: One of :data:`VARIANTS`.
        rank: Order of measurement in limited time, 1 first.
    """

    preset: str
    batch: int
    side: int
    channels: int
    groups: int
    gradient: bool
    dtype: str = "float32"
    variant: str = ""
    rank: int = 2

    @property
    def name(self) -> str:
        """Name of the case in the JSON line."""
        size = f"{self.batch}x{self.side}x{self.side}x{self.channels}"
        kind = "gradient" if self.gradient else "forward"
        return f"{self.preset} {size} {kind} {self.dtype} {self.variant}".rstrip()


def cases_of(preset: str, batch: int, side: int, *dtypes: str, scales: int = 4) -> list[Case]:
    """SADNet's scales, for images of that size; at the first of them all variants."""
    groups, width = (SADNet.PRESETS[preset][field] for field in ("groups", "width"))
    return [
        Case(preset, batch, side >> scale, width << scale, groups, gradient, dtype, variant)
        for dtype in dtypes
        for scale in range(scales)
        for gradient in (False, True)
        for variant in (VARIANTS if scale == 0 else ("",))
    ]


SETS: Mapping[str, list[Case]] = {
    "cpu": [*cases_of("small", 4, 64, "float32"), *cases_of("base", 1, 64, "float32")],
    "accelerator": cases_of("base", 16, 128, "float32", "bfloat16"),
    "tiny": cases_of("small", 2, 8, "float32", "bfloat16", scales=1),
}


def main() -> None:
    """Measures the cases of a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", choices=["torch"], help="instead of the textbook version")
    parser.add_argument("--set", choices=SETS, help="cases; default: those for this device")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="instead of the case's")
    parser.add_argument("--seconds", type=float, default=4.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="one second per case")
    options = parser.parse_args()
    timing.use_one_core()
    cases = SETS[options.set or timing.default_set()]
    if options.dtype:
        cases = [dataclasses.replace(case, dtype=options.dtype) for case in cases]
    seconds = 1.0 if options.quick else options.seconds
    run_cases(
        "deform_conv",
        [
            (case.name, functools.partial(measure, case, seconds, peer=options.peer))
            for case in {case.name: case for case in cases}.values()
            if options.only in case.name
        ],
    )


def measure(case: Case, seconds: float, *, peer: str | None = None) -> Result:
    """Measures one case beside the textbook version, or with ``peer`` "torch" beside PyTorch.

    Raises:
        ValueError: The peer computes something else.
    """
    arrays, cotangent = _draw_inputs(case)
    x, *others = map(jnp.asarray, arrays)
    arguments = ((x.astype(case.dtype), *others), jnp.asarray(cotangent, case.dtype))
    wrap = _gradient if case.gradient else _forward
    ours = _compile(wrap(functools.partial(deform_conv2d, **VARIANTS[case.variant])), *arguments)
    makers: Mapping[str, Callable[[], timing.Peer]]
    if peer:
        from benchmarks import torch_steps

        makers = torch_steps.deform_makers(
            arrays, cotangent if case.gradient else None, dtype=case.dtype
        )
    else:
        makers = {"take_along_axis": lambda: _compile(wrap(textbook), *arguments)}
    assert ours.memory is not None
    return {
        **timing.compare(
            ours.call, makers, functools.partial(_agree, case.dtype, ours.values), seconds
        ),
        "memory_mib": round_significant(ours.memory / 2**20),
        "groups": case.groups,
        **timing.describe_device(),
    }


def textbook(x: Array, offset: Array, mask: Array, kernel: Array, bias: Array) -> Array:
    """Modulated 3x3 deformable convolution, padding 1; arguments as for ``deform_conv2d``.

    Clamped positions cannot leave the image, so the gathers are spared the check for it.
    """
    n, height, width, channels = x.shape
    groups, depth = offset.shape[3], channels // offset.shape[3]
    dtype = offset.dtype
    tap = jnp.arange(_TAPS, dtype=dtype).reshape(1, 1, 1, 1, -1)
    y = jnp.arange(height, dtype=dtype).reshape(1, -1, 1, 1, 1) - 1 + tap // 3 + offset[..., 0]
    x_ = jnp.arange(width, dtype=dtype).reshape(1, 1, -1, 1, 1) - 1 + tap % 3 + offset[..., 1]
    top, left = jnp.floor(y), jnp.floor(x_)
    pixels = x.reshape(n, height * width, groups, depth).astype(dtype)
    samples = jnp.zeros((n, height, width, groups, _TAPS, depth), dtype)
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x_ - left)), (left + 1, x_ - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            index = index.astype(jnp.int32).swapaxes(3, 4).reshape(n, -1, groups, 1)
            corner = jnp.take_along_axis(pixels, index, axis=1, mode="promise_in_bounds")
            corner = corner.reshape(n, height, width, _TAPS, groups, depth).swapaxes(3, 4)
            samples += corner * jnp.where(inside, row_weight * column_weight, 0)[..., None]
    samples = (samples * mask[..., None]).swapaxes(3, 4).reshape(n, height, width, -1)
    matrix = kernel.reshape(_TAPS * channels, -1).astype(x.dtype)
    return samples.astype(x.dtype) @ matrix + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _draw_inputs(case: Case) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Random values; offsets reach over a few pixels, near the border also outside.

    Samples keep away from pixels, where the gradient of an offset jumps.
    """
    rng = np.random.default_rng(0)
    shape = (case.batch, case.side, case.side)
    taps = (*shape, case.groups, _TAPS)
    channels = case.channels
    whole = np.floor(rng.normal(scale=2, size=(*taps, 2)))
    arrays = (
        rng.normal(size=(*shape, channels)),
        whole + rng.uniform(0.01, 0.99, whole.shape),
        rng.uniform(size=taps),
        rng.normal(scale=(_TAPS * channels) ** -0.5, size=(3, 3, channels, channels)),
        rng.normal(size=channels),
    )
    cotangent = rng.normal(size=arrays[0].shape)
    return tuple(a.astype(np.float32) for a in arrays), cotangent.astype(np.float32)


def _compile(function: Timed, inputs: Arrays, cotangent: Array) -> timing.Peer:
    """A version in JAX, compiled."""
    program = jax.jit(function)
    memory = timing.count_planned_bytes(program.lower(inputs, cotangent).compile())
    call = timing.Call(lambda: program(inputs, cotangent))
    values = tuple(np.asarray(a, np.float32) for a in call())
    return timing.Peer(call, values, memory)


def _forward(function: Callable[..., Array]) -> Timed:
    return lambda inputs, cotangent: (function(*inputs),)


def _gradient(function: Callable[..., Array]) -> Timed:
    def both(inputs: Arrays, cotangent: Array) -> Arrays:
        out, pull = jax.vjp(function, *inputs)
        return (out, *pull(cotangent))

    return both


def _agree(dtype: str, ours: Arrays, peer: Arrays) -> None:
    precision = "TF32" if dtype == "float32" and not timing.on_cpu() else dtype
    for name, a, b in zip(_NAMES, ours, peer, strict=False):  # the output only, or all
        timing.check_close(name, a, b, _TOLERANCES[precision])


if __name__ == "__main__":
    main()
