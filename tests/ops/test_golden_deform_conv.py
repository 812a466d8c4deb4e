"""Deformable convolution against the reference numbers in tests/golden."""

import functools

import jax
import jax.numpy as jnp
import pytest

from lcdnet_jax import ops
from tests import golden_files

FILE = "deform_conv2d_small"
NAMES = ("input", "offset", "mask", "weight", "bias")


def run(low_memory, dtype):
    """Output and the five gradients."""
    function = jax.jit(functools.partial(ops.deform_conv2d, low_memory=low_memory))
    args = [jnp.asarray(a, dtype) for a in golden_files.deform_conv2d(FILE)]
    output, vjp = jax.vjp(function, *args)
    return output, vjp(jnp.asarray(golden_files.image(FILE, "cotangent"), dtype))


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.float64, 1e-12)])
def test_output_and_all_five_gradients(low_memory, dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        output, gradients = run(low_memory, dtype)
        assert output.dtype == dtype
        golden_files.assert_close(output, golden_files.image(FILE, "output"), tolerance)
        expected = golden_files.deform_conv2d(FILE, "grad/")
        for name, gradient, numbers in zip(NAMES, gradients, expected, strict=True):
            assert gradient.shape == numbers.shape, name
            golden_files.assert_close(gradient, numbers, tolerance)
