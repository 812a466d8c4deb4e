"""ONNX's forms of JAX's primitives, and the walk through a traced function.

These are the primitives of the registered networks, and others for networks of your own:
comparisons, rounding, common activations, indexing and reversal. Equations whose inputs are all
known are computed at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from lcdnet_jax.export._onnx_graph import (
    Graph,
    Side,
    Tensor,
    constant,
    is_static,
    join_shapes,
    vector,
)
from lcdnet_jax.export._onnx_operators import OPERATORS
from lcdnet_jax.ops.operators import call_operator, operator_p

# Adds the nodes of one equation: the graph, the inputs, the equation -> the output, or all outputs.
Rule: TypeAlias = Callable[[Graph, list[Tensor], JaxprEqn], Tensor | list[Tensor]]


class UnsupportedError(NotImplementedError):
    """A function uses something that has no form in ONNX here; the message names it."""


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


def get_aval(variable: Any) -> Any:
    """Returns the abstract value of a variable or literal: its shape and type."""
    return variable.aval


def get_result(eqn: JaxprEqn) -> Any:
    """Returns the abstract value of an equation's first output."""
    return eqn.outvars[0].aval


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


# Elementwise primitives.


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


# Shapes.


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


def _slice(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), params = inputs, eqn.params
    strides = params["strides"] or (1,) * len(x.shape)
    return _cut(graph, x, params["start_indices"], params["limit_indices"], strides, eqn)


def _cut(
    graph: Graph,
    x: Tensor,
    starts: Sequence[Side],
    ends: Sequence[Side],
    strides: Sequence[int],
    eqn: JaxprEqn,
) -> Tensor:
    """Cuts the axes that are not kept whole."""
    some = [
        axis
        for axis, side in enumerate(x.shape)
        if not (starts[axis] == 0 and ends[axis] == side and strides[axis] == 1)
    ]
    shape = list(x.shape)
    for axis in some:
        shape[axis] = -(-(ends[axis] - starts[axis]) // strides[axis])
    if not some:
        return x
    return graph.add(
        "Slice",
        x,
        graph.sizes([starts[axis] for axis in some]),
        graph.sizes([ends[axis] for axis in some]),
        vector(some),
        vector(strides[axis] for axis in some),
        shape=shape,
    )


def _dynamic_slice(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    x, *indices = inputs
    sizes = eqn.params["slice_sizes"]
    starts = [_number(index) for index in indices]
    # JAX moves slices that would leave the array into it.
    starts = [
        0 if start == 0 else min(max(start, 0), side - size)
        for start, side, size in zip(starts, x.shape, sizes, strict=True)
    ]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return _cut(graph, x, starts, ends, (1,) * len(sizes), eqn)


def _number(x: Tensor) -> int:
    if x.constant is None:
        raise UnsupportedError("a slice at a place that is computed")
    return int(x.constant)


def _reverse(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    (x,), axes = inputs, eqn.params["dimensions"]
    last = np.iinfo(np.int64)
    return graph.add(
        "Slice",
        x,
        vector([-1] * len(axes)),
        vector([last.min] * len(axes)),
        vector(axes),
        vector([-1] * len(axes)),
        shape=x.shape,
    )


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


# Gathers and scatters.


def _gather(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    x, indices = inputs
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    indexed, batching = numbers.start_index_map, numbers.operand_batching_dims
    out = get_result(eqn).shape
    if len(indices.shape) == 1 and indices.constant is not None:  # one slice
        starts = [0] * len(x.shape)
        for axis, start in zip(indexed, indices.constant, strict=True):
            starts[axis] = int(start)
            if is_static([x.shape[axis]]) and not 0 <= start <= x.shape[axis] - sizes[axis]:
                raise UnsupportedError("an index outside of the array")
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        return graph.reshape(_cut(graph, x, starts, ends, (1,) * len(sizes), eqn), out)
    rest = [axis for axis in range(len(x.shape)) if axis not in (*indexed, *batching)]
    whole = all(x.shape[axis] == sizes[axis] for axis in rest)
    if set(numbers.collapsed_slice_dims) != set(indexed) or not whole:
        raise UnsupportedError("a gather of parts")
    _check_indices(x, indices, indexed, eqn)
    # The axes that indices choose from come first, so the others come last in the result.
    places = list(range(len(indices.shape) - 1))
    if numbers.start_indices_batching_dims != tuple(range(len(batching))):
        raise UnsupportedError("batches of indices on other axes than the first")
    taken = tuple(indices.shape[:-1])
    if len(indexed) == 1 and not batching:
        y = graph.add(
            "Gather",
            graph.transpose(x, [*indexed, *rest]),
            graph.reshape(indices, taken),
            shape=(*taken, *(x.shape[axis] for axis in rest)),
            axis=0,
        )
    else:
        y = graph.add(
            "GatherND",
            graph.transpose(x, [*batching, *indexed, *rest]),
            graph.cast(indices, np.int64),
            shape=(*taken, *(x.shape[axis] for axis in rest)),
            batch_dims=len(batching),
        )
    order = _interleave(places, numbers.offset_dims, len(out))
    return graph.transpose(y, order)


def _scatter_add(graph: Graph, inputs: list[Tensor], eqn: JaxprEqn) -> Tensor:
    x, indices, updates = inputs
    numbers = eqn.params["dimension_numbers"]
    indexed = numbers.scatter_dims_to_operand_dims
    if numbers.operand_batching_dims or indices.constant is None:
        raise UnsupportedError("a scatter at places that are computed")
    if len(indices.shape) == 1 and not numbers.inserted_window_dims:  # one slice
        low, high = [0] * len(x.shape), [0] * len(x.shape)
        for axis, start in zip(indexed, indices.constant, strict=True):
            low[axis] = int(start)
            high[axis] = x.shape[axis] - updates.shape[axis] - low[axis]
        padded = graph.add("Pad", updates, vector((*low, *high)), shape=x.shape)
        return graph.add("Add", x, padded, shape=x.shape)
    if set(numbers.inserted_window_dims) != set(indexed):
        raise UnsupportedError("a scatter of parts")
    _check_indices(x, indices, indexed, eqn)
    rest = [axis for axis in range(len(x.shape)) if axis not in indexed]
    windows = numbers.update_window_dims
    first = [axis for axis in range(len(updates.shape)) if axis not in windows]
    front = [*indexed, *rest]
    y = graph.add(
        "ScatterND",
        graph.transpose(x, front),
        graph.cast(indices, np.int64),
        graph.transpose(updates, [*first, *windows]),
        shape=[x.shape[axis] for axis in front],
        reduction="add",
    )
    return graph.transpose(y, invert_axes(front))


def invert_axes(axes: Sequence[int]) -> list[int]:
    """Finds the axes of the transpose that takes another one back."""
    return [int(axis) for axis in np.argsort(axes)]


def _check_indices(x: Tensor, indices: Tensor, indexed: Sequence[int], eqn: JaxprEqn) -> None:
    """Raises an error unless indices are in bounds, as ONNX requires."""
    in_bounds = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    if eqn.params["mode"] in (in_bounds, jax.lax.GatherScatterMode.ONE_HOT):
        return
    sides = [x.shape[axis] for axis in indexed]
    values = indices.constant
    if values is None or not is_static(sides) or ((values < 0) | (values >= sides)).any():
        raise UnsupportedError("an index that may lie outside of the array")


def _interleave(places: Sequence[int], offsets: Sequence[int], rank: int) -> list[int]:
    """Order of axes that puts the last ones to ``offsets`` and the others between them."""
    first, last = iter(places), iter(range(len(places), rank))
    return [next(last) if axis in offsets else next(first) for axis in range(rank)]


# Sums and products.


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

INDEXING: Mapping[str, Rule] = {
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "rev": _reverse,
    "scatter-add": _scatter_add,
    "slice": _slice,
}

REDUCTIONS: Mapping[str, Rule] = {
    "conv_general_dilated": _convolve,
    "cumsum": _cumsum,
    "dot_general": _multiply_matrices,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _max_pool,
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
