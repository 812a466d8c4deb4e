"""Layers computed some rows of the image at a time, so that they take little memory.

It is for forward passes on a CPU over large images: the intermediate arrays of a part are small.
Results are equal up to rounding. A gradient would keep more than that of the whole image. XLA plans
0.24 kB for a pixel of a window instead of 0.64 (SADNet ``small``), and 0.45 instead of 0.69 (LCDNet
``tiny``).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import Array

# Pixels of a part. Its offsets and samples in SADNet fit into the cache of a core.
_PIXELS = 2**15

_allowed: contextvars.ContextVar[bool] = contextvars.ContextVar("allowed", default=False)


@contextlib.contextmanager
def split_large_images() -> Iterator[None]:
    """Lets networks compute large images by rows, in this thread and this block.

    JAX keeps traces of a function by its identity. Trace a function of your own, which was not
    traced elsewhere.
    """
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def choose_rows(height: int, width: int, *, reach: int = 1) -> int | None:
    """Chooses the number of rows of a part.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        reach: Rows above and below a part that are computed again.

    Returns:
        Rows, or None to compute the image whole: outside :func:`split_large_images`, and where it
        is small.
    """
    pixels = _PIXELS * max(reach, 1)
    if not _allowed.get() or height * width < 4 * pixels:
        return None
    return max(pixels // width, 1)


def compute_by_rows(
    compute: Callable[[Array], Array], x: Array, *, channels: int, rows: int, planes: bool = False
) -> Array:
    """Computes an image some rows at a time.

    Args:
        compute: Computes the rows ``[N, rows, W, channels]`` of the result from a first row. All
            parts have as many rows: the last one begins before the end of the one above it.
        x: ``[N, H, W, C]``, something that the result depends on. It has the type of the result.
        channels: Channels of the result.
        rows: Rows of a part, at most H.
        planes: Whether arrays have the channels before the rows: ``[N, C, H, W]``.

    Returns:
        ``[N, H, W, channels]``, or ``[N, channels, H, W]`` with ``planes``.
    """
    channel_axis, axis = _find_axes(planes)
    height = x.shape[axis]

    def add_part(i: Array, out: Array) -> Array:
        first = jnp.minimum(i * rows, height - rows)
        return jax.lax.dynamic_update_slice_in_dim(out, compute(first), first, axis)

    shape = list(x.shape)
    shape[channel_axis] = channels
    # All rows are overwritten. XLA would make zeros at the start of the program and keep them.
    out = jnp.broadcast_to(x[:, :1, :1, :1], shape)
    return jax.lax.fori_loop(0, -(-height // rows), add_part, out)


def apply_by_rows(
    layers: Callable[[Array, Callable[[Array], Array]], Array],
    x: Array,
    *,
    channels: int,
    reach: int,
    planes: bool = False,
) -> Array:
    """Applies layers to an image, by rows where :func:`choose_rows` says so.

    Args:
        layers: Computes features of the same height and width and of the type of ``x`` from its
            first argument. The second one sets rows outside of the image to zero. It must be
            applied to what enters a zero-padded layer. Modules are made outside of this function.
        x: ``[N, H, W, C]``.
        channels: Channels of the result.
        reach: Rows above and below a pixel on which its result depends.
        planes: As for :func:`compute_by_rows`.

    Returns:
        ``[N, H, W, channels]``, or ``[N, channels, H, W]`` with ``planes``.
    """
    axis = _find_axes(planes)[1]
    height, width = x.shape[axis : axis + 2]
    rows = choose_rows(height, width, reach=reach)
    if rows is None:
        return layers(x, lambda y: y)
    border = [(0, 0)] * 4
    border[axis] = (reach, reach)
    around = jnp.pad(x, border)

    def compute(first: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(around, first, rows + 2 * reach, axis)
        row = first - reach + jnp.arange(rows + 2 * reach)
        inside = ((row >= 0) & (row < height)).reshape([-1 if i == axis else 1 for i in range(4)])
        result = layers(part, lambda y: jnp.where(inside, y, jnp.zeros((), y.dtype)))
        return jax.lax.slice_in_dim(result, reach, reach + rows, axis=axis)

    return compute_by_rows(compute, x, channels=channels, rows=rows, planes=planes)


def _find_axes(planes: bool) -> tuple[int, int]:
    """The axes of channels and rows."""
    return (1, 2) if planes else (3, 1)
