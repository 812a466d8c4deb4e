"""Floating-point type of computations that need more precision than bfloat16."""

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
