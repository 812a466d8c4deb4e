"""A network that compiles quickly, with batch statistics, for tests of the trainer."""

import jax.numpy as jnp
from flax import linen as nn

from lcdnet_jax import networks


class ConvNet(networks.RestorationNetwork):
    """Small enough to compile in no time, with batch statistics to carry along."""

    channels: int = 3
    features: int = 4
    norm: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        y = nn.Conv(self.features, (3, 3), dtype=self.dtype)(x.astype(self.dtype))
        if self.norm:
            norm = nn.BatchNorm(use_running_average=not train, axis_name=axis_name)
            y = norm(y.astype(jnp.float32)).astype(self.dtype)
        y = nn.Conv(self.channels, (3, 3), dtype=self.dtype)(nn.relu(y))
        return x + y.astype(x.dtype)
