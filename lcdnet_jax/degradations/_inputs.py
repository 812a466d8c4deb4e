"""Checks of arguments and random draws that all degradations share."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

# Lowest and highest value of an option that is drawn for each image.
Range = tuple[float, float]


def check_images(images: ArrayLike, *, channels: tuple[int, ...] = ()) -> Array:
    """Checks type and shape of images.

    Args:
        images: Images ``[N, H, W, C]``, floating point.
        channels: Accepted values of C; () accepts any.

    Returns:
        The images as an array.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the images are empty, or have another number of axes or channels.
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


def check_batch(keys: Array, images: ArrayLike, *, channels: tuple[int, ...] = ()) -> Array:
    """Checks images as :func:`check_images` does, and that each image has a key."""
    images = check_images(images, channels=channels)
    if keys.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"keys have shape {keys.shape}, expected {images.shape[:1]}; give one for each image, "
            "as jax.random.split makes them"
        )
    return images


def check_range(name: str, pair: Range, *, lowest: float, highest: float = math.inf) -> Range:
    """Checks that a range is ordered and within limits.

    Returns:
        The two ends as floats.

    Raises:
        ValueError: If the range is not two ordered numbers within the limits.
    """
    try:
        low, high = (float(end) for end in pair)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (lowest <= low <= high <= highest and math.isfinite(high - low)):
        limits = f"{lowest:g} <= low <= high" + ("" if math.isinf(highest) else f" <= {highest:g}")
        raise ValueError(f"{name} is {pair!r}; use two numbers (low, high) with {limits}")
    return low, high


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless a value is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; use a share from 0 to 1")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless a value is one of several names."""
    if value not in choices:
        raise ValueError(f"no {name} {value!r}; use one of {', '.join(choices)}")


def check_flag(name: str, value: bool) -> None:
    """Raises ValueError unless a value is True or False, such as for the text "False"."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; use True or False")


def split_keys(keys: Array, count: int) -> Array:
    """Splits each key into ``count`` independent ones: ``[count, N]``."""
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys)


def fold_in(keys: Array, number: int) -> Array:
    """Derives one child of each key ``[N]``."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def draw_uniform(keys: Array, *ranges: Range) -> Array:
    """Draws one number per key and range: ``[len(ranges), N]`` float32."""
    low, high = (jnp.asarray(ends, jnp.float32)[:, None] for ends in zip(*ranges, strict=True))
    count = len(ranges)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32), out_axes=1)
    return low + (high - low) * draw(keys)


def draw_normal(keys: Array, shape: tuple[int, ...]) -> Array:
    """Draws standard normal numbers, ``[N, *shape]`` float32."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def per_image(values: ArrayLike, count: int) -> Array:
    """Reshapes a number or ``[N]`` to ``[N, 1, 1, 1]`` float32."""
    return jnp.broadcast_to(jnp.asarray(values, jnp.float32), (count,)).reshape(count, 1, 1, 1)
