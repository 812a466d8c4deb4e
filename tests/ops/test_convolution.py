"""ops.conv2d against XLA's convolution and its gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lcdnet_jax import ops


def plain(x, kernel, dilation=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def inputs(rng, size=3, shape=(2, 7, 6, 3), out=4, dtype=jnp.float32):
    x = rng.normal(size=shape)
    kernel = rng.normal(size=(size, size, shape[-1], out)) / (size * shape[-1] ** 0.5)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def gradients(function, x, kernel):
    return jax.jit(jax.grad(lambda x, k: (function(x, k) ** 2).sum(), argnums=(0, 1)))(x, kernel)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 6, 3), (1, 1, 1, 2), (1, 2, 9, 1)])
def test_values_and_gradients_are_those_of_xla(rng, shape, size, dilation):
    x, kernel = inputs(rng, size, shape)
    ours = functools.partial(ops.conv2d, dilation=dilation)
    theirs = functools.partial(plain, dilation=dilation)
    np.testing.assert_array_equal(ours(x, kernel), theirs(x, kernel))
    for one, other in zip(gradients(ours, x, kernel), gradients(theirs, x, kernel), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_numerical_gradients_in_float64(rng):
    with jax.enable_x64(True):
        arguments = inputs(rng, dtype=jnp.float64)
        function = functools.partial(ops.conv2d, dilation=2)
        check_grads(lambda *a: jnp.sin(function(*a)), arguments, order=1, modes=["rev"], eps=1e-6)


def test_bfloat16_stays_and_is_summed_in_float32(rng):
    x, kernel = inputs(rng, 3, (1, 64, 64, 1), out=1)
    exact = gradients(plain, x, kernel)
    low = gradients(ops.conv2d, x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    for one, other in zip(low, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        scale = np.abs(other).max()
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.03 * scale, rtol=0)


def test_in_a_loop(rng):
    """Where it matters: gradients of blocks with stacked parameters."""
    x, kernel = inputs(rng, out=3)
    kernels = jnp.stack([kernel, kernel[::-1]])

    def looped(x, kernels):
        return jax.lax.scan(lambda y, k: (jnp.tanh(ops.conv2d(y, k)), None), x, kernels)[0]

    def unrolled(x, kernels):
        return jnp.tanh(plain(jnp.tanh(plain(x, kernels[0])), kernels[1]))

    one, other = (gradients(f, x, kernels) for f in (looped, unrolled))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_only_cpus_get_a_product():
    """Elsewhere the gradients are XLA's convolutions, whose forms its compilers know."""
    traced = jax.jit(functools.partial(gradients, ops.conv2d)).trace(
        jnp.zeros((1, 8, 8, 2)), jnp.zeros((3, 3, 2, 2))
    )

    def counted(platform):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return [len(re.findall(rf"stablehlo\.{op}", text)) for op in ("convolution", "dot_general")]

    assert counted("cpu") == [2, 1]
    assert counted("cuda") == counted("tpu") == [3, 0]


def test_sharded_batch_needs_no_all_gather(rng):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    x, kernel = inputs(rng, shape=(8, 6, 5, 2))
    placed = jax.device_put(x, split), jax.device_put(kernel, whole)
    step = jax.jit(jax.grad(lambda x, k: (ops.conv2d(x, k) ** 2).mean(), argnums=(0, 1)))
    text = step.lower(*placed).compile().as_text()
    assert "all-reduce" in text  # the kernel's gradient: proof that the program is sharded
    assert not re.findall(r"all-gather|all-to-all|collective-permute", text)
    for one, many in zip(step(x, kernel), step(*placed), strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (3, 3, 2, 4), (3, 1, 3, 4), (3, 3, 3)])
def test_kernels_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"a kernel for C = 3 is \[k, k, 3, O\] with odd k"):
        ops.conv2d(jnp.zeros((1, 4, 4, 3)), jnp.zeros(shape))
