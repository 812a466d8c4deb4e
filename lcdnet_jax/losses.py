"""Training losses.

A loss takes ``output`` and ``target`` ``[N, H, W, C]``, floating point and of equal shape, and
``weights`` ``[N]`` or None. It returns a float32 scalar and computes in float32 for any input type.
With weights, the loss is ``sum(w_i * loss_i) / sum(w_i)``, where ``loss_i`` is the loss of image i.
An image of weight 0, such as padding of the last batch, does not count. If all weights are 0, the
loss is 0.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.metrics import float32_pair
from lcdnet_jax.ops import dct_2d, rfft2

Loss = Callable[..., jax.Array]


def l1(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Computes the mean absolute error.

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.

    Returns:
        The mean of ``|output - target|``, float32 scalar.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    difference = output - target
    # Not jnp.abs, whose derivative at 0 is 1. The gradient of equal pixels must be 0.
    return _mean(difference * jnp.sign(difference), weights)


def l2(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Computes the mean squared error.

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.

    Returns:
        The mean of ``(output - target)^2``, float32 scalar.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    return _mean(jnp.square(output - target), weights)


def charbonnier(
    output: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    eps: float = 1e-3,
) -> jax.Array:
    """Computes the Charbonnier loss, a smooth L1.

    Source: Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
    computed imaging", ICIP 1994.

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.
        eps: Constant of the square root, above 0. At 0 the gradient of equal pixels is undefined.

    Returns:
        The mean of ``sqrt((output - target)^2 + eps^2)``, float32 scalar, at least ``eps``.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    return _mean(jnp.sqrt(jnp.square(output - target) + eps**2), weights)


def sse(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Computes half of the sum of squared errors of each image, averaged over images.

    This is the loss of DnCNN (Zhang et al., IEEE TIP 2017, eq. 1) and of the SFM code. Its gradient
    is that of :func:`l2` times half the number of values in an image.

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.

    Returns:
        Float32 scalar.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    return 0.5 * output[0].size * _mean(jnp.square(output - target), weights)


def psnr(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Computes the negative PSNR of each image in dB, averaged over images.

    This is the loss of NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022,
    the class ``PSNRLoss`` of the code): ``10 log10(mean squared error + 1e-8)``. The constant
    bounds it at -80 dB.

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.

    Returns:
        Float32 scalar in dB, negative if the errors are below the range of the images.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    errors = jnp.mean(jnp.square(output - target), axis=(1, 2, 3), keepdims=True)
    return _mean(10 / math.log(10) * jnp.log(errors + 1e-8), weights)


def dct_sse(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Computes :func:`sse` of the unnormalized DCT-II coefficients of each channel.

    This is the auxiliary loss of the SFM code. Its transform is ``2 sum_n x_n cos(pi (2n + 1) k /
    2N)`` along each axis. On patches of 64x64 it is ``(2 * 64)^2`` times as large as ``sse``, and
    the mean has twice that factor along each axis. With an orthonormal transform it would equal
    ``sse`` (Parseval).

    Args:
        output: Restored images ``[N, H, W, C]``, floating point.
        target: Images of the same shape.
        weights: Weights ``[N]`` of the images, or None; see the module.

    Returns:
        Float32 scalar.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    output, target = float32_pair(output, target)
    height, width = output.shape[1:3]
    factors = _dct_factors(height)[:, None] * _dct_factors(width)
    difference = dct_2d(output - target) * factors[None, :, :, None]
    return 0.5 * output[0].size * _mean(jnp.square(difference), weights)


def _dct_factors(length: int) -> np.ndarray:
    """Factors from orthonormal to unnormalized DCT-II coefficients, ``[length]`` float32."""
    factors = np.full(length, (2 * length) ** 0.5, np.float32)
    factors[0] *= 2**0.5
    return factors


def l1_fft(
    output: jax.Array | Sequence[jax.Array],
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    fft_weight: float = 0.1,
) -> jax.Array:
    """Computes L1 of pixels plus ``fft_weight`` times L1 of Fourier coefficients.

    This is the loss of LCDNet (arXiv 2504.10558) and of MIMO-UNet (Cho et al., ICCV 2021). Both
    terms are averaged over the scales of a multi-output network. The Fourier transform is
    unnormalized, and its term is the mean over real and imaginary parts of all coefficients. For
    noise-like errors in 256x256 pixels that mean is about 167 times the mean over pixels. It grows
    with the side of the crop; an orthonormal transform would be smaller by the factor of that side.

    Args:
        output: Restored images ``[N, H, W, C]``, or a sequence of scales, the finest first.
        target: Images ``[N, H, W, C]``. They are reduced to coarser scales by bilinear
            interpolation without antialiasing.
        weights: Weights ``[N]`` of the images, or None; see the module.
        fft_weight: Weight of the Fourier term.

    Returns:
        Float32 scalar.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the images are not floating point.
    """
    outputs = (output,) if isinstance(output, jax.Array | np.ndarray) else tuple(output)
    total = jnp.zeros((), jnp.float32)
    for scaled in outputs:
        scaled_target = target
        if scaled.shape != target.shape:
            scaled_target = _downsample(target, scaled.shape, outputs[0].shape)
        total += l1(scaled, scaled_target, weights=weights)
        if fft_weight:
            total += fft_weight * _fft_l1(*float32_pair(scaled, scaled_target), weights)
    return total / len(outputs)


def _downsample(target: jax.Array, shape: tuple[int, ...], finest: tuple[int, ...]) -> jax.Array:
    """Reduces the target to a coarser scale."""
    if finest != target.shape or any(target.shape[axis] % shape[axis] for axis in (1, 2)):
        raise ValueError(
            f"outputs of {finest} and {shape} do not fit a target of {target.shape}; train on "
            "crops whose sides are multiples of 16"
        )
    exact = target.astype(jnp.float32)
    return jax.image.resize(exact, (*target.shape[:1], *shape[1:]), "bilinear", antialias=False)


def _fft_l1(output: jax.Array, target: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Computes the mean of |real| and |imaginary| parts of the unnormalized DFT of the error."""
    height, width, channels = output.shape[1:]
    spectrum = rfft2(output - target) * (height * width) ** 0.5
    # rfft2 leaves out columns that repeat others. All but the first and, for an even width, the
    # last column therefore count twice.
    twice = np.full((1, 1, width // 2 + 1, 1), 2, np.float32)
    twice[:, :, 0] = 1
    if width % 2 == 0:
        twice[:, :, -1] = 1
    magnitude = spectrum * jnp.sign(spectrum) * twice
    return _mean(magnitude, weights) * (magnitude[0].size / (2 * height * width * channels))


def relativistic(
    higher: jax.Array,
    lower: jax.Array,
    *,
    weights: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Computes the relativistic average GAN loss, which is low if ``higher`` exceeds ``lower``.

    Source: Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019 (arXiv 1807.00734),
    with logistic loss, as in ESRGAN (arXiv 1809.00219, eq. 1 and 2). The loss is half of

        mean softplus(-(higher - mean lower)) + mean softplus(lower - mean higher)

    The loss of the critic passes its logits of real images as ``higher``, the loss of the network
    its logits of restored images. (The equations of ESRGAN are the sum; its code halves it.)

    Args:
        higher: Logits ``[N]``.
        lower: Logits ``[N]``.
        weights: Weights ``[N]`` of the images, or None; see the module.
        axis_name: Mapped axis over which the inner means are averaged, or None. The result is not
            averaged over it.

    Returns:
        Float32 scalar.
    """
    higher, lower = (jnp.asarray(x, jnp.float32)[:, None, None, None] for x in (higher, lower))
    means = _mean(higher, weights), _mean(lower, weights)
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    higher_loss = _mean(jax.nn.softplus(means[1] - higher), weights)
    return 0.5 * (higher_loss + _mean(jax.nn.softplus(lower - means[0]), weights))


_LOSSES: dict[str, Loss] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "sse": sse,
    "psnr": psnr,
    "l1_fft": l1_fft,
}

#: Names that :func:`get` accepts.
NAMES = tuple(_LOSSES)

#: Losses that also compare smaller outputs of the network, and take ``fft_weight``.
MULTI_SCALE = ("l1_fft",)


def get(name: str) -> Loss:
    """Returns the loss of a name.

    Args:
        name: One of :data:`NAMES`.

    Returns:
        A function of output, target and weights; see the module.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in _LOSSES:
        raise ValueError(f"unknown loss {name!r}; use one of {', '.join(_LOSSES)}")
    return _LOSSES[name]


def _mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    if weights is None:
        return jnp.mean(values)
    if jnp.shape(weights) != values.shape[:1]:
        raise ValueError(
            f"weights have shape {jnp.shape(weights)}, expected {values.shape[:1]}; give one for "
            "each image of the batch"
        )
    weights = jnp.asarray(weights, jnp.float32)
    losses = jnp.mean(values, axis=(1, 2, 3))
    total = jnp.maximum(jnp.sum(weights), jnp.finfo(jnp.float32).tiny)
    return jnp.sum(weights * losses) / total
