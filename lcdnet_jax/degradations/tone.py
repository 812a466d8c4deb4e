"""Tone curves between stored values and light.

The power functions are odd, so that negative values of masked images are defined, too.
"""

import jax.numpy as jnp
from jax import Array


def to_light(values: Array, gamma: float) -> Array:
    """Computes ``values ** gamma`` and keeps the sign."""
    return values if gamma == 1 else jnp.sign(values) * jnp.abs(values) ** gamma


def from_light(light: Array, gamma: float) -> Array:
    """Inverts :func:`to_light`."""
    return to_light(light, 1 / gamma)


def check_gamma(gamma: float) -> None:
    """Raises ValueError unless ``gamma`` is positive."""
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma!r}; use a positive number, 1 for no tone curve")


def srgb_to_light(values: Array) -> Array:
    """Decodes sRGB (IEC 61966-2-1) values in [0, 1] to light."""
    steep = ((jnp.maximum(values, _KNEE) + 0.055) / 1.055) ** 2.4
    return jnp.where(values <= _KNEE, values / 12.92, steep)


def light_to_srgb(light: Array) -> Array:
    """Encodes light as sRGB, the inverse of :func:`srgb_to_light`."""
    steep = 1.055 * jnp.maximum(light, _KNEE / 12.92) ** (1 / 2.4) - 0.055
    return jnp.where(light <= _KNEE / 12.92, light * 12.92, steep)


_KNEE = 0.04045
