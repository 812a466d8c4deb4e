"""The type of exact computations."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.ops.precision import at_least_float32


@pytest.mark.parametrize("dtype", [jnp.bfloat16, "float16", np.uint8, np.float32])
def test_float32(dtype):
    assert at_least_float32(dtype) == np.dtype("float32")


def test_float64_stays():
    assert at_least_float32(np.dtype("float64")) == np.dtype("float64")
