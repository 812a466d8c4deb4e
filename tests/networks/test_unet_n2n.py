"""The U-Net: the range of its weights, initialization."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from tests import golden_files
from tests.networks.by_hand import (
    assert_fills,
    image,
    params_of,
    quick_jit,
    variables_of,
)


class TestInputRange:
    """UnetN2N takes and gives [0, 1], whatever its weights want."""

    @staticmethod
    @functools.cache
    def plain():
        module = networks.UnetN2N()
        return variables_of(module), quick_jit(module.apply)

    @pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (-1, 3)])
    def test_is_a_change_of_units(self, low, high):
        variables, apply = self.plain()
        x = image(1, 17, 30, 1)
        inside = apply(variables, x * np.float32(high - low) + np.float32(low))
        expected = (np.asarray(inside, np.float64) - low) / (high - low)
        ranged = quick_jit(networks.create("unet_n2n", input_range=[low, high]).apply)
        np.testing.assert_allclose(ranged(variables, x), expected, atol=1e-6)
        assert np.abs(expected - apply(variables, x)).max() > 0.1

    def test_default_computes_nothing_more(self):
        def program(**kwargs):
            module = networks.UnetN2N(**kwargs)
            return str(jax.make_jaxpr(module.apply)(variables_of(module), image(1, 32, 32, 1)))

        assert program() == program(input_range=(0, 1))
        counts = [program(**k).count(" sub ") for k in ({}, {"input_range": (-0.5, 0.5)})]
        assert counts == [0, 1]

    def test_half_precision_images_are_shifted_in_full(self):
        """In bfloat16 steps above 8 are 1/16."""
        variables, _ = self.plain()
        exactly = {"xla_backend_optimization_level": 0, "xla_allow_excess_precision": False}
        module = networks.UnetN2N(input_range=(8.0, 9.0))
        apply = jax.jit(module.apply, compiler_options=exactly)
        x = jnp.asarray(image(1, 8, 8, 1), jnp.bfloat16)
        y = apply(variables, x)
        assert y.dtype == jnp.bfloat16
        full = apply(variables, x.astype(jnp.float32))
        np.testing.assert_array_equal(y, full.astype(jnp.bfloat16))

    @pytest.mark.parametrize("value", [(0, 0), (1, 0), (0, 1, 2), 3, "01", (0, "1"), (0, np.inf)])
    def test_mistakes(self, value):
        with pytest.raises(ValueError, match="input_range must be a tuple of two numbers"):
            networks.create("unet_n2n", input_range=value)


def test_initialization():
    (conv,) = params_of(networks.create("unet_n2n"), "dec_conv4a")
    assert_fills(conv["kernel"], (9 * 144) ** -0.5)


def test_unet_with_the_range_of_microscopy():
    """The file's input is an image minus 0.5, which the network can do by itself."""
    kwargs = {"input_range": (-0.5, 0.5)}
    module = networks.create("unet_n2n", **kwargs)
    variables = convert.from_torch("unet_n2n", golden_files.state_dict("unet_n2n"), **kwargs)
    x = jnp.asarray(golden_files.image("unet_n2n", "input") + 0.5)
    found = np.asarray(quick_jit(module.apply)(variables, x)) - 0.5
    golden_files.assert_close(found, golden_files.image("unet_n2n", "output"), 1e-5)
