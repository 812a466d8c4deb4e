"""Layers, and checks of fields and images, that several networks share."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops.convolution import conv2d
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.typing import PyTree
from lcdnet_jax.value_rules import integer

Initializer = Callable[..., Array]

# PyTorch's kaiming_normal_ (JAX's he_normal is truncated), and its default initialization.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# Channel attention has a bottleneck of 1/16 of the channels.
_REDUCTION = 16

# Scale of a network -> factors of its pixel shuffles.
_SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2)}


def clipped_normal(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Initial BatchNorm scales of the SFM code: N(0, 2 / (9 * 64)) clipped to +-0.025."""
    return jnp.clip((2 / 9 / 64) ** 0.5 * jax.random.normal(key, shape, dtype), -0.025, 0.025)


def check_fields(module: nn.Module, **least: int) -> None:
    """Raises ValueError unless each named field is an integer of at least the given number."""
    for field, minimum in least.items():
        value = getattr(module, field)
        if wanted := integer(minimum)(value):
            raise ValueError(f"{type(module).__name__} {field} must be {wanted}, got {value!r}")


def check_lists(module: nn.Module, count: int, *fields: str) -> None:
    """Raises ValueError unless each named field is a list of ``count`` integers of at least 1."""
    for field in fields:
        values = getattr(module, field)
        good = isinstance(values, list | tuple) and len(values) == count
        if not good or any(integer(1)(value) for value in values):
            raise ValueError(
                f"{type(module).__name__} {field} must be {format_count(count, 'integer')} of "
                f"at least 1, got {values!r}"
            )


def check_scale(module: nn.Module) -> None:
    """Raises ValueError unless :func:`upsample` supports the field ``scale``."""
    scale = module.scale
    if not isinstance(scale, int) or scale not in _SHUFFLES:
        raise ValueError(f"{type(module).__name__} scale must be 2, 3 or 4, got {scale!r}")


def check_attention(module: nn.Module) -> None:
    """Raises ValueError unless the field ``features`` suits :class:`ChannelAttention`."""
    if module.features % _REDUCTION:
        raise ValueError(
            f"{type(module).__name__} features {module.features} is not divisible by {_REDUCTION}, "
            f"the reduction of its channel attention; use a multiple of {_REDUCTION}"
        )


def check_image(x: Array, name: str, channels: int) -> None:
    """Raises ValueError or TypeError unless ``x`` is ``[N, H, W, channels]``, floating point."""
    if x.ndim != 4 or x.shape[-1] != channels:
        raise ValueError(
            f"{name}(channels={channels}) takes [N, H, W, {channels}], got shape {x.shape}; "
            "convert the image or create the network with other channels"
        )
    if 0 in x.shape[:3]:
        raise ValueError(f"{name} got no pixels, shape {x.shape}; drop empty images")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name} takes floating-point images in [0, 1], got {x.dtype}; convert with "
            "image_io.to_float"
        )


class Layer(nn.Module):
    """Base class of layers with parameters of a shape.

    For a parameter that exists, Flax traces the initializer, only to compare shapes. For random
    ones this is a third of the time in which a network is traced, so zeros take their place.
    """

    @nn.nowrap
    def param(self, name: str, init_fn: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """As ``nn.Module.param``, for an initializer of a key, a shape and a type."""
        if self.has_variable("params", name):
            init_fn = nn.initializers.zeros
        return super().param(name, init_fn, *arguments, **options)


class Dense(Layer, nn.Dense):
    """Flax's ``nn.Dense``."""


class Conv(Layer):
    """Zero-padded convolution of stride 1 by ``ops.conv2d``, with the parameters of ``nn.Conv``."""

    features: int
    size: int
    dilation: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    precision: PrecisionLike = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        kernel = jnp.asarray(kernel, self.dtype)
        y = conv2d(x.astype(self.dtype), kernel, dilation=self.dilation, precision=self.precision)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return y + jnp.asarray(bias, self.dtype)[None, None, None]


def conv(
    x: Array,
    features: int,
    size: int = 3,
    *,
    dtype: DTypeLike,
    name: str,
    dilation: int = 1,
    bias: bool = False,
    kernel_init: Initializer = kaiming_normal,
) -> Array:
    """Zero-padded ``size`` x ``size`` convolution; biases start as PyTorch's."""
    layer = Conv(
        features,
        size,
        dilation,
        use_bias=bias,
        kernel_init=kernel_init,
        bias_init=torch_bias(size * size * x.shape[-1]),
        dtype=dtype,
        name=name,
    )
    return layer(x)


# PyTorch's nn.Conv2d with its defaults: with bias, default initialization.
torch_conv = functools.partial(conv, bias=True, kernel_init=torch_default)


def conv_down(
    x: Array, features: int, size: int, *, dtype: DTypeLike, name: str, bias: bool = True
) -> Array:
    """Convolution of stride 2, initialized as :func:`torch_conv`: ``[N, H/2, W/2, features]``.

    H/2 and W/2 are rounded up for an odd ``size`` and down for an even one. All four sides get
    equally many zeros, as in PyTorch. JAX's "SAME" pads even sides less before than after.
    """
    layer = nn.Conv(
        features,
        (size, size),
        strides=2,
        padding=(size - 1) // 2,
        use_bias=bias,
        kernel_init=torch_default,
        bias_init=torch_bias(size * size * x.shape[-1]),
        dtype=dtype,
        name=name,
    )
    return layer(x)


def torch_dense(x: Array, features: int, *, dtype: DTypeLike, name: str) -> Array:
    """Dense layer with PyTorch's default initialization."""
    bias_init = torch_bias(x.shape[-1])
    layer = Dense(features, kernel_init=torch_default, bias_init=bias_init, dtype=dtype, name=name)
    return layer(x)


def torch_bias(fan_in: int) -> Initializer:
    """PyTorch's default initialization of biases: U(-s, s), s = 1 / sqrt(fan_in)."""
    limit = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def lrelu(x: Array) -> Array:
    """Leaky ReLU of slope 0.2."""
    return nn.leaky_relu(x, negative_slope=0.2)


class LayerNorm(Layer):
    """Layer normalization over the channels of each pixel, in float32.

    Without bias the mean is not subtracted either, but the variance is still that around the mean.
    """

    epsilon: float
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x.astype(at_least_float32(self.dtype))
        centered = y - y.mean(axis=-1, keepdims=True)
        deviation = jnp.sqrt((centered**2).mean(axis=-1, keepdims=True) + self.epsilon)
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        y = (centered if self.bias else y) / deviation * scale[None, None, None]
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
            y += bias[None, None, None]
        return y.astype(self.dtype)


class Depthwise(Layer):
    """Depthwise convolution: ``[N, H, W, C]`` -> ``[N, H, W, multiplier * C]``."""

    size: int
    multiplier: int = 1
    bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        out = self.multiplier * x.shape[-1]
        shape = (self.size, self.size, 1, out)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = ops.depthwise_conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.bias:
            bias = self.param("bias", self.bias_init, (out,), jnp.float32)
            y += bias.astype(self.dtype)[None, None, None]
        return y


class Down(Layer):
    """2x2 convolution of stride 2: ``[N, H, W, C]`` -> ``[N, H/2, W/2, 2 C]``."""

    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        shape = (2, 2, channels, 2 * channels)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (2 * channels,), jnp.float32)
        y = ops.conv2x2_down(x, kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)[None, None, None]


class ChannelAttention(nn.Module):
    """Channel attention: multiplies each channel by a weight computed from all channels' means.

    Zhang et al., ECCV 2018 (arXiv 1807.02758), section 3.3. Means ``[N, 1, 1, C]`` over the image,
    1x1 convolution to C/16, ReLU, 1x1 convolution to C, sigmoid.

    Attributes:
        conv: Function for the two 1x1 convolutions: :func:`conv` with a bias, or
            :data:`torch_conv`.
        names: Names of the two convolutions.
        dtype: Compute type of the network. Means and weights are float32.
    """

    conv: Callable[..., Array]
    names: tuple[str, str]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        exact = at_least_float32(self.dtype)
        features = x.shape[-1]
        squeeze, excite = self.names
        y = x.astype(exact).mean(axis=(1, 2), keepdims=True)
        y = nn.relu(self.conv(y, features // _REDUCTION, 1, dtype=exact, name=squeeze))
        y = jax.nn.sigmoid(self.conv(y, features, 1, dtype=exact, name=excite))
        return x * y.astype(x.dtype)


def gate(x: Array, axis: int = -1) -> Array:
    """NAFNet's SimpleGate: the product of the two halves of the channels."""
    one, other = jnp.split(x, 2, axis=axis)
    return one * other


def windowed_mean(x: Array, window: int | None) -> Array:
    """Mean over the image, ``[N, 1, 1, C]``, or over a window around each pixel, ``[N, H, W, C]``.

    Windows are shifted inward at the borders.
    """
    exact = x.astype(at_least_float32(x.dtype))
    height, width = x.shape[1:3]
    if window is None or window >= max(height, width):
        return exact.mean(axis=(1, 2), keepdims=True).astype(x.dtype)
    # Differences of running sums: a sum per window would take as long as a convolution with it.
    for axis, side in ((1, height), (2, width)):
        size = min(window, side)
        start = [(0, 0)] * 4
        start[axis] = (1, 0)
        running = jnp.pad(exact.cumsum(axis), start)
        ends = jax.lax.slice_in_dim(running, size, side + 1, axis=axis)
        sums = ends - jax.lax.slice_in_dim(running, 0, side + 1 - size, axis=axis)
        before = (size - 1) // 2
        edges = [(0, 0)] * 4
        edges[axis] = (before, size - 1 - before)
        exact = jnp.pad(sums / size, edges, mode="edge")
    return exact.astype(x.dtype)


def repeat(block: nn.Module, x: Array, times: int, *inputs: Array) -> Array:
    """Applies ``x = block(x, *inputs)`` ``times`` times, each time with its own parameters.

    One loop over stacked parameters (``nn.scan``), so the block is compiled once.
    """
    loop = nn.scan(
        lambda block, carry, *inputs: (block(carry, *inputs), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=nn.broadcast,
        length=times,
    )
    y, _ = loop(block, x, *inputs)
    return y


def stack_blocks(block: nn.Module, x: Array, times: int, *, remat: bool = False) -> Array:
    """Applies ``x = block(x)`` ``times`` times, with parameters stacked along a leading axis.

    Unlike :func:`repeat`, it makes no loop of a single block. Such a loop takes four times as long
    on CPU, forward and backward. The parameters of a single block have the leading axis, too.

    Args:
        block: The block.
        x: Features.
        times: Number of blocks, at least 1.
        remat: Whether blocks are computed again in the backward pass, to save memory.

    Returns:
        Features.
    """

    def once(block: nn.Module, carry: Array) -> Array:
        return block(carry)

    if remat:
        once = nn.remat(once)
    if times == 1:
        starts = block.is_initializing()
        return nn.map_variables(once, "params", _first, _stacked, init=starts)(block, x)
    loop = nn.scan(
        lambda block, carry, _: (once(block, carry), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=times,
    )
    y, _ = loop(block, x, None)
    return y


def _first(stacked: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0], stacked)


def _stacked(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[None], params)


def upsample(
    x: Array,
    scale: int,
    *,
    dtype: DTypeLike,
    name: str,
    activation: Callable[[Array], Array] = lambda x: x,
) -> Array:
    """``[N, H, W, C]`` -> ``[N, scale H, scale W, C]`` by 3x3 convolutions and pixel shuffles."""
    for i, factor in enumerate(_SHUFFLES[scale]):
        wide = torch_conv(x, factor**2 * x.shape[-1], dtype=dtype, name=f"{name}_{2 * i}")
        x = activation(pixel_shuffle(wide, factor))
    return x


def pixel_shuffle(x: Array, factor: int) -> Array:
    """``[N, H, W, C f f]`` -> ``[N, f H, f W, C]``, f = ``factor``, in PyTorch's channel order."""
    n, height, width, channels = x.shape
    channels //= factor**2
    x = x.reshape(n, height, width, channels, factor, factor).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, factor * height, factor * width, channels)


def pixel_unshuffle(x: Array, factor: int) -> Array:
    """The inverse of :func:`pixel_shuffle`: ``[N, f H, f W, C]`` -> ``[N, H, W, C f f]``."""
    n, height, width, channels = x.shape
    height, width = height // factor, width // factor
    x = x.reshape(n, height, factor, width, factor, channels).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, height, width, channels * factor**2)


def batch_norm(
    x: Array,
    *,
    train: bool,
    axis_name: str | None,
    dtype: DTypeLike,
    name: str,
    momentum: float = 0.9,
    scale_init: Initializer = clipped_normal,
    mask: Array | None = None,
) -> Array:
    """Batch normalization over all axes except the last, in float32, returned in ``dtype``.

    ``mask`` (bool, ``x``'s rank) selects the values that enter the statistics. Running variances
    average the batch's biased variance; PyTorch averages n / (n - 1) times it, n = pixels.
    """
    exact = at_least_float32(dtype)
    layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=1e-5,
        dtype=exact,
        scale_init=scale_init,
        axis_name=axis_name,
        name=name,
    )
    return layer(x.astype(exact), mask=mask).astype(dtype)
