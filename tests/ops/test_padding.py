"""Padding, against NumPy's reflection."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import ops


@pytest.mark.parametrize(
    ("height", "width", "multiple", "padded"),
    [(5, 7, 4, (8, 8)), (4, 9, 4, (4, 12)), (1, 2, 8, (8, 8)), (2, 3, 1, (2, 3))],
)
def test_pad_to_multiple(rng, height, width, multiple, padded):
    x = rng.random((2, height, width, 3), np.float32)
    margin = ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0))
    actual = ops.pad_to_multiple(jnp.asarray(x), multiple)
    np.testing.assert_array_equal(actual, np.pad(x, margin, mode="reflect"))


def test_what_fits_is_not_copied():
    x = jnp.zeros((1, 8, 16, 3))
    assert ops.pad_to_multiple(x, 8) is x


@pytest.mark.parametrize(("height", "width"), [(5, 7), (2, 1)])
def test_mirror_borders(rng, height, width):
    x = rng.random((2, height, width, 3), np.float32)
    expected = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(ops.mirror_borders(jnp.asarray(x), 2), expected)
