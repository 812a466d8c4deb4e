"""RRDB: super-resolution by residual blocks of densely connected convolutions.

Wang, Yu, Wu, Gu, Liu, Dong, Qiao and Loy, "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", ECCV workshops 2018 (arXiv 1809.00219), as in the code of stochastic
frequency masking (ECCV 2020, arXiv 2003.07119). That code enlarges by pixel shuffles, as RCAN does.
It also creates ESRGAN's own upsampling layers but never calls them. Those are omitted here.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    check_fields,
    check_image,
    check_scale,
    lrelu,
    repeat,
    torch_conv,
    upsample,
)

_RESIDUAL_SCALE = 0.2


class RRDB(RestorationNetwork):
    """The generator of ESRGAN: a trunk of blocks at low resolution, then pixel shuffles.

    The output is the enlarged image itself, not a residual. Initialization: PyTorch's default.

    Attributes:
        channels: Channels of the image.
        scale: How many times larger the result is, 2, 3 or 4.
        blocks: Blocks of the trunk.
        features: Channels between blocks.
        growth: Channels that each convolution of a dense block adds.
        dtype: Compute type.
    """

    channels: int = 1
    scale: int = 4
    blocks: int = 23
    features: int = 64
    growth: int = 32
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False

    def __post_init__(self) -> None:
        check_fields(self, channels=1, blocks=1, features=1, growth=1)
        check_scale(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Enlarges ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "RRDB", self.channels)
        first = torch_conv(x, self.features, dtype=self.dtype, name="conv_first")
        y = repeat(Block(self.growth, dtype=self.dtype, name="RRDB_trunk"), first, self.blocks)
        y = first + torch_conv(y, self.features, dtype=self.dtype, name="trunk_conv")
        y = upsample(y, self.scale, dtype=self.dtype, name="tail_0")
        return torch_conv(y, self.channels, dtype=self.dtype, name="tail_1").astype(x.dtype)


class Block(nn.Module):
    """Residual in residual: input + 0.2 * three dense blocks."""

    growth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for name in ("RDB1", "RDB2", "RDB3"):
            y = DenseBlock(self.growth, dtype=self.dtype, name=name)(y)
        return x + _RESIDUAL_SCALE * y


class DenseBlock(nn.Module):
    """Five densely connected convolutions; input + 0.2 * the last one."""

    growth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i in (1, 2, 3, 4):
            more = lrelu(torch_conv(y, self.growth, dtype=self.dtype, name=f"conv{i}"))
            y = jnp.concatenate([y, more], axis=-1)
        y = torch_conv(y, x.shape[-1], dtype=self.dtype, name="conv5")
        return x + _RESIDUAL_SCALE * y
