"""Padding to the sizes that strided networks need."""

import jax.numpy as jnp
from jax import Array


def pad_to_multiple(x: Array, multiple: int) -> Array:
    """Pads ``[N, H, W, C]`` at the bottom and right so that ``multiple`` divides H and W.

    The border is mirrored without repeating the edge pixel, again and again where the image is
    smaller than the padding; a side of one pixel is repeated. Crop the result with ``[:, :H, :W]``.
    """
    _, height, width, _ = x.shape
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return x
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
