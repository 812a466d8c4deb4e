"""Depthwise convolution as a sum of shifted products."""

import jax.numpy as jnp
from jax import Array


def depthwise_conv2d(x: Array, kernel: Array) -> Array:
    """Zero-padded convolution of each channel by itself, an odd kernel, stride 1.

    The general convolution with as many groups as channels has two faults: on CPU it is slow, and
    where a batch is sharded the gradient of its kernel gathers the whole batch on every device.

    Args:
        x: ``[N, H, W, C]``.
        kernel: ``[k, k, 1, C m]`` of ``x``'s type; output channel o belongs to input o // m.

    Returns:
        ``[N, H, W, C m]``.

    Raises:
        ValueError: For a kernel of another shape.
    """
    size, channels, out = kernel.shape[0], x.shape[-1], kernel.shape[-1]
    if kernel.shape != (size, size, 1, out) or size % 2 == 0 or out % channels:
        raise ValueError(
            f"a depthwise kernel for {channels} channels is [k, k, 1, multiple of {channels}] with "
            f"odd k, got {kernel.shape}"
        )
    height, width = x.shape[1:3]
    reach = size // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    if out != channels:
        padded = jnp.repeat(padded, out // channels, axis=-1)
    total = jnp.zeros((*x.shape[:3], out), x.dtype)
    for row in range(size):
        for column in range(size):
            shifted = padded[:, row : row + height, column : column + width]
            total += shifted * kernel[None, None, row, column]
    return total
