"""Convolution of stride 1 with gradients that are fast on a CPU.

The forward pass is XLA's convolution, and so are the gradients on accelerators. XLA's gradients on
a CPU are slow in two ways. The gradient of the kernel is a convolution whose window is as large as
the image, which is slower than the same sum as matrix products. Inside a loop (``lax.scan`` over
blocks or steps) XLA does not use its fast form for either gradient, and they take about 25 times
as long. benchmarks/README.md has the measurements.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike

from lcdnet_jax.ops.precision import at_least_float32


def conv2d(x: Array, kernel: Array, *, dilation: int = 1, precision: PrecisionLike = None) -> Array:
    """Zero-padded convolution that keeps the image size.

    Forward-mode differentiation (``jax.jvp``) is not supported.

    Args:
        x: Images or features ``[N, H, W, C]``, floating point.
        kernel: ``[k, k, C, O]`` in the type of ``x``, k odd.
        dilation: Spacing of the kernel taps, pixels.
        precision: Precision of the products, as for ``jax.lax.conv_general_dilated``.

    Returns:
        ``[N, H, W, O]`` in the type of ``x``.

    Raises:
        ValueError: If the kernel has another shape.
    """
    size, channels = kernel.shape[0], x.shape[-1]
    if kernel.ndim != 4 or kernel.shape[1:3] != (size, channels) or size % 2 == 0:
        raise ValueError(
            f"a kernel for C = {channels} is [k, k, {channels}, O] with odd k, got "
            f"{kernel.shape}; pass a kernel of this shape"
        )
    return _conv(x, kernel, dilation, precision)


def _convolve(x: Array, kernel: Array, dilation: int, precision: PrecisionLike) -> Array:
    reach = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((reach, reach), (reach, reach)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


_conv = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3))


def _forward(
    x: Array, kernel: Array, dilation: int, precision: PrecisionLike
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, dilation, precision), (x, kernel)


def _backward(
    dilation: int, precision: PrecisionLike, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def by_xla(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        convolve = functools.partial(_convolve, dilation=dilation, precision=precision)
        x_gradient, kernel_gradient = jax.vjp(convolve, x, kernel)[1](gradient)
        return x_gradient, kernel_gradient

    def by_products(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        x_gradient = _convolve(gradient, flipped, dilation, precision)
        return x_gradient, _kernel_gradient(x, gradient, kernel, dilation, precision)

    return jax.lax.platform_dependent(*saved, gradient, cpu=by_products, default=by_xla)


_conv.defvjp(_forward, _backward)


def _kernel_gradient(
    x: Array, gradient: Array, kernel: Array, dilation: int, precision: PrecisionLike
) -> Array:
    """Gradient of the kernel as one matrix product.

    Shifting the image by columns and the output gradient by rows gives the products of all taps at
    once. Both are copied k times, where a product for each tap copies the image k * k times.
    """
    size, _, channels, out = kernel.shape
    reach = dilation * (size // 2)
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (0, 0), (reach, reach), (0, 0)))
    tall = jnp.pad(gradient, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    starts = [tap * dilation for tap in range(size)]
    images = jnp.concatenate([wide[:, :, i : i + width] for i in starts], axis=-1)
    gradients = jnp.concatenate([tall[:, i : i + height] for i in reversed(starts)], axis=-1)
    products = jnp.matmul(
        images.reshape(-1, size * channels).T,
        gradients.reshape(-1, size * out),
        precision=precision,
        preferred_element_type=at_least_float32(x.dtype),
    )
    # From (column, channel, row, output) to the order of the kernel.
    products = products.reshape(size, channels, size, out).transpose(2, 0, 1, 3)
    return products.astype(kernel.dtype)
