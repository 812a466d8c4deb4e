"""A network that mixes neighbors and channels, and two others; quick to compile."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lcdnet_jax import Restorer, networks, ops


class Blur(networks.RestorationNetwork):
    """Mixes neighbors and channels, so that borders and channel order show; quick to compile."""

    channels: int = 3

    @nn.compact
    def __call__(self, x):
        return x + nn.Conv(self.channels, (3, 3))(x)


BUCKET = 16


def make(channels, seed=0):
    module = Blur(channels)
    variables = module.init(jax.random.key(seed), jnp.zeros((1, 4, 4, channels)))
    return Restorer(module, variables, bucket=BUCKET)


class TwoViews(networks.RestorationNetwork):
    """The left view and a quarter of the right one; needs no parameters."""

    channels: int = 6
    two_views = True

    def __call__(self, x):
        return x[..., :3] + x[..., 3:] / 4


class Whole(networks.RestorationNetwork):
    """Adds the image's mean and the size of its padding; pads to its stride itself."""

    channels: int = 3
    stride = 4
    global_means = True

    @nn.compact
    def __call__(self, x):
        y = ops.pad_to_multiple(x, self.stride)
        y = y + y.mean((1, 2), keepdims=True) + y.shape[1] * y.shape[2]
        return y[:, : x.shape[1], : x.shape[2]]


def mirrored(image, bucket=BUCKET):
    """Larger by reflection without repeating the border, one row and column at a time."""
    for axis in (0, 1):
        size = image.shape[axis]
        target = -(-size // bucket) * bucket
        period = max(2 * (size - 1), 1)
        index = [min(i % period, period - i % period) for i in range(target)]
        image = np.take(image, index if size > 1 else [0] * target, axis=axis)
    return image


def by_hand(restorer, image):
    """The module itself on the mirrored image, by a plain convolution in NumPy."""
    kernel, bias = (
        np.asarray(restorer.variables["params"]["Conv_0"][k]) for k in ("kernel", "bias")
    )
    height, width = image.shape[:2]
    image = mirrored(image)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    result = image + bias
    for dy in range(3):
        for dx in range(3):
            window = padded[dy : dy + image.shape[0], dx : dx + image.shape[1]]
            result = result + window @ kernel[dy, dx]
    return result[:height, :width]
