"""Restormer: a U-Net of transformer blocks whose attention is between channels.

Zamir, Arora, Khan, Hayat, Khan and Yang, "Restormer: Efficient Transformer for High-Resolution
Image Restoration", CVPR 2022 (arXiv 2111.09881). Read :class:`Restormer` first, then its blocks in
the order of use. Parameters have the names of the official PyTorch code, so its weights load by
name.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.messages import format_count
from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    Depthwise,
    LayerNorm,
    check_fields,
    check_image,
    check_lists,
    conv,
    pixel_shuffle,
    pixel_unshuffle,
    stack_blocks,
    torch_default,
)
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.typing import Fields

_SCALES = 4
_NORM_EPS = 1e-5
# Hidden channels of the feed-forward network, over its input channels.
_EXPANSION = 2.66
# Squares of norms are at least this, as in torch.nn.functional.normalize.
_LEAST_SQUARE = 1e-24


class Restormer(RestorationNetwork):
    """U-Net of four scales of transformer blocks, then refinement blocks at full resolution.

    Scales have ``width`` * (1, 2, 4, 8) channels. The decoder has ``2 * width`` at full resolution,
    because no convolution reduces the concatenated skip connection there. The image is mirrored to
    sides that are multiples of 8, and the result is cropped. Output = input + residual, but for two
    views, whose output is the image itself. Initialization: PyTorch's default.

    Attributes:
        channels: Channels of the image: 1, 3, or 6 for the two views of a dual-pixel camera (left
            RGB, then right RGB), which are restored to one RGB image.
        width: Channels at full resolution.
        blocks: Blocks at each scale, fine to coarse; the encoder and the decoder have equally many.
        refinement_blocks: Blocks after the decoder.
        heads: Heads of the attention at each scale. Each divides the channels of its scale.
        norm_bias: Whether layer normalization subtracts the mean and has a bias. The authors set it
            to False for denoising.
        dtype: Compute type. Normalization, attention scores and softmax are float32.
    """

    channels: int = 3
    width: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refinement_blocks: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    norm_bias: bool = True
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 8
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = True  # with channels=6
    global_means = True  # attention scores are sums over the image
    has_scales = False

    # The authors' option files.
    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "motion_deblurring": {"channels": 3, "norm_bias": True},
        "defocus_single": {"channels": 3, "norm_bias": True},
        "defocus_dual": {"channels": 6, "norm_bias": True},
        "deraining": {"channels": 3, "norm_bias": True},
        "gaussian_gray": {"channels": 1, "norm_bias": False},
        "gaussian_color": {"channels": 3, "norm_bias": False},
        "real_denoising": {"channels": 3, "norm_bias": False},
    }

    def __post_init__(self) -> None:
        check_fields(self, channels=1, width=1, refinement_blocks=1)
        if self.channels not in (1, 3, ops.TWO_VIEW_CHANNELS):
            raise ValueError(
                f"Restormer channels must be 1, 3, or {ops.TWO_VIEW_CHANNELS} for two views, got "
                f"{self.channels}"
            )
        check_lists(self, _SCALES, "blocks", "heads")
        if self.width % 2:
            raise ValueError(f"Restormer width must be even, got {self.width}")
        for scale, heads in enumerate(self.heads, start=1):
            channels = self.width * 2 ** (scale - 1)
            if channels % heads:
                raise ValueError(
                    f"Restormer cannot divide {format_count(channels, 'channel')} of scale {scale} "
                    f"among {heads} heads; use heads=(1, 2, 4, 8) or another width"
                )
        if not isinstance(self.norm_bias, bool):
            raise ValueError(f"Restormer norm_bias must be True or False, got {self.norm_bias!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "Restormer", self.channels)
        height, width = x.shape[1:3]
        image = ops.pad_to_multiple(x, self.stride)

        # Encoder. Scales are numbered from 1, as in the official names.
        embedded = self._conv(image, self.width, 3, "patch_embed")
        feature, skips = embedded, []
        for scale in (1, 2, 3):
            feature = self._stage(feature, scale, f"encoder_level{scale}")
            skips.append(feature)
            narrow = self._conv(feature, feature.shape[-1] // 2, 3, f"down{scale}_{scale + 1}")
            feature = pixel_unshuffle(narrow, 2)
        feature = self._stage(feature, 4, "latent")

        # Decoder.
        for scale in (3, 2, 1):
            wide = self._conv(feature, 2 * feature.shape[-1], 3, f"up{scale + 1}_{scale}")
            feature = jnp.concatenate([pixel_shuffle(wide, 2), skips[scale - 1]], axis=-1)
            if scale > 1:
                channels = feature.shape[-1] // 2
                feature = self._conv(feature, channels, 1, f"reduce_chan_level{scale}")
            feature = self._stage(feature, scale, f"decoder_level{scale}")
        block = Block(self.heads[0], self.norm_bias, self.dtype, name="refinement")
        feature = stack_blocks(block, feature, self.refinement_blocks)

        if self.takes_two_views:
            feature += self._conv(embedded, feature.shape[-1], 1, "skip_conv")
        restored = self._conv(feature, self.channels_out, 3, "output").astype(image.dtype)
        if not self.takes_two_views:
            restored += image
        return restored[:, :height, :width]

    def _conv(self, x: Array, features: int, size: int, name: str) -> Array:
        """Convolution without bias."""
        return _conv(x, features, size, self.dtype, name)

    def _stage(self, feature: Array, scale: int, name: str) -> Array:
        """The blocks of a scale, which is 1 for the finest."""
        block = Block(self.heads[scale - 1], self.norm_bias, self.dtype, name=name)
        return stack_blocks(block, feature, self.blocks[scale - 1])


class Block(nn.Module):
    """Transformer block: attention between channels, then a feed-forward network (figure 2)."""

    heads: int
    norm_bias: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        normed = LayerNorm(_NORM_EPS, self.norm_bias, self.dtype, name="norm1")(x)
        x = x + Attention(self.heads, self.dtype, name="attn")(normed)
        normed = LayerNorm(_NORM_EPS, self.norm_bias, self.dtype, name="norm2")(x)
        return x + FeedForward(self.dtype, name="ffn")(normed)


class Attention(nn.Module):
    """Multi-Dconv head transposed attention (section 3.1).

    Queries and keys are normalized over the pixels of each channel, and their products are summed
    over the pixels. Cost is linear in the number of pixels.
    """

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        n, height, width, channels = x.shape
        qkv = _conv(x, 3 * channels, 1, self.dtype, "qkv")
        qkv = _depthwise(self.dtype, "qkv_dwconv")(qkv)
        # [N, pixels, 3, heads, channels of a head]
        qkv = qkv.reshape(n, height * width, 3, self.heads, channels // self.heads)
        query, key, value = (qkv[:, :, i] for i in range(3))

        exact = at_least_float32(self.dtype)
        query, key = (_normalize(y.astype(exact)) for y in (query, key))
        scores = jnp.einsum("nphc,nphd->nhcd", query, key, precision="highest")
        temperature = self.param(
            "temperature", nn.initializers.ones, (self.heads, 1, 1), jnp.float32
        )
        weights = jax.nn.softmax(scores * temperature[None], axis=-1).astype(self.dtype)
        y = jnp.einsum("nhcd,nphd->nphc", weights, value).reshape(x.shape)
        return _conv(y, channels, 1, self.dtype, "project_out")


class FeedForward(nn.Module):
    """Gated-Dconv feed-forward network (section 3.2)."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = int(x.shape[-1] * _EXPANSION)
        y = _conv(x, 2 * hidden, 1, self.dtype, "project_in")
        one, other = jnp.split(_depthwise(self.dtype, "dwconv")(y), 2, axis=-1)
        y = nn.gelu(one, approximate=False) * other
        return _conv(y, x.shape[-1], 1, self.dtype, "project_out")


def _conv(x: Array, features: int, size: int, dtype: DTypeLike, name: str) -> Array:
    return conv(x, features, size, kernel_init=torch_default, dtype=dtype, name=name)


def _depthwise(dtype: DTypeLike, name: str) -> Depthwise:
    return Depthwise(3, bias=False, kernel_init=torch_default, dtype=dtype, name=name)


def _normalize(x: Array) -> Array:
    """``[N, pixels, heads, channels]`` divided by the norm over the pixels."""
    square = (x**2).sum(axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, _LEAST_SQUARE))
