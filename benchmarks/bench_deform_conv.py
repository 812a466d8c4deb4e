"""Deformable convolution at SADNet's scales, against a textbook version in the same process.

    python -m benchmarks.bench_deform_conv                # every case for about 4 seconds
    python -m benchmarks.bench_deform_conv --quick

The textbook version fetches the four corners of each sample by four ``jnp.take_along_axis``.
Both compute the same (checked before timing), in float32, jitted and warm, taking turns, each
call waited for; the medians are reported. "gradient" is the output and its gradients with
respect to all five inputs. Sizes are those of 64x64 images: batches of 4 through the preset
"small", single images through "base".
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import run_cases
from lcdnet_jax.networks.sadnet import SADNet
from lcdnet_jax.ops import deform_conv2d

_BATCHES = {"small": 4, "base": 1}
_SIDE = 64
_TAPS = 9

Arrays = tuple[Array, ...]
# (inputs, gradient of the output) -> output, or output and gradients
Timed = Callable[[Arrays, Array], Any]


def main() -> None:
    """Two presets, four scales, with and without gradients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=4.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="one second per case")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else options.seconds
    run_cases(
        "deform_conv",
        [
            (
                f"{preset} {batch}x{side}x{side}x{channels} {what}",
                functools.partial(_measure, batch, side, channels, groups, what, seconds),
            )
            for preset, batch in _BATCHES.items()
            for groups in [SADNet.PRESETS[preset]["groups"]]
            for scale in range(4)
            for side in [_SIDE >> scale]
            for channels in [SADNet.PRESETS[preset]["width"] << scale]
            for what in ("forward", "gradient")
        ],
    )


def textbook(x: Array, offset: Array, mask: Array, kernel: Array, bias: Array) -> Array:
    """Modulated 3x3 deformable convolution, padding 1; arguments as for ``deform_conv2d``.

    Clamped positions cannot leave the image, so the gathers are spared the check for it.
    """
    n, height, width, channels = x.shape
    groups, depth = offset.shape[3], channels // offset.shape[3]
    tap = jnp.arange(_TAPS, dtype=x.dtype)
    y = jnp.arange(height, dtype=x.dtype)[:, None, None, None] - 1 + tap // 3 + offset[..., 0]
    x_ = jnp.arange(width, dtype=x.dtype)[:, None, None] - 1 + tap % 3 + offset[..., 1]
    top, left = jnp.floor(y), jnp.floor(x_)
    pixels = x.reshape(n, height * width, groups, depth)
    samples = jnp.zeros((n, height, width, groups, _TAPS, depth), x.dtype)
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x_ - left)), (left + 1, x_ - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            index = index.astype(jnp.int32).swapaxes(3, 4).reshape(n, -1, groups, 1)
            corner = jnp.take_along_axis(pixels, index, axis=1, mode="promise_in_bounds")
            corner = corner.reshape(n, height, width, _TAPS, groups, depth).swapaxes(3, 4)
            samples += corner * jnp.where(inside, row_weight * column_weight, 0)[..., None]
    samples = (samples * mask[..., None]).swapaxes(3, 4).reshape(n, height, width, -1)
    return samples @ kernel.reshape(_TAPS * channels, -1) + bias


def _measure(
    batch: int, side: int, channels: int, groups: int, what: str, seconds: float
) -> Mapping[str, Any]:
    """Milliseconds of both versions."""
    inputs, cotangent = _inputs(batch, side, channels, groups)
    wrap = _forward if what == "forward" else _gradient
    ours, peer = (jax.jit(wrap(function)) for function in (deform_conv2d, textbook))
    _compare(ours(inputs, cotangent), peer(inputs, cotangent))

    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, record in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(inputs, cotangent))
            record.append(1e3 * (time.perf_counter() - start))
    value, peer_value = (statistics.median(record) for record in times)
    return {
        "value": round(value, 3),
        "unit": "ms",
        "peer": "take_along_axis",
        "peer_value": round(peer_value, 3),
        "ratio": round(peer_value / value, 2),
        "groups": groups,
        "calls": len(times[0]),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def _inputs(batch: int, side: int, channels: int, groups: int) -> tuple[Arrays, Array]:
    """Random values; offsets reach over a few pixels, near the border also outside."""
    rng = np.random.default_rng(0)
    taps = (batch, side, side, groups, _TAPS)
    inputs = (
        rng.normal(size=(batch, side, side, channels)),
        rng.normal(scale=2, size=(*taps, 2)),
        rng.uniform(size=taps),
        rng.normal(scale=(_TAPS * channels) ** -0.5, size=(3, 3, channels, channels)),
        rng.normal(size=channels),
    )
    cotangent = rng.normal(size=inputs[0].shape)
    return tuple(jnp.asarray(a, jnp.float32) for a in inputs), jnp.asarray(cotangent, jnp.float32)


def _forward(function: Callable[..., Array]) -> Timed:
    return lambda inputs, cotangent: function(*inputs)


def _gradient(function: Callable[..., Array]) -> Timed:
    def both(inputs: Arrays, cotangent: Array) -> tuple[Array, Arrays]:
        out, pull = jax.vjp(function, *inputs)
        return out, pull(cotangent)

    return both


def _compare(ours: Any, peer: Any) -> None:
    """Raises where a time would be that of another computation."""
    names = ("the output", *(f"d/d {name}" for name in ("x", "offset", "mask", "kernel", "bias")))
    pairs = zip(names, jax.tree.leaves(ours), jax.tree.leaves(peer), strict=False)
    for name, a, b in pairs:
        error = float(jnp.abs(a - b).max() / jnp.abs(b).max())
        if not error < 1e-4:
            raise ValueError(f"{name} differs from the textbook's by {error:.1e} of its largest")


if __name__ == "__main__":
    main()
