"""Training losses: scalar float32, computed in float32 whatever the inputs' dtype.

Each takes ``output`` and ``target`` ``[N, H, W, C]``, floating point and of equal shape, and
``weights`` ``[N]`` or None. With weights the loss is sum(w_i loss_i) / sum(w_i) over the images'
own means, so an example of weight 0 (padding of the last batch) does not count; if all weights
are 0 the loss is 0. Shapes that disagree raise ValueError, integer images TypeError.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.metrics import float32_pair
from lcdnet_jax.ops import dct_2d, rfft2

Loss = Callable[..., jax.Array]


def l1(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Mean of |output - target|, scalar float32."""
    output, target = float32_pair(output, target)
    difference = output - target
    # Not jnp.abs, whose derivative at 0 is 1: equal pixels must not pull in either direction.
    return _mean(difference * jnp.sign(difference), weights)


def l2(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Mean of (output - target)^2, scalar float32."""
    output, target = float32_pair(output, target)
    return _mean(jnp.square(output - target), weights)


def charbonnier(
    output: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    eps: float = 1e-3,
) -> jax.Array:
    """Mean of sqrt((output - target)^2 + eps^2), a smooth L1; scalar float32, at least eps.

    Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
    imaging", ICIP 1994. ``eps`` must be positive, or the gradient is undefined at 0.
    """
    output, target = float32_pair(output, target)
    return _mean(jnp.sqrt(jnp.square(output - target) + eps**2), weights)


def sse(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Half the sum over an image of (output - target)^2, mean over images; scalar float32.

    The loss of DnCNN (Zhang et al., IEEE TIP 2017, eq. 1) and of the SFM code. Its gradient is
    that of :func:`l2` times half the number of values in an image.
    """
    output, target = float32_pair(output, target)
    return 0.5 * output[0].size * _mean(jnp.square(output - target), weights)


def dct_sse(output: jax.Array, target: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """:func:`sse` of the DCT-II coefficients of each channel; scalar float32.

    The auxiliary loss of the SFM code, whose transform is unnormalized: 2 sum_n x_n
    cos(pi (2n + 1) k / 2N) along each axis, so that on patches of 64x64 it weighs (2 * 64)^2
    times as much as ``sse`` (the mean twice that along each axis). An orthonormal transform keeps
    sums of squares (Parseval), and this would be ``sse`` once more.
    """
    output, target = float32_pair(output, target)
    height, width = output.shape[1:3]
    factors = _unnormalized(height)[:, None] * _unnormalized(width)
    difference = dct_2d(output - target) * factors[None, :, :, None]
    return 0.5 * output[0].size * _mean(jnp.square(difference), weights)


def _unnormalized(length: int) -> np.ndarray:
    """Unnormalized over orthonormal DCT-II coefficients, ``[length]`` float32."""
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
    """L1 of pixels plus ``fft_weight`` times L1 of Fourier coefficients, mean over scales.

    The loss of LCDNet (arXiv 2504.10558; that of MIMO-UNet, Cho et al., ICCV 2021). The transform
    is unnormalized and the mean over real and imaginary parts of all coefficients, so that for
    noise-like errors of 256x256 pixels its mean is some 167 times that of the pixels; it grows
    with the side of the crop. (An orthonormal one would be smaller by that side.)

    Args:
        output: ``[N, H, W, C]``, or several scales of it, the finest first.
        target: ``[N, H, W, C]``; made smaller for other scales, bilinear without antialiasing.
        weights: See the module.
        fft_weight: Of the second term.
    """
    outputs = (output,) if isinstance(output, jax.Array | np.ndarray) else tuple(output)
    total = jnp.zeros((), jnp.float32)
    for scaled in outputs:
        of_scale = target
        if scaled.shape != target.shape:
            of_scale = _smaller(target, scaled.shape, outputs[0].shape)
        total += l1(scaled, of_scale, weights=weights)
        if fft_weight:
            total += fft_weight * _fft_l1(*float32_pair(scaled, of_scale), weights)
    return total / len(outputs)


def _smaller(target: jax.Array, shape: tuple[int, ...], finest: tuple[int, ...]) -> jax.Array:
    """The target at a coarser scale."""
    if finest != target.shape or any(target.shape[axis] % shape[axis] for axis in (1, 2)):
        raise ValueError(
            f"outputs of {finest} and {shape} do not fit a target of {target.shape}; train on "
            "crops whose sides are multiples of 16"
        )
    exact = target.astype(jnp.float32)
    return jax.image.resize(exact, (*target.shape[:1], *shape[1:]), "bilinear", antialias=False)


def _fft_l1(output: jax.Array, target: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean of |real| and |imaginary| parts of the unnormalized transform of the difference."""
    height, width, channels = output.shape[1:]
    spectrum = rfft2(output - target) * (height * width) ** 0.5
    # The columns that are left out repeat others, but for the first and, if even, the middle one.
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
    """Relativistic average loss of whoever wants ``higher`` above ``lower``; scalar float32.

    Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019 (arXiv 1807.00734), with
    logistic loss, in ESRGAN (arXiv 1809.00219, eq. 1 and 2): half of

        mean softplus(-(higher - mean lower)) + mean softplus(lower - mean higher)

    A critic's loss has its logits of real images first, that of the network which it judges those
    of restored ones. (ESRGAN's formulas are the sum of both terms, its code halves it.)

    Args:
        higher: Logits ``[N]``.
        lower: Logits ``[N]``.
        weights: See the module.
        axis_name: The mapped axis over which the inner means are averaged; the result is not.
    """
    higher, lower = (jnp.asarray(x, jnp.float32)[:, None, None, None] for x in (higher, lower))
    means = _mean(higher, weights), _mean(lower, weights)
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    of_higher = _mean(jax.nn.softplus(means[1] - higher), weights)
    return 0.5 * (of_higher + _mean(jax.nn.softplus(lower - means[0]), weights))


_LOSSES: dict[str, Loss] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "sse": sse,
    "l1_fft": l1_fft,
}
NAMES = tuple(_LOSSES)


def get(name: str) -> Loss:
    """The loss of that name, one of ``NAMES``; ValueError for any other."""
    if name not in _LOSSES:
        raise ValueError(f"unknown loss {name!r}; use one of {', '.join(_LOSSES)}")
    return _LOSSES[name]


def _mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    if weights is None:
        return jnp.mean(values)
    if jnp.shape(weights) != values.shape[:1]:
        raise ValueError(
            f"weights have shape {jnp.shape(weights)}; give one for each of the "
            f"{values.shape[0]} images of the batch"
        )
    weights = jnp.asarray(weights, jnp.float32)
    losses = jnp.mean(values, axis=(1, 2, 3))
    total = jnp.maximum(jnp.sum(weights), jnp.finfo(jnp.float32).tiny)
    return jnp.sum(weights * losses) / total
