"""Training losses: scalar float32, computed in float32 whatever the inputs' dtype.

Each takes ``output`` and ``target`` ``[N, H, W, C]``, floating point and of equal shape, and
``weights`` ``[N]`` or None. With weights the loss is sum(w_i loss_i) / sum(w_i) over the images'
own means, so an example of weight 0 (padding of the last batch) does not count; if all weights
are 0 the loss is 0. Shapes that disagree raise ValueError, integer images TypeError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.metrics import float32_pair
from lcdnet_jax.ops import dct_2d

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


def dct_sse(
    output: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    orthonormal: bool = False,
) -> jax.Array:
    """:func:`sse` of the DCT-II coefficients of each channel; scalar float32.

    The auxiliary loss of the SFM code, whose transform is unnormalised: 2 sum_n x_n
    cos(pi (2n + 1) k / 2N) along each axis, so that on patches of 64x64 it weighs (2 * 64)^2
    times as much as ``sse`` (the mean twice that along each axis). An orthonormal transform keeps
    sums of squares (Parseval), and this would be ``sse`` once more.
    """
    output, target = float32_pair(output, target)
    height, width = output.shape[1:3]
    difference = dct_2d(output - target)
    if not orthonormal:
        factors = _unnormalised(height)[:, None] * _unnormalised(width)
        difference = difference * factors[None, :, :, None]
    return 0.5 * output[0].size * _mean(jnp.square(difference), weights)


def _unnormalised(length: int) -> np.ndarray:
    """Unnormalised over orthonormal DCT-II coefficients, ``[length]`` float32."""
    factors = np.full(length, (2 * length) ** 0.5, np.float32)
    factors[0] *= 2**0.5
    return factors


_LOSSES: dict[str, Loss] = {"l1": l1, "l2": l2, "charbonnier": charbonnier, "sse": sse}
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
