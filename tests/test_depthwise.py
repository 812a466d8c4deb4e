import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.ops import depthwise_conv2d


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


@pytest.mark.parametrize("shape", [(3, 3, 1, 6), (3, 5, 1, 4), (2, 2, 1, 4), (3, 3, 4, 4)])
def test_bad_kernels(shape):
    with pytest.raises(ValueError, match=r"\[k, k, 1, multiple of 4\] with odd k"):
        depthwise_conv2d(jnp.zeros((1, 5, 5, 4)), jnp.zeros(shape))
