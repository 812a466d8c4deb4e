"""SADNet: spatial-adaptive denoising by deformable convolution.

Chang, Li, Feng and Xu, "Spatial-Adaptive Network for Single Image Denoising", ECCV 2020
(arXiv 2001.10291). Read :class:`SADNet` first, then its blocks in the order of use. Parameters
have the names of the official PyTorch code, so its weights load by name.

Two details follow the official code instead of the paper. The last convolution is 3x3 (section 3.3
says 1x1). From scale to scale passes the doubled feature map from which offsets and modulations are
predicted, not the offsets themselves (equation 5).
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    Conv,
    Layer,
    check_fields,
    check_image,
    check_lists,
    lrelu,
    pixel_shuffle,
    pixel_unshuffle,
)
from lcdnet_jax.ops.deform_conv import deform_conv2d_by_rows
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.ops.rows import choose_rows, compute_by_rows
from lcdnet_jax.typing import Fields, PyTree, Variables

_TAPS = 9
_OFFSET = "offset/"  # names of metrics begin with it
_xavier = nn.initializers.xavier_uniform()


class Sampling(NamedTuple):
    """Sampling positions and weights of the deformable block of one scale.

    Attributes:
        positions: ``[N, h, w, G, 9, 2]``, (row, column) in pixels of that scale; G groups, 9 taps.
        modulation: ``[N, h, w, G, 9]``, weights in (0, 1).
    """

    positions: Array
    modulation: Array


class SADNet(RestorationNetwork):
    """Encoder-decoder denoiser whose decoder samples adaptively (paper figure 2).

    Four scales of ``width`` * (1, 2, 4, 8) channels. The image is mirrored to sides that are
    multiples of 8 ``unshuffle``, and the result is cropped. Output = input + residual.

    Attributes:
        channels: Channels of the image, 1 or 3 in the paper.
        width: Channels at full resolution.
        offset_width: Channels of the feature maps from which offsets are predicted.
        groups: Offset groups. At scale s = 1, 2, 4, 8 each shares its offsets among
            ``width * s / groups`` channels.
        dilations: Dilation rates of the four branches of the context block. The paper's
            "SADNet (1248)" has (1, 2, 4, 8).
        use_rsab: Decode with deformable blocks, else with residual blocks (table 1).
        use_offset_transfer: Pass offset features from coarse to fine scales (table 1). No effect
            without ``use_rsab``.
        use_context: Use the context block at the coarsest scale (table 1).
        rsab_scales: Number of scales with deformable blocks, from the coarsest on, 1 to 4 as in
            the paper. The others have residual blocks. No effect without ``use_rsab``.
        unshuffle: Factor of a pixel unshuffle before the network and a pixel shuffle after it. The
            finest scale then has 1 / unshuffle of the image's size. 1 in the paper.
        low_memory: Sample one tap at a time in the deformable blocks, and again for the gradient.
            Takes less memory and more time, see docs/explanations/performance.md.
        zero_init_offsets: Initialize offsets to zero. The official code does so and then
            overwrites them by Xavier initialization, hence False.
        dtype: Compute type. Sampling positions are float32.
    """

    channels: int = 3
    width: int = 32
    offset_width: int = 32
    groups: int = 8
    dilations: tuple[int, ...] = (1, 2, 3, 4)
    use_rsab: bool = True
    use_offset_transfer: bool = True
    use_context: bool = True
    rsab_scales: int = 4
    unshuffle: int = 1
    low_memory: bool = False
    zero_init_offsets: bool = False
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    input_range = (0.0, 1.0)
    two_views = False
    global_means = False
    has_scales = False

    # "base" is the published network. The others are ours, for CPUs: "small" has few parameters,
    # "fast" needs half of its time for a pixel. docs/results/sadnet.md has the reasons.
    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "base": {"width": 32, "offset_width": 32, "groups": 8},
        "fast": {"width": 16, "offset_width": 16, "groups": 2, "unshuffle": 2},
        "small": {"width": 8, "offset_width": 16, "groups": 2},
    }

    def __post_init__(self) -> None:
        check_fields(self, channels=1, width=1, offset_width=1, groups=1, unshuffle=1)
        check_fields(self, rsab_scales=1)
        if self.rsab_scales > 4:
            raise ValueError(f"SADNet rsab_scales must be 1 to 4, got {self.rsab_scales}")
        if self.width % self.groups:
            raise ValueError(
                f"SADNet width {self.width} is not divisible by {self.groups} offset groups; use a "
                f"multiple of {self.groups} or groups={_largest_divisor(self.width, self.groups)}"
            )
        check_lists(self, 4, "dilations")
        for field in (
            "use_rsab",
            "use_offset_transfer",
            "use_context",
            "low_memory",
            "zero_init_offsets",
        ):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(
                    f"SADNet {field} must be True or False, got {getattr(self, field)!r}"
                )
        super().__post_init__()

    @property
    def stride(self) -> int:  # type: ignore[override]  # a value in other networks
        """8 times ``unshuffle``."""
        return 8 * self.unshuffle

    @property
    def tile_overlap(self) -> int:  # type: ignore[override]  # a value in other networks
        """Measured with the installed weights, of which "small" needs 85 pixels and "fast" 181.

        benchmarks/receptive_field.py measures it.
        """
        return 85 if self.unshuffle == 1 else 92 * self.unshuffle

    @property
    def window_pixels(self) -> int:  # type: ignore[override]  # a value in other networks
        """More for networks with few channels for a pixel.

        On a CPU "fast" takes 0.16 kB per pixel (0.65 GB for four megapixels), "small" 0.36.
        """
        channels = self.width / self.unshuffle**2
        if channels <= 4:
            return 4_000_000
        return 2_000_000 if channels <= 8 else RestorationNetwork.window_pixels

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "SADNet", self.channels)
        height, width = x.shape[1:3]
        image = ops.pad_to_multiple(x, self.stride)
        widths = [self.width * 2**i for i in range(4)]

        # Encoder: one residual block at each scale.
        feature = pixel_unshuffle(image.astype(self.dtype), self.unshuffle)
        skips = []
        for scale in (1, 2, 3, 4):
            if scale > 1:
                down = Down(widths[scale - 1], dtype=self.dtype, name=f"down{scale - 1}")
                feature = lrelu(down(feature))
            block = ResBlock(widths[scale - 1], dtype=self.dtype, name=f"res{scale}")
            feature = block(feature)
            skips.append(feature)
        if self.use_context:
            feature = Context(self.dilations, dtype=self.dtype, name="context")(feature)

        # Decoder: coarse to fine. The offset features of each scale decide where it samples.
        offset_feature = None
        for scale in (4, 3, 2, 1):
            channels = widths[scale - 1]
            if scale < 4:
                feature = Up(channels, dtype=self.dtype, name=f"up{scale}")(feature)
                feature = jnp.concatenate([feature, skips[scale - 1]], axis=-1)
                feature = _conv(channels, 1, dtype=self.dtype, name=f"dconv{scale}_1")(feature)
            if scale not in self._deformable_scales:
                feature = ResBlock(channels, dtype=self.dtype, name=f"dres{scale}")(feature)
                continue
            coarser = offset_feature if self.use_offset_transfer else None
            offset_block = OffsetBlock(self.offset_width, dtype=self.dtype, name=f"offset{scale}")
            offset_feature = offset_block(feature, coarser)
            rsab = RSAB(
                self.groups,
                self.zero_init_offsets,
                self.low_memory,
                dtype=self.dtype,
                name=f"dres{scale}",
            )
            feature = rsab(feature, offset_feature)

        out = _conv(self.channels * self.unshuffle**2, 3, dtype=self.dtype, name="out")
        residual = pixel_shuffle(out(feature), self.unshuffle)
        restored = image + residual.astype(image.dtype)
        return restored[:, :height, :width]

    @property
    def _deformable_scales(self) -> tuple[int, ...]:
        """Scales with deformable blocks, of 1 (finest) to 4."""
        return (4, 3, 2, 1)[: self.rsab_scales] if self.use_rsab else ()

    def _pixels(self, scale: int) -> int:
        """Pixels of the image for a pixel of a scale, in height and in width."""
        return int(2 ** (scale - 1) * self.unshuffle)

    @nn.nowrap
    def sampling(self, variables: Variables, x: Array) -> dict[int, Sampling]:
        """The learned sampling of every output pixel, group and tap (paper figure 4).

        Position = pixel + tap of the regular 3x3 grid + learned offset. It may lie outside the
        image. Position p of scale s is ``(p + 0.5) * s - 0.5`` in the image.

        Args:
            variables: As for ``apply``.
            x: ``[N, H, W, channels]``, floating point in [0, 1].

        Returns:
            Scale (``unshuffle`` times 1 for the finest, then 2, 4 and 8), if it has a deformable
            block -> arrays with ``h = ceil(H / scale)`` and ``w = ceil(W / scale)``, float32
            (float64 for a float64 network).

        Raises:
            ValueError: For a network with ``use_rsab=False``.
        """
        if not self.use_rsab:
            raise ValueError(
                "SADNet(use_rsab=False) has no deformable blocks and learns no sampling; use a "
                "network with use_rsab=True"
            )
        _, state = self.apply(variables, x, mutable=["intermediates"])
        tap = np.stack(np.divmod(np.arange(_TAPS), 3), axis=-1) - 1
        found = {}
        for scale in sorted(self._deformable_scales):
            offset, modulation = _get_sampling(state["intermediates"], scale)
            size = self._pixels(scale)
            h, w = -(-x.shape[1] // size), -(-x.shape[2] // size)
            pixel = jnp.moveaxis(jnp.indices((h, w), offset.dtype), 0, -1)[None, :, :, None, None]
            grid = pixel + jnp.asarray(tap, offset.dtype)[None, None, None, None]
            found[size] = Sampling(grid + offset[:, :h, :w], modulation[:, :h, :w])
        return found

    @nn.nowrap
    def measure(self, intermediates: PyTree) -> dict[str, Array]:
        """Computes the mean absolute offset of each scale, in pixels of the image.

        Args:
            intermediates: What one call has stored in this collection by ``sow``.

        Returns:
            "offset/1" for the finest scale, then "offset/2", "offset/4" and "offset/8", times
            ``unshuffle``, for scales with deformable blocks.
        """
        return {
            f"{_OFFSET}{self._pixels(scale)}": self._pixels(scale)
            * jnp.abs(_get_sampling(intermediates, scale)[0]).mean()
            for scale in sorted(self._deformable_scales)
        }

    @nn.nowrap
    def find_warnings(self, metrics: Mapping[str, float], *, crop: int) -> dict[str, str]:
        """Finds scales that sample outside the image, where samples have no gradient.

        Args:
            metrics: Means over some steps by name, those of :meth:`measure` among them.
            crop: Side of the training crops, pixels.

        Returns:
            A message for each offset that is larger than the crop, by its name.
        """
        return {
            name: f"the offsets of scale 1/{name.removeprefix(_OFFSET)} are {offset:.3g} pixels on "
            f"average, more than the crop of {crop}. Samples outside the image are zero and have "
            "no gradient, so the deformable convolutions of this scale may be lost. Start another "
            "run with config.optimizer.beta2=0.99 and a lower config.optimizer.learning_rate"
            for name, offset in metrics.items()
            if name.startswith(_OFFSET) and offset > crop
        }


def _get_sampling(intermediates: PyTree, scale: int) -> tuple[Array, Array]:
    """Offsets and modulation of a scale in one call, see :class:`DeformConv`."""
    offset, modulation = intermediates[f"dres{scale}"]["dcnpack"]["sampling"][-1]
    return offset, modulation


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions, preceded by a 1x1 one if the width changes."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if x.shape[-1] != self.features:
            x = _conv(self.features, 1, dtype=self.dtype, name="conv0")(x)
        y = lrelu(_conv(self.features, 3, dtype=self.dtype, name="conv1")(x))
        return x + _conv(self.features, 3, dtype=self.dtype, name="conv2")(y)


class Context(nn.Module):
    """Parallel dilated convolutions on a quarter of the channels, fused and added (section 3.3)."""

    dilations: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        reduced = _conv(channels // 4, 1, dtype=self.dtype, name="conv0")(x)
        branches = [
            lrelu(_conv(channels // 4, 3, rate, dtype=self.dtype, name=f"conv{i}")(reduced))
            for i, rate in enumerate(self.dilations, start=1)
        ]
        fused = _conv(channels, 1, dtype=self.dtype, name="fusion")(jnp.concatenate(branches, -1))
        return x + fused


class OffsetBlock(nn.Module):
    """Offset features of one scale, from its features and the coarser scale's (section 3.2).

    The coarser map is upsampled by 2 and multiplied by 2: one pixel there is two pixels here.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, coarser: Array | None) -> Array:
        conv1, conv2, conv3 = (
            _conv(self.features, 3, dtype=self.dtype, name=f"offset_conv{i}") for i in (1, 2, 3)
        )
        if coarser is None:
            return lrelu(conv3(lrelu(conv1(x))))
        rows = choose_rows(*x.shape[1:3])
        if rows is None:
            f = jnp.concatenate([lrelu(conv1(x)), 2 * ops.upsample2x(coarser)], axis=-1)
            return lrelu(conv3(lrelu(conv2(f))))

        # The features that f joins are the widest of the network, so they exist for a part of the
        # rows at a time. Parts have an even number of rows: each begins with a row of ``coarser``.
        # The two convolutions see 2 rows beyond a part. Doubled, 2 rows of ``coarser`` are 4, of
        # which the outer 3 are cut: conv2 needs one, and interpolation is wrong at the end.
        height, rows = x.shape[1], max(rows // 2 * 2, 2)
        around = jnp.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)))
        coarser_around = jnp.pad(coarser, ((0, 0), (2, 2), (0, 0), (0, 0)), mode="edge")

        def combine(first: Array) -> Array:
            part = jax.lax.dynamic_slice_in_dim(around, first, rows + 4, axis=1)
            small = jax.lax.dynamic_slice_in_dim(coarser_around, first // 2, rows // 2 + 4, axis=1)
            upsampled = 2 * ops.upsample2x(small)[:, 3:-3]
            both = jnp.concatenate([lrelu(conv1(part))[:, 1:-1], upsampled], axis=-1)
            row = first - 1 + jnp.arange(rows + 2)
            inside = ((row >= 0) & (row < height))[None, :, None, None]
            return lrelu(conv2(jnp.where(inside, both, jnp.zeros((), both.dtype))))[:, 1:-1]

        f = compute_by_rows(combine, x, channels=self.features, rows=rows)
        return lrelu(conv3(f))


class RSAB(nn.Module):
    """Residual spatial-adaptive block: x + convolution(deformable convolution) (section 3.1)."""

    groups: int
    zero_init_offsets: bool
    low_memory: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, offset_feature: Array) -> Array:
        deform = DeformConv(
            self.groups, self.zero_init_offsets, self.low_memory, dtype=self.dtype, name="dcnpack"
        )
        y = lrelu(deform(x, offset_feature))
        return x + _conv(x.shape[-1], 3, dtype=self.dtype, name="conv1")(y)


class DeformConv(Layer):
    """3x3 modulated deformable convolution with offsets predicted from ``offset_feature``.

    Output channels of ``conv_offset_mask``: G x 9 x (dy, dx) in pixels of this scale, then G x 9
    modulation logits.
    """

    groups: int
    zero_init_offsets: bool
    low_memory: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, offset_feature: Array) -> Array:
        height, width, channels = x.shape[1:]
        layer = _conv(
            3 * _TAPS * self.groups,
            3,
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros if self.zero_init_offsets else _xavier,
            name="conv_offset_mask",
        )

        def predict(features: Array) -> tuple[Array, Array]:
            """Offsets ``[N, h, w, G, K, 2]`` and modulations ``[N, h, w, G, K]``."""
            predicted = layer(features).astype(at_least_float32(self.dtype))
            offset, logit = jnp.split(predicted, [2 * _TAPS * self.groups], axis=-1)
            shape = (*features.shape[:3], self.groups, _TAPS)
            return offset.reshape(*shape, 2), jax.nn.sigmoid(logit).reshape(shape)

        sampling = None
        rows = choose_rows(height, width)
        if rows is None or self.is_mutable_collection("intermediates"):
            sampling = predict(offset_feature)
            self.sow("intermediates", "sampling", sampling)  # stored only if mutable
        kernel = self.param("kernel", _fan_in_uniform, (3, 3, channels, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if sampling is not None:
            return ops.deform_conv2d(x, *sampling, kernel, bias, low_memory=self.low_memory)
        assert rows is not None
        return deform_conv2d_by_rows(x, offset_feature, predict, kernel, bias, rows=rows)


class Down(Layer):
    """2x2 convolution of stride 2: ``[N, H, W, C]`` -> ``[N, H/2, W/2, features]``."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", _xavier, (2, 2, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return ops.conv2x2_down(x, kernel.astype(self.dtype)) + _row(bias, self.dtype)


class Up(Layer):
    """Transposed 2x2 convolution of stride 2: ``[N, H, W, C]`` -> ``[N, 2 H, 2 W, features]``."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", _xavier, (2, 2, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return ops.conv2x2_up(x, kernel.astype(self.dtype)) + _row(bias, self.dtype)


def _conv(
    features: int,
    size: int,
    dilation: int = 1,
    *,
    dtype: DTypeLike,
    name: str,
    kernel_init: Callable[..., Array] = _xavier,
) -> Conv:
    """Zero-padded convolution with bias, Xavier initialization as in the official code."""
    return Conv(features, size, dilation, kernel_init=kernel_init, dtype=dtype, name=name)


def _row(bias: Array, dtype: DTypeLike) -> Array:
    return bias.astype(dtype)[None, None, None]


def _fan_in_uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """U(-s, s), s = 1/sqrt(taps * input channels), as in the official deformable kernel."""
    kh, kw, channels, _ = shape
    limit = (kh * kw * channels) ** -0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if number % d == 0)
