"""ONNX's forms of JAX's primitives: the walk through a traced function, its calls and loops.

The other primitives are in ``_onnx_elementwise``, ``_onnx_shapes``, ``_onnx_indexing`` and
``_onnx_reductions``: those of the registered networks, and more for networks of your own, such as
comparisons, rounding, common activations, indexing and reversal. Equations whose inputs are all
known are computed at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from lcdnet_jax.export._onnx_elementwise import ELEMENTWISE
from lcdnet_jax.export._onnx_graph import Graph, Tensor, constant, is_static
from lcdnet_jax.export._onnx_indexing import INDEXING
from lcdnet_jax.export._onnx_operators import OPERATORS
from lcdnet_jax.export._onnx_reductions import REDUCTIONS
from lcdnet_jax.export._onnx_rule import Rule, UnsupportedError, get_aval
from lcdnet_jax.export._onnx_shapes import SHAPES, concatenate
from lcdnet_jax.ops.operators import call_operator, operator_p


def add_function(graph: Graph, function: ClosedJaxpr, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Adds the nodes of a traced function.

    Args:
        graph: The graph.
        function: The function.
        inputs: Its inputs.

    Returns:
        Its outputs, whose sides of 1 may stand for longer ones.

    Raises:
        UnsupportedError: If the function uses a primitive that has no form in ONNX here.
    """
    return _add_jaxpr(graph, function.jaxpr, list(map(constant, function.consts)), inputs)


def _add_jaxpr(
    graph: Graph, jaxpr: Jaxpr, constants: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    known: dict[Any, Tensor] = {}
    known.update(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Tensor:
        return constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        results = _add_equation(graph, eqn, list(map(read, eqn.invars)))
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _add_equation(graph: Graph, eqn: JaxprEqn, inputs: list[Tensor]) -> list[Tensor]:
    name = eqn.primitive.name
    if name not in _RULES:
        raise UnsupportedError(f"the primitive {name!r}")
    if name not in _TAKES_SHORT:
        inputs = [
            graph.expand(x, get_aval(atom).shape)
            for x, atom in zip(inputs, eqn.invars, strict=True)
        ]
    if name not in _CALLS and all(x.constant is not None for x in inputs):
        computed = _compute(eqn, inputs)
        if computed is not None:
            return computed
    try:
        results = _RULES[name](graph, inputs, eqn)
    except UnsupportedError:
        raise
    except NotImplementedError as error:
        raise UnsupportedError(f"{error} in the primitive {name!r}") from error
    return [results] if isinstance(results, Tensor) else results


def _compute(eqn: JaxprEqn, inputs: list[Tensor]) -> list[Tensor] | None:
    """Computes an equation of constants; None if a size is not known."""
    arrays = [x.constant for x in inputs if x.constant is not None]
    name = eqn.primitive.name
    if name == "broadcast_in_dim" or not arrays:
        return None
    if name in ELEMENTWISE:
        arrays = list(np.broadcast_arrays(*arrays))
    elif not all(is_static(get_aval(v).shape) for v in (*eqn.invars, *eqn.outvars)):
        return None
    with jax.ensure_compile_time_eval():
        results = eqn.primitive.bind(*map(jnp.asarray, arrays), **eqn.params)
    results = results if eqn.primitive.multiple_results else [results]
    return [constant(np.asarray(result)) for result in results]


# Calls.


def _call(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> list[Tensor]:
    function = next(eqn.params[key] for key in ("jaxpr", "call_jaxpr", "call") if key in eqn.params)
    if isinstance(function, ClosedJaxpr):
        return add_function(graph, function, inputs)
    return _add_jaxpr(graph, function, [], inputs)


def _jit(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> list[Tensor]:
    if eqn.params["name"] == "leaky_relu":
        slope = _find_slope(eqn.params["jaxpr"].jaxpr, inputs)
        if slope is not None and inputs[0].constant is None:
            return [graph.add("LeakyRelu", inputs[0], shape=inputs[0].shape, alpha=slope)]
    return _call(graph, inputs, eqn)


def _find_slope(jaxpr: Jaxpr, inputs: Sequence[Tensor]) -> float | None:
    """The slope of ``nn.leaky_relu``, which is its second input or a number in it."""
    values = [x.constant for x in inputs[1:]]
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "mul":
            values += [atom.val for atom in eqn.invars if isinstance(atom, Literal)]
    return float(values[0]) if len(values) == 1 and values[0] is not None else None


def _scan(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> list[Tensor]:
    """Writes out all steps of a loop."""
    length, body = eqn.params["length"], eqn.params["jaxpr"]
    if not isinstance(length, int):
        raise UnsupportedError("a loop whose number of steps depends on the image")
    # By rank, because versions of JAX store the numbers differently: slices have one axis less.
    sliced, joined_outputs = (
        sum(len(get_aval(whole).shape) > len(get_aval(part).shape) for whole, part in pairs)
        for pairs in (
            zip(eqn.invars, body.jaxpr.invars, strict=True),
            zip(eqn.outvars, body.jaxpr.outvars, strict=True),
        )
    )
    carried = len(eqn.outvars) - joined_outputs
    count = len(inputs) - carried - sliced
    shared, carry, stacked = (
        inputs[:count],
        inputs[count : count + carried],
        inputs[count + carried :],
    )
    stacked = [
        graph.expand(x, get_aval(atom).shape)
        for x, atom in zip(stacked, eqn.invars[count + carried :], strict=True)
    ]
    steps: list[list[Tensor]] = []
    for step in reversed(range(length)) if eqn.params["reverse"] else range(length):
        slices = [_take(graph, x, step) for x in stacked]
        results = add_function(graph, body, [*shared, *carry, *slices])
        carry = results[:carried]
        steps.append(
            [
                graph.expand(y, get_aval(v).shape)
                for y, v in zip(results[carried:], body.jaxpr.outvars[carried:], strict=True)
            ]
        )
    steps = steps[::-1] if eqn.params["reverse"] else steps
    joined = [
        concatenate(graph, [graph.reshape(y, (1, *y.shape)) for y in each], 0)
        for each in zip(*steps, strict=True)
    ]
    return [*carry, *joined]


def _take(graph: Graph, x: Tensor, index: int) -> Tensor:
    if x.constant is not None:
        return constant(x.constant[index])
    return graph.add("Gather", x, constant(np.int64(index)), shape=x.shape[1:], axis=0)


def _operator(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    return call_operator(
        *inputs, **{**eqn.params, "function": _bind(graph, OPERATORS[eqn.params["name"]])}
    )


def _bind(graph: Graph, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *arguments, **options: function(graph, *arguments, **options)


_CALLS: Mapping[str, Rule] = {
    "checkpoint": _call,
    "closed_call": _call,
    "custom_jvp_call": _call,
    "custom_partitioning": _call,
    "custom_vjp_call": _call,
    "jit": _jit,
    "pjit": _jit,
    "remat2": _call,
    "scan": _scan,
}

_RULES: Mapping[str, Rule] = {
    **_CALLS,
    **ELEMENTWISE,
    **SHAPES,
    **INDEXING,
    **REDUCTIONS,
    operator_p.name: _operator,
}

# Rules that take inputs whose sides of 1 stand for longer ones.
_TAKES_SHORT = {*_CALLS, *ELEMENTWISE, "broadcast_in_dim", "squeeze"}
