"""Convolution of stride 1, with gradients that a CPU computes in good time.

The forward pass is XLA's convolution, and so are the gradients on accelerators. XLA's gradients on
CPU have two faults. That of the kernel is a convolution with a window as large as the image,
slower than the same numbers by matrix products. And inside a loop (``lax.scan`` over blocks or
steps) both gradients lose their fast form, and take some 25 times as long. docs/performance.md has
the measurements.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike

from lcdnet_jax.ops.precision import at_least_float32


def conv2d(x: Array, kernel: Array, *, dilation: int = 1, precision: PrecisionLike = None) -> Array:
    """Zero-padded convolution that keeps the size; there is no forward mode (``jax.jvp``).

    Args:
        x: ``[N, H, W, C]``.
        kernel: ``[k, k, C, O]`` of ``x``'s type, k odd.
        dilation: Spacing of the taps.
        precision: Of the products, as for ``jax.lax.conv_general_dilated``.

    Returns:
        ``[N, H, W, O]``.

    Raises:
        ValueError: For a kernel of another shape.
    """
    size, channels = kernel.shape[0], x.shape[-1]
    if kernel.ndim != 4 or kernel.shape[1:3] != (size, channels) or size % 2 == 0:
        raise ValueError(
            f"a kernel for {channels} channels is [k, k, {channels}, O] with odd k, got "
            f"{kernel.shape}"
        )
    return _conv(x, kernel, dilation, precision)


def _plain(x: Array, kernel: Array, dilation: int, precision: PrecisionLike) -> Array:
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


_conv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(
    x: Array, kernel: Array, dilation: int, precision: PrecisionLike
) -> tuple[Array, tuple[Array, Array]]:
    return _plain(x, kernel, dilation, precision), (x, kernel)


def _backward(
    dilation: int, precision: PrecisionLike, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def by_xla(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        plain = functools.partial(_plain, dilation=dilation, precision=precision)
        of_x, of_kernel = jax.vjp(plain, x, kernel)[1](gradient)
        return of_x, of_kernel

    def by_products(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        of_x = _plain(gradient, turned, dilation, precision)
        return of_x, _of_kernel(x, gradient, kernel, dilation, precision)

    return jax.lax.platform_dependent(*saved, gradient, cpu=by_products, default=by_xla)


_conv.defvjp(_forward, _backward)


def _of_kernel(
    x: Array, gradient: Array, kernel: Array, dilation: int, precision: PrecisionLike
) -> Array:
    """One matrix product for each tap: shifted pixels, transposed, times the gradient."""
    size, _, channels, out = kernel.shape
    reach = dilation * (size // 2)
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    rows = gradient.reshape(-1, out)

    def of_tap(row: int, column: int) -> Array:
        top, left = row * dilation, column * dilation
        shifted = padded[:, top : top + height, left : left + width].reshape(-1, channels)
        exact = at_least_float32(x.dtype)
        return jnp.matmul(shifted.T, rows, precision=precision, preferred_element_type=exact)

    taps = [jnp.stack([of_tap(i, j) for j in range(size)]) for i in range(size)]
    return jnp.stack(taps).astype(kernel.dtype)
