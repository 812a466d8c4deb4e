import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcdnet_jax.ops import depthwise, depthwise_conv2d


@pytest.mark.extended
@pytest.mark.parametrize(
    ("shape", "size", "multiplier"),
    [((2, 7, 6, 4), 3, 1), ((1, 5, 9, 3), 5, 2), ((2, 1, 1, 2), 5, 1)],
)
def test_equals_the_grouped_convolution(rng, shape, size, multiplier):
    channels = shape[-1]
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((size, size, 1, channels * multiplier)).astype(np.float32)

    def grouped(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels, precision="highest",
        )  # fmt: skip

    def results(function):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(jnp.cos(y))

    for ours, theirs in zip(results(depthwise_conv2d), results(grouped), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    coarse = depthwise_conv2d(jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16))
    assert coarse.dtype == jnp.bfloat16


@pytest.mark.extended
@pytest.mark.parametrize(
    ("shape", "size", "own"), [((3, 4, 7, 2), 3, True), ((2, 6, 3, 3), 5, False)]
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 1e-12), (np.float32, 1e-5), (jnp.bfloat16, 0.02)],
    ids=["float64", "float32", "bfloat16"],
)
def test_gradients_of_shifted_products(rng, shape, size, own, dtype, tolerance):
    """Against a loop in float64; kernels of each image or of all; in the type that came in."""
    images, height, width, channels = shape
    x = rng.standard_normal((images, height + size - 1, width + size - 1, channels))
    kernels = rng.standard_normal((images if own else 1, size, size, channels))
    incoming = rng.standard_normal(shape)
    expected, of_x, of_kernels = np.zeros(shape), np.zeros(x.shape), np.zeros(kernels.shape)
    for n, row, column, i, j in np.ndindex(images, height, width, size, size):
        k, at = n if own else 0, (n, row + i, column + j)
        expected[n, row, column] += x[at] * kernels[k, i, j]
        of_x[at] += incoming[n, row, column] * kernels[k, i, j]
        of_kernels[k, i, j] += incoming[n, row, column] * x[at]
    with jax.enable_x64(dtype is np.float64):
        arrays = [jnp.asarray(a, dtype) for a in (x, kernels, incoming)]
        y, pull = jax.vjp(depthwise.shifted_products, *arrays[:2])
        for actual, wanted in zip((y, *pull(arrays[2])), (expected, of_x, of_kernels), strict=True):
            assert actual.dtype == dtype
            error = np.abs(np.asarray(actual, np.float64) - wanted).max()
            assert error <= tolerance * np.abs(wanted).max()


def test_tap_sums_of_cpu_are_those_of_other_devices(rng):
    """Their shapes, types and values; the tests above see the first only."""
    padded = jnp.asarray(rng.standard_normal((2, 8, 7, 3)), jnp.float32)
    gradient = jnp.asarray(rng.standard_normal((2, 4, 3, 3)), jnp.float32)
    by_rows = depthwise._tap_sums_by_rows(padded, gradient)
    at_once = depthwise._tap_sums(padded, gradient)
    assert (at_once.shape, at_once.dtype) == (by_rows.shape, by_rows.dtype)
    np.testing.assert_allclose(at_once, by_rows, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_sharded_batch_need_no_other_images(rng):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("data",), ()))
    x = rng.standard_normal((8, 5, 6, 2)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 1, 4)).astype(np.float32)
    program = jax.jit(
        jax.grad(lambda x, kernel: (depthwise_conv2d(x, kernel) ** 2).sum(), (0, 1)),
        in_shardings=(batch, whole), out_shardings=(batch, whole),
    ).lower(x, kernel).compile()  # fmt: skip
    text = program.as_text()
    assert "all-reduce" in text
    assert not re.findall(r"all-gather|all-to-all|collective-permute", text)


@pytest.mark.parametrize("shape", [(3, 3, 1, 6), (3, 5, 1, 4), (2, 2, 1, 4), (3, 3, 4, 4)])
def test_bad_kernels(shape):
    with pytest.raises(ValueError, match=r"\[k, k, 1, multiple of 4\] with odd k"):
        depthwise_conv2d(jnp.zeros((1, 5, 5, 4)), jnp.zeros(shape))
