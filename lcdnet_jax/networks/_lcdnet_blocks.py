"""Blocks of LCDNet in the order of use, then their layers; see ``lcdnet.py``."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.networks._blocks import (
    Conv,
    Dense,
    Depthwise,
    Layer,
    gate,
    pixel_shuffle,
    windowed_mean,
)
from lcdnet_jax.ops.depthwise import shifted_products
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.ops.rows import apply_by_rows


@dataclasses.dataclass(frozen=True)
class Shared:
    """Fields that all blocks share, see :class:`~lcdnet_jax.networks.lcdnet.LCDNet`."""

    dtype: DTypeLike
    norm_eps: float
    layer_scale_init: float | None
    global_branch: str
    fourier: str
    block: str


class MSSFBlock(nn.Module):
    """Multi-scale spatial and frequency block: local and global branch, then two kernel sizes.

    All factors 0 make it the identity.
    """

    window: int | None
    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, dtype = x.shape[-1], self.shared.dtype
        normed = _layer_norm(self.shared, "norm1")(x)
        local = _expand_and_gate(normed, dtype, "local")
        local = _attend(local, self.window, dtype, "local_sca")
        total = x + _scale_branch(
            make_conv(channels, 1, dtype, "local_out")(local), self, "beta_local"
        )
        if self.shared.global_branch == "fourier_unit":
            branch = FourierUnit(self.window, self.shared, name="global")(normed)
            total += _scale_branch(branch, self, "beta_global")
        elif self.shared.global_branch == "literal_chain":
            branch = LiteralChain(self.shared, name="global")(normed)
            total += _scale_branch(branch, self, "beta_global")

        # Depthwise 3x3 and 5x5, gated and mixed, twice.
        norm = _layer_norm(self.shared, "norm2")
        expand = make_conv(2 * channels, 1, dtype, "expand", bias=False)
        first3, first5 = (Depthwise(k, bias=False, dtype=dtype, name=f"first_{k}") for k in (3, 5))
        second3, second5 = (
            Depthwise(k, 2, bias=False, dtype=dtype, name=f"second_{k}") for k in (3, 5)
        )
        reduce = make_conv(channels, 1, dtype, "reduce", bias=False)

        def mix(part: Array, keep_inside: Callable[[Array], Array]) -> Array:
            y = keep_inside(expand(norm(part)))
            small1, small2 = jnp.split(gate(first3(y)), 2, axis=-1)
            large1, large2 = jnp.split(gate(first5(y)), 2, axis=-1)
            small = keep_inside(jnp.concatenate([small1, large1], axis=-1))
            large = keep_inside(jnp.concatenate([small2, large2], axis=-1))
            both = [gate(second3(small)), gate(second5(large))]
            return reduce(jnp.concatenate(both, axis=-1))

        y = apply_by_rows(mix, total, channels=channels, reach=4)
        return total + _scale_branch(y, self, "gamma")


class FourierUnit(nn.Module):
    """The global branch: a gate on spectra, so that every pixel depends on the whole image.

    The product of spectra makes the mixing depend on the image. A 1x1 convolution alone would be
    linear. Modeled on the Fourier unit of FDTANet.
    """

    window: int | None
    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, dtype = x.shape[-1], self.shared.dtype
        exact = at_least_float32(dtype)
        y = jnp.moveaxis(_expand_and_gate(x, dtype, "spatial"), 3, 1)
        if self.shared.fourier == "fft":
            transform, invert = ops.rfft2_planes, ops.irfft2_planes
        else:
            transform, invert = ops.rdft2_planes, ops.irdft2_planes
        spectrum = transform(y.astype(exact)).astype(dtype)  # [N, 2 C, H, W // 2 + 1]
        conv = _PlanesConv(4 * channels, dtype=dtype, name="spectral")
        norm = _layer_norm(self.shared, "norm", axis=1)
        spectrum = apply_by_rows(
            lambda part, _: gate(norm(conv(part)), axis=1),
            spectrum,
            channels=2 * channels,
            reach=0,
            planes=True,
        )
        y = invert(spectrum.astype(exact), x.shape[2]).astype(dtype)
        y = jnp.moveaxis(y, 1, 3)
        return make_conv(channels, 1, dtype, "out")(_attend(y, self.window, dtype, "sca"))


class _PlanesConv(Layer):
    """1x1 convolution of ``[N, C, H, W]``, with the parameters of ``Conv``."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1, 1, x.shape[1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = jnp.einsum("nchw,co->nohw", x, kernel[0, 0].astype(self.dtype))
        return y + bias.astype(self.dtype)[None, :, None, None]


class LiteralChain(nn.Module):
    """The global branch in the most literal reading: the local branch's steps on the spectrum.

    1x1 convolution, depthwise 3x3 over the frequency plane, gate, channel attention, 1x1.
    """

    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dtype = self.shared.dtype
        if self.shared.fourier == "fft":
            transform, invert = ops.rfft2, ops.irfft2
        else:
            transform, invert = ops.rdft2, ops.irdft2
        spectrum = transform(x.astype(at_least_float32(dtype))).astype(dtype)
        spectrum = _attend(_expand_and_gate(spectrum, dtype, "spectral"), None, dtype, "sca")
        spectrum = make_conv(2 * x.shape[-1], 1, dtype, "out")(spectrum)
        return invert(spectrum.astype(at_least_float32(dtype)), x.shape[2]).astype(dtype)


class NAFBlock(nn.Module):
    """NAFNet's block (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022)."""

    window: int | None
    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, dtype = x.shape[-1], self.shared.dtype
        y = _expand_and_gate(_layer_norm(self.shared, "norm1")(x), dtype, "spatial")
        y = make_conv(channels, 1, dtype, "out")(_attend(y, self.window, dtype, "sca"))
        x = x + _scale_branch(y, self, "beta")
        y = make_conv(2 * channels, 1, dtype, "expand")(_layer_norm(self.shared, "norm2")(x))
        return x + _scale_branch(make_conv(channels, 1, dtype, "reduce")(gate(y)), self, "gamma")


class MSFM(nn.Module):
    """Multi-scale selective frequency module: low and high frequencies, weighted per channel.

    A small filter splits half of the channels into two bands, a large one the other half. Filters
    are predicted from the image's mean, one per group of channels. Their taps are positive and sum
    to 1. Filters and bands are stored in the collection "intermediates" if it is mutable.
    """

    kernels: tuple[int, ...]
    groups: int
    fusion: str
    softmax: str
    window: int | None
    shared: Shared

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, dtype = x.shape[-1], self.shared.dtype
        halves = jnp.split(make_conv(channels, 1, dtype, "in")(x), 2, axis=-1)
        branches = [
            self._branch(half, kernel, f"{kernel}x{kernel}")
            for half, kernel in zip(halves, self.kernels, strict=True)
        ]
        return make_conv(channels, 1, dtype, "out")(jnp.concatenate(branches, axis=-1))

    def _branch(self, y: Array, size: int, name: str) -> Array:
        dtype, channels = self.shared.dtype, y.shape[-1]
        filters = self._filters(y, size, name)
        self.sow("intermediates", f"filters_{name}", filters)
        low = low_pass(y, filters)
        high = y - low
        self.sow("intermediates", f"bands_{name}", jnp.stack([low, high]))
        if self.fusion == "cross":
            low, high = RowAttention(self.shared, name=f"fuse_{name}")(low, high)
            y = low + high
        else:
            z = _dense(max(channels // 2, 32), dtype, f"squeeze_{name}")(
                windowed_mean(y, self.window)
            )
            weight_high, weight_low = _pair_of_weights(z, channels, self.softmax, dtype, True, name)
            y = weight_high * high + weight_low * low
        return make_conv(channels, 1, dtype, f"out_{name}")(y)

    def _filters(self, y: Array, size: int, name: str) -> Array:
        """``[N, groups, size**2]`` float32, from means over the whole image, never over windows."""
        taps = size**2
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        dense = _dense(
            self.groups * taps, self.shared.dtype, f"filter_{name}", bias=False, init=init
        )
        logits = _layer_norm(self.shared, f"filter_norm_{name}")(dense(windowed_mean(y, None)))
        logits = logits.astype(at_least_float32(self.shared.dtype))
        return jax.nn.softmax(logits.reshape(y.shape[0], self.groups, taps), axis=-1)


def low_pass(y: Array, filters: Array) -> Array:
    """Filters each group of consecutive channels with its own kernel; borders are mirrored.

    Args:
        y: ``[N, H, W, C]``.
        filters: ``[N, groups, taps]``, square kernels in row-major order.

    Returns:
        ``[N, H, W, C]``.
    """
    images, channels = y.shape[0], y.shape[-1]
    groups, taps = filters.shape[1:]
    size = round(taps**0.5)
    reach = size // 2
    padded = ops.mirror_borders(y, reach)
    kernels = filters.astype(y.dtype).reshape(images, groups, size, size).transpose(0, 2, 3, 1)
    return shifted_products(padded, jnp.repeat(kernels, channels // groups, axis=-1))


class SCAM(nn.Module):
    """Gate of a skip connection: encoder features, weighted in view of the decoder's.

    Its equations are ours: no available text has the paper's (docs/explanations/lcdnet.md). The
    weights of "sk" hardly depended on the image in "lcdnet-rain" (docs/results/lcdnet.md).
    "sk_norm" normalizes the means and has biases and a wider layer; "pixel" uses no means. Weights
    of encoder and decoder are stored in the collection "intermediates" if it is mutable.
    """

    kind: str
    softmax: str
    window: int | None
    shared: Shared

    @nn.compact
    def __call__(self, encoder: Array, decoder: Array) -> Array:
        channels, dtype = encoder.shape[-1], self.shared.dtype
        if self.kind == "pixel":
            both = jnp.concatenate([encoder, decoder], axis=-1)
            weight = jax.nn.sigmoid(make_conv(channels, 1, dtype, "gate")(both))
            self.sow("intermediates", "gates", (weight, 1 - weight))
            return weight * encoder
        means = windowed_mean(encoder + decoder, self.window)
        if self.kind == "sk_norm":
            means = _layer_norm(self.shared, "norm")(means)
            t = nn.gelu(_dense(max(channels // 2, 32), dtype, "squeeze")(means), approximate=False)
        else:
            t = gate(_dense(max(channels // 8, 4), dtype, "squeeze", bias=False)(means))
        bias = self.kind == "sk_norm"
        weights = _pair_of_weights(t, channels, self.softmax, dtype, bias, "gate")
        self.sow("intermediates", "gates", weights)
        return weights[0] * encoder + weights[1] * decoder


class SFF(nn.Module):
    """All skip connections as in MSFSNet (``scam_type`` "sff").

    Each scale's features are mixed from all scales, gated together with a context, and mixed from
    all scales again. The context comes from the middle stage and passes from coarse to fine. The
    softmax runs over the channels of one branch, so weights are about 1 / channels.
    """

    shared: Shared

    @nn.compact
    def __call__(self, skips: list[Array], middle: Array) -> list[Array]:
        dtype = self.shared.dtype
        features = self._mix(skips, "before")
        context = middle
        gated: list[Array] = []
        for scale in reversed(range(len(skips))):
            context = Up(dtype, name=f"context{scale}")(context)
            feature = features[scale]
            channels = feature.shape[-1]
            squeeze = _dense(max(channels // 8, 4), dtype, f"squeeze{scale}", bias=False)
            t = gate(squeeze(windowed_mean(feature + context, None)))
            of_feature, of_context = (
                _softmax(_dense(channels, dtype, f"{name}{scale}", bias=False)(t), -1)
                for name in ("feature", "gate")
            )
            context = context * of_context + context
            gated.insert(0, feature * of_feature + feature + context)
        return self._mix(gated, "after")

    def _mix(self, features: list[Array], name: str) -> list[Array]:
        """Resamples all scales to each scale and merges them by a 1x1 convolution."""
        mixed = []
        for to, feature in enumerate(features):
            channels, resampled = feature.shape[-1], []
            for source, other in enumerate(features):
                label = f"{name}_{source}_to_{to}"
                factor = 2 ** abs(to - source)
                if source < to:
                    other = make_conv(channels, 1, self.shared.dtype, label)(
                        other[:, ::factor, ::factor]
                    )
                elif source > to:
                    wide = make_conv(channels * factor**2, 1, self.shared.dtype, label, bias=False)
                    other = pixel_shuffle(wide(other), factor)
                resampled.append(other)
            merge = make_conv(channels, 1, self.shared.dtype, f"{name}_{to}")
            mixed.append(merge(jnp.concatenate(resampled, axis=-1)))
        return mixed


class RowAttention(nn.Module):
    """Cross-attention of two feature maps ``[N, H, W, C]`` along rows, in both directions.

    As between stereo views in NAFSSR (Chu, Chen and Yu, CVPRW 2022). Factors of 0 leave both maps
    unchanged.
    """

    shared: Shared

    @nn.compact
    def __call__(self, one: Array, other: Array) -> tuple[Array, Array]:
        channels, dtype = one.shape[-1], self.shared.dtype
        exact = at_least_float32(dtype)

        def project(x: Array, name: str) -> Array:
            return make_conv(channels, 1, dtype, name)(x).astype(exact)

        query = project(_layer_norm(self.shared, "norm_one")(one), "query_one")
        key = project(_layer_norm(self.shared, "norm_other")(other), "query_other")
        scores = jnp.einsum("nhqc,nhkc->nhqk", query, key, precision="highest") / channels**0.5
        of_other = jnp.einsum(
            "nhqk,nhkc->nhqc", _softmax(scores, -1), project(other, "value_other")
        )
        of_one = jnp.einsum("nhqk,nhqc->nhkc", _softmax(scores, -2), project(one, "value_one"))
        one = one + _scale_branch(of_other.astype(dtype), self, "beta")
        return one, other + _scale_branch(of_one.astype(dtype), self, "gamma")


class SFE(nn.Module):
    """Shallow features ``[N, h, w, features]`` of a smaller image ``[N, h, w, C]``."""

    features: int
    kind: str
    shared: Shared

    @nn.compact
    def __call__(self, image: Array) -> Array:
        c, dtype = self.features, self.shared.dtype
        y = image.astype(dtype)
        if self.kind == "naf":
            return NAFBlock(None, self.shared, name="block")(make_conv(c, 3, dtype, "conv")(y))
        y = nn.gelu(make_conv(c // 4, 3, dtype, "conv1")(y), approximate=False)
        y = nn.gelu(make_conv(c // 2, 1, dtype, "conv2")(y), approximate=False)
        y = nn.gelu(make_conv(c // 2, 3, dtype, "conv3")(y), approximate=False)
        y = make_conv(c, 1, dtype, "conv4")(y)
        # Instance normalization: over the pixels of each channel and image.
        norm = nn.GroupNorm(
            num_groups=None, group_size=1, epsilon=1e-5, dtype=at_least_float32(dtype), name="norm"
        )
        return norm(y.astype(at_least_float32(dtype))).astype(dtype)


class Up(nn.Module):
    """1x1 convolution, then pixel shuffle: ``[N, H, W, C]`` -> ``[N, 2 H, 2 W, C/2]``."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = make_conv(2 * x.shape[-1], 1, self.dtype, "conv", bias=False)
        return pixel_shuffle(conv(x), 2)


def make_conv(features: int, size: int, dtype: DTypeLike, name: str, *, bias: bool = True) -> Conv:
    """Makes a convolution with stride 1 and zero padding."""
    return Conv(features, size, use_bias=bias, dtype=dtype, name=name)


def _dense(
    features: int,
    dtype: DTypeLike,
    name: str,
    *,
    bias: bool = True,
    init: Initializer | None = None,
) -> Dense:
    """Dense layer on channels, for means."""
    init = init or nn.initializers.lecun_normal()
    return Dense(features, use_bias=bias, kernel_init=init, dtype=dtype, name=name)


def _expand_and_gate(x: Array, dtype: DTypeLike, name: str) -> Array:
    """1x1 convolution to 2 C, depthwise 3x3, gate: the head of NAFNet's block."""
    channels = x.shape[-1]
    expand = make_conv(2 * channels, 1, dtype, f"{name}_expand")
    depthwise = Depthwise(3, dtype=dtype, name=f"{name}_dw")

    def compute(part: Array, keep_inside: Callable[[Array], Array]) -> Array:
        return gate(depthwise(keep_inside(expand(part))))

    return apply_by_rows(compute, x, channels=channels, reach=1)


def _attend(x: Array, window: int | None, dtype: DTypeLike, name: str) -> Array:
    """Simplified channel attention (SCA): x * dense(mean of x)."""
    return x * _dense(x.shape[-1], dtype, name)(windowed_mean(x, window))


def _pair_of_weights(
    z: Array, channels: int, softmax: str, dtype: DTypeLike, bias: bool, name: str
) -> tuple[Array, Array]:
    """Two weights for each channel, in ``dtype``, softmax as in ``LCDNet.msfm_softmax``."""
    one, other = (_dense(channels, dtype, f"{name}_{i}", bias=bias)(z) for i in (0, 1))
    if softmax == "branch":
        weights = _softmax(jnp.stack([one, other]), 0)
        return weights[0], weights[1]
    weights = _softmax(jnp.concatenate([one, other], axis=-1), -1)
    return weights[..., :channels], weights[..., channels:]


def _softmax(x: Array, axis: int) -> Array:
    return jax.nn.softmax(x.astype(at_least_float32(x.dtype)), axis=axis).astype(x.dtype)


def _layer_norm(shared: Shared, name: str, axis: int = -1) -> Callable[[Array], Array]:
    """Layer normalization over the channels of each pixel, in float32."""
    exact = at_least_float32(shared.dtype)
    layer = nn.LayerNorm(
        epsilon=shared.norm_eps, dtype=exact, reduction_axes=axis, feature_axes=axis, name=name
    )
    return lambda x: layer(x.astype(exact)).astype(shared.dtype)


def _scale_branch(branch: Array, block: Any, name: str) -> Array:
    """A branch times its learned factor per channel, if ``layer_scale_init`` is set."""
    init = block.shared.layer_scale_init
    if init is None:
        return branch
    factors = block.param(name, nn.initializers.constant(init), (branch.shape[-1],))
    return branch * factors.astype(branch.dtype)[None, None, None]
