"""A convolution of a known reach, restored whole and in tiles."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from lcdnet_jax import Restorer, networks

OVERLAP, TILE, BUCKET = 4, 32, 8


class Filter(networks.RestorationNetwork):
    """One convolution that sees ``reach`` pixels to each side, zeros beyond the edge."""

    channels: int = 3
    out: int = 3
    reach: int = OVERLAP

    @nn.compact
    def __call__(self, x):
        size = 2 * self.reach + 1
        return nn.Conv(self.out, (size, size), bias_init=nn.initializers.ones)(x)


@functools.cache
def pair(**fields):
    """One network, whole and tiled."""
    module = Filter(**fields)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, module.channels)))
    return (
        Restorer(module, variables, bucket=BUCKET),
        Restorer(module, variables, bucket=BUCKET, tile=TILE, overlap=OVERLAP),
    )
