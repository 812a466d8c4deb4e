"""MemNet: memory blocks, each of which sees the outputs of all earlier blocks.

Tai, Yang, Liu and Xu, "MemNet: A Persistent Memory Network for Image Restoration", ICCV 2017
(arXiv 1708.02209), in the small form that the code of stochastic frequency masking (ECCV 2020,
arXiv 2003.07119) trains ("the SFM code" below): 20 channels, and units with weights of their own.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import batch_norm, check_fields, check_image, conv
from lcdnet_jax.typing import Fields


class MemNet(RestorationNetwork):
    """Memory blocks between two convolutions, added to the input.

    Each layer is BatchNorm, ReLU, convolution without bias. The first BatchNorm acts on the pixels
    themselves. Initialization as in the SFM code: Kaiming normal convolutions, BatchNorm scales
    N(0, 0.059) clipped to +-0.025.

    Attributes:
        channels: Channels of the image.
        features: Channels inside.
        blocks: Memory blocks.
        units: Residual units of a memory block.
        dtype: Compute type. Normalization is float32.
    """

    channels: int = 1
    features: int = 20
    blocks: int = 6
    units: int = 4
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
        check_fields(self, channels=1, features=1, blocks=1, units=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``."""
        check_image(x, "MemNet", self.channels)
        state: Fields = {"train": train, "axis_name": axis_name}
        first = BNReLUConv(self.features, dtype=self.dtype, name="feature_extractor")
        memory = [first(x, **state)]
        for i in range(self.blocks):
            block = MemoryBlock(self.units, dtype=self.dtype, name=f"dense_memory_{i}")
            memory.append(block(memory, **state))
        last = BNReLUConv(self.channels, dtype=self.dtype, name="reconstructor")
        return x + last(memory[-1], **state).astype(x.dtype)


class MemoryBlock(nn.Module):
    """A chain of residual units, and a 1x1 gate over their outputs and all earlier blocks'.

    The gate sees ``[unit 1, ..., unit n, first features, gate 1, gate 2, ...]`` along channels.
    """

    units: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, memory: list[Array], *, train: bool, axis_name: str | None) -> Array:
        state: Fields = {"train": train, "axis_name": axis_name}
        y = memory[-1]
        short_term = []
        for i in range(self.units):
            y = ResidualUnit(dtype=self.dtype, name=f"recursive_unit_{i}")(y, **state)
            short_term.append(y)
        gate = BNReLUConv(y.shape[-1], size=1, dtype=self.dtype, name="gate_unit")
        return gate(jnp.concatenate(short_term + memory, axis=-1), **state)


class ResidualUnit(nn.Module):
    """Two layers, added to the input."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None) -> Array:
        y = x
        for name in ("relu_conv1", "relu_conv2"):
            layer = BNReLUConv(x.shape[-1], dtype=self.dtype, name=name)
            y = layer(y, train=train, axis_name=axis_name)
        return x + y


class BNReLUConv(nn.Module):
    """BatchNorm, ReLU, convolution without bias."""

    features: int
    size: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None) -> Array:
        y = batch_norm(x, train=train, axis_name=axis_name, dtype=self.dtype, name="bn")
        return conv(nn.relu(y), self.features, self.size, dtype=self.dtype, name="conv")
