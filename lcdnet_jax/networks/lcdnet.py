"""LCDNet: deblurring and deraining with selection of scales and frequencies.

Gao and Dang, "Enhancing Image Restoration through Learning Context-Rich and Detail-Accurate
Features" (arXiv 2504.10558; journal version in Neural Networks, 2026). **A reconstruction**: no
code was released, and the texts available to us name the parts but not all of their order and
sizes. docs/explanations/lcdnet.md lists, for each choice, whether it comes from the paper, from
related papers or from us. Choices with alternatives are fields. Do not expect the authors' numbers.

Read :class:`LCDNet` and its stage :class:`HSFSBlock` first, then the blocks in
``_lcdnet_blocks.py``.
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
    Down,
    check_fields,
    check_image,
    check_lists,
    stack_blocks,
)
from lcdnet_jax.networks._lcdnet_blocks import (
    MSFM,
    SCAM,
    SFE,
    SFF,
    MSSFBlock,
    NAFBlock,
    RowAttention,
    Shared,
    Up,
    make_conv,
)
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.typing import Fields, PyTree

_CHOICES = {
    "block": ("mssf", "naf"),
    "global_branch": ("fourier_unit", "literal_chain", "none"),
    "fourier": ("fft", "matmul"),
    "msfm_fusion": ("sk", "cross"),
    "msfm_softmax": ("branch", "joint"),
    "scam_type": ("sk", "sk_norm", "pixel", "sff", "cross", "none"),
    "scam_softmax": ("branch", "joint"),
    "sfe_type": ("scm", "naf"),
    "input_downsample": ("nearest", "bilinear"),
    "residual_base": (None, "input", "view_mean", "none"),
}
_SCALES = 4


class LCDNet(RestorationNetwork):
    """U-Net with the image as input, and a restored image as output, at each of four scales.

    Scales have ``width`` * (1, 2, 4, 8) channels, the middle stage 16 * ``width``. The image is
    mirrored to sides that are multiples of 16, and the finest result is cropped. Output = degraded
    image + residual.

    Attributes:
        channels: Channels of the image: 1, 3, or 6 for the two views of a dual-pixel camera (left
            RGB, then right RGB), which are restored to one RGB image.
        width: Channels at full resolution, a multiple of 16.
        enc_blocks: MSSF blocks at each scale of the encoder, fine to coarse.
        mid_blocks: MSSF blocks of the middle stage.
        dec_blocks: MSSF blocks at each scale of the decoder, fine to coarse.
        block: "mssf", or "naf" for NAFNet's plain block (ablation).
        global_branch: The branch of a block that sees the whole image: "fourier_unit", a gate on
            spectra; "literal_chain", the most literal reading of the text; "none".
        fourier: How this branch computes its Fourier transforms, with the same parameters and, up
            to rounding, the same result: "fft", or "matmul", by matrix products without complex
            numbers. Programs with "matmul" can be exported for images of any size, and as LiteRT.
        use_msfm: End each stage with MSFM.
        msfm_kernels: Sizes of the two low-pass filters of MSFM, odd, in pixels.
        msfm_groups: Number of filters per image in each half of the channels.
        msfm_fusion: How MSFM joins low and high frequencies: "sk", by channel weights, or "cross",
            by attention along rows. For "cross" MSFSNet returns the attended values alone; here
            they are added to low + high, which is ours.
        msfm_softmax: Over the two weights of each channel ("branch"), or over all weights of both
            branches ("joint").
        scam_type: Gate of the skip connections: "sk", by channel weights from means; "sk_norm", the
            same from normalized means; "pixel", by a weight for each pixel and channel; "sff", as
            in MSFSNet; "cross", by attention along rows; "none".
        scam_softmax: As ``msfm_softmax``, for "sk" and "sk_norm".
        sfe_type: Features of the smaller images: "scm", four convolutions; "naf", NAFNet's block.
        input_downsample: How the smaller images are made: "nearest" (every other pixel, from the
            first) or "bilinear" (means of 2x2).
        residual_base: What residuals are added to: "input", "view_mean" (the mean of two views) or
            "none". None: "view_mean" for six channels, else "input".
        norm_eps: Epsilon of layer normalization.
        layer_scale_init: Initial value of the factors of a block's branches; None for no factors.
        local_pool: Side of the windows for global means, in pixels of the full resolution; None for
            the whole image. For testing, 1.5 times the side of the training crops (Chu et al.,
            "Improving Image Restoration by Revisiting Global Information Aggregation", ECCV 2022).
        remat: Recompute blocks in the backward pass to save memory.
        dtype: Compute type. Fourier transforms, normalization, softmax and means are float32.
    """

    channels: int = 3
    width: int = 32
    enc_blocks: tuple[int, ...] = (1, 1, 1, 28)
    mid_blocks: int = 1
    dec_blocks: tuple[int, ...] = (1, 1, 1, 1)
    block: str = "mssf"
    global_branch: str = "fourier_unit"
    fourier: str = "fft"
    use_msfm: bool = True
    msfm_kernels: tuple[int, ...] = (3, 5)
    msfm_groups: int = 8
    msfm_fusion: str = "sk"
    msfm_softmax: str = "branch"
    scam_type: str = "sk"
    scam_softmax: str = "branch"
    sfe_type: str = "scm"
    input_downsample: str = "nearest"
    residual_base: str | None = None
    norm_eps: float = 1e-6
    layer_scale_init: float | None = 0.0
    local_pool: int | None = None
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    LARGEST: ClassVar[Mapping[str, int]] = {"msfm_kernels": 63}
    scale = 1
    stride = 16
    input_range = (0.0, 1.0)
    tile_overlap = 32  # more does not help, see docs/explanations/tiling.md
    xla_cpu_options = MERGE_LOOPS
    two_views = True  # with channels=6
    global_means = True  # and Fourier transforms
    has_scales = True

    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "tiny": {"width": 16, "enc_blocks": (1, 1, 1, 1)},
        "small": {"width": 32, "enc_blocks": (1, 1, 1, 8)},
        "base": {"width": 32, "enc_blocks": (1, 1, 1, 28)},
        "large": {"width": 64, "enc_blocks": (1, 1, 1, 28)},
    }

    def __post_init__(self) -> None:
        _check(self)
        super().__post_init__()

    @property
    def window_pixels(self) -> int:  # type: ignore[override]  # a value in other networks
        """Less for networks as narrow as "tiny", so that a restorer takes 1.2 GB on a CPU."""
        return 700_000 if self.width <= 16 else RestorationNetwork.window_pixels

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool = False,
        axis_name: str | None = None,
        all_scales: bool = False,
    ) -> PyTree:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here.

        Args:
            x: Degraded images.
            train: Unused.
            axis_name: Unused.
            all_scales: Also return the coarser images.

        Returns:
            ``[N, H, W, 3]`` (or 1). With ``all_scales`` a tuple of this and the images at 1/2, 1/4
            and 1/8 of the size, whose H and W are first rounded up to multiples of 16.
        """
        del train, axis_name
        check_image(x, "LCDNet", self.channels)
        height, width = x.shape[1:3]
        images = self._pyramid(ops.pad_to_multiple(x, self.stride))
        widths = [self.width * 2**scale for scale in range(_SCALES)]
        shared = Shared(
            self.dtype,
            self.norm_eps,
            self.layer_scale_init,
            self.global_branch,
            self.fourier,
            self.block,
        )

        def stage(feature: Array, blocks: int, scale: int, name: str) -> Array:
            return HSFSBlock(
                blocks,
                self.msfm_kernels if self.use_msfm else (),
                self.msfm_groups,
                self.msfm_fusion,
                self.msfm_softmax,
                self._window(scale),
                self.remat,
                shared,
                name=name,
            )(feature)

        # Encoder: from the second scale on, features of the smaller image are merged in.
        feature = make_conv(widths[0], 3, self.dtype, "stem")(images[0].astype(self.dtype))
        skips = []
        for scale in range(_SCALES):
            if scale:
                shallow = SFE(widths[scale], self.sfe_type, shared, name=f"sfe{scale}")
                joined = jnp.concatenate([shallow(images[scale]), feature], axis=-1)
                feature = make_conv(widths[scale], 1, self.dtype, f"merge{scale}")(joined)
            feature = stage(feature, self.enc_blocks[scale], scale, f"enc{scale}")
            skips.append(feature)
            feature = Down(dtype=self.dtype, name=f"down{scale}")(feature)
        feature = stage(feature, self.mid_blocks, _SCALES, "mid")

        # Decoder: coarse to fine, concatenated with gated encoder features.
        if self.scam_type == "sff":
            skips = SFF(shared, name="sff")(skips, feature)
        outputs = []
        for scale in reversed(range(_SCALES)):
            channels = widths[scale]
            feature = Up(self.dtype, name=f"up{scale}")(feature)
            gated = skips[scale]
            if self.scam_type in ("sk", "sk_norm", "pixel"):
                scam = SCAM(
                    self.scam_type, self.scam_softmax, self._window(scale), shared,
                    name=f"scam{scale}",
                )  # fmt: skip
                gated = scam(gated, feature)
            elif self.scam_type == "cross":
                gated, feature = RowAttention(shared, name=f"scam{scale}")(gated, feature)
            joined = jnp.concatenate([feature, gated], axis=-1)
            feature = make_conv(channels, 1, self.dtype, f"skip{scale}")(joined)
            feature = stage(feature, self.dec_blocks[scale], scale, f"dec{scale}")
            if scale == 0 or all_scales or self.is_initializing():
                head = make_conv(self.channels_out, 3, self.dtype, f"head{scale}")
                base = self._base(images[scale])
                outputs.append((base + head(feature).astype(base.dtype)).astype(x.dtype))
        outputs = [outputs.pop()[:, :height, :width], *reversed(outputs)]
        return tuple(outputs) if all_scales else outputs[0]

    def _pyramid(self, image: Array) -> list[Array]:
        """The image at sizes 1, 1/2, 1/4 and 1/8."""
        images = [image]
        for _ in range(_SCALES - 1):
            finer = images[-1]
            if self.input_downsample == "nearest":
                images.append(finer[:, ::2, ::2])
            else:
                images.append(_mean_of_cells(finer, 2))
        return images

    def _base(self, image: Array) -> Array:
        """The image to which the residual is added, float32."""
        image = image.astype(at_least_float32(image.dtype))
        base = self.residual_base or ("view_mean" if self.takes_two_views else "input")
        if base == "none":
            return jnp.zeros((*image.shape[:3], self.channels_out), image.dtype)
        return ops.mean_of_views(image) if base == "view_mean" else image

    def _window(self, scale: int) -> int | None:
        return None if self.local_pool is None else max(1, self.local_pool // 2**scale)


class HSFSBlock(nn.Module):
    """A stage: y = ``blocks`` MSSF blocks of x, then y + MSFM(y)."""

    blocks: int
    msfm_kernels: tuple[int, ...]
    msfm_groups: int
    msfm_fusion: str
    msfm_softmax: str
    window: int | None
    remat: bool
    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = MSSFBlock if self.shared.block == "mssf" else NAFBlock
        block = kind(self.window, self.shared, name="blocks")

        x = stack_blocks(block, x, self.blocks, remat=self.remat)
        if not self.msfm_kernels:
            return x
        msfm = MSFM(
            self.msfm_kernels, self.msfm_groups, self.msfm_fusion, self.msfm_softmax, self.window,
            self.shared, name="msfm",
        )  # fmt: skip
        return x + msfm(x)


def _mean_of_cells(x: Array, factor: int) -> Array:
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // factor, factor, width // factor, factor, channels)
    return cells.mean(axis=(2, 4))


def _check(network: LCDNet) -> None:
    """Raises ValueError for invalid fields."""
    check_fields(network, channels=1, width=16, mid_blocks=1, msfm_groups=1)
    if network.channels not in (1, 3, ops.TWO_VIEW_CHANNELS):
        raise ValueError(
            f"LCDNet channels must be 1, 3, or {ops.TWO_VIEW_CHANNELS} for two views, got "
            f"{network.channels}"
        )
    if network.width % 16:
        raise ValueError(
            f"LCDNet width {network.width} is not divisible by 16; use "
            f"{max(16, network.width // 16 * 16)} or {network.width // 16 * 16 + 16}"
        )
    check_lists(network, _SCALES, "enc_blocks", "dec_blocks")
    for field, allowed in _CHOICES.items():
        if getattr(network, field) not in allowed:
            raise ValueError(
                f"LCDNet {field} must be one of {', '.join(map(repr, allowed))}, got "
                f"{getattr(network, field)!r}"
            )
    check_lists(network, 2, "msfm_kernels")
    if not all(size % 2 for size in network.msfm_kernels):
        raise ValueError(f"LCDNet msfm_kernels must be two odd sizes, got {network.msfm_kernels!r}")
    if network.width // 2 % network.msfm_groups:
        raise ValueError(
            f"LCDNet msfm_groups {network.msfm_groups} does not divide half of the width "
            f"({network.width // 2}); use 8"
        )
    if network.residual_base == "view_mean" and not network.takes_two_views:
        raise ValueError("LCDNet residual_base 'view_mean' is for 6 channels; use 'input'")
    if network.residual_base == "input" and network.takes_two_views:
        raise ValueError("LCDNet has no residual_base 'input' of 6 channels; use 'view_mean'")
    if network.local_pool is not None:
        check_fields(network, local_pool=1)
