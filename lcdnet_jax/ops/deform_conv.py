"""Modulated deformable convolution (DCNv2) by gather.

Each output pixel reads every kernel tap at its own fractional position; the bilinear samples,
scaled by a modulation, go through an ordinary dense contraction. All of it is plain
``jax.numpy``: no extension to build, and gradients come from autodiff.

Two decisions carry the speed and the scaling:

* The four corners of every bilinear cell are packed side by side first, so that a sample is
  one gather of one contiguous row, and its gradient one scatter.
* The gather is written for one image and mapped over the batch, which so stays a batch dimension
  of it: a program whose batch is sharded over devices needs no all-gather (folding the batch
  into the row number would cost one).

docs/performance.md has what other forms cost.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.ops.precision import at_least_float32

Pair = int | tuple[int, int]


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
    """Samples ``x`` at displaced taps and contracts the samples with ``kernel``.

    With zero offsets and no mask this is an ordinary zero-padded convolution. The image is
    taken as zero outside its borders, corner by corner: a sample 0.3 pixels outside keeps
    weight 0.7 of the border pixel, and positions are not clamped. At integer positions the
    gradient with respect to an offset is the right-hand derivative.

    Positions and interpolation are computed in float32 (float64 for float64 inputs) even when
    ``x`` is bfloat16, and so is the scatter of the gradient; only the contraction runs in
    ``x``'s type, with accumulation in float32.

    Source: Zhu et al., Deformable ConvNets v2 (arXiv 1811.11168), section 3.2, with the
    zero-extension rule of its public implementations; used by SADNet section 3.1, equation 3.

    Args:
        x: ``[N, H, W, C]``, floating point.
        offset: ``[N, H', W', G, K, 2]``, displacement ``(dy, dx)`` in pixels of each tap. Offset
            group g of G moves channels ``g*C/G`` up to ``(g+1)*C/G``; ``K = kh*kw``, row-major.
        mask: ``[N, H', W', G, K]``, factor of each sample, or None for 1.
        kernel: ``[kh, kw, C, O]``.
        bias: ``[O]`` or None.
        stride: Step between output pixels, as an integer or (vertical, horizontal).
        padding: Zeros added on each side, likewise.
        dilation: Spacing of the taps, likewise.
        low_memory: Sample one tap after another, and once more for the gradient, instead of
            holding the samples of all taps: the same numbers but for rounding, in a fraction of
            the memory and more time.

    Returns:
        ``[N, H', W', O]`` in ``x``'s type, where
        ``H' = (H + 2*padding - dilation*(kh-1) - 1)//stride + 1``.

    Raises:
        ValueError: For arguments whose shapes do not fit together.
        TypeError: For an ``x`` or ``offset`` that is not floating point.
    """
    x, offset, kernel = jnp.asarray(x), jnp.asarray(offset), jnp.asarray(kernel)
    mask = None if mask is None else jnp.asarray(mask)
    bias = None if bias is None else jnp.asarray(bias)
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    _check(x, offset, mask, kernel, bias, stride, padding, dilation)

    n, channels = x.shape[0], x.shape[3]
    _, out_h, out_w, groups, taps, _ = offset.shape
    exact = at_least_float32(x.dtype)
    cells = _cells(x.astype(exact), groups)

    # Where each tap samples, as (row, column) without the offset: [H' or W', K].
    taps_at = np.indices(kernel.shape[:2], np.int32).reshape(2, 1, taps)
    # Not NumPy's arange, which knows no symbolic sizes (those of exported programs).
    rows, columns = (
        jnp.arange(size, dtype=jnp.int32)[:, None] * stride[axis]
        - padding[axis]
        + taps_at[axis] * dilation[axis]
        for axis, size in enumerate((out_h, out_w))
    )
    # Taps before groups: [N, H', W', K, G].
    shift = jnp.swapaxes(offset.astype(exact), 3, 4)
    y = shift[..., 0] + rows[None, :, None, :, None].astype(exact)
    x_ = shift[..., 1] + columns[None, None, :, :, None].astype(exact)
    factor = None if mask is None else jnp.swapaxes(mask.astype(exact), 3, 4)
    matrix = kernel.astype(x.dtype).reshape(taps, channels, -1)

    def contracted(y: Array, x_: Array, factor: Array | None, matrix: Array) -> Array:
        """Samples of some taps times their part of the kernel, ``[N * H' * W', O]``."""
        sample = functools.partial(_samples, size=(x.shape[1], x.shape[2]))
        samples = jax.vmap(sample, in_axes=(0, 0, 0, None if factor is None else 0))(
            cells, y, x_, factor
        )
        # Pixels of all images as one axis: the kernel's gradient is then one plain product.
        samples = samples.astype(x.dtype).reshape(n * out_h * out_w, -1)
        return jnp.matmul(samples, matrix, preferred_element_type=exact)

    if low_memory:
        each = jax.tree.map(lambda a: jnp.moveaxis(a, 3, 0)[:, :, :, :, None], (y, x_, factor))

        @jax.checkpoint
        def add_tap(total: Array, tap: tuple[Array, ...]) -> tuple[Array, None]:
            return total + contracted(*tap), None

        zeros = jnp.zeros((n * out_h * out_w, matrix.shape[-1]), exact)
        out, _ = jax.lax.scan(add_tap, zeros, (*each, matrix))
    else:
        out = contracted(y, x_, factor, matrix.reshape(taps * channels, -1))
    out = out.astype(x.dtype).reshape(n, out_h, out_w, -1)
    if bias is not None:
        out = out + bias.astype(out.dtype)[None, None, None]
    return out


def _cells(x: Array, groups: int) -> Array:
    """Bilinear cells of ``[N, H, W, C]``: ``[N, (H+3) * (W+3) * G, 4 * C/G]``, corners in a row.

    Those that touch the image start at -1 .. H-1; a ring of zero cells around them stands for
    everything further out.
    """
    n, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    padded = padded.reshape(n, height + 4, width + 4, groups, channels // groups)
    corners = [padded[:, i : i + height + 3, j : j + width + 3] for i in (0, 1) for j in (0, 1)]
    cells = jnp.concatenate(corners, axis=-1)
    return cells.reshape(n, (height + 3) * (width + 3) * groups, 4 * channels // groups)


def _samples(
    cells: Array, y: Array, x: Array, factor: Array | None, *, size: tuple[int, int]
) -> Array:
    """Samples of one image at ``y``, ``x`` ``[H', W', K, G]``: ``[H' * W', K * C]``.

    Args:
        cells: Those of the image, see :func:`_cells`.
        y: Rows of the samples.
        x: Columns.
        factor: Of each sample, or None.
        size: Height and width of the image.
    """
    out_h, out_w, taps, groups = y.shape
    (height, width), depth = size, cells.shape[1] // 4
    top, left = jnp.floor(y), jnp.floor(x)
    fy, fx = y - top, x - left
    # Clipping the integers also keeps NaN offsets in bounds, so that they show up as NaN in the
    # output.
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
        raise ValueError(f"deform_conv2d: kernel expects {in_channels} channels, x has {channels}")
    if groups < 1 or channels % groups:
        raise ValueError(
            f"deform_conv2d: {channels} channels cannot be split into {groups} offset groups"
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
            f"deform_conv2d: a {height}x{width} image with {groups} groups overflows 32-bit "
            "indices; process it in tiles"
        )
