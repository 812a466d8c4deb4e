"""RIDNet: residual blocks with dilated branches and channel attention.

Anwar and Barnes, "Real Image Denoising with Feature Attention", ICCV 2019
(arXiv 1904.07396), as in the code of stochastic frequency masking (ECCV 2020,
arXiv 2003.07119), "the SFM code" below.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    ChannelAttention,
    Conv,
    check_attention,
    check_fields,
    check_image,
    conv,
)
from lcdnet_jax.ops.precision import at_least_float32

_conv = functools.partial(conv, bias=True)
_RGB_MEAN = (0.4488, 0.4371, 0.4040)


class RIDNet(RestorationNetwork):
    """Enhancement attention modules between two convolutions, added to the input.

    A 1x1 convolution subtracts a mean color and another adds it back. The SFM code trains both, as
    all other layers. Initialization as in that code: Kaiming normal weights, PyTorch's default
    biases. All convolutions have a bias.

    The channel attention averages over the whole image. A tile therefore differs slightly from the
    same pixels of a larger image.

    Attributes:
        channels: Channels of the image, 1 or 3. The SFM code's class fails for 3. Here the mean
            then has one value per channel.
        features: Channels inside, a multiple of 16.
        blocks: Number of enhancement attention modules.
        dtype: Compute type. Means and attention weights are float32.
    """

    channels: int = 1
    features: int = 64
    blocks: int = 4
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = True  # channel attention
    has_scales = False

    def __post_init__(self) -> None:
        check_fields(self, channels=1, features=1, blocks=1)
        if self.channels not in (1, 3):
            raise ValueError(f"RIDNet channels must be 1 or 3, got {self.channels}")
        check_attention(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "RIDNet", self.channels)
        mean = _RGB_MEAN if self.channels == 3 else (sum(_RGB_MEAN) / 3,)
        exact = at_least_float32(self.dtype)

        y = _shift(x.astype(exact), tuple(-m for m in mean), dtype=exact, name="sub_mean")
        y = nn.relu(_conv(y, self.features, dtype=self.dtype, name="head"))
        for i in range(1, self.blocks + 1):
            y = Block(dtype=self.dtype, name=f"b{i}")(y)
        y = _conv(y, self.channels, dtype=self.dtype, name="tail")
        y = _shift(y.astype(exact), mean, dtype=exact, name="add_mean")
        return x + y.astype(x.dtype)


class Block(nn.Module):
    """Enhancement attention module: three residual parts, then channel attention."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = MergeRun(dtype=self.dtype, name="r1")(x)
        y = Residual((3, 3), dtype=self.dtype, name="r2")(y)
        y = Residual((3, 3, 1), dtype=self.dtype, name="r3")(y)
        return ChannelAttention(_conv, ("c1", "c2"), dtype=self.dtype, name="ca")(y)


class MergeRun(nn.Module):
    """Two branches of dilated 3x3 convolutions (1, 2 and 3, 4), merged and added to the input."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        branches = []
        for branch, dilations in (("body1", (1, 2)), ("body2", (3, 4))):
            y = x
            for i, rate in enumerate(dilations):
                name = f"{branch}_{2 * i}"
                y = _conv(y, x.shape[-1], dilation=rate, dtype=self.dtype, name=name)
                y = nn.relu(y)
            branches.append(y)
        merged = jnp.concatenate(branches, axis=-1)
        merged = _conv(merged, x.shape[-1], dtype=self.dtype, name="body3_0")
        return x + nn.relu(merged)


class Residual(nn.Module):
    """Convolutions of the given sizes with ReLU; the input is added before the last ReLU."""

    sizes: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i, size in enumerate(self.sizes):
            y = nn.relu(y) if i else y
            name = f"body_{2 * i}"
            y = _conv(y, x.shape[-1], size, dtype=self.dtype, name=name)
        return nn.relu(x + y)


def _shift(x: Array, amounts: tuple[float, ...], *, dtype: DTypeLike, name: str) -> Array:
    """1x1 convolution, initially ``x + amounts``; at full precision, as it carries the image."""
    layer = Conv(
        x.shape[-1],
        1,
        kernel_init=lambda key, shape, dtype: jnp.eye(shape[-1], dtype=dtype)[None, None],
        bias_init=lambda key, shape, dtype: jnp.asarray(amounts, dtype),
        precision=jax.lax.Precision.HIGHEST,
        dtype=dtype,
        name=name,
    )
    return layer(x)
