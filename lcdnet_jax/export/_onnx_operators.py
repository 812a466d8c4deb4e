"""ONNX's forms of the operators of :mod:`lcdnet_jax.ops`.

Each has the arguments of the function in ``lcdnet_jax.ops``, after the graph. Arrays are tensors of
the graph, in full shape. Images are NHWC there, NCHW in ONNX.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from lcdnet_jax.export._onnx_graph import Graph, Side, Tensor, constant, vector

_TO_PLANES, _TO_PIXELS = (0, 3, 1, 2), (0, 2, 3, 1)


def _deform_conv2d(
    graph: Graph,
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    kernel: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    low_memory: bool = False,
) -> Tensor:
    del low_memory  # the same values
    n, height, width, groups, taps, _ = offset.shape
    weights = _value(kernel).astype(np.float32).transpose(3, 2, 0, 1)
    inputs = [
        _planes(graph, graph.cast(x, np.float32)),
        constant(weights),
        _planes(graph, _flat(graph, graph.cast(offset, np.float32), 2 * groups * taps)),
        None if bias is None else constant(_value(bias).astype(np.float32)),
    ]
    if mask is not None:
        inputs.append(_planes(graph, _flat(graph, graph.cast(mask, np.float32), groups * taps)))
    top, left = _pair(padding)
    y = graph.add(
        "DeformConv",
        *inputs,
        shape=(n, weights.shape[0], height, width),
        kernel_shape=weights.shape[2:],
        strides=_pair(stride),
        pads=(top, left, top, left),
        dilations=_pair(dilation),
        offset_group=groups,
    )
    return _pixels(graph, graph.cast(y, x.dtype))


def _depthwise_conv2d(graph: Graph, x: Tensor, kernel: Tensor) -> Tensor:
    taps = _value(kernel).transpose(3, 2, 0, 1)
    out, _, size, _ = taps.shape
    n, height, width, channels = x.shape
    y = graph.add(
        "Conv",
        _planes(graph, x),
        constant(taps),
        shape=(n, out, height, width),
        kernel_shape=(size, size),
        pads=(size // 2,) * 4,
        group=channels,
    )
    return _pixels(graph, y)


def _conv2x2_down(graph: Graph, x: Tensor, kernel: Tensor) -> Tensor:
    taps = _value(kernel).transpose(3, 2, 0, 1)
    n, height, width, _ = x.shape
    y = graph.add(
        "Conv",
        _planes(graph, x),
        constant(taps),
        shape=(n, taps.shape[0], height // 2, width // 2),
        kernel_shape=(2, 2),
        strides=(2, 2),
    )
    return _pixels(graph, y)


def _conv2x2_up(graph: Graph, x: Tensor, kernel: Tensor) -> Tensor:
    taps = _value(kernel).transpose(2, 3, 0, 1)
    n, height, width, _ = x.shape
    y = graph.add(
        "ConvTranspose",
        _planes(graph, x),
        constant(taps),
        shape=(n, taps.shape[1], 2 * height, 2 * width),
        kernel_shape=(2, 2),
        strides=(2, 2),
    )
    return _pixels(graph, y)


def _upsample2x(graph: Graph, x: Tensor) -> Tensor:
    n, height, width, channels = x.shape
    y = graph.add(
        "Resize",
        _planes(graph, x),
        None,
        constant(np.array([1, 1, 2, 2], np.float32)),
        shape=(n, channels, 2 * height, 2 * width),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    return _pixels(graph, y)


def _mirror_borders(graph: Graph, x: Tensor, reach: int) -> Tensor:
    """Gathers rows and columns: runtimes do not reflect twice, as images of few pixels need it."""
    for axis in (1, 2):
        side = x.shape[axis]
        shape = (*x.shape[:axis], side + 2 * reach, *x.shape[axis + 1 :])
        x = graph.add("Gather", x, _mirrored(graph, side, reach), shape=shape, axis=axis)
    return x


def _mirrored(graph: Graph, side: Side, reach: int) -> Tensor:
    """Indices of the pixels of a mirrored side: reach, ..., 1, 0, 1, ..., side - 1, ..."""
    if isinstance(side, int):
        return vector(np.pad(np.arange(side), reach, mode="reflect"))
    shape = (side + 2 * reach,)

    def compute(op: str, one: Tensor, other: Tensor) -> Tensor:
        return graph.add(op, one, other, shape=shape)

    # A reflection repeats after 2 (side - 1) pixels, and after each one where the side is 1.
    period = graph.size(2 * side - 2)
    period = graph.add("Max", period, vector([1]), shape=(1,))
    places = compute("Sub", graph.count(shape[0]), vector([reach]))
    places = compute("Mod", places, period)
    return compute("Min", places, compute("Sub", period, places))


# Fourier transforms are matrix products with the matrices of the transforms: along rows of real
# numbers, then along columns of complex ones.


def _rfft2_planes(graph: Graph, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    columns = width // 2 + 1
    cos, sin = _waves(graph, width, columns)
    half = (n, channels, height, columns)
    real, imaginary = (graph.add("MatMul", x, waves, shape=half) for waves in (cos, sin))
    # exp(-i a) (re - i im) = (cos re - sin im) - i (cos im + sin re)
    real, imaginary = _turn(graph, real, imaginary)
    minus = graph.add("Neg", imaginary, shape=half)
    return graph.add("Concat", real, minus, shape=(n, 2 * channels, height, columns), axis=1)


def _irfft2_planes(graph: Graph, z: Tensor, width: Side) -> Tensor:
    n, channels, height, columns = z.shape
    half = (n, channels // 2, height, columns)
    parts = vector([channels // 2] * 2)
    # exp(i a) (re + i im) = (cos re - sin im) + i (cos im + sin re)
    real, imaginary = _turn(graph, *graph.add_several("Split", [z, parts], [half, half], axis=1))
    cos, sin = (
        graph.transpose(_weigh_columns(graph, waves, width), (1, 0))
        for waves in _waves(graph, width, columns)
    )
    shape = (*half[:3], width)
    return graph.add(
        "Sub",
        graph.add("MatMul", real, cos, shape=shape),
        graph.add("MatMul", imaginary, sin, shape=shape),
        shape=shape,
    )


def _turn(graph: Graph, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """``cos @ real - sin @ imaginary`` and ``cos @ imaginary + sin @ real``, along columns."""
    height = real.shape[2]
    cos, sin = _waves(graph, height, height)

    def multiply(matrix: Tensor, x: Tensor) -> Tensor:
        return graph.add("MatMul", matrix, x, shape=real.shape)

    return (
        graph.add("Sub", multiply(cos, real), multiply(sin, imaginary), shape=real.shape),
        graph.add("Add", multiply(cos, imaginary), multiply(sin, real), shape=real.shape),
    )


def _waves(graph: Graph, size: Side, columns: Side) -> tuple[Tensor, Tensor]:
    """Cosines and sines of 2 pi i j / size, divided by sqrt(size): ``[size, columns]``."""
    if isinstance(size, int):
        known = 2 * np.pi / size * (np.outer(np.arange(size), np.arange(columns)) % size)
        return _real(np.cos(known) / size**0.5), _real(np.sin(known) / size**0.5)
    shape = (size, columns)
    products = graph.add(
        "Mul",
        graph.reshape(graph.count(size), (size, 1)),
        graph.reshape(graph.count(columns), (1, columns)),
        shape=shape,
    )
    # Angles below one turn have the smallest rounding errors.
    turns = graph.add("Mod", products, graph.size(size), shape=shape)
    side = graph.cast(graph.size(size), np.float32)
    angles = graph.add(
        "Div",
        graph.add(
            "Mul", graph.cast(turns, np.float32), constant(np.float32(2 * np.pi)), shape=shape
        ),
        side,
        shape=shape,
    )
    root = graph.add("Sqrt", side, shape=(1,))
    cos, sin = (
        graph.add("Div", graph.add(op, angles, shape=shape), root, shape=shape)
        for op in ("Cos", "Sin")
    )
    return cos, sin


def _weigh_columns(graph: Graph, waves: Tensor, width: Side) -> Tensor:
    """Doubles the columns that stand for two frequencies, their own and the opposite one."""
    columns = waves.shape[1]
    if waves.constant is not None:
        known = np.arange(columns)
        return _real(waves.constant * np.where((known == 0) | (2 * known == width), 1, 2))
    column = graph.count(columns)
    twice = graph.add("Mul", column, vector([2]), shape=(columns,))
    shape, flag = (columns,), np.bool_
    alone = graph.add(
        "Or",
        graph.add("Equal", column, vector([0]), shape=shape, dtype=flag),
        graph.add("Equal", twice, graph.size(width), shape=shape, dtype=flag),
        shape=shape,
    )
    times = graph.add("Where", alone, _real(1), _real(2), shape=shape, dtype=np.float32)
    return graph.add("Mul", waves, times, shape=waves.shape)


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "conv2x2_down": _conv2x2_down,
    "conv2x2_up": _conv2x2_up,
    "deform_conv2d": _deform_conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "irdft2_planes": _irfft2_planes,
    "irfft2_planes": _irfft2_planes,
    "mirror_borders": _mirror_borders,
    "rdft2_planes": _rfft2_planes,
    "rfft2_planes": _rfft2_planes,
    "upsample2x": _upsample2x,
}


def _real(array: ArrayLike) -> Tensor:
    return constant(np.asarray(array, np.float32))


def _planes(graph: Graph, x: Tensor) -> Tensor:
    return graph.transpose(x, _TO_PLANES)


def _pixels(graph: Graph, x: Tensor) -> Tensor:
    return graph.transpose(x, _TO_PIXELS)


def _flat(graph: Graph, x: Tensor, channels: int) -> Tensor:
    """Joins the axes after ``[N, H, W]``, by taking a reshape back if that has split them."""
    shape = (*x.shape[:3], channels)
    before = graph.before_reshape.get(x.name)
    return before if before is not None and before.shape == shape else graph.reshape(x, shape)


def _value(x: Tensor) -> np.ndarray:
    if x.constant is None:
        raise NotImplementedError("kernels that are computed")
    return x.constant


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
