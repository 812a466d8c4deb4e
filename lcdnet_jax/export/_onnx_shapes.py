"""ONNX's forms of JAX's primitives that change shapes, join tensors or make them of a shape."""

from collections.abc import Mapping, Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from lcdnet_jax.export._onnx_graph import Graph, Tensor, constant, is_static, vector
from lcdnet_jax.export._onnx_rule import Rule, UnsupportedError, get_aval, get_result


def _broadcast(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    """Only adds sides of 1; what needs the full shape asks for it."""
    x = inputs[0]
    if not x.shape:
        return x
    places = dict(zip(eqn.params["broadcast_dimensions"], x.shape, strict=True))
    return graph.reshape(x, [places.get(i, 1) for i in range(len(eqn.params["shape"]))])


def _reshape(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return graph.reshape(inputs[0], get_result(eqn).shape)


def _transpose(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return graph.transpose(inputs[0], eqn.params["permutation"])


def _join(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return concatenate(graph, inputs, eqn.params["dimension"])


def concatenate(graph: Graph, inputs: Sequence[Tensor], axis: int) -> Tensor:
    """Joins tensors along an axis, without those that are empty there."""
    inputs = [x for x in inputs if not (is_static([x.shape[axis]]) and x.shape[axis] == 0)]
    if len(inputs) == 1:
        return inputs[0]
    shape = list(inputs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in inputs)
    return graph.add("Concat", *inputs, shape=shape, axis=axis)


def _stack(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    axis = eqn.params["axis"]
    parts = [graph.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in inputs]
    return concatenate(graph, parts, axis)


def _split(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> list[Tensor]:
    sizes = eqn.params["sizes"]
    shapes = [get_aval(v).shape for v in eqn.outvars]
    return graph.add_several("Split", [inputs[0], vector(sizes)], shapes, axis=eqn.params["axis"])


def _tile(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    shape = get_result(eqn).shape
    return graph.add("Tile", inputs[0], vector(eqn.params["reps"]), shape=shape)


def _pad(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    x, value = inputs
    low, high, interior = zip(*eqn.params["padding_config"], strict=True)
    if any(interior) or min(low) < 0 or min(high) < 0:
        raise UnsupportedError("padding between elements, or negative padding")
    shape = get_result(eqn).shape
    return graph.add("Pad", x, vector((*low, *high)), value, shape=shape)


def _squeeze(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), dropped = inputs, eqn.params["dimensions"]
    if not x.shape:
        return x
    return graph.reshape(x, [side for axis, side in enumerate(x.shape) if axis not in dropped])


def _iota(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    """Has sides of 1 except along the axis that it counts."""
    shape, axis, dtype = (eqn.params[key] for key in ("shape", "dimension", "dtype"))
    short = [side if i == axis else 1 for i, side in enumerate(shape)]
    if is_static(short):
        return constant(np.arange(shape[axis], dtype=dtype).reshape(short))
    return graph.reshape(graph.cast(graph.count(shape[axis]), dtype), short)


def _dim_as_value(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    value = graph.add("Squeeze", graph.size(eqn.params["dim"]), shape=())
    return graph.cast(value, get_result(eqn).dtype)


SHAPES: Mapping[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _join,
    "dim_as_value": _dim_as_value,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
