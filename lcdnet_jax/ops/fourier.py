"""Two-dimensional real Fourier transforms of images in a sharded batch.

XLA gathers a sharded batch on every device before an FFT, although images are independent of each
other. These functions tell the partitioner to transform each shard in place. On one device they
equal ``jnp.fft``. Complex numbers are stored as channels, all real parts before all imaginary
parts.

``jnp.fft`` transforms the last two axes, so NHWC arrays are transposed before and after. Code that
works on a spectrum between the transform and its inverse should use the ``_planes`` functions,
which take channels first, and transpose only once in each direction.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lcdnet_jax.ops.operators import operator


def rfft2(x: Array) -> Array:
    """Computes the orthonormal 2-D DFT of real images.

    Args:
        x: ``[N, H, W, C]``, float32 or float64. JAX has no FFT of lower precision.

    Returns:
        ``[N, H, W // 2 + 1, 2 C]`` in the type of ``x``: real parts, then imaginary parts.

    Raises:
        TypeError: If ``x`` is neither float32 nor float64.
    """
    return jnp.moveaxis(rfft2_planes(jnp.moveaxis(x, 3, 1)), 1, 3)


def irfft2(z: Array, width: int) -> Array:
    """Inverts :func:`rfft2`.

    Args:
        z: ``[N, H, W // 2 + 1, 2 C]``: real parts, then imaginary parts.
        width: W, pixels. The shape of ``z`` does not tell whether W is even or odd.

    Returns:
        Images ``[N, H, W, C]`` in the type of ``z``.

    Raises:
        ValueError: If ``z`` cannot be the transform of images of this width.
    """
    return jnp.moveaxis(irfft2_planes(jnp.moveaxis(z, 3, 1), width), 1, 3)


@operator(shape=lambda x: spectrum_shape(x.shape))
def rfft2_planes(x: Array) -> Array:
    """Computes :func:`rfft2` with channels first.

    Args:
        x: ``[N, C, H, W]``, float32 or float64.

    Returns:
        ``[N, 2 C, H, W // 2 + 1]`` in the type of ``x``: real parts, then imaginary parts.

    Raises:
        TypeError: If ``x`` is neither float32 nor float64.
    """
    check_real(x)
    return _linear(_forward, _transposed_forward, x.shape[3])(x)


@operator(shape=lambda z, width: (z.shape[0], z.shape[1] // 2, z.shape[2], width))
def irfft2_planes(z: Array, width: int) -> Array:
    """Computes :func:`irfft2` with channels first.

    Args:
        z: ``[N, 2 C, H, W // 2 + 1]``: real parts, then imaginary parts.
        width: W, pixels.

    Returns:
        Images ``[N, C, H, W]`` in the type of ``z``.

    Raises:
        ValueError: If ``z`` cannot be the transform of images of this width.
    """
    check_columns(z.shape[3], width)
    return _linear(_inverse, _transposed_inverse, width)(z)


def spectrum_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Computes the shape of the spectra of images.

    Args:
        shape: ``[N, C, H, W]``, of the images.

    Returns:
        ``[N, 2 C, H, W // 2 + 1]``.
    """
    n, channels, height, width = shape
    return n, 2 * channels, height, width // 2 + 1


def check_real(x: Array) -> None:
    """Checks the type of images to transform.

    Args:
        x: The images.

    Raises:
        TypeError: If ``x`` is neither float32 nor float64.
    """
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"Fourier transforms take float32 or float64, got {x.dtype}; use x.astype(float32)"
        )


def check_columns(columns: int, width: int) -> None:
    """Checks the size of spectra to transform.

    Args:
        columns: Columns of the spectra.
        width: Width of the images, pixels.

    Raises:
        ValueError: If images of this width have spectra of another number of columns.
    """
    if columns != width // 2 + 1:
        raise ValueError(
            f"a spectrum of width {columns} belongs to an image {2 * columns - 2} or "
            f"{2 * columns - 1} pixels wide, not {width}; pass the width of the image"
        )


def _forward(x: Array, width: int) -> Array:
    del width
    # Not norm="ortho", which creates an array constant. Partitioned functions cannot hold one.
    z = jnp.fft.rfft2(x) / math.sqrt(x.shape[2] * x.shape[3])
    return jnp.concatenate([z.real, z.imag], axis=1)


def _inverse(z: Array, width: int) -> Array:
    real, imaginary = jnp.split(z, 2, axis=1)
    shape = (z.shape[2], width)
    x = jnp.fft.irfft2(jax.lax.complex(real, imaginary), shape)
    return x * math.sqrt(shape[0] * shape[1])


# Most columns stand for two frequencies, their own and the opposite one. Apart from a factor of 2
# in those columns, each of the two transforms is the transpose of the other.


def _transposed_forward(z: Array, width: int) -> Array:
    return _inverse(z / _frequencies(z.shape[3], width, z.dtype), width)


def _transposed_inverse(x: Array, width: int) -> Array:
    z = _forward(x, width)
    return z * _frequencies(z.shape[3], width, z.dtype)


def _frequencies(columns: int, width: int, dtype: jnp.dtype) -> Array:
    """Number of frequencies that each column stands for, ``[1, 1, 1, columns]``."""
    column = jax.lax.broadcasted_iota(jnp.int32, (1, 1, 1, columns), 3)
    alone = (column == 0) | (2 * column == width)
    return jnp.where(alone, 1, 2).astype(dtype)


@functools.cache
def _linear(
    function: Callable[[Array, int], Array], transposed: Callable[[Array, int], Array], width: int
) -> Callable[[Array], Array]:
    """Makes a linear function with its gradient, both partitioned over the batch axis."""
    forward = _over_shards(lambda x: function(x, width))
    backward = _over_shards(lambda g: transposed(g, width))
    linear = jax.custom_vjp(lambda x: forward(x))
    linear.defvjp(lambda x: (forward(x), None), lambda _, g: (backward(g),))
    return linear


def _over_shards(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Makes a function of independent images keep the sharding of the batch axis."""
    partitioned = custom_partitioning(function)

    def sharding(mesh: Mesh, argument: jax.ShapeDtypeStruct) -> NamedSharding:
        spec = argument.sharding.spec
        return NamedSharding(mesh, PartitionSpec(spec[0] if spec else None))

    def partition(
        mesh: Mesh, arguments: tuple[jax.ShapeDtypeStruct, ...], result: jax.ShapeDtypeStruct
    ) -> tuple[Mesh, Callable[[Array], Array], NamedSharding, tuple[NamedSharding, ...]]:
        del result
        kept = sharding(mesh, arguments[0])
        return mesh, function, kept, (kept,)

    partitioned.def_partition(
        infer_sharding_from_operands=lambda mesh, arguments, result: sharding(mesh, arguments[0]),
        partition=partition,
        sharding_rule="n c h w -> n d h v",
    )
    return partitioned
