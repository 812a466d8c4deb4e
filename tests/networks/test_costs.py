"""Parameters and costs that the command models prints, of the networks that are counted quickly."""

import pytest
from flax import linen as nn

from benchmarks import macs
from lcdnet_jax import networks
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.ops.depthwise import depthwise_conv2d


class TestCosts:
    """Of the networks that are counted quickly."""

    @pytest.mark.extended
    @pytest.mark.parametrize(
        ("name", "preset"), [("dncnn", ""), ("unet_n2n", ""), ("ridnet", ""), ("buifd", "")]
    )
    def test_are_as_counted(self, name, preset):
        module = networks.create(name, preset=preset or None)
        shape = (1, 256, 256, module.channels)
        parameters, cost = COSTS[name][preset]
        assert macs.count_parameters(module, shape) == parameters
        assert round(macs.count_macs(module, shape) / 256**2) == cost

    def test_shifted_products_are_a_convolution(self):
        class Depthwise(nn.Module):
            @nn.compact
            def __call__(self, x):
                kernel = self.param("kernel", nn.initializers.ones, (3, 3, 1, 8))
                scale = self.param("scale", nn.initializers.ones, (1, 1, 1, 8))
                return depthwise_conv2d(x, kernel) * scale

        assert macs.count_macs(Depthwise(), (2, 10, 12, 4)) == 2 * 10 * 12 * 9 * 8
