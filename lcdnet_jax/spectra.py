"""Frequencies to look at: of images, of what a network passes, and of frequency masks.

All are those of ``ops.dct_2d``: the coefficient in row u and column v of an image of H rows and
W columns has u / (2 H) cycles per pixel down and v / (2 W) across. Where a single number stands
for both it is, as in ``sfm``, the radius ``sqrt(u^2 + v^2)`` as a share of ``sfm.max_radius``. In
square images equal shares are equal frequencies, whatever the size; in others they are not.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax import metrics, sfm
from lcdnet_jax.ops import dct_2d
from lcdnet_jax.ops.precision import at_least_float32


def amplitude_spectrum(
    images: ArrayLike, *, rows: int = 5, columns: int | None = None
) -> tuple[np.ndarray, Array]:
    """Mean size of DCT coefficients by frequency across, for the lowest frequencies down.

    What El Helou et al. (ECCV 2020, arXiv 2003.07119) plot as power spectral density: absolute
    values, not squares, averaged over the 5 lowest rows of coefficients and over images. Their
    figures show the first half of the columns and count it as 0 to 0.5 cycles per pixel. By the
    definition of the DCT that half ends at 0.25, so their frequencies are twice those given here.
    Their images have values up to 255, which makes amplitudes 255 times as large.

    Args:
        images: ``[..., H, W, C]``, floating point; the mean is over channels and leading axes.
        rows: How many rows of coefficients are averaged, the lowest first, 1 to H.
        columns: How many columns are given, the lowest first, 1 to W; None for all.

    Returns:
        Frequencies in cycles per pixel, ``[columns]`` float32, from 0 (the mean along a row) to
        just below 0.5; and amplitudes, ``[columns]`` float32, or float64 for float64 images.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For more rows or columns than there are, fewer than three axes or no image.
    """
    images = jnp.asarray(images)
    if images.size == 0:
        raise ValueError(f"images of shape {images.shape} hold no pixel; drop empty batches")
    if jnp.issubdtype(images.dtype, jnp.floating):  # other types are refused below
        images = images.astype(at_least_float32(images.dtype))
    coefficients = dct_2d(images)
    height, width = images.shape[-3:-1]
    columns = width if columns is None else columns
    for name, number, limit in (("rows", rows, height), ("columns", columns, width)):
        if not 1 <= number <= limit:
            raise ValueError(
                f"{name} is {number}, but images of {height}x{width} pixels have {limit} {name} "
                f"of coefficients; use 1 to {limit}"
            )
    lowest = jnp.abs(coefficients[..., :rows, :columns, :])
    frequencies = (np.arange(columns) / (2 * width)).astype(np.float32)
    return frequencies, jnp.mean(jnp.moveaxis(lowest, -2, 0).reshape(columns, -1), axis=1)


def response_gain(outputs: ArrayLike, inputs: ArrayLike, *, edges: Sequence[float]) -> Array:
    """How much of each band of frequencies a network passes, for each image.

    The factor by which the coefficients of the input are best multiplied to give those of the
    output: ``sum(output * input) / sum(input^2)`` over the band and all channels. It is 1 where a
    band passes unchanged, 0 where it is lost, or replaced by something unrelated. For a linear
    filter it is the filter's own gain. Of an output and its *clean* image it is the share of the
    true content that the output holds.

    Args:
        outputs: ``[N, H, W, C]``, floating point.
        inputs: Images of the same shape.
        edges: Ends of the bands, see :func:`radial_mean`. Nearly all energy of an image is in its
            mean, at radius 0; begin above 0 to leave it out.

    Returns:
        ``[N, len(edges) - 1]`` float32; NaN for a band in which the input is exactly 0, and
        rounding errors alone where it is 0 but for them, as after masking.

    Raises:
        TypeError: For integer images.
        ValueError: For different shapes, other than four axes, empty images or bands.
    """
    outputs, inputs = metrics.float32_pair(jnp.asarray(outputs), jnp.asarray(inputs))
    after, before = dct_2d(outputs), dct_2d(inputs)
    passed = radial_mean(jnp.sum(after * before, axis=-1), edges=edges)
    return passed / radial_mean(jnp.sum(before * before, axis=-1), edges=edges)


def mask_coverage(
    key: Array,
    height: int,
    width: int,
    *,
    count: int = 1000,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
) -> tuple[Array, Array]:
    """What the random masks of ``sfm.draw_mask`` take, measured on many of them.

    Args:
        key: One random key.
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        count: How many masks are drawn, at least 1.
        mode: How they are drawn, see ``sfm``, as for ``center`` and ``sigma``.
        center: Center of targeted bands.
        sigma: Spread of targeted bands.

    Returns:
        How often each coefficient was masked, ``[H, W]`` float32 in [0, 1], which
        :func:`radial_mean` turns into a curve; and the share of coefficients that each mask took,
        ``[count]`` float32.

    Raises:
        ValueError: For no masks, an empty image or an option outside its range.
    """
    if count < 1:
        raise ValueError(f"count is {count}; draw at least 1 mask")

    def step(total: Array, key: Array) -> tuple[Array, Array]:
        kept = sfm.draw_mask(key, height, width, mode=mode, center=center, sigma=sigma)
        return total + (1 - kept), jnp.mean(1 - kept)

    start = jnp.zeros_like(sfm.radii(height, width))
    total, shares = jax.lax.scan(step, start, jax.random.split(key, count))
    return total / count, shares


def radial_mean(values: ArrayLike, *, edges: Sequence[float]) -> Array:
    """Mean over the coefficients of each band of radii.

    Args:
        values: ``[..., H, W]``, floating point, a value for each DCT coefficient.
        edges: Ends of the bands as shares of ``sfm.max_radius``, ascending, at least two. A
            coefficient is in band i where ``edges[i] <= share < edges[i + 1]``. The highest
            share is slightly below 1.

    Returns:
        ``[..., len(edges) - 1]`` in the type of ``values``.

    Raises:
        TypeError: For values that are not floating point.
        ValueError: For fewer than two axes, edges that do not ascend from 0 or above, and bands
            without a coefficient.
    """
    values, ends = jnp.asarray(values), np.asarray(edges, np.float64)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"expected floating-point values, got {values.dtype}; convert them first")
    if values.ndim < 2:
        raise ValueError(f"expected values [..., H, W], got shape {values.shape}")
    # Written so that NaN is refused, too.
    if ends.ndim != 1 or len(ends) < 2 or not (ends[0] >= 0 and (np.diff(ends) > 0).all()):
        raise ValueError(f"edges {edges} are no bands; use two or more ascending shares, 0 or more")
    height, width = values.shape[-2:]
    share = sfm.radii(height, width) / sfm.max_radius(height, width)
    inside = (ends[:-1] <= share.reshape(-1, 1)) & (share.reshape(-1, 1) < ends[1:])
    counts = inside.sum(axis=0)
    if not counts.all():
        empty = int(np.argmin(counts))
        raise ValueError(
            f"an image of {height}x{width} pixels has no coefficient between the shares "
            f"{ends[empty]:g} and {ends[empty + 1]:g} of its largest radius; use wider bands or "
            "larger images"
        )
    exact = at_least_float32(values.dtype)
    flat = values.astype(exact).reshape(*values.shape[:-2], -1)
    weights = jnp.asarray(inside / counts, exact)
    return jnp.matmul(flat, weights, precision=jax.lax.Precision.HIGHEST).astype(values.dtype)
