"""IKC: super-resolution that estimates the blur kernel and corrects the estimate step by step.

Gu, Lu, Zuo and Dong, "Blind Super-Resolution With Iterative Kernel Correction", CVPR 2019
(arXiv 1904.03377), as in the code of stochastic frequency masking (ECCV 2020, arXiv 2003.07119).
Three networks take turns. The last two are repeated::

    code = Predictor()(low)                 # first estimate of the kernel
    restored = SFTMD()(low, code)
    code = Corrector()(restored, code)      # corrected by the artifacts of a wrong kernel
    restored = SFTMD()(low, code)

A code holds the kernel's coefficients of principal components. The registry holds :class:`IKC`,
which contains all three. It does not hold the parts, since none maps one image to one image.
"""

import functools
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import (
    check_fields,
    check_image,
    check_scale,
    conv_down,
    lrelu,
    repeat,
    torch_conv,
    torch_dense,
    upsample,
)
from lcdnet_jax.ops import encode_kernels, fit_kernel_code, gaussian_kernels
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.typing import Fields

_MODULATION = 32

# Number of kernels from which the principal components are computed.
_FITTED = 1000


class IKC(RestorationNetwork):
    """The three networks as one: enlarges images with unknown blur kernels.

    The result is that of the last correction. (The official log reports, for each image, the best
    correction as chosen by the ground truth.) The parts are trained one after the other, see
    ``config.objective``. No gradient flows from one correction to the previous one.

    A code comes from means over the whole image. Each tile estimates a code of its own, so a tile
    differs slightly from the same pixels of a larger image. That may help where the blur varies.

    Attributes:
        channels: Channels of the image.
        scale: How many times larger the result is, 2, 3 or 4.
        features: Channels inside.
        blocks: Residual blocks of the SFTMD.
        code_length: Length of a code.
        kernel_size: Rows and columns of the kernels that :meth:`encode` takes; odd.
        width: Range of the isotropic Gaussians behind the principal components: standard
            deviations (low, high) in pixels of the large image.
        iterations: Number of corrections.
        dtype: Compute type. Codes and means are float32.
    """

    channels: int = 3
    scale: int = 4
    features: int = 64
    blocks: int = 16
    code_length: int = 10
    kernel_size: int = 21
    width: tuple[float, float] = (0.2, 4.0)
    iterations: int = 7
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = True  # one kernel code for the whole image
    has_scales = False
    LARGEST: ClassVar[Mapping[str, int]] = {"iterations": 100, "kernel_size": 99}

    # "base" is the published network. "small" is ours, for CPUs and quick trials.
    PRESETS: ClassVar[Mapping[str, Fields]] = {
        "base": {"features": 64, "blocks": 16, "iterations": 7},
        "small": {"features": 32, "blocks": 4, "iterations": 4},
    }

    def __post_init__(self) -> None:
        check_fields(
            self, channels=1, features=1, blocks=1, code_length=1, kernel_size=1, iterations=1
        )
        check_scale(self)
        if self.kernel_size % 2 == 0 or self.code_length > self.kernel_size**2:
            raise ValueError(
                f"IKC kernel_size {self.kernel_size} must be odd, and its square at least "
                f"code_length ({self.code_length})"
            )
        width = self.width
        pair = (
            isinstance(width, tuple) and [isinstance(w, int | float) for w in width] == [True] * 2
        )
        if not pair or not 0 < width[0] < width[1]:
            raise ValueError(
                f"IKC width must be two numbers (low, high) with 0 < low < high, got {width!r}"
            )
        super().__post_init__()

    def setup(self) -> None:
        same: Fields = {
            name: getattr(self, name) for name in ("channels", "features", "code_length", "dtype")
        }
        self.predictor = Predictor(**same)
        self.corrector = Corrector(**same)
        self.sftmd = SFTMD(scale=self.scale, blocks=self.blocks, **same)
        self.basis = Basis(self.kernel_size, self.code_length, self.width)

    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Enlarges images.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].
            train: Do not clip the result. The images given to the corrector are always clipped.
            axis_name: Unused.

        Returns:
            ``[N, scale H, scale W, channels]`` of ``x``'s type, clipped to [0, 1].

        Raises:
            ValueError: For images of another shape.
            TypeError: For images that are not floating point.
        """
        del axis_name
        check_image(x, "IKC", self.channels)
        if self.is_initializing():  # nn.scan cannot create the parameters of its body
            self.encode(jnp.zeros((1, self.kernel_size, self.kernel_size), jnp.float32))
            code = self.guess(x)
            code = self.corrector(self.with_code(x, code), code)
        else:
            code = self.codes(x)[-1]
        return self.with_code(x, code, train=train)

    def with_code(self, x: Array, code: Array, *, train: bool = False) -> Array:
        """Enlarges images with known kernels, see :class:`SFTMD`.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].
            code: Codes of the kernels ``[N, code_length]``, floating point.
            train: Do not clip the result.

        Returns:
            ``[N, scale H, scale W, channels]`` of ``x``'s type.
        """
        return self.sftmd(x, code, train=train)

    def guess(self, x: Array) -> Array:
        """Estimates the codes of the kernels for the first time, see :class:`Predictor`.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].

        Returns:
            Codes ``[N, code_length]`` float32.
        """
        return self.predictor(x)

    def codes(self, x: Array) -> Array:
        """Estimates the codes of the kernels, then corrects them ``iterations`` times.

        No gradient flows from a correction into the previous code, as in the official training. So
        the first estimate trains the predictor, and the corrections train the corrector.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].

        Returns:
            The first estimate and all corrections, ``[iterations + 1, N, code_length]`` float32.
        """

        def correct(ikc: IKC, code: Array, _: None) -> tuple[Array, Array]:
            code = jax.lax.stop_gradient(code)
            restored = jax.lax.stop_gradient(ikc.with_code(x, code))
            code = ikc.corrector(restored, code)
            return code, code

        loop = nn.scan(
            correct,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=self.iterations,
        )
        guess = self.guess(x)
        _, corrected = loop(self, guess, None)
        return jnp.concatenate([guess[None], corrected])

    def encode(self, kernels: Array) -> Array:
        """Computes the codes of kernels.

        Args:
            kernels: ``[N, kernel_size, kernel_size]``, each of sum 1.

        Returns:
            Codes ``[N, code_length]`` float32.
        """
        return self.basis(kernels)


class Basis(nn.Module):
    """The principal components of kernels; no gradient reaches them.

    They are a parameter all the same. Their last digits depend on the machine that computed them,
    and weights fit only their own codes. As a parameter they are saved with the weights and passed
    from one stage of training to the next.

    Attributes:
        size: Rows and columns of the kernels.
        code_length: Length of a code.
        width: Range of the kernels' standard deviations, (low, high), pixels of the large image.
    """

    size: int
    code_length: int
    width: tuple[float, float]

    @nn.compact
    def __call__(self, kernels: Array) -> Array:
        """Kernels ``[N, size, size]`` -> codes ``[N, code_length]``, float32."""
        matrix = self.param("kernel", self._fit)
        return encode_kernels(kernels, jax.lax.stop_gradient(matrix))

    def _fit(self, key: Array) -> Array:
        del key
        return jnp.asarray(_principal(self.size, self.code_length, self.width))


@functools.lru_cache(maxsize=8)
def _principal(size: int, length: int, width: tuple[float, float]) -> np.ndarray:
    """Components of isotropic Gaussians with evenly spread widths; concrete even under tracing."""
    widths = np.repeat(np.linspace(*width, _FITTED, dtype=np.float32)[:, None], 2, axis=1)
    with jax.ensure_compile_time_eval():
        kernels = gaussian_kernels(widths, np.zeros(_FITTED, np.float32), size=size)
    return fit_kernel_code(kernels, components=length)


class Predictor(nn.Module):
    """Estimates the code of the kernel from the low-resolution image alone.

    Initialization: PyTorch's default.

    Attributes:
        channels: Channels of the image.
        features: Channels inside.
        code_length: Length of a code.
        dtype: Compute type. The mean is float32.
    """

    channels: int = 3
    features: int = 64
    code_length: int = 10
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        check_fields(self, channels=1, features=1, code_length=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Estimates the codes of the kernels.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].
            train: Unused.
            axis_name: Unused.

        Returns:
            ``[N, code_length]`` float32.

        Raises:
            ValueError: For images of another shape.
            TypeError: For images that are not floating point.
        """
        del train, axis_name
        check_image(x, "Predictor", self.channels)
        widths = (*(5 * (self.features,)), self.code_length)
        y = _convolutions(x, widths, halved_at=(3,), dtype=self.dtype)
        return y.astype(at_least_float32(self.dtype)).mean(axis=(1, 2))


class Corrector(nn.Module):
    """Corrects a code by means of the image that :class:`SFTMD` restored with it.

    Initialization: PyTorch's default.

    Attributes:
        channels: Channels of the image.
        features: Channels inside.
        code_length: Length of a code.
        dtype: Compute type. Codes and the mean are float32.
    """

    channels: int = 3
    features: int = 64
    code_length: int = 10
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        check_fields(self, channels=1, features=1, code_length=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, code: Array, *, train: bool = False, axis_name: str | None = None
    ) -> Array:
        """Adds a correction to codes.

        Args:
            x: Restored images at high resolution ``[N, H, W, channels]``, floating point in
                [0, 1].
            code: ``[N, code_length]``, the codes with which ``x`` was restored.
            train: Unused.
            axis_name: Unused.

        Returns:
            Corrected codes ``[N, code_length]``, float32.

        Raises:
            ValueError: For images or codes of another shape.
            TypeError: For images or codes that are not floating point.
        """
        del train, axis_name
        check_image(x, "Corrector", self.channels)
        _check_code(code, x, "Corrector", self.code_length)
        seen = _convolutions(x, 7 * (self.features,), halved_at=(1, 3), dtype=self.dtype)

        exact = at_least_float32(self.dtype)
        code = code.astype(exact)
        known = lrelu(torch_dense(code, self.features, dtype=exact, name="code_dense_0"))
        known = lrelu(torch_dense(known, self.features, dtype=exact, name="code_dense_2"))

        y = jnp.concatenate([seen, _as_map(known, seen)], axis=-1)
        y = lrelu(torch_conv(y, 2 * self.features, 1, dtype=self.dtype, name="global_dense_0"))
        y = lrelu(torch_conv(y, self.features, 1, dtype=self.dtype, name="global_dense_2"))
        y = torch_conv(y, self.code_length, 1, dtype=self.dtype, name="global_dense_4")
        return code + y.astype(exact).mean(axis=(1, 2))


class SFTMD(nn.Module):
    """Super-resolution with a known kernel, whose code modulates the features.

    Initialization: PyTorch's default. The official class creates its residual blocks twice and uses
    one copy. The unused copy is omitted here.

    Attributes:
        channels: Channels of the image.
        scale: How many times larger the result is, 2, 3 or 4.
        features: Channels inside.
        blocks: Residual blocks.
        code_length: Length of a code.
        dtype: Compute type.
    """

    channels: int = 3
    scale: int = 4
    features: int = 64
    blocks: int = 16
    code_length: int = 10
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        check_fields(self, channels=1, features=1, blocks=1, code_length=1)
        check_scale(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, code: Array, *, train: bool = False, axis_name: str | None = None
    ) -> Array:
        """Enlarges images with known kernels.

        Args:
            x: Low-resolution images ``[N, H, W, channels]``, floating point in [0, 1].
            code: ``[N, code_length]``, codes of their kernels.
            train: Do not clip. The official code clips in training too, which leaves clipped
                pixels without gradient.
            axis_name: Unused.

        Returns:
            ``[N, scale H, scale W, channels]`` of ``x``'s type, clipped to [0, 1].

        Raises:
            ValueError: For images or codes of another shape.
            TypeError: For images or codes that are not floating point.
        """
        del axis_name
        check_image(x, "SFTMD", self.channels)
        _check_code(code, x, "SFTMD", self.code_length)
        y = lrelu(torch_conv(x, self.features, dtype=self.dtype, name="conv1"))
        y = lrelu(torch_conv(y, self.features, dtype=self.dtype, name="conv2"))
        before = torch_conv(y, self.features, dtype=self.dtype, name="conv3")

        code = _as_map(code, before)
        y = repeat(SFTBlock(dtype=self.dtype, name="blocks"), before, self.blocks, code)
        y = SFT(dtype=self.dtype, name="sft")(before + y, code)
        y = torch_conv(y, self.features, dtype=self.dtype, name="conv_mid")
        y = upsample(y, self.scale, dtype=self.dtype, activation=lrelu, name="upscale")
        y = torch_conv(y, self.channels, 9, dtype=self.dtype, name="conv_output").astype(x.dtype)
        return y if train else jnp.clip(y, 0, 1)


class SFTBlock(nn.Module):
    """Two modulated convolutions, added to the input."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, code: Array) -> Array:
        y = x
        for i in (1, 2):
            y = nn.relu(SFT(dtype=self.dtype, name=f"sft{i}")(y, code))
            y = torch_conv(y, x.shape[-1], dtype=self.dtype, name=f"conv{i}")
        return x + y


class SFT(nn.Module):
    """Spatial feature transform: ``x * factor + shift``.

    ``x`` is ``[N, H, W, C]`` and ``code`` a map ``[N, H, W, code_length]``. Two 3x3 convolutions
    of both give the factor (after a sigmoid), two others the shift.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, code: Array) -> Array:
        both = jnp.concatenate([x, code], axis=-1)
        factor, shift = (self._from(both, x.shape[-1], name) for name in ("mul", "add"))
        return x * jax.nn.sigmoid(factor) + shift

    def _from(self, both: Array, features: int, name: str) -> Array:
        y = lrelu(torch_conv(both, _MODULATION, dtype=self.dtype, name=f"{name}_conv1"))
        return torch_conv(y, features, dtype=self.dtype, name=f"{name}_conv2")


def _convolutions(
    x: Array, widths: tuple[int, ...], *, halved_at: tuple[int, ...], dtype: DTypeLike
) -> Array:
    """5x5 convolutions with leaky ReLU, of stride 2 at the indices ``halved_at``."""
    for i, width in enumerate(widths):
        layer = conv_down if i in halved_at else torch_conv
        x = lrelu(layer(x, width, 5, dtype=dtype, name=f"ConvNet_{2 * i}"))
    return x


def _as_map(code: Array, like: Array) -> Array:
    """``code [N, L]`` repeated to ``[N, H, W, L]``, with H, W and type of ``like [N, H, W, C]``."""
    shape = (*like.shape[:3], code.shape[-1])
    return jnp.broadcast_to(code.astype(like.dtype)[:, None, None], shape)


def _check_code(code: Array, x: Array, name: str, length: int) -> None:
    """Raises ValueError or TypeError unless ``code`` is ``[N, length]``, floating point."""
    if code.shape != (x.shape[0], length):
        raise ValueError(
            f"{name}(code_length={length}) takes a code for each image, [{x.shape[0]}, {length}], "
            f"got shape {code.shape}; encode the kernels as codes of length {length}, or create "
            "the network with another code_length"
        )
    if not jnp.issubdtype(code.dtype, jnp.floating):
        raise TypeError(f"{name} takes floating-point codes, got {code.dtype}; do not round them")
