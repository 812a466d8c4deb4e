"""Training losses: scalar float32 means, computed in float32 whatever the inputs' dtype.

Each takes ``output`` and ``target`` ``[N, H, W, C]``, floating point and of equal shape, and
``weights`` ``[N]`` or None. With weights the loss is sum(w_i loss_i) / sum(w_i) over the images'
own means, so an example of weight 0 (padding of the last batch) does not count; if all weights
are 0 the loss is 0. Shapes that disagree raise ValueError, integer images TypeError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lcdnet_jax.metrics import float32_pair

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


_LOSSES: dict[str, Loss] = {"l1": l1, "l2": l2, "charbonnier": charbonnier}
NAMES = tuple(_LOSSES)


def get(name: str) -> Loss:
    """The loss called ``name``: "l1", "l2" or "charbonnier"; ValueError for any other."""
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
