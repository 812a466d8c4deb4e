"""ONNX's forms of JAX's elementwise primitives."""

from collections.abc import Callable, Mapping

import numpy as np
from jax.extend.core import JaxprEqn

from lcdnet_jax.export._onnx_graph import Graph, Tensor, constant, join_shapes
from lcdnet_jax.export._onnx_rule import Rule, UnsupportedError, get_result


def _elementwise(op: str) -> Callable[[Graph, list[Tensor], JaxprEqn], Tensor]:
    def rule(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
        shape = join_shapes(*(x.shape for x in inputs))
        return graph.add(op, *inputs, shape=shape, dtype=get_result(eqn).dtype)

    return rule


def _subtract(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    one, other = inputs
    if (
        other.constant is not None and other.dtype.kind == "f"
    ):  # runtimes join sums, not differences
        return _elementwise("Add")(graph, [one, constant(-other.constant)], eqn)
    return _elementwise("Sub")(graph, inputs, eqn)


def _maximum(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    one, other = inputs
    if other.constant is not None and other.dtype.kind == "f" and not other.constant.any():
        return graph.add("Relu", one, shape=one.shape)
    return _elementwise("Max")(graph, inputs, eqn)


def _not_equal(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    equal = _elementwise("Equal")(graph, inputs, eqn)
    return graph.add("Not", equal, shape=equal.shape)


def _select(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    which, no, yes = inputs  # ONNX's order is the opposite
    if which.dtype != np.bool_:
        raise UnsupportedError("a selection by integers")
    shape = join_shapes(*(x.shape for x in inputs))
    return graph.add("Where", which, yes, no, shape=shape, dtype=yes.dtype)


def _power(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), exponent = inputs, eqn.params.get("y", 2)
    if exponent == 2:
        return graph.add("Mul", x, x, shape=x.shape)
    return graph.add("Pow", x, constant(np.asarray(exponent, x.dtype)), shape=x.shape)


def _remainder(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    one, other = inputs
    shape = join_shapes(one.shape, other.shape)
    return graph.add("Mod", one, other, shape=shape, fmod=1)  # with the sign of the first


def _rsqrt(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,) = inputs
    return graph.add("Reciprocal", graph.add("Sqrt", x, shape=x.shape), shape=x.shape)


def _erfc(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,) = inputs
    return graph.add("Sub", _like(1, x), graph.add("Erf", x, shape=x.shape), shape=x.shape)


def _expm1(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    """tanh(x / 2) (exp(x) + 1), accurate near 0."""
    (x,) = inputs
    half = graph.add("Mul", x, _like(0.5, x), shape=x.shape)
    factor = graph.add("Add", graph.add("Exp", x, shape=x.shape), _like(1, x), shape=x.shape)
    return graph.add("Mul", graph.add("Tanh", half, shape=x.shape), factor, shape=x.shape)


def _log1p(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    """2 artanh(x / (2 + x)), accurate near 0."""
    (x,) = inputs
    ratio = graph.add("Div", x, graph.add("Add", x, _like(2, x), shape=x.shape), shape=x.shape)
    return graph.add("Mul", graph.add("Atanh", ratio, shape=x.shape), _like(2, x), shape=x.shape)


def _clamp(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    low, x, high = inputs
    limited = graph.add("Max", x, low, shape=join_shapes(x.shape, low.shape))
    return graph.add("Min", limited, high, shape=join_shapes(limited.shape, high.shape))


def _identity(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return inputs[0]


def _convert(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return graph.cast(inputs[0], eqn.params["new_dtype"])


def _like(value: float, x: Tensor) -> Tensor:
    return constant(np.asarray(value, x.dtype))


ELEMENTWISE: Mapping[str, Rule] = {
    "abs": _elementwise("Abs"),
    "add": _elementwise("Add"),
    "and": _elementwise("And"),
    "clamp": _clamp,
    "convert_element_type": _convert,
    "copy": _identity,
    "cos": _elementwise("Cos"),
    "div": _elementwise("Div"),
    "eq": _elementwise("Equal"),
    "erf": _elementwise("Erf"),
    "erfc": _erfc,
    "exp": _elementwise("Exp"),
    "expm1": _expm1,
    "floor": _elementwise("Floor"),
    "ge": _elementwise("GreaterOrEqual"),
    "gt": _elementwise("Greater"),
    "integer_pow": _power,
    "le": _elementwise("LessOrEqual"),
    "log": _elementwise("Log"),
    "log1p": _log1p,
    "logistic": _elementwise("Sigmoid"),
    "lt": _elementwise("Less"),
    "max": _maximum,
    "min": _elementwise("Min"),
    "mul": _elementwise("Mul"),
    "ne": _not_equal,
    "neg": _elementwise("Neg"),
    "not": _elementwise("Not"),
    "or": _elementwise("Or"),
    "pow": _elementwise("Pow"),
    "rem": _remainder,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "sign": _elementwise("Sign"),
    "sin": _elementwise("Sin"),
    "sqrt": _elementwise("Sqrt"),
    "square": _power,
    "stop_gradient": _identity,
    "sub": _subtract,
    "tanh": _elementwise("Tanh"),
}
