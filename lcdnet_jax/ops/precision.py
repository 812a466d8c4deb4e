"""Floating-point types: where bfloat16 is not exact enough, and where it is slow."""

import jax.numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Chooses the type of positions, interpolation weights and sums.

    Args:
        dtype: Type of the data.

    Returns:
        float64 for float64 data, float32 for any other type.
    """
    return jnp.dtype(jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32)


def avoid_slow_type(dtype: DTypeLike, platform: str) -> jnp.dtype:
    """Chooses the compute type of a network.

    On a CPU, XLA converts bfloat16 to float32 and back around many operations. Networks are then
    up to several times slower than in float32 and no more exact (docs/explanations/performance.md).

    Args:
        dtype: The type that is asked for.
        platform: Platform of the device, such as "cpu" or "gpu".

    Returns:
        float32 for bfloat16 on a CPU, else ``dtype``.
    """
    dtype = jnp.dtype(dtype)
    return jnp.dtype(jnp.float32) if dtype == jnp.bfloat16 and platform == "cpu" else dtype
