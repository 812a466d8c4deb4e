"""Depthwise convolution as a sum of shifted products."""

import jax
import jax.numpy as jnp
from jax import Array

from lcdnet_jax.ops.operators import operator
from lcdnet_jax.ops.precision import at_least_float32


@operator()
def depthwise_conv2d(x: Array, kernel: Array) -> Array:
    """Zero-padded depthwise convolution of stride 1 with an odd kernel.

    It replaces the general convolution with as many groups as channels. That one is slow on a CPU,
    and with a sharded batch the gradient of its kernel gathers the whole batch on every device.

    Args:
        x: Features ``[N, H, W, C]``, floating point.
        kernel: ``[k, k, 1, C m]`` in the type of ``x``, k odd. Output channel o is computed from
            input channel o // m.

    Returns:
        ``[N, H, W, C m]`` in the type of ``x``.

    Raises:
        ValueError: If the kernel has another shape.
    """
    size, channels, out = kernel.shape[0], x.shape[-1], kernel.shape[-1]
    if kernel.shape != (size, size, 1, out) or size % 2 == 0 or out % channels:
        raise ValueError(
            f"a depthwise kernel for C = {channels} is [k, k, 1, multiple of {channels}] with "
            f"odd k, got {kernel.shape}; pass a kernel of this shape"
        )
    reach = size // 2
    repeated = jnp.repeat(x, out // channels, axis=-1) if out != channels else x
    padded = jnp.pad(repeated, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    return shifted_products(padded, kernel.reshape(1, size, size, out))


@jax.custom_vjp
def shifted_products(padded: Array, kernels: Array) -> Array:
    """Sums shifted images, each multiplied by one tap of a kernel, without padding.

    The gradients are written by hand. The gradient of the image is the same sum with flipped
    kernels. The gradient of the kernels avoids XLA's sum over pixels, which is not vectorized on a
    CPU. Forward-mode differentiation (``jax.jvp``) is not supported.

    Args:
        padded: Padded images ``[N, H + k - 1, W + k - 1, C]``.
        kernels: ``[N, k, k, C]``, or ``[1, k, k, C]`` for all images, in the type of ``padded``.

    Returns:
        ``[N, H, W, C]`` in the type of ``padded``.
    """
    size = kernels.shape[1]
    height, width = (side - size + 1 for side in padded.shape[1:3])
    total = jnp.zeros((padded.shape[0], height, width, padded.shape[3]), padded.dtype)
    for row in range(size):
        for column in range(size):
            shifted = padded[:, row : row + height, column : column + width]
            total += shifted * kernels[:, row, None, None, column]
    return total


def _pad_once(padded: Array) -> Array:
    """Keeps XLA on a CPU from padding again for each tap of a training step."""
    kept: Array = jax.lax.platform_dependent(
        padded, cpu=jax.lax.optimization_barrier, default=lambda x: x
    )
    return kept


def _forward(padded: Array, kernels: Array) -> tuple[Array, tuple[Array, Array]]:
    padded = _pad_once(padded)
    return shifted_products(padded, kernels), (padded, kernels)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    padded, kernels = saved
    border = kernels.shape[1] - 1
    wide = _pad_once(jnp.pad(gradient, ((0, 0), (border, border), (border, border), (0, 0))))
    image_gradient = shifted_products(wide, kernels[:, ::-1, ::-1])
    # Accelerators sum over pixels fast, and many small steps would slow them down.
    kernel_gradient = jax.lax.platform_dependent(
        padded, gradient, cpu=_tap_sums_by_rows, default=_tap_sums
    )
    if kernels.shape[0] == 1:
        kernel_gradient = kernel_gradient.sum(0, keepdims=True)
    return image_gradient, kernel_gradient.astype(kernels.dtype)


shifted_products.defvjp(_forward, _backward)


def _tap_sums(padded: Array, gradient: Array) -> Array:
    """Sums shifted image times gradient over the pixels of each image, for each tap.

    Args:
        padded: Padded images ``[N, H + k - 1, W + k - 1, C]``.
        gradient: Gradient of the output ``[N, H, W, C]``.

    Returns:
        ``[N, k, k, C]``, float32 or float64.
    """
    height, width = gradient.shape[1:3]
    padded, gradient = (x.astype(at_least_float32(x.dtype)) for x in (padded, gradient))
    taps = range(padded.shape[1] - height + 1)
    rows = [
        [(padded[:, i : i + height, j : j + width] * gradient).sum((1, 2)) for j in taps]
        for i in taps
    ]
    return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)


def _tap_sums_by_rows(padded: Array, gradient: Array) -> Array:
    """:func:`_tap_sums` for a CPU, which adds the image row by row as vectors."""
    images, height, width, channels = gradient.shape
    exact = at_least_float32(gradient.dtype)
    size = padded.shape[1] - height + 1
    # Pixels and channels share one axis, because XLA vectorizes the last axis only.
    padded, gradient = (x.reshape(*x.shape[:2], -1) for x in (padded, gradient))

    def add_row(row: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        shifted = jax.lax.dynamic_slice_in_dim(padded, row, size, axis=1).astype(exact)
        factor = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1).astype(exact)
        starts = (column * channels for column in range(size))
        return tuple(
            total + shifted[:, :, start : start + width * channels] * factor
            for total, start in zip(sums, starts, strict=True)
        )

    zeros = jnp.zeros((images, size, width * channels), exact)
    sums = jax.lax.fori_loop(0, height, add_row, (zeros,) * size)
    return jnp.stack([x.reshape(images, size, width, channels).sum(2) for x in sums], axis=2)
