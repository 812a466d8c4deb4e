"""ops.deform_conv2d against official numbers, a slow loop, and ordinary convolution."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lcdnet_jax import ops
from lcdnet_jax.ops import deform_conv
from lcdnet_jax.ops.convolution import conv2d

deform_conv2d = jax.jit(
    ops.deform_conv2d, static_argnames=("stride", "padding", "dilation", "low_memory")
)


def slow_reference(x, offset, mask, kernel, bias, stride=1, padding=1, dilation=1):
    """One pixel, tap and corner at a time, float64, straight from the definition."""
    n, height, width, channels = x.shape
    _, out_h, out_w, groups, _, _ = offset.shape
    kh, kw, _, out_channels = kernel.shape
    depth = channels // groups
    out = np.zeros((n, out_h, out_w, out_channels))
    for b, oy, ox, g, i, j in np.ndindex(n, out_h, out_w, groups, kh, kw):
        dy, dx = offset[b, oy, ox, g, i * kw + j]
        y = oy * stride - padding + i * dilation + dy
        x_ = ox * stride - padding + j * dilation + dx
        value = np.zeros(depth)
        for cy in (np.floor(y), np.floor(y) + 1):
            for cx in (np.floor(x_), np.floor(x_) + 1):
                if 0 <= cy < height and 0 <= cx < width:
                    weight = (1 - abs(y - cy)) * (1 - abs(x_ - cx))
                    pixel = x[b, int(cy), int(cx), g * depth : (g + 1) * depth]
                    value += weight * pixel
        if mask is not None:
            value *= mask[b, oy, ox, g, i * kw + j]
        out[b, oy, ox] += value @ kernel[i, j, g * depth : (g + 1) * depth]
    return out if bias is None else out + bias


def make_inputs(
    rng, *, size=(6, 5), channels=4, out=3, groups=2, taps=(3, 3), out_size=None, spread=1.5, n=2
):
    out_h, out_w = out_size or size
    k = taps[0] * taps[1]
    return (
        rng.normal(size=(n, *size, channels)),
        spread * rng.normal(size=(n, out_h, out_w, groups, k, 2)),
        rng.uniform(size=(n, out_h, out_w, groups, k)),
        rng.normal(size=(*taps, channels, out)),
        rng.normal(size=out),
    )


def as_float32(args):
    return [None if a is None else jnp.asarray(a, jnp.float32) for a in args]


def assert_close(actual, expected, tolerance=1e-5):
    scale = max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=0, atol=tolerance * scale
    )


def from_torch_layout(golden):
    x = golden["input"].transpose(0, 2, 3, 1)
    n, height, width, _ = x.shape
    groups = golden["mask"].shape[1] // 9
    offset = golden["offset"].transpose(0, 2, 3, 1).reshape(n, height, width, groups, 9, 2)
    mask = golden["mask"].transpose(0, 2, 3, 1).reshape(n, height, width, groups, 9)
    return x, offset, mask, golden["weight"].transpose(2, 3, 1, 0), golden["bias"]


@pytest.fixture(params=[False, True], ids=["at once", "low memory"])
def form(request):
    """The operator in each of its forms."""
    return functools.partial(deform_conv2d, low_memory=request.param)


def test_official_values_and_all_five_gradients(golden, form):
    data = golden("deform_conv2d")
    args = as_float32(from_torch_layout(data))
    cotangent = jnp.asarray(data["cotangent"].transpose(0, 2, 3, 1), jnp.float32)
    output, vjp = jax.vjp(form, *args)
    assert_close(output, data["output"].transpose(0, 2, 3, 1))
    grad_x, grad_offset, grad_mask, grad_kernel, grad_bias = vjp(cotangent)
    shapes = [a.shape for a in args]
    assert_close(grad_x, data["grad/input"].transpose(0, 2, 3, 1))
    assert_close(grad_offset, data["grad/offset"].transpose(0, 2, 3, 1).reshape(shapes[1]))
    assert_close(grad_mask, data["grad/mask"].transpose(0, 2, 3, 1).reshape(shapes[2]))
    assert_close(grad_kernel, data["grad/weight"].transpose(2, 3, 1, 0))
    assert_close(grad_bias, data["grad/bias"])


def test_official_numbers_in_float64(golden, form):
    data = golden("deform_conv2d")
    with jax.enable_x64(True):
        args = [jnp.asarray(a, jnp.float64) for a in from_torch_layout(data)]
        output = form(*args)
        assert output.dtype == jnp.float64
        assert_close(output, data["output"].transpose(0, 2, 3, 1), 1e-10)


CASES = {
    "plain": ({}, {}),
    "far outside": ({"spread": 30.0}, {}),
    "one group": ({"groups": 1}, {}),
    "as many groups as channels": ({"groups": 4}, {}),
    "batch of one": ({"n": 1}, {}),
    "one pixel": ({"size": (1, 1), "spread": 0.7}, {}),
    "one row": ({"size": (1, 7)}, {}),
    "stride 2": ({"size": (7, 6), "out_size": (4, 3)}, {"stride": 2}),
    "dilation 2": ({}, {"dilation": 2, "padding": 2}),
    "no padding": ({"out_size": (4, 3)}, {"padding": 0}),
    "2x2 kernel": ({"taps": (2, 2), "out_size": (7, 6)}, {}),
    "1x1 kernel": ({"taps": (1, 1)}, {"padding": 0}),
    "5x3 kernel": ({"taps": (5, 3), "out_size": (4, 5)}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_slow_loop(rng, case):
    shapes, options = CASES[case]
    args = make_inputs(rng, **shapes)
    expected = slow_reference(*args, **options)
    for low_memory in (False, True):
        actual = deform_conv2d(*as_float32(args), **options, low_memory=low_memory)
        assert_close(actual, expected)


def test_without_mask_and_bias(rng, form):
    x, offset, _, kernel, _ = make_inputs(rng)
    expected = slow_reference(x, offset, None, kernel, None)
    assert_close(form(*as_float32((x, offset, None, kernel))), expected)


def test_integer_offsets_and_positions_on_the_border(rng):
    x, offset, mask, kernel, bias = make_inputs(rng)
    args = (x, np.rint(offset), mask, kernel, bias)
    assert_close(deform_conv2d(*as_float32(args)), slow_reference(*args))


def test_offset_gradient_at_integer_positions_is_the_right_derivative():
    x = jnp.asarray([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 4, 1)
    offset = jnp.zeros((1, 1, 4, 1, 1, 2))
    kernel = jnp.ones((1, 1, 1, 1))
    grad = jax.grad(lambda o: deform_conv2d(x, o, None, kernel, padding=0).sum())(offset)
    np.testing.assert_allclose(grad[0, 0, :, 0, 0, 1], [1, 2, 4, -8])


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), ((2, 1), (1, 2))])
def test_zero_offsets_are_an_ordinary_convolution(rng, stride, dilation):
    strides, dilations = np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2)
    x = jnp.asarray(rng.normal(size=(2, 9, 8, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 5)), jnp.float32)
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        tuple(map(int, strides)),
        [(1, 1), (1, 1)],
        rhs_dilation=tuple(map(int, dilations)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    offset = jnp.zeros((2, *expected.shape[1:3], 2, 9, 2))
    actual = deform_conv2d(x, offset, None, kernel, stride=stride, dilation=dilation)
    assert_close(actual, np.asarray(expected, np.float64))


def test_numerical_gradients_in_float64(rng, form):
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(a) for a in make_inputs(rng, size=(4, 3), n=1))
        check_grads(lambda *a: jnp.sin(form(*a)), args, order=1, modes=["rev"], eps=1e-6)


def test_bfloat16_keeps_positions_exact(rng):
    # At x = 300 a bfloat16 position has steps of 2; the sample must still move by a quarter.
    stripes = (jnp.arange(400) % 2).astype(jnp.bfloat16).reshape(1, 1, 400, 1)
    offset = jnp.full((1, 1, 400, 1, 1, 2), 0.25).at[..., 0].set(0.0)
    kernel = jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    out = deform_conv2d(stripes, offset, None, kernel, padding=0)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(out[0, 0, 298:302, 0], np.float32), [0.25, 0.75, 0.25, 0.75]
    )


def test_bfloat16_is_near_float32_in_values_and_gradients(rng, form):
    x, *rest = as_float32(make_inputs(rng, channels=8))

    def run(x, *rest):
        return (form(x, *rest).astype(jnp.float32) ** 2).mean()

    for exact, rough in zip(
        jax.grad(run, argnums=(0, 1, 2, 3))(x, *rest),
        jax.grad(run, argnums=(0, 1, 2, 3))(x.astype(jnp.bfloat16), *rest),
        strict=True,
    ):
        assert_close(rough.astype(jnp.float32), np.asarray(exact, np.float64), 0.03)


def test_gradients_of_bfloat16_are_scattered_in_float32(rng, form):
    """Scatters of bfloat16 are 20 times slower on GPUs, and lose what many samples add up to."""
    x, *rest = as_float32(make_inputs(rng))
    program = jax.jit(jax.grad(lambda *a: form(*a).astype(jnp.float32).sum(), argnums=(0, 1, 2)))
    # What the compiler for GPUs is given; that for CPUs turns scatters into loops.
    lowered = program.trace(x.astype(jnp.bfloat16), *rest).lower(lowering_platforms=("cuda",))
    scatters = re.findall(r"stablehlo\.scatter.*?-> tensor<([^>]*)>", lowered.as_text(), re.DOTALL)
    assert scatters
    assert all(shape.endswith("xf32") for shape in scatters)


def test_low_memory_plans_less_for_the_gradient(rng):
    args = as_float32(make_inputs(rng, size=(32, 32), channels=16, out=16, groups=4))

    def planned(low_memory):
        def loss(*a):
            return (deform_conv2d(*a, low_memory=low_memory) ** 2).sum()

        program = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4))).lower(*args).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert planned(True) < planned(False) / 2


def make_predicted(rng, size, width=4):
    """Image, features, the function that predicts from them, kernel and bias."""
    x, _, _, kernel, bias = as_float32(make_inputs(rng, size=size, channels=width, out=width))
    features = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(3, 3, 3, 2 * 27)), jnp.float32)

    def predict(features):
        predicted = conv2d(features, weights)
        shape = (*features.shape[:3], 2, 9)
        mask = jax.nn.sigmoid(predicted[..., 36:]).reshape(shape)
        return predicted[..., :36].reshape(*shape, 2), mask

    return x, features, predict, kernel, bias


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_by_rows_gives_the_same(rng, rows):
    """Also where the last part has rows of the one before; features end with zeros."""
    x, features, predict, kernel, bias = make_predicted(rng, (7, 5))
    expected = deform_conv2d(x, *predict(features), kernel, bias)
    run = jax.jit(
        lambda *a: deform_conv.deform_conv2d_by_rows(a[0], a[1], predict, *a[2:], rows=rows)
    )
    assert_close(run(x, features, kernel, bias), expected, 1e-6)


def test_rows_plan_less_memory(rng):
    x, features, predict, kernel, bias = make_predicted(rng, (128, 64), width=8)

    def planned(function):
        program = jax.jit(function).lower(x, features).compile()
        return program.memory_analysis().temp_size_in_bytes

    whole = planned(lambda x, f: ops.deform_conv2d(x, *predict(f), kernel, bias))
    rows = planned(
        lambda x, f: deform_conv.deform_conv2d_by_rows(x, f, predict, kernel, bias, rows=8)
    )
    assert rows < whole / 3


def test_nan_offsets_show_and_do_not_crash(rng, form):
    args = as_float32(make_inputs(rng))
    args[1] = args[1].at[0, 2, 2].set(jnp.nan)
    out = form(*args)
    assert np.isnan(out[0, 2, 2]).all()
    assert np.isfinite(out[1]).all()


def test_sharded_batch_needs_no_all_gather(rng, form):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    args = as_float32(make_inputs(rng, n=8))
    placed = [jax.device_put(a, s) for a, s in zip(args, [split] * 3 + [whole] * 2, strict=True)]

    def loss(*a):
        return (form(*a) ** 2).mean()

    step = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))
    text = step.lower(*placed).compile().as_text()
    assert "all-reduce" in text  # the kernel's gradient: proof that the program is sharded
    assert "all-gather" not in text
    assert "all-to-all" not in text
    for one, many in zip(step(*args), step(*placed), strict=True):
        assert_close(many, np.asarray(one, np.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((6, 5, 4))}, r"x must be \[N, H, W, C\]"),
        ({"x": np.zeros((2, 6, 5, 4), np.int32)}, "x must be floating point, got int32"),
        ({"x": np.zeros((2, 6, 5, 5))}, "kernel is for C = 4, x has C = 5"),
        ({"offset": np.zeros((2, 6, 5, 3, 9, 2))}, r"channels of x \(4\) cannot be split into 3"),
        ({"offset": np.zeros((2, 6, 4, 2, 9, 2))}, r"offset must be \(2, 6, 5, 2, 9, 2\)"),
        ({"mask": np.zeros((2, 6, 5, 2, 8))}, r"mask must be \(2, 6, 5, 2, 9\)"),
        ({"bias": np.zeros(2)}, r"bias must be \(3,\)"),
    ],
)
def test_errors_name_the_argument(rng, change, message):
    args = dict(zip(("x", "offset", "mask", "kernel", "bias"), make_inputs(rng), strict=True))
    args |= change
    if args["x"].ndim == 4 and args["x"].shape[-1] == 5:
        args["offset"] = np.zeros((2, 6, 5, 5, 9, 2))
    with pytest.raises((ValueError, TypeError), match=message):
        deform_conv2d(*(jnp.asarray(a) for a in args.values()))


def test_errors_for_options(rng):
    args = as_float32(make_inputs(rng))
    with pytest.raises(ValueError, match="stride and dilation must be at least 1"):
        deform_conv2d(*args, stride=0)
    with pytest.raises(ValueError, match="smaller than the dilated 3x3 kernel; increase padding"):
        deform_conv2d(*args, padding=0, dilation=4)
