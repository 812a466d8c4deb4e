"""KMSR: residual blocks that sharpen an already enlarged image.

Zhou and Süsstrunk, "Kernel Modeling Super-Resolution on Real Low-Resolution Images", ICCV 2019,
as in the code of stochastic frequency masking (ECCV 2020, arXiv 2003.07119), "the SFM code" below.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import check_fields, check_image, conv, repeat

# PyTorch's xavier_uniform_ with the gain of ReLU, the square root of 2.
_xavier = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class KMSR(RestorationNetwork):
    """Residual blocks between two convolutions. The output is the image itself, not a residual.

    The input already has the size of the result: enlarge it first, by bicubic interpolation as in
    training. Initialization as in the SFM code: Xavier uniform weights with gain sqrt(2), PyTorch's
    default biases.

    Attributes:
        channels: Channels of the image.
        features: Channels inside.
        blocks: Residual blocks.
        dtype: Compute type.
    """

    channels: int = 3
    features: int = 64
    blocks: int = 16
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False

    def __post_init__(self) -> None:
        check_fields(self, channels=1, features=1, blocks=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "KMSR", self.channels)
        y = conv(x, self.features, dtype=self.dtype, kernel_init=_xavier, name="input")
        y = repeat(Block(dtype=self.dtype, name="resblock_layer"), nn.relu(y), self.blocks)
        y = conv(y, self.channels, dtype=self.dtype, kernel_init=_xavier, name="output")
        return y.astype(x.dtype)


class Block(nn.Module):
    """Two convolutions; the input is added before the last ReLU."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for name in ("conv1", "conv2"):
            y = nn.relu(y) if name == "conv2" else y
            y = conv(y, x.shape[-1], dtype=self.dtype, bias=True, kernel_init=_xavier, name=name)
        return nn.relu(x + y)
