"""ONNX's forms of JAX's sums, maxima, convolutions and matrix products."""

from collections.abc import Mapping

import numpy as np
from jax.extend.core import JaxprEqn

from lcdnet_jax.export._onnx_graph import Graph, Tensor, constant, invert_axes, vector
from lcdnet_jax.export._onnx_rule import Rule, UnsupportedError, get_result


def _reduce(op: str) -> Rule:
    def rule(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
        axes = eqn.params["axes"]
        if not axes:  # ONNX would reduce all
            return inputs[0]
        shape = get_result(eqn).shape
        return graph.add(op, inputs[0], vector(axes), shape=shape, keepdims=0)

    return rule


def _cumsum(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), params = inputs, eqn.params
    axis = constant(np.int64(params["axis"]))
    return graph.add("CumSum", x, axis, shape=x.shape, reverse=int(params["reverse"]))


def _max_pool(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), params = inputs, eqn.params
    n_window, *window, c_window = params["window_dimensions"]
    _, *strides, _ = params["window_strides"]
    dilated = any(side != 1 for key in ("base_dilation", "window_dilation") for side in params[key])
    padded = any(side != (0, 0) for side in params["padding"])
    if len(x.shape) != 4 or n_window != 1 or c_window != 1 or dilated or padded:
        raise UnsupportedError("a maximum over other windows than pixels")
    n, height, width, channels = get_result(eqn).shape
    y = graph.add(
        "MaxPool",
        graph.transpose(x, (0, 3, 1, 2)),
        shape=(n, channels, height, width),
        kernel_shape=window,
        strides=strides,
    )
    return graph.transpose(y, (0, 2, 3, 1))


def _convolve(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x, kernel), params = inputs, eqn.params
    numbers = params["dimension_numbers"]
    if any(side != 1 for side in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise UnsupportedError("a transposed convolution")
    low, high = zip(*params["padding"], strict=True)
    if min(*low, *high) < 0:
        raise UnsupportedError("negative padding")
    taps = graph.transpose(kernel, numbers.rhs_spec)
    out = [get_result(eqn).shape[axis] for axis in numbers.out_spec]
    y = graph.add(
        "Conv",
        graph.transpose(x, numbers.lhs_spec),
        taps,
        shape=out,
        kernel_shape=taps.shape[2:],
        strides=params["window_strides"],
        pads=(*low, *high),
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return graph.cast(graph.transpose(y, invert_axes(numbers.out_spec)), get_result(eqn).dtype)


def _multiply_matrices(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    one, other = inputs
    (sum_one, sum_other), (batch_one, batch_other) = eqn.params["dimension_numbers"]
    dtype = get_result(eqn).dtype
    one, other = graph.cast(one, dtype), graph.cast(other, dtype)
    shape = get_result(eqn).shape
    free_one, free_other = (
        [axis for axis in range(len(x.shape)) if axis not in (*batch, *summed)]
        for x, batch, summed in ((one, batch_one, sum_one), (other, batch_other, sum_other))
    )
    if len(sum_one) == 1 and (len(free_one), len(free_other)) == (1, 1):
        return graph.add(
            "MatMul",
            graph.transpose(one, [*batch_one, *free_one, *sum_one]),
            graph.transpose(other, [*batch_other, *sum_other, *free_other]),
            shape=shape,
        )
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names_one = [next(letters) for _ in one.shape]
    names_other = [next(letters) for _ in other.shape]
    for here, there in ((batch_one, batch_other), (sum_one, sum_other)):
        for axis, match in zip(here, there, strict=True):
            names_other[match] = names_one[axis]
    result = [names_one[axis] for axis in (*batch_one, *free_one)]
    result += [names_other[axis] for axis in free_other]
    equation = f"{''.join(names_one)},{''.join(names_other)}->{''.join(result)}"
    return graph.add("Einsum", one, other, shape=shape, equation=equation)


REDUCTIONS: Mapping[str, Rule] = {
    "conv_general_dilated": _convolve,
    "cumsum": _cumsum,
    "dot_general": _multiply_matrices,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _max_pool,
}
