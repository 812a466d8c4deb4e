"""Layers in the forms that the networks use, against the usual form of each.

    python -m benchmarks.bench_layers
    python -m benchmarks.bench_layers --quick

Both forms compute the same (checked before timing), jitted and warm, taking turns in one process.
"gradient" is that of the sum of squares with respect to all inputs. Times are processor time
on a CPU, in one thread, and wall time elsewhere, see benchmarks/timing.py. The deformable
convolution has a script of its own.
"""

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import Result, run_cases, timing
from lcdnet_jax import ops

_TOLERANCE = 1e-3
_LOOP = 4  # blocks

Function = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of two arguments, an image and a kernel.

    Attributes:
        ours: The form that networks use.
        peer: The usual form.
        peer_name: Name of the usual form.
        image: Shape of the image.
        kernel: Shape of the kernel.
    """

    ours: Function
    peer: Function
    peer_name: str
    image: tuple[int, ...]
    kernel: tuple[int, ...]


def main() -> None:
    """All layers, forward and with gradients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--seconds", type=float, default=3.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="half a second per case")
    options = parser.parse_args()
    timing.use_one_core()
    seconds = 0.5 if options.quick else options.seconds
    cases = [
        (f"{name} {'x'.join(map(str, layer.image))} {what}", layer, what == "gradient")
        for name, layer in LAYERS.items()
        for what in ("forward", "gradient")
    ]
    run_cases(
        "layers",
        [
            (case, functools.partial(measure, layer, gradient, seconds))
            for case, layer, gradient in cases
            if options.only in case
        ],
    )


def measure(layer: Layer, gradient: bool, seconds: float) -> Result:
    """Measures one layer beside its other form.

    Raises:
        ValueError: That computes something else.
    """
    rng = np.random.default_rng(0)
    fan_in = math.prod(layer.kernel[-4:-1])
    image = jnp.asarray(rng.normal(size=layer.image), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=layer.kernel) / fan_in**0.5, jnp.float32)

    def make_peer(function: Function) -> timing.Peer:
        program = jax.jit(_gradient(function) if gradient else function)
        call = timing.Call(lambda: program(image, kernel))
        return timing.Peer(call, jax.tree.map(np.asarray, call()))

    ours = make_peer(layer.ours)

    def agree(values: Any) -> None:
        for one, other in zip(jax.tree.leaves(ours.values), jax.tree.leaves(values), strict=True):
            timing.check_close("the result", one, other, _TOLERANCE)

    makers = {layer.peer_name: lambda: make_peer(layer.peer)}
    return {**timing.compare(ours.call, makers, agree, seconds), **timing.describe_device()}


def _gradient(function: Function) -> Callable[[Array, Array], tuple[Array, Array]]:
    return jax.grad(lambda x, kernel: (function(x, kernel) ** 2).sum(), argnums=(0, 1))


def _lax_conv(x: Array, kernel: Array, *, stride: int = 1, groups: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _lax_up(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_transpose(
        x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _loop(function: Function) -> Function:
    """Blocks with stacked kernels, as ``nn.scan`` makes them."""

    def blocks(x: Array, kernels: Array) -> Array:
        return jax.lax.scan(lambda y, k: (jnp.tanh(function(y, k)), None), x, kernels)[0]

    return blocks


def _spectral_planes(x: Array, kernel: Array) -> Array:
    """A 1x1 convolution and a gate between transforms; channels moved once there and back."""
    spectrum = ops.rfft2_planes(jnp.moveaxis(x, 3, 1))
    one, other = jnp.split(jnp.einsum("nchw,co->nohw", spectrum, kernel[0, 0]), 2, axis=1)
    return jnp.moveaxis(ops.irfft2_planes(one * other, x.shape[2]), 1, 3)


def _spectral_last(x: Array, kernel: Array) -> Array:
    """The same with channels last, so moved at every transform."""
    one, other = jnp.split(ops.rfft2(x) @ kernel[0, 0], 2, axis=-1)
    return ops.irfft2(one * other, x.shape[2])


LAYERS = {
    "conv 3x3": Layer(ops.conv2d, _lax_conv, "XLA", (4, 64, 64, 64), (3, 3, 64, 64)),
    "conv 3x3 to offsets": Layer(ops.conv2d, _lax_conv, "XLA", (1, 64, 64, 32), (3, 3, 32, 216)),
    "conv 1x1": Layer(ops.conv2d, _lax_conv, "XLA", (4, 64, 64, 32), (1, 1, 32, 64)),
    f"{_LOOP} convs 3x3 in a loop": Layer(
        _loop(ops.conv2d), _loop(_lax_conv), "XLA", (1, 64, 64, 32), (_LOOP, 3, 3, 32, 32)
    ),
    "conv 2x2 down": Layer(
        ops.conv2x2_down,
        functools.partial(_lax_conv, stride=2),
        "strided convolution",
        (4, 64, 64, 32),
        (2, 2, 32, 64),
    ),
    "conv 2x2 up": Layer(
        ops.conv2x2_up, _lax_up, "transposed convolution", (4, 32, 32, 64), (2, 2, 64, 32)
    ),
    "depthwise 3x3": Layer(
        ops.depthwise_conv2d,
        functools.partial(_lax_conv, groups=32),
        "grouped convolution",
        (1, 64, 64, 32),
        (3, 3, 1, 32),
    ),
    "spectral gate": Layer(
        _spectral_planes, _spectral_last, "channels last", (1, 128, 128, 32), (1, 1, 64, 128)
    ),
}


if __name__ == "__main__":
    main()
