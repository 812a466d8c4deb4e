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


def raise_contrast(values: Array, amount: Array) -> Array:
    """Applies the S-curve of cameras, which darkens dark values and lightens light ones.

    ``values + amount * (3 values^2 - 2 values^3 - values)``. With an amount of 1 it is the tone
    curve of Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR 2019); smaller
    amounts are ours. Its slope in black is ``1 - amount``, so that noise in black is weaker than
    the slope of the sRGB curve makes it.

    Args:
        values: Stored values ``[N, H, W, C]`` in [0, 1].
        amount: ``[N, 1, 1, 1]`` in [0, 1].

    Returns:
        Values of the same shape in [0, 1].
    """
    return values + amount * (values * values * (3 - 2 * values) - values)


def lower_contrast(values: Array, amount: Array) -> Array:
    """Inverts :func:`raise_contrast` for values in [0, 1]."""
    # With u = values - 1/2 the curve is a cubic without u^2: the middle one of its three roots.
    small = jnp.maximum(amount, 1e-3)  # the formula divides by it; the difference is below 1e-4
    scale = (1 + small / 2) / small
    radius = jnp.sqrt(2 * scale / 3)
    sine = 3 * (values - 0.5) / (small * scale * radius)
    root = 0.5 + radius * jnp.sin(jnp.arcsin(jnp.clip(sine, -1, 1)) / 3)
    return jnp.where(amount > 1e-3, root, values)


_KNEE = 0.04045
