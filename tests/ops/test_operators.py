"""Functions that exports keep whole."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import ops
from lcdnet_jax.ops.operators import call_operator, keep_operators, operator, operator_p


@operator()
def weigh(x, weights, *, power=1):
    return x if weights is None else x * weights**power


@operator(shape=lambda x, count: (*x.shape, count))
def repeat(x, count):
    return jnp.repeat(x[..., None], int(count), axis=-1)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def equations(function, *arguments):
    return jax.make_jaxpr(function)(*arguments).eqns


class TestOperator:
    def test_is_one_equation(self):
        with keep_operators():
            (eqn,) = equations(lambda x: weigh(x, jnp.full((1, 3), 2.0), power=3), X)[-1:]
        assert eqn.primitive is operator_p
        assert (eqn.params["name"], eqn.params["options"]) == ("weigh", (("power", 3),))
        result = call_operator(X, np.full((1, 3), 2, np.float32), **eqn.params)
        np.testing.assert_array_equal(result, 8 * X)

    def test_without_an_array(self):
        with keep_operators():
            (eqn,) = equations(lambda x: weigh(x, None), X)
        assert (eqn.params["arguments"], eqn.params["places"]) == ((None, None), (0,))
        np.testing.assert_array_equal(call_operator(X, **eqn.params), X)

    def test_shape(self):
        """Is computed without a trace, where the function needs numbers."""
        (count,) = jax.export.symbolic_shape("n")
        with pytest.raises(Exception, match="symbolic"):
            jax.eval_shape(lambda x: repeat(x, count), X)
        with keep_operators():
            assert jax.eval_shape(lambda x: repeat(x, count), X).shape == (2, 3, count)

    def test_elsewhere(self):
        """The mark changes nothing."""
        np.testing.assert_array_equal(weigh(X, 2 * X, power=2), 4 * X**3)
        assert operator_p not in [eqn.primitive for eqn in equations(lambda x: weigh(x, x), X)]
        assert "Zero-padded depthwise" in ops.depthwise_conv2d.__doc__

    def test_ends_after_an_error(self):
        with pytest.raises(KeyError), keep_operators():
            raise KeyError
        assert operator_p not in [eqn.primitive for eqn in equations(lambda x: weigh(x, x), X)]


@pytest.mark.parametrize("width", [6, 7])
def test_shapes_of_fourier_transforms(width):
    x = jnp.zeros((2, 3, 4, width))
    shape = ops.rfft2_planes(x).shape
    with keep_operators():
        z = jax.eval_shape(ops.rfft2_planes, x)
        assert z.shape == shape
        y = jax.eval_shape(lambda z: ops.irfft2_planes(z, width), z)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
