"""Modulated deformable convolution (DCNv2) in plain JAX.

Each output pixel samples the input at a fractional position for every kernel tap. The bilinear
samples are multiplied by a modulation factor and then by the kernel in one matrix product. The
code is ``jax.numpy`` only: there is no extension to build, and gradients come from autodiff.

Two design decisions make it fast and let it scale:

* The four corners of every bilinear cell are stored next to each other. One sample is then one
  gather of a contiguous row, and its gradient is one scatter.
* The gather is written for one image and mapped over the batch with ``jax.vmap``. A program whose
  batch is sharded over devices then needs no all-gather. If the batch were part of the row number,
  it would need one.

benchmarks/README.md compares the run time with other forms.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from lcdnet_jax.ops.operators import operator
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.ops.rows import compute_by_rows

Pair = int | tuple[int, int]


@operator()
def deform_conv2d(
    x: ArrayLike,
    offset: ArrayLike,
    mask: ArrayLike | None,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 1,
    dilation: Pair = 1,
    low_memory: bool = False,
) -> Array:
    """Convolves ``x`` with ``kernel`` at sampling positions that ``offset`` moves.

    With zero offsets and no mask this is an ordinary zero-padded convolution. Pixels outside the
    image are zero. Positions are not clamped: a sample 0.3 pixels outside has 0.7 times the value
    of the border pixel. At integer positions the gradient with respect to an offset is the
    right-hand derivative.

    Positions, interpolation and the scatter of the gradient are computed in float32 (float64 for
    float64 inputs) even when ``x`` is bfloat16. Only the product with the kernel is in the type of
    ``x``, with accumulation in float32.

    Source: Zhu et al., Deformable ConvNets v2 (arXiv 1811.11168), section 3.2, with the zero
    padding of its public implementations. SADNet uses it in section 3.1, equation 3.

    Args:
        x: Features ``[N, H, W, C]``, floating point.
        offset: ``[N, H', W', G, K, 2]``, displacement ``(dy, dx)`` of each tap, pixels. Offset
            group g of G moves the channels from ``g*C/G`` to below ``(g+1)*C/G``. The K taps
            (``K = kh*kw``) are in row-major order.
        mask: ``[N, H', W', G, K]``, modulation factor of each sample, or None for 1.
        kernel: ``[kh, kw, C, O]``.
        bias: ``[O]`` or None.
        stride: Step between output pixels, an integer or (vertical, horizontal).
        padding: Zeros added on each side, an integer or (vertical, horizontal).
        dilation: Spacing of the taps, an integer or (vertical, horizontal).
        low_memory: Process one tap after another and recompute the samples for the gradient,
            instead of keeping the samples of all taps in memory. Results are equal up to rounding.
            It takes less memory and more time.

    Returns:
        ``[N, H', W', O]`` in the type of ``x``, where
        ``H' = (H + 2*padding - dilation*(kh-1) - 1)//stride + 1`` and W' likewise.

    Raises:
        ValueError: If the shapes of the arguments do not fit together.
        TypeError: If ``x`` or ``offset`` is not floating point.
    """
    x, offset, kernel = jnp.asarray(x), jnp.asarray(offset), jnp.asarray(kernel)
    mask = None if mask is None else jnp.asarray(mask)
    bias = None if bias is None else jnp.asarray(bias)
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    _check(x, offset, mask, kernel, bias, stride, padding, dilation)

    padded = _pad(x.astype(at_least_float32(x.dtype)))
    return _convolve(
        padded, offset, mask, kernel, bias, stride, padding, dilation, x.dtype, low_memory, 0
    )


def deform_conv2d_by_rows(
    x: Array,
    features: Array,
    predict: Callable[[Array], tuple[Array, Array]],
    kernel: Array,
    bias: Array,
    *,
    rows: int,
) -> Array:
    """Predicts offsets and convolves some rows at a time, so that both take little memory.

    It computes ``deform_conv2d(x, *predict(features), kernel, bias)`` up to rounding. It is made
    for forward passes: its gradient would keep more than that of the whole image.

    Args:
        x: Features ``[N, H, W, C]``, floating point.
        features: What the offsets depend on, ``[N, H, W, F]``.
        predict: Computes ``offset`` and ``mask`` of :func:`deform_conv2d` for some rows of
            ``features``. A pixel depends on those at most one row away, and on zeros outside.
        kernel: ``[3, 3, C, O]``.
        bias: ``[O]``.
        rows: Rows of a part, at most H.

    Returns:
        ``[N, H, W, O]`` in the type of ``x``.
    """
    padded = _pad(x.astype(at_least_float32(x.dtype)))
    around = jnp.pad(features, ((0, 0), (1, 1), (0, 0), (0, 0)))

    def convolve(first: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(around, first, rows + 2, axis=1)
        offset, mask = (a[:, 1:-1] for a in predict(part))
        # XLA would compute all cells before the loop, which take four times the memory of x.
        image, first = jax.lax.optimization_barrier((padded, first))
        return _convolve(
            image, offset, mask, kernel, bias, (1, 1), (1, 1), (1, 1), x.dtype, False, first
        )

    return compute_by_rows(convolve, features.astype(x.dtype), channels=kernel.shape[3], rows=rows)


def _convolve(
    padded: Array,
    offset: Array,
    mask: Array | None,
    kernel: Array,
    bias: Array | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    dtype: DTypeLike,
    low_memory: bool,
    first_row: ArrayLike,
) -> Array:
    """Computes the rows of the output from ``first_row``, as many as ``offset`` has.

    ``padded`` is from :func:`_pad`. The result is of type ``dtype``, the others are as for
    :func:`deform_conv2d`.
    """
    n, out_h, out_w, groups, taps, _ = offset.shape
    size, channels = (padded.shape[1] - 4, padded.shape[2] - 4), padded.shape[3]
    exact = padded.dtype
    cells = _cells(padded, groups)

    # Sampling position of each tap without the offset, as (row, column): [H' or W', K].
    taps_at = np.indices(kernel.shape[:2], np.int32).reshape(2, 1, taps)
    # jnp.arange, because exported programs have symbolic sizes, which NumPy's does not accept.
    starts = (jnp.asarray(first_row, jnp.int32), jnp.int32(0))
    rows, columns = (
        (jnp.arange(length, dtype=jnp.int32) + starts[axis])[:, None] * stride[axis]
        - padding[axis]
        + taps_at[axis] * dilation[axis]
        for axis, length in enumerate((out_h, out_w))
    )
    # Put taps before groups: [N, H', W', K, G].
    shift = jnp.swapaxes(offset.astype(exact), 3, 4)
    y = shift[..., 0] + rows[None, :, None, :, None].astype(exact)
    x_ = shift[..., 1] + columns[None, None, :, :, None].astype(exact)
    factor = None if mask is None else jnp.swapaxes(mask.astype(exact), 3, 4)
    matrix = kernel.astype(dtype).reshape(taps, channels, -1)

    def sample_and_multiply(y: Array, x_: Array, factor: Array | None, matrix: Array) -> Array:
        """Samples some taps and multiplies by their part of the kernel: ``[N * H' * W', O]``."""
        sample = functools.partial(_samples, size=size)
        samples = jax.vmap(sample, in_axes=(0, 0, 0, None if factor is None else 0))(
            cells, y, x_, factor
        )
        # With the pixels of all images on one axis, the kernel's gradient is one matrix product.
        samples = samples.astype(dtype).reshape(n * out_h * out_w, -1)
        return jnp.matmul(samples, matrix, preferred_element_type=exact)

    if low_memory:
        each = jax.tree.map(lambda a: jnp.moveaxis(a, 3, 0)[:, :, :, :, None], (y, x_, factor))

        @jax.checkpoint
        def add_tap(total: Array, tap: tuple[Array, ...]) -> tuple[Array, None]:
            return total + sample_and_multiply(*tap), None

        zeros = jnp.zeros((n * out_h * out_w, matrix.shape[-1]), exact)
        out, _ = jax.lax.scan(add_tap, zeros, (*each, matrix))
    else:
        out = sample_and_multiply(y, x_, factor, matrix.reshape(taps * channels, -1))
    out = out.astype(dtype).reshape(n, out_h, out_w, -1)
    if bias is not None:
        out = out + bias.astype(out.dtype)[None, None, None]
    return out


def _pad(x: Array) -> Array:
    """Adds the pixels around an image that :func:`_cells` needs."""
    return jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))


def _cells(padded: Array, groups: int) -> Array:
    """Packs bilinear cells of images from :func:`_pad` as ``[N, (H+3) * (W+3) * G, 4 * C/G]``.

    The four corners of a cell are next to each other. Cells that touch the image start at rows -1
    to H-1. A ring of zero cells around them serves all positions further outside.
    """
    n, height, width, channels = padded.shape
    padded = padded.reshape(n, height, width, groups, channels // groups)
    corners = [padded[:, i : i + height - 1, j : j + width - 1] for i in (0, 1) for j in (0, 1)]
    cells = jnp.concatenate(corners, axis=-1)
    return cells.reshape(n, (height - 1) * (width - 1) * groups, 4 * channels // groups)


def _samples(
    cells: Array, y: Array, x: Array, factor: Array | None, *, size: tuple[int, int]
) -> Array:
    """Samples one image at the positions ``y``, ``x``.

    Args:
        cells: Cells of the image, see :func:`_cells`.
        y: Rows of the samples, ``[H', W', K, G]``.
        x: Columns of the samples, same shape.
        factor: Modulation of the samples, same shape, or None.
        size: Height and width of the image, pixels.

    Returns:
        ``[H' * W', K * C]``.
    """
    out_h, out_w, taps, groups = y.shape
    (height, width), depth = size, cells.shape[1] // 4
    top, left = jnp.floor(y), jnp.floor(x)
    fy, fx = y - top, x - left
    # Clipping the integers keeps indices in bounds also for NaN offsets, whose output is NaN.
    row = jnp.clip(top.astype(jnp.int32), -2, height) + 2
    column = jnp.clip(left.astype(jnp.int32), -2, width) + 2
    group = jnp.arange(groups, dtype=jnp.int32)[None, None, None]
    index = (row * (width + 3) + column) * groups + group
    corners = cells.at[index.reshape(-1)].get(mode="promise_in_bounds")

    weights = jnp.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=-1)
    if factor is not None:
        weights = weights * factor[..., None]
    corners = corners.reshape(out_h * out_w * taps, groups, 4, depth)
    samples = (corners * weights.reshape(out_h * out_w * taps, groups, 4, 1)).sum(axis=2)
    return samples.reshape(out_h * out_w, taps * groups * depth)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check(
    x: Array,
    offset: Array,
    mask: Array | None,
    kernel: Array,
    bias: Array | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    for name, array, rank, layout in (
        ("x", x, 4, "[N, H, W, C]"),
        ("offset", offset, 6, "[N, H', W', G, K, 2]"),
        ("kernel", kernel, 4, "[kh, kw, C, O]"),
    ):
        if array.ndim != rank:
            raise ValueError(f"deform_conv2d: {name} must be {layout}, got shape {array.shape}")
    for name, array in (("x", x), ("offset", offset)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"deform_conv2d: {name} must be floating point, got {array.dtype}")
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        raise ValueError(
            "deform_conv2d: stride and dilation must be at least 1 and padding at least 0, got "
            f"stride {stride}, dilation {dilation}, padding {padding}"
        )
    n, height, width, channels = x.shape
    kh, kw, in_channels, out_channels = kernel.shape
    groups = offset.shape[3]
    out_h, out_w = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            (height, width), padding, dilation, (kh, kw), stride, strict=True
        )
    )
    if out_h < 1 or out_w < 1:
        raise ValueError(
            f"deform_conv2d: the {height}x{width} image is smaller than the dilated "
            f"{kh}x{kw} kernel; increase padding (now {padding})"
        )
    if in_channels != channels:
        raise ValueError(f"deform_conv2d: kernel is for C = {in_channels}, x has C = {channels}")
    if groups < 1 or channels % groups:
        raise ValueError(
            f"deform_conv2d: the channels of x ({channels}) cannot be split into {groups} offset "
            "groups"
        )
    expected = (n, out_h, out_w, groups, kh * kw, 2)
    if offset.shape != expected:
        raise ValueError(f"deform_conv2d: offset must be {expected}, got {offset.shape}")
    if mask is not None and mask.shape != expected[:-1]:
        raise ValueError(f"deform_conv2d: mask must be {expected[:-1]}, got {mask.shape}")
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"deform_conv2d: bias must be ({out_channels},), got {bias.shape}")
    if (height + 3) * (width + 3) * groups >= 2**31:
        raise ValueError(
            f"deform_conv2d: a {height}x{width} image with groups={groups} overflows 32-bit "
            "indices; process it in tiles"
        )
