"""Construction of ONNX graphs: nodes, constants, and sizes that are known only at run time."""

import ast
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike

# Version of ONNX's operators. The first with DeformConv, and with it Resize and Pad as used here.
OPSET = 19

# Version of the file format that belongs to it.
IR_VERSION = 9

# Side of a shape: a number, or a symbolic size of ``jax.export``, whose class is not public.
Side: TypeAlias = Any


class Tensor(NamedTuple):
    """A value of the graph.

    Attributes:
        name: Its name in the graph. Empty for a constant, which is stored when a node needs it.
        shape: Its sides: numbers, or symbolic sizes of ``jax.export``. A side of 1 may stand for a
            longer one of the traced value, and no sides for any, because operators of ONNX
            broadcast.
        dtype: Type of its elements.
        constant: Its value, if that is known.
    """

    name: str
    shape: tuple[Side, ...]
    dtype: np.dtype
    constant: np.ndarray | None = None


class Graph:
    """A graph with one input.

    Args:
        name: Name of the input.
        shape: Its shape. Symbolic sides are single variables times numbers.
    """

    def __init__(self, name: str, shape: Sequence[Side]):
        self.input = Tensor(name, tuple(shape), np.dtype(np.float32))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._stored: dict[bytes, str] = {}
        self._sizes: dict[str, Tensor] = {}
        self._variables: dict[str, tuple[int, int]] = {}  # name -> axis of the input, factor
        for axis, side in enumerate(shape):
            if not isinstance(side, int):
                self._variables |= _find_variable(str(side), axis)
        self._transposed: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._origins: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        # Reshaped tensor -> the tensor before, for operators that want that form.
        self.before_reshape: dict[str, Tensor] = {}

    def add(
        self,
        op: str,
        *inputs: Tensor | None,
        shape: Sequence[Side],
        dtype: DTypeLike | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Adds a node with one output.

        Args:
            op: Name of the operator.
            *inputs: Its inputs; None leaves an optional one out.
            shape: Shape of the output.
            dtype: Type of the output; None for that of the first input.
            **attributes: Attributes of the node.

        Returns:
            The output.
        """
        return self.add_several(op, inputs, [shape], dtype=dtype, **attributes)[0]

    def add_several(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        shapes: Sequence[Sequence[Side]],
        *,
        dtype: DTypeLike | None = None,
        **attributes: Any,
    ) -> list[Tensor]:
        """Adds a node with several outputs of one type; as :meth:`add`."""
        number = len(self.nodes)
        names = [f"{op.lower()}_{number}" + (f"_{i}" if i else "") for i in range(len(shapes))]
        arguments = ["" if tensor is None else self.name(tensor) for tensor in inputs]
        self.nodes.append(
            onnx.helper.make_node(op, arguments, names, name=f"{op}_{number}", **attributes)
        )
        first = inputs[0]
        dtype = first.dtype if dtype is None and first is not None else np.dtype(dtype)
        return [
            Tensor(name, tuple(shape), dtype) for name, shape in zip(names, shapes, strict=True)
        ]

    def make_model(self, title: str, output: Tensor, name: str, **options: Any) -> onnx.ModelProto:
        """Makes a model, and checks it.

        Args:
            title: Name of the graph.
            output: Its output, in full shape.
            name: Name of the output.
            **options: Further arguments of ``onnx.helper.make_model``.

        Returns:
            The model. Symbolic sides are written as ``jax.export`` writes them, such as "8*h".
        """
        self.nodes.append(onnx.helper.make_node("Identity", [self.name(output)], [name]))

        def describe(name: str, tensor: Tensor) -> onnx.ValueInfoProto:
            sides = [side if isinstance(side, int) else str(side) for side in tensor.shape]
            return onnx.helper.make_tensor_value_info(name, onnx_type(tensor.dtype), sides)

        nodes = self._find_used(name)
        used = {entry for node in nodes for entry in node.input}
        graph = onnx.helper.make_graph(
            nodes,
            title,
            [describe(self.input.name, self.input)],
            [describe(name, output)],
            initializer=[self.initializers[name] for name in self.initializers if name in used],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        model = onnx.helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, **options
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _find_used(self, output: str) -> list[onnx.NodeProto]:
        """The nodes that the output needs. Of a transpose that is taken back, a node is left."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        return kept[::-1]

    def name(self, tensor: Tensor) -> str:
        """Returns the name of a tensor, after storing it if it is a constant."""
        if tensor.constant is None:
            return tensor.name
        # Not ascontiguousarray, which makes vectors of scalars.
        array = np.asarray(tensor.constant, order="C")
        key = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).digest()
        if key not in self._stored:
            name = f"constant_{len(self._stored)}"
            self._stored[key] = name
            self.initializers[name] = onnx.numpy_helper.from_array(array, name)
        return self._stored[key]

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Permutes axes. A transpose of a transpose is one node, or none."""
        axes = tuple(int(axis) for axis in axes)
        if x.constant is not None:
            return constant(x.constant.transpose(axes))
        if x.name in self._origins:
            x, first = self._origins[x.name]
            axes = tuple(first[axis] for axis in axes)
        if axes == tuple(range(len(axes))):
            return x
        if (x.name, axes) not in self._transposed:
            y = self.add("Transpose", x, shape=[x.shape[axis] for axis in axes], perm=axes)
            self._transposed[x.name, axes] = y
            self._origins[y.name] = (x, axes)
        return self._transposed[x.name, axes]

    def reshape(self, x: Tensor, shape: Sequence[Side]) -> Tensor:
        """Reshapes a tensor, which must have its full shape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if is_static(shape) and 0 in shape:  # for Reshape, a 0 means something else
            return constant(np.zeros(shape, x.dtype))
        if x.constant is not None and is_static(shape):
            return constant(x.constant.reshape(shape))
        y = self.add("Reshape", x, self._target(x.shape, shape), shape=shape)
        self.before_reshape[y.name] = x
        return y

    def _target(self, old: tuple[Side, ...], new: tuple[Side, ...]) -> Tensor:
        """The second input of Reshape: 0 keeps a side, -1 is computed from the others."""
        if is_static(new):
            return vector(new)
        sides = [0 if i < len(old) and old[i] == side else side for i, side in enumerate(new)]
        if sum(not isinstance(side, int) for side in sides) == 1:
            return vector(side if isinstance(side, int) else -1 for side in sides)
        return self.sizes(new)

    def cast(self, x: Tensor, dtype: DTypeLike) -> Tensor:
        """Converts elements to a type; nothing if they have it."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if x.constant is not None:
            return constant(x.constant.astype(dtype))
        return self.add("Cast", x, shape=x.shape, dtype=dtype, to=onnx_type(dtype))

    def expand(self, x: Tensor, shape: Sequence[Side]) -> Tensor:
        """Broadcasts a tensor to its full shape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if x.constant is not None and is_static(shape):
            return constant(np.broadcast_to(x.constant, shape))
        return self.add("Expand", x, self.sizes(shape), shape=shape)

    def sizes(self, shape: Sequence[Side]) -> Tensor:
        """Makes a vector of int64 with the sides of a shape."""
        if is_static(shape):
            return vector(shape)
        parts = [self.size(side) for side in shape]
        if len(parts) == 1:
            return parts[0]
        return self.add("Concat", *parts, shape=(len(parts),), axis=0)

    def size(self, side: Side) -> Tensor:
        """Makes a vector of one int64: the value of a symbolic size at run time."""
        text = str(side)
        if text not in self._sizes:
            tree = ast.parse(text.replace("^", "**"), mode="eval").body
            self._sizes[text] = self._evaluate(tree)
        return self._sizes[text]

    def count(self, side: Side) -> Tensor:
        """Makes a vector of int64: 0, 1, ... up to a size."""
        if is_static([side]):
            return vector(range(side))
        end = self.add("Squeeze", self.size(side), shape=())
        zero, one = constant(np.int64(0)), constant(np.int64(1))
        return self.add("Range", zero, end, one, shape=(side,))

    def _evaluate(self, tree: ast.expr) -> Tensor:
        """Computes an expression in the notation of ``jax.export.symbolic_shape``."""
        match tree:
            case ast.Constant(value=int(value)):
                return vector([value])
            case ast.Name(id=name):
                axis, factor = self._variables[name]
                side = self.add(
                    "Shape", self.input, shape=(1,), dtype=np.int64, start=axis, end=axis + 1
                )
                return side if factor == 1 else self._compute("Div", side, vector([factor]))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._compute("Sub", vector([0]), self._evaluate(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._compute(
                    _OPERATORS[type(op)], self._evaluate(left), self._evaluate(right)
                )
            case ast.Call(func=ast.Name(id=name), args=[left, right]):
                one, other = self._evaluate(left), self._evaluate(right)
                if name != "floordiv":
                    return self._compute(_FUNCTIONS[name], one, other)
                # ONNX divides integers toward 0.
                rest = self._compute("Mod", one, other)
                return self._compute("Div", self._compute("Sub", one, rest), other)
        raise NotImplementedError(f"size {ast.unparse(tree)}")

    def _compute(self, op: str, one: Tensor, other: Tensor) -> Tensor:
        return self.add(op, one, other, shape=(1,))


_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}
_FUNCTIONS = {"mod": "Mod", "max": "Max", "min": "Min"}


def _find_variable(side: str, axis: int) -> dict[str, tuple[int, int]]:
    """The variable of a side such as "8*h", with its axis and factor."""
    factor, _, name = side.rpartition("*")
    return {name: (axis, int(factor or 1))}


def constant(array: ArrayLike) -> Tensor:
    """Makes a constant."""
    array = np.asarray(array)
    return Tensor("", array.shape, array.dtype, array)


def vector(values: Iterable[int | np.integer]) -> Tensor:
    """Makes a constant vector of int64."""
    return constant(np.array([int(value) for value in values], np.int64))


def is_static(shape: Sequence[Side]) -> bool:
    """Tells whether all sides are numbers."""
    return all(isinstance(side, int | np.integer) for side in shape)


def onnx_type(dtype: DTypeLike) -> int:
    """Finds ONNX's number of an element type."""
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def join_shapes(*shapes: tuple[Side, ...]) -> tuple[Side, ...]:
    """Shape of the result of an elementwise operator."""
    rank = max(map(len, shapes))
    full = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(
        next((side for side in sides if not (isinstance(side, int) and side == 1)), 1)
        for sides in zip(*full, strict=True)
    )


def invert_axes(axes: Sequence[int]) -> list[int]:
    """Finds the axes of the transpose that takes another one back."""
    return [int(axis) for axis in np.argsort(axes)]
