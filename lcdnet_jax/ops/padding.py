"""Padding of images to sizes that networks with strides can process."""

import jax.numpy as jnp
from jax import Array

from lcdnet_jax.ops.operators import operator


def pad_to_multiple(x: Array, multiple: int, *, mode: str = "reflect") -> Array:
    """Pads images at the bottom and right so that ``multiple`` divides height and width.

    A reflection does not repeat the edge pixel. It is reflected again where the image is smaller
    than the padding. A side of one pixel is repeated. Crop the network's output with
    ``[:, :H, :W]``.

    Args:
        x: Images ``[N, H, W, C]``.
        multiple: Divisor of the new height and width, at least 1.
        mode: "reflect", or "constant" for zeros.

    Returns:
        ``[N, H', W', C]`` with the smallest possible H' and W'; ``x`` itself if it fits already.
    """
    _, height, width, _ = x.shape
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return x
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode=mode)


@operator(shape=lambda x, reach: _bordered_shape(x.shape, reach))
def mirror_borders(x: Array, reach: int) -> Array:
    """Pads images on all four sides by reflection, as :func:`pad_to_multiple` reflects.

    Args:
        x: Images ``[N, H, W, C]``.
        reach: Width of the border in pixels.

    Returns:
        ``[N, H + 2 reach, W + 2 reach, C]``.
    """
    return jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")


def _bordered_shape(shape: tuple[int, ...], reach: int) -> tuple[int, ...]:
    n, height, width, channels = shape
    return n, height + 2 * reach, width + 2 * reach, channels
