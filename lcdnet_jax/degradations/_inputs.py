"""What all degradations ask of their arguments, and how they draw random options."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Range = tuple[float, float]  # lowest and highest value of an option that is drawn for each image


def checked(images: ArrayLike, *, channels: tuple[int, ...] = ()) -> Array:
    """Images as an array, after a check of type and shape; any number of channels where () says so.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For other than four axes, empty images, or another number of channels.
    """
    images = jnp.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point images, got {images.dtype}; convert with image_io.to_float"
        )
    if images.ndim != 4:
        raise ValueError(
            f"expected images [N, H, W, C], got shape {images.shape}; add the missing axes, "
            "x[None] for a single image, x[..., None] for gray ones"
        )
    if not images.size:
        raise ValueError(f"images of shape {images.shape} are empty; drop them")
    if channels and images.shape[-1] not in channels:
        raise ValueError(
            f"expected {' or '.join(map(str, channels))} channels, got {images.shape[-1]}; "
            "convert with image_io.convert_channels"
        )
    return images


def checked_with(keys: Array, images: ArrayLike, *, channels: tuple[int, ...] = ()) -> Array:
    """:func:`checked`, and there must be a key for each image."""
    images = checked(images, channels=channels)
    if keys.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"{images.shape[0]} images need {images.shape[0]} keys, got keys of shape "
            f"{keys.shape}; use jax.random.split"
        )
    return images


def bounds(name: str, pair: Range, *, lowest: float, highest: float = math.inf) -> Range:
    """The option as two floats, after a check that they are ordered and within limits.

    Raises:
        ValueError: Otherwise.
    """
    try:
        low, high = (float(end) for end in pair)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (lowest <= low <= high <= highest and math.isfinite(high - low)):
        limits = f"{lowest:g} <= low <= high" + ("" if math.isinf(highest) else f" <= {highest:g}")
        raise ValueError(f"{name} is {pair!r}; use two numbers (low, high) with {limits}")
    return low, high


def split(keys: Array, count: int) -> Array:
    """``count`` arrays of keys ``[N]``, independent of each other."""
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys)


def uniform(keys: Array, *ranges: Range) -> Array:
    """For each range one number for each key, ``[len(ranges), N]`` float32."""
    low, high = (jnp.asarray(ends, jnp.float32)[:, None] for ends in zip(*ranges, strict=True))
    count = len(ranges)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32), out_axes=1)
    return low + (high - low) * draw(keys)


def normal(keys: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, ``[N, *shape]`` float32."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def per_image(values: ArrayLike, count: int) -> Array:
    """A number, or ``[N]``, as ``[N, 1, 1, 1]`` float32."""
    return jnp.broadcast_to(jnp.asarray(values, jnp.float32), (count,)).reshape(count, 1, 1, 1)
