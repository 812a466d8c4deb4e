"""ONNX's forms of JAX's slices, gathers and scatters."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from lcdnet_jax.export._onnx_graph import Graph, Side, Tensor, invert_axes, is_static, vector
from lcdnet_jax.export._onnx_rule import Rule, UnsupportedError, get_result


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


INDEXING: Mapping[str, Rule] = {
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "rev": _reverse,
    "scatter-add": _scatter_add,
    "slice": _slice,
}
