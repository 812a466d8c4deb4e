"""Degradations of clean images: pure, keyed JAX functions on ``[N, H, W, C]`` in [0, 1].

Each image has a key of its own, so what happens to an image depends neither on the others in
its batch nor on how many devices share them.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

NOISE_PROTOCOLS = ("float", "clipped", "8bit")


def awgn(keys: Array, clean: ArrayLike, *, sigma: ArrayLike, protocol: str = "float") -> Array:
    """Adds white Gaussian noise, one value for each pixel and channel.

    Args:
        keys: ``[N]`` random keys, one for each image.
        clean: ``[N, H, W, C]``, floating point in [0, 1].
        sigma: Standard deviation in 8-bit units (50 means 50/255), a number or ``[N]``.
        protocol: What a noisy file would hold, see :func:`as_stored`.

    Returns:
        Noisy images, shape and type of ``clean``.

    Raises:
        TypeError: For integer images.
    """
    clean = jnp.asarray(clean)
    if not jnp.issubdtype(clean.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point images, got {clean.dtype}; convert with image_io.to_float"
        )
    shape, dtype = clean.shape[1:], clean.dtype
    noise = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    scale = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32) / 255, clean.shape[:1])
    noisy = clean + (noise * scale[:, None, None, None]).astype(dtype)
    return as_stored(noisy, protocol)


def blind_awgn(
    keys: Array,
    clean: ArrayLike,
    *,
    sigma_min: float,
    sigma_max: float,
    protocol: str = "float",
) -> Array:
    """:func:`awgn` with one level for each image, uniform in [sigma_min, sigma_max]."""

    def level(key: Array) -> Array:
        return jax.random.uniform(key, (), jnp.float32, sigma_min, sigma_max)

    level_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    return awgn(noise_keys, clean, sigma=jax.vmap(level)(level_keys), protocol=protocol)


def as_stored(noisy: Array, protocol: str) -> Array:
    """What is left of noisy values in a file.

    ``float``: everything. ``clipped``: values in [0, 1]. ``8bit``: those, rounded to 256 levels.

    Raises:
        ValueError: For any other protocol.
    """
    if protocol == "float":
        return noisy
    if protocol == "clipped":
        return jnp.clip(noisy, 0, 1)
    if protocol == "8bit":
        return jnp.round(jnp.clip(noisy, 0, 1) * 255) / 255
    raise ValueError(f"no noise protocol {protocol!r}; use one of {', '.join(NOISE_PROTOCOLS)}")
