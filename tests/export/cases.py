"""Networks that the tests export, and images for them."""

import functools
import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import networks, ops
from lcdnet_jax.export import run_exported

pytest.importorskip("flatbuffers")

TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "ikc": {"features": 4, "blocks": 1, "code_length": 3, "kernel_size": 5, "iterations": 2},
    "kmsr": {"features": 4, "blocks": 1},
    "lcdnet": {"preset": "tiny", "channels": 1, "use_msfm": False, "scam_type": "none"},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {
        **{"width": 2, "features": 4, "depth": 2},
        **{"neighbours": 1, "patch": 4, "stride": 4, "window": 2},
    },
    "nafnet": {"width": 4, "enc_blocks": (1, 1, 1, 1)},
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "restormer": {
        **{"width": 4, "blocks": (1, 1, 1, 1)},
        **{"refinement_blocks": 1, "heads": (1, 2, 2, 4)},
    },
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 3, "blocks": 1, "features": 4, "growth": 2},
    "sadnet": {"width": 2, "offset_width": 2, "groups": 1, "use_context": False},
    "unet_n2n": {},
}


class Doubling(networks.RestorationNetwork):
    """Twice the size by way of a quarter, so that sides have to be multiples of 4."""

    channels: int = 1
    scale: int = 2
    dtype: type = jnp.float32
    stride = 4

    @nn.compact
    def __call__(self, x):
        _, height, width, _ = x.shape
        y = nn.Conv(4, (4, 4), strides=4)(ops.pad_to_multiple(x, 4))
        return nn.ConvTranspose(1, (8, 8), strides=(8, 8))(y)[:, : 2 * height, : 2 * width]


class Spectrum(networks.RestorationNetwork):
    """A convolution of the spectrum, and depthwise one of the image, as LCDNet has them."""

    channels: int = 1
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x):
        width = x.shape[2]
        y = ops.depthwise_conv2d(x, self.param("taps", nn.initializers.normal(), (3, 3, 1, 1)))
        return y + ops.irfft2(nn.Conv(2, (1, 1))(ops.rfft2(x)), width)


def drawn(module):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = rng.normal(0, (0.5 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        else:
            low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(path[-1].key, (-0.3, 0.3))
            values = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    x = jnp.zeros((1, 16, 16, module.channels))
    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(module.init, jax.random.key(0), x))


@functools.cache
def tiny(name):
    module = networks.create(name, **TINY[name])
    return module, drawn(module)


def image(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


def load(data, **options):
    return run_exported.load(io.BytesIO(data), **options)
