"""Two-dimensional real Fourier transforms of images, each shard of a batch by itself.

XLA gathers a whole sharded batch on every device before it transforms it, although images do not
depend on each other. These functions tell the partitioner so; on one device they are jnp.fft.
Complex numbers are kept as channels, real parts before imaginary ones.

Transforms are of the last two axes: what works on spectra between two of them had best have its
channels first, too, so that they are moved once there and once back (``planes``), not at each.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def rfft2(x: Array) -> Array:
    """Orthonormal 2-D DFT: ``[N, H, W, C]`` -> ``[N, H, W // 2 + 1, 2 C]``.

    Computed in float32 (float64 for float64), as JAX has no transform of lower precision.

    Raises:
        TypeError: For another type than float32 or float64.
    """
    return jnp.moveaxis(rfft2_planes(jnp.moveaxis(x, 3, 1)), 1, 3)


def irfft2(z: Array, width: int) -> Array:
    """Inverse of :func:`rfft2`: ``[N, H, W // 2 + 1, 2 C]`` -> ``[N, H, W, C]``.

    Args:
        z: Real parts, then imaginary parts.
        width: W, which may be odd and does not follow from ``z``.

    Raises:
        ValueError: For a width that ``z`` cannot be the transform of.
    """
    return jnp.moveaxis(irfft2_planes(jnp.moveaxis(z, 3, 1), width), 1, 3)


def rfft2_planes(x: Array) -> Array:
    """:func:`rfft2` with channels first: ``[N, C, H, W]`` -> ``[N, 2 C, H, W // 2 + 1]``."""
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"rfft2 takes float32 or float64, got {x.dtype}; use x.astype(float32)")
    return _linear(_forward, _transposed_forward, x.shape[3])(x)


def irfft2_planes(z: Array, width: int) -> Array:
    """:func:`irfft2` with channels first: ``[N, 2 C, H, W // 2 + 1]`` -> ``[N, C, H, W]``."""
    if z.shape[3] != width // 2 + 1:
        raise ValueError(
            f"{z.shape[3]} columns of frequencies belong to images {2 * z.shape[3] - 2} or "
            f"{2 * z.shape[3] - 1} pixels wide, not {width}"
        )
    return _linear(_inverse, _transposed_inverse, width)(z)


def _forward(x: Array, width: int) -> Array:
    del width
    # Normalised by hand: jnp.fft's "ortho" makes an array, which a partitioned function may not.
    z = jnp.fft.rfft2(x) / math.sqrt(x.shape[2] * x.shape[3])
    return jnp.concatenate([z.real, z.imag], axis=1)


def _inverse(z: Array, width: int) -> Array:
    real, imaginary = jnp.split(z, 2, axis=1)
    shape = (z.shape[2], width)
    x = jnp.fft.irfft2(jax.lax.complex(real, imaginary), shape)
    return x * math.sqrt(shape[0] * shape[1])


# The transform is orthonormal but for the columns that stand for two frequencies, theirs and the
# opposite one. So each of the two is the other's transpose, up to a factor of 2 in those columns.


def _transposed_forward(z: Array, width: int) -> Array:
    return _inverse(z / _frequencies(z.shape[3], width, z.dtype), width)


def _transposed_inverse(x: Array, width: int) -> Array:
    z = _forward(x, width)
    return z * _frequencies(z.shape[3], width, z.dtype)


def _frequencies(columns: int, width: int, dtype: Any) -> Array:
    """How many each column stands for, ``[1, 1, 1, columns]``."""
    column = jax.lax.broadcasted_iota(jnp.int32, (1, 1, 1, columns), 3)
    alone = (column == 0) | (2 * column == width)
    return jnp.where(alone, 1, 2).astype(dtype)


@functools.cache
def _linear(
    function: Callable[[Array, int], Array], transposed: Callable[[Array, int], Array], width: int
) -> Callable[[Array], Array]:
    """The linear function of a batch, and its gradient, both partitioned over the first axis."""
    forward = _over_shards(lambda x: function(x, width))
    backward = _over_shards(lambda g: transposed(g, width))
    linear = jax.custom_vjp(lambda x: forward(x))
    linear.defvjp(lambda x: (forward(x), None), lambda _, g: (backward(g),))
    return linear


def _over_shards(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Lets a function of independent images keep the sharding of their axis."""
    partitioned = custom_partitioning(function)

    def sharding(mesh: Any, argument: Any) -> NamedSharding:
        spec = argument.sharding.spec
        return NamedSharding(mesh, PartitionSpec(spec[0] if spec else None))

    def partition(mesh: Any, arguments: Any, result: Any) -> tuple[Any, Any, Any, Any]:
        del result
        kept = sharding(mesh, arguments[0])
        return mesh, function, kept, (kept,)

    partitioned.def_partition(
        infer_sharding_from_operands=lambda mesh, arguments, result: sharding(mesh, arguments[0]),
        partition=partition,
        sharding_rule="n c h w -> n d h v",
    )
    return partitioned
