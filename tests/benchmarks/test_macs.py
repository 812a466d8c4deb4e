"""The counting of multiply-accumulates, which a table of the docs rests on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from benchmarks import macs
from lcdnet_jax import networks


class Layers(nn.Module):
    """One of everything, each of a known cost on 8x6 pixels of 4 channels."""

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        y = nn.Conv(5, (3, 3))(x)  # 8*6 * 3*3*4*5
        y = nn.Conv(10, (3, 2), strides=(2, 2), feature_group_count=5)(y)  # 4*3 * 3*2*1*10
        y = nn.ConvTranspose(4, (2, 2), strides=(2, 2), padding="VALID")(y)  # 4*3 * 2*2*10*4
        y = nn.relu(y) * 2.0 + jax.image.resize(x, y.shape, "bilinear")  # no parameters
        y = y @ y.swapaxes(2, 3) @ y  # activations only
        scanned = nn.scan(
            lambda layer, carry, _: (layer(carry), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        y, _ = scanned(nn.Dense(4), y, None)  # 3 * 8*6 * 4*4
        kernel = self.param("kernel", nn.initializers.ones, (channels, channels))
        doubled = jax.jit(lambda k: k * 2.0 + 1.0)(kernel)
        return jnp.einsum("nhwc,cd->nhwd", y, doubled)  # 8*6 * 4*4


def test_layers_by_hand():
    conv, depthwise, dense = 8 * 6 * 180, 4 * 3 * 60, 8 * 6 * 16
    transposed = 4 * 3 * 160
    shape = (2, 8, 6, 4)
    assert macs.count_macs(Layers(), shape) == 2 * (conv + depthwise + transposed + 4 * dense)
    expected = (180 + 5) + (60 + 10) + (160 + 4) + 3 * (16 + 4) + 16
    assert macs.count_parameters(Layers(), shape) == expected


def test_sadnet_has_the_cost_of_its_layers():
    """The sums of the specification of the layers at 480x320, in 1e9."""
    module = networks.create("sadnet")
    assert macs.count_macs(module, (1, 320, 480, 3)) == pytest.approx(47.12e9, abs=0.005e9)
    assert macs.count_parameters(module, (1, 320, 480, 3)) == 4_234_723


def test_unknown_lengths_are_refused():
    class Loop(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jax.lax.while_loop(lambda y: jnp.sum(y) > 1, lambda y: y * 0.5, x)

    with pytest.raises(NotImplementedError, match="the program holds a while"):
        macs.count_macs(Loop(), (1, 2, 2, 1))
