"""NAFNet: a U-Net of blocks without activation functions, and NAFNetLocal.

Chen, Chu, Zhang and Sun, "Simple Baselines for Image Restoration", ECCV 2022 (arXiv 2204.04676).
Local pooling (``local_pool``) is that of Chu, Chen, Chen and Lu, "Improving Image Restoration by
Revisiting Global Information Aggregation", ECCV 2022 (arXiv 2112.04491). Read :class:`NAFNet`
first, then its block. Parameters have the names of the official PyTorch code, so its weights load
by name.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.networks._base import MERGE_LOOPS, RestorationNetwork
from lcdnet_jax.networks._blocks import (
    Depthwise,
    Down,
    LayerNorm,
    check_fields,
    check_image,
    check_lists,
    conv,
    gate,
    pixel_shuffle,
    stack_blocks,
    torch_bias,
    torch_conv,
    torch_default,
    torch_dense,
    windowed_mean,
)
from lcdnet_jax.typing import Fields

_SCALES = 4
_NORM_EPS = 1e-6

# The authors' option files. Those for GoPro and REDS are of NAFNetLocal, whose windows are 1.5
# times the training crops of 256 pixels. There is no file for REDS at width 32.
_DEBLURRING = {
    "enc_blocks": (1, 1, 1, 28),
    "mid_blocks": 1,
    "dec_blocks": (1, 1, 1, 1),
    "local_pool": 384,
}
_DENOISING = {
    "enc_blocks": (2, 2, 4, 8),
    "mid_blocks": 12,
    "dec_blocks": (2, 2, 2, 2),
    "local_pool": None,
}


class NAFNet(RestorationNetwork):
    """U-Net of five scales whose skip connections are added.

    Scales have ``width`` * (1, 2, 4, 8) channels, the middle stage 16 * ``width``. The image is
    padded with zeros at the bottom and right to sides that are multiples of 16, and the result is
    cropped. Output = input + residual. Initialization: PyTorch's default, and branches of blocks
    start at 0.

    Attributes:
        channels: Channels of the image.
        width: Channels at full resolution.
        enc_blocks: Blocks at each scale of the encoder, fine to coarse.
        mid_blocks: Blocks of the middle stage.
        dec_blocks: Blocks at each scale of the decoder, **coarse to fine**, as in the option files
            of the authors.
        local_pool: Side of the windows for global means, in pixels of the full resolution; None for
            the whole image. NAFNetLocal has 1.5 times the side of the training crops. Windows of at
            least the size of the image are the whole image.
        dtype: Compute type. Normalization and means are float32.
    """

    channels: int = 3
    width: int = 32
    enc_blocks: tuple[int, ...] = (1, 1, 1, 28)
    mid_blocks: int = 1
    dec_blocks: tuple[int, ...] = (1, 1, 1, 1)
    local_pool: int | None = None
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 16
    padding = "constant"
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    xla_cpu_options = MERGE_LOOPS
    global_means = True  # simplified channel attention
    has_scales = False

    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "gopro_width32": {"width": 32, **_DEBLURRING},
        "gopro_width64": {"width": 64, **_DEBLURRING},
        "reds_width32": {"width": 32, **_DEBLURRING},
        "reds_width64": {"width": 64, **_DEBLURRING},
        "sidd_width32": {"width": 32, **_DENOISING},
        "sidd_width64": {"width": 64, **_DENOISING},
    }

    def __post_init__(self) -> None:
        check_fields(self, channels=1, width=1, mid_blocks=1)
        check_lists(self, _SCALES, "enc_blocks", "dec_blocks")
        if self.local_pool is not None:
            check_fields(self, local_pool=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "NAFNet", self.channels)
        height, width = x.shape[1:3]
        image = ops.pad_to_multiple(x, self.stride, mode=self.padding)

        feature = torch_conv(image, self.width, dtype=self.dtype, name="intro")
        skips = []
        for i in range(_SCALES):
            feature = self._stage(feature, self.enc_blocks[i], i, f"encoders_{i}")
            skips.append(feature)
            down = Down(
                torch_default, torch_bias(4 * feature.shape[-1]), self.dtype, name=f"downs_{i}"
            )
            feature = down(feature)
        feature = self._stage(feature, self.mid_blocks, _SCALES, "middle_blks")
        for i in range(_SCALES):
            scale = _SCALES - 1 - i
            wide = conv(
                feature,
                2 * feature.shape[-1],
                1,
                kernel_init=torch_default,
                dtype=self.dtype,
                name=f"ups_{i}_0",
            )
            feature = pixel_shuffle(wide, 2) + skips[scale]
            feature = self._stage(feature, self.dec_blocks[i], scale, f"decoders_{i}")

        residual = torch_conv(feature, self.channels, dtype=self.dtype, name="ending")
        restored = image + residual.astype(image.dtype)
        return restored[:, :height, :width]

    def _stage(self, feature: Array, blocks: int, scale: int, name: str) -> Array:
        """Equal blocks, at 1/2**scale of the resolution."""
        window = None if self.local_pool is None else max(1, self.local_pool // 2**scale)
        return stack_blocks(Block(window, self.dtype, name=name), feature, blocks)


class Block(nn.Module):
    """NAFNet's block: two branches of a gate each, the first with channel attention (figure 3c).

    ``beta`` and ``gamma`` of 0 make it the identity.
    """

    window: int | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, dtype = x.shape[-1], self.dtype
        normed = LayerNorm(_NORM_EPS, dtype=dtype, name="norm1")(x)
        y = torch_conv(normed, 2 * channels, 1, dtype=dtype, name="conv1")
        depthwise = Depthwise(
            3, kernel_init=torch_default, bias_init=torch_bias(9), dtype=dtype, name="conv2"
        )
        y = gate(depthwise(y))
        # Simplified channel attention: a factor per channel, linear in the means of all channels.
        y = y * torch_dense(windowed_mean(y, self.window), channels, dtype=dtype, name="sca_1")
        x = x + self._scaled(torch_conv(y, channels, 1, dtype=dtype, name="conv3"), "beta")

        normed = LayerNorm(_NORM_EPS, dtype=dtype, name="norm2")(x)
        y = torch_conv(normed, 2 * channels, 1, dtype=dtype, name="conv4")
        return x + self._scaled(
            torch_conv(gate(y), channels, 1, dtype=dtype, name="conv5"), "gamma"
        )

    def _scaled(self, branch: Array, name: str) -> Array:
        """A branch times its learned factor per channel."""
        factors = self.param(name, nn.initializers.zeros, (branch.shape[-1],), jnp.float32)
        return branch * factors.astype(self.dtype)[None, None, None]
