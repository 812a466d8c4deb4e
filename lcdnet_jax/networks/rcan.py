"""RCAN: very deep super-resolution by residual groups with channel attention.

Zhang, Li, Li, Wang, Zhong and Fu, "Image Super-Resolution Using Very Deep Residual Channel
Attention Networks", ECCV 2018 (arXiv 1807.02758), as in the code of stochastic frequency masking
(ECCV 2020, arXiv 2003.07119), which subtracts no data set mean.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    ChannelAttention,
    check_attention,
    check_fields,
    check_image,
    check_scale,
    repeat,
    torch_conv,
    upsample,
)
from lcdnet_jax.typing import Fields


class RCAN(RestorationNetwork):
    """Residual groups at low resolution, then pixel shuffles.

    The output is the enlarged image itself, not a residual. Initialization: PyTorch's default.

    The channel attention averages over the whole image. A tile therefore differs slightly from the
    same pixels of a larger image.

    Attributes:
        channels: Channels of the image.
        scale: How many times larger the result is, 2, 3 or 4.
        groups: Residual groups.
        blocks: Residual blocks per group.
        features: Channels inside, a multiple of 16.
        dtype: Compute type. Means and attention weights are float32.
    """

    channels: int = 1
    scale: int = 4
    groups: int = 10
    blocks: int = 20
    features: int = 64
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = True  # channel attention
    has_scales = False

    # "base" is the published network. "small" is ours, for CPUs and quick trials.
    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "base": {"groups": 10, "blocks": 20, "features": 64},
        "small": {"groups": 2, "blocks": 4, "features": 32},
    }

    def __post_init__(self) -> None:
        check_fields(self, channels=1, groups=1, blocks=1, features=1)
        check_scale(self)
        check_attention(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Enlarges ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "RCAN", self.channels)
        head = torch_conv(x, self.features, dtype=self.dtype, name="head_0")
        y = head
        for i in range(self.groups):
            y = Group(self.blocks, dtype=self.dtype, name=f"body_{i}")(y)
        y = head + torch_conv(y, self.features, dtype=self.dtype, name=f"body_{self.groups}")
        y = upsample(y, self.scale, dtype=self.dtype, name="tail_0")
        return torch_conv(y, self.channels, dtype=self.dtype, name="tail_1").astype(x.dtype)


class Group(nn.Module):
    """Residual blocks and a convolution, added to the input."""

    blocks: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = repeat(Block(dtype=self.dtype, name="blocks"), x, self.blocks)
        return x + torch_conv(y, x.shape[-1], dtype=self.dtype, name=f"body_{self.blocks}")


class Block(nn.Module):
    """Two convolutions and channel attention, added to the input."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(torch_conv(x, x.shape[-1], dtype=self.dtype, name="body_0"))
        y = torch_conv(y, x.shape[-1], dtype=self.dtype, name="body_2")
        names = ("conv_du_0", "conv_du_2")
        return x + ChannelAttention(torch_conv, names, dtype=self.dtype, name="body_3")(y)
