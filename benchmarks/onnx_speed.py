"""Speed of ONNX Runtime beside JAX, on one thread of a CPU.

    python -m benchmarks.onnx_speed

Two tables: whole networks, exported at one size, and the deformable convolution of SADNet alone,
as ONNX's ``DeformConv`` and as the gathers and products of ``ops.deform_conv2d``. The two programs
of a row take turns in one process that keeps to one core. Times are medians of the processor time
in milliseconds, so that other load on the machine counts little. Weights are random.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime

from benchmarks import timing
from lcdnet_jax import networks, ops
from lcdnet_jax.export import run_onnx
from lcdnet_jax.export._onnx_graph import Graph
from lcdnet_jax.export._onnx_primitives import add_function
from lcdnet_jax.export.onnx import export_onnx
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops.operators import keep_operators

NETWORKS: dict[str, dict[str, Any]] = {
    "SADNet small": {"name": "sadnet", "preset": "small"},
    "SADNet base": {"name": "sadnet", "preset": "base"},
    "DnCNN": {"name": "dncnn"},
    "NAFNet, width 32": {"name": "nafnet", "preset": "sidd_width32"},
}


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--seconds", type=float, default=4, help="for each row")
    parser.add_argument("--only", action="append", choices=NETWORKS, help="only these networks")
    options = parser.parse_args()
    timing.use_one_core()
    print(f"jax {jax.__version__}, onnxruntime {onnxruntime.__version__}, {options.side} pixels")
    print("| network | JAX, ms | ONNX Runtime, ms | JAX / ONNX Runtime |\n|---|---|---|---|")
    for label in NETWORKS if options.only is None else options.only:
        print_row(label, *time_network(NETWORKS[label], options.side, options.seconds))
    print("| deformable convolution | gathers, ms | DeformConv, ms | gathers / DeformConv |")
    print("|---|---|---|---|")
    for channels, groups in ((8, 2), (32, 8), (64, 8)):
        print_row(
            f"{format_count(channels, 'channel')}, {format_count(groups, 'group')}",
            *time_deform_conv(channels, groups, options.side, options.seconds),
        )


def print_row(label: str, one: float, other: float) -> None:
    """Prints a row with the ratio of two times."""
    print(f"| {label} | {one:.0f} | {other:.0f} | {one / other:.2f} |", flush=True)


def time_network(fields: dict[str, Any], side: int, seconds: float) -> tuple[float, float]:
    """Times a network in JAX and in ONNX Runtime, in milliseconds."""
    module = networks.create(**fields)
    x = np.random.default_rng(0).random((1, side, side, module.channels), np.float32)
    variables = jax.device_get(jax.jit(module.init)(jax.random.key(0), x))
    model = run_onnx.load(export_onnx(module, variables, size=(side, side)), threads=1)
    apply = jax.jit(module.apply)
    return measure(lambda: jax.block_until_ready(apply(variables, x)), lambda: model(x), seconds)


def time_deform_conv(channels: int, groups: int, side: int, seconds: float) -> tuple[float, float]:
    """Times both forms of a 3x3 deformable convolution in ONNX Runtime, in milliseconds."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.1, (3, 3, channels, channels)).astype(np.float32)
    parts = [channels, 18 * groups, 9 * groups]
    x = rng.normal(0, 2, (1, side, side, sum(parts))).astype(np.float32)

    def convolve(images: jax.Array) -> jax.Array:
        y, offset, mask = jnp.split(images, np.cumsum(parts)[:-1], axis=-1)
        offset = offset.reshape(1, side, side, groups, 9, 2)
        return ops.deform_conv2d(y, offset, mask.reshape(offset.shape[:-1]), jnp.asarray(kernel))

    with keep_operators():
        whole, nodes = load_function(convolve, x)
    gathers, other_nodes = load_function(convolve, x)
    assert nodes < other_nodes
    first, second = gathers.run(None, {"x": x})[0], whole.run(None, {"x": x})[0]
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-3)
    return measure(lambda: gathers.run(None, {"x": x}), lambda: whole.run(None, {"x": x}), seconds)


def load_function(function: Callable[[Any], Any], x: np.ndarray) -> tuple[Any, int]:
    """Makes an ONNX Runtime session, on one thread, of a function of one array; and its nodes."""
    # A function of its own: JAX keeps traces by function, whatever operators they keep.
    traced = jax.make_jaxpr(lambda x: function(x))(x)
    graph = Graph("x", x.shape)
    (y,) = add_function(graph, traced, [graph.input])
    model = graph.make_model("function", y, "y")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, len(model.graph.node)


def measure(
    one: Callable[[], Any], other: Callable[[], Any], seconds: float
) -> tuple[float, float]:
    """Median times of two functions in milliseconds."""
    first, second = timing.measure_medians([timing.Call(one), timing.Call(other)], seconds)
    return first.value, second.value


if __name__ == "__main__":
    main()
