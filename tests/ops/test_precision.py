"""The types of exact and of fast computations."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.ops.precision import at_least_float32, avoid_slow_type


@pytest.mark.parametrize("dtype", [jnp.bfloat16, "float16", np.uint8, np.float32])
def test_float32(dtype):
    assert at_least_float32(dtype) == np.dtype("float32")


def test_float64_stays():
    assert at_least_float32(np.dtype("float64")) == np.dtype("float64")


@pytest.mark.parametrize(
    ("dtype", "platform", "expected"),
    [
        (jnp.bfloat16, "cpu", "float32"),
        ("bfloat16", "gpu", "bfloat16"),
        (np.float32, "cpu", "float32"),
        (np.float64, "cpu", "float64"),
    ],
)
def test_bfloat16_is_avoided_on_a_cpu(dtype, platform, expected):
    assert avoid_slow_type(dtype, platform) == jnp.dtype(expected)
