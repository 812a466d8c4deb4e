"""Primitives and operators in ONNX Runtime against JAX."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import ops

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnxruntime

from lcdnet_jax.export._onnx_graph import Graph
from lcdnet_jax.export._onnx_primitives import UnsupportedError, add_function
from lcdnet_jax.ops.operators import keep_operators

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.3, (3, 3, 4, 6)).astype(np.float32)
MATRIX = RNG.normal(0, 1, (4, 5)).astype(np.float32)
DEFORM = RNG.normal(0, 0.3, (3, 3, 4, 4)).astype(np.float32)
ROWS = np.array([[0, 3], [2, 2], [1, 0]])


def deform(x, **options):
    """Samples at places that the image itself decides."""
    n, height, width, _ = x.shape
    offset = 3 * jnp.stack([x[..., :2]] * 18, axis=-1).reshape(n, height, width, 2, 9, 2) - 1
    mask = jnp.stack([x[..., :2]] * 9, axis=-1).reshape(n, height, width, 2, 9)
    return ops.deform_conv2d(x, offset, mask, DEFORM, MATRIX[:, 0], **options)


def scan(x):
    def step(carry, factor):
        carry = carry * factor + x
        return carry, carry.mean()

    last, means = jax.lax.scan(step, x, np.float32([0.5, -1, 2]))
    _, backwards = jax.lax.scan(step, x, np.float32([0.5, -1, 2]), reverse=True)
    return last * means.sum() + backwards[0]


FUNCTIONS = {
    "arithmetic": lambda x: (x - 0.3) / (x + 2) - 2 * x * (-x),
    "powers": lambda x: x**2 + x**3 + jnp.sqrt(x) + jax.lax.rsqrt(x + 1) + jnp.square(x),
    "exponentials": lambda x: jnp.exp(x) + jnp.log(x + 1) + jnp.tanh(x) + jax.nn.sigmoid(x),
    "small": lambda x: 1e4 * (jnp.expm1(x * 1e-5) + jnp.log1p(x * 1e-5)) + jnp.log1p(-x / 2),
    "gelu": lambda x: jax.nn.gelu(4 * x - 2, approximate=False),
    "relus": lambda x: nn.relu(x - 0.5) + nn.leaky_relu(x - 0.5, 0.2) + nn.relu(0.2 - x),
    "limits": lambda x: jnp.clip(x, 0.2, 0.7) + jnp.minimum(x, 0.4) + jnp.maximum(x, 0.6),
    "where": lambda x: jnp.where((x > 0.5) & ~(x <= 0.7) | (x == 0), x, jnp.where(x != x, 1.0, -x)),
    "rounding": lambda x: jnp.floor(9 * x) + jnp.abs(x - 0.5) + jnp.sign(x - 0.5),
    "types": lambda x: ((100 * x).astype(jnp.int32) % 7).astype(jnp.float32),
    "constants": lambda x: x + jnp.arange(4.0)[None, None, None] * jnp.ones((1, 3)).sum(),
    "sums": lambda x: x.sum((1, 2)) + x.mean((1, 2)) + x.max((1, 2)) - x.min((1, 2)),
    "no sum": lambda x: jnp.sum(x, axis=()),
    "norm": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1) + jax.nn.log_softmax(x, axis=1),
    "broadcast": lambda x: jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape).sum((1, 2)),
    "shapes": lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape[0], -1)[:, None].squeeze(1),
    "back and forth": lambda x: nn.relu(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "cuts": lambda x: x[:, 1:, ..., 1:] + jax.lax.slice(x, (0, 0, 0, 0), x[:, 1:, ..., 1:].shape)
    + x[:, :-1, ..., :-1][:, :, ::2].sum(2, keepdims=True),
    "reverse": lambda x: x[:, ::-1, :, ::-1],
    "joins": lambda x: jnp.concatenate([x, 2 * x[..., :2]], -1) + jnp.tile(x[..., :1], 6),
    "stack": lambda x: jnp.stack([x, 2 * x], axis=2),
    "split": lambda x: jnp.subtract(*jnp.split(x, 2, axis=-1)),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), constant_values=0.5),
    "edges": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), mode="edge"),
    "mirror": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), mode="reflect"),
    "cumulative": lambda x: jnp.cumsum(x, 1) + jax.lax.cumsum(x, axis=2, reverse=True),
    "iota": lambda x: x * jnp.arange(x.shape[1]).astype(x.dtype)[None, :, None, None],
    "take": lambda x: x[:, ROWS].sum(2) * x[:, 1, None] + x[:, :3, :, 1, None],
    "dynamic slice": lambda x: jax.lax.dynamic_slice_in_dim(x, 2, 2, axis=1),
    "scatter": lambda x: x.at[..., 1:3].add(x[..., :2]).at[:, ROWS[:, 0]].add(x[:, :3]),
    "product": lambda x: x @ MATRIX,
    "products": lambda x: jnp.einsum("nhwc,nhvc->nhwv", x, x),
    "attention": lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x),
    "convolution": lambda x: ops.conv2d(x, KERNEL, dilation=2),
    "strides": lambda x: jax.lax.conv_general_dilated(
        x, KERNEL, (2, 2), ((1, 2), (0, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "groups": lambda x: jax.lax.conv_general_dilated(
        x, KERNEL[:, :, :2], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    ),
    "pooling": lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)),
    "scan": scan,
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) + jnp.cos(x)),
    "depthwise": lambda x: ops.depthwise_conv2d(x, RNG_TAPS),
    "down": lambda x: ops.conv2x2_down(x, KERNEL[:2, :2]),
    "up": lambda x: ops.conv2x2_up(x, KERNEL[:2, :2]),
    "upsample": ops.upsample2x,
    "mirrored borders": lambda x: ops.mirror_borders(x, 2),
    "twice mirrored borders": lambda x: ops.mirror_borders(x[:, ::4, ::2], 3),
    "borders of a pixel": lambda x: ops.mirror_borders(x.mean((1, 2), keepdims=True), 2),
    "deform": deform,
    "deform low memory": lambda x: deform(x, low_memory=True),
    "spectrum": ops.rfft2,
    "spectrum by products": ops.rdft2,
    "filter by products": lambda x: ops.irdft2(
        ops.rdft2(x) * MATRIX[:4, :2].reshape(1, 1, 1, 8), x.shape[2]
    ),
    "filter": lambda x: ops.irfft2(ops.rfft2(x) * MATRIX[:4, :2].reshape(1, 1, 1, 8), x.shape[2]),
}  # fmt: skip
RNG_TAPS = RNG.normal(0, 0.3, (5, 5, 1, 8)).astype(np.float32)


def run(function, x, shape):
    """Runs a function of images that are traced with a shape."""
    constraints = ("h <= 999", "w <= 999") if "h" in shape and "w" in shape else ()
    symbols = jax.export.symbolic_shape(shape, constraints=constraints)
    with keep_operators():
        traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(symbols, np.float32))
    graph = Graph("x", symbols)
    (y,) = add_function(graph, traced, [graph.input])
    model = graph.make_model("test", graph.expand(y, traced.out_avals[0].shape), "y")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0], model


@pytest.mark.parametrize("shape", ["b, 6, 4, 4", "b, 2*h, 2*w, 4"], ids=["size", "any size"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, shape, capfd):
    needs_numbers = {"mirror", "take", "scatter", "dynamic slice"}
    if name in needs_numbers and "h" in shape:
        pytest.skip("JAX itself traces it for known sizes only")
    x = RNG.random((2, 6, 4, 4), np.float32)
    expected = np.asarray(jax.jit(FUNCTIONS[name])(x))
    result, _ = run(FUNCTIONS[name], x, shape)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=2e-5)
    assert "onnxruntime" not in capfd.readouterr().err  # where its warnings go


def count(model, op):
    return sum(node.op_type == op for node in model.graph.node)


def test_operators_are_kept():
    x = RNG.random((1, 6, 4, 4), np.float32)
    _, model = run(deform, x, "b, 2*h, 2*w, 4")
    assert count(model, "DeformConv") == 1
    assert count(model, "Gather") == 0
    _, model = run(ops.upsample2x, x, "b, h, w, 4")
    assert count(model, "Resize") == 1
    _, model = run(lambda x: ops.depthwise_conv2d(x, RNG_TAPS), x, "b, h, w, 4")
    assert count(model, "Conv") == 1


def test_transposes_cancel():
    """Of two convolutions in a row, two transposes are left."""
    x = RNG.random((1, 6, 4, 4), np.float32)
    kernel = KERNEL[..., :4]
    _, model = run(lambda x: ops.conv2d(ops.conv2d(x, kernel), kernel), x, "b, h, w, 4")
    assert count(model, "Transpose") == 2


def test_equal_constants_are_stored_once():
    x = RNG.random((1, 6, 4, 4), np.float32)
    _, model = run(lambda x: ops.conv2d(x, KERNEL) - ops.conv2d(2 * x, KERNEL), x, "b, h, w, 4")
    assert sum(list(entry.dims) == [6, 4, 3, 3] for entry in model.graph.initializer) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.fft.fft(x).real, "the primitive 'fft'"),
        (lambda x: jnp.sort(x), "the primitive 'sort'"),
        (
            lambda x: x.at[:, x.sum((0, 1, 2)).astype(int)].get(mode="clip"),
            "an index that may lie outside",
        ),
        (
            lambda x: ops.depthwise_conv2d(x, x[:1, :3, :3].transpose(1, 2, 0, 3)),
            "kernels that are computed",
        ),
        (
            lambda x: jax.lax.dynamic_slice_in_dim(x, x.sum().astype(int), 2, 1),
            "a slice at a place that is computed",
        ),
        (lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)]), "padding"),
        (
            lambda x: nn.max_pool(x, (3, 3), padding="SAME"),
            "a maximum over other windows",
        ),
        (
            lambda x: jax.lax.conv_transpose(x, KERNEL, (2, 2), "VALID"),
            "a transposed convolution",
        ),
    ],
)  # fmt: skip
def test_unsupported(function, message):
    x = RNG.random((1, 6, 4, 4), np.float32)
    with pytest.raises(UnsupportedError, match=message):
        run(function, x, "b, 6, 4, 4")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda h: 3 * h + 1, 10),
        (lambda h: (h - 4) // 2, -1),
        (lambda h: -h % 5, 2),
        (lambda h: h * h - h, 6),
        (lambda h: jax.core.max_dim(h - 5, 2), 2),
    ],
)
def test_sizes(size, expected):
    """Expressions of sizes are computed when the model runs."""
    x = np.zeros((6, 2), np.float32)
    result, _ = run(lambda x: x.sum() + jnp.asarray(size(x.shape[0] // 2), x.dtype), x, "2*h, 2")
    assert result == expected
