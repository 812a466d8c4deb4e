"""Frequency analysis of images, networks and frequency masks.

Frequencies are those of ``ops.dct_2d``. In an image of H rows and W columns, the coefficient in row
u and column v has ``u / (2 H)`` cycles per pixel vertically and ``v / (2 W)`` horizontally. Radial
frequencies are, as in ``sfm``, the radius ``sqrt(u^2 + v^2)`` as a share of ``sfm.max_radius``. In
square images of any size, equal shares are equal frequencies. In other images they are not.
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
    """Computes the mean amplitude of DCT coefficients by horizontal frequency.

    El Helou et al. (ECCV 2020, arXiv 2003.07119) plot it as power spectral density: absolute
    values, not squares, averaged over the 5 lowest rows of coefficients and over images. Their
    figures label the first half of the columns as 0 to 0.5 cycles per pixel. By the definition of
    the DCT that half ends at 0.25, so their frequencies are twice those returned here. Their pixel
    values go up to 255, so their amplitudes are 255 times as large.

    Args:
        images: Images ``[..., H, W, C]``, floating point. The mean is over channels and leading
            axes.
        rows: Number of rows of coefficients to average, the lowest first, 1 to H.
        columns: Number of columns to return, the lowest first, 1 to W. None returns all.

    Returns:
        Frequencies in cycles per pixel, ``[columns]`` float32, from 0 (the mean along a row) to
        just below 0.5; and amplitudes, ``[columns]`` float32, or float64 for float64 images.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If there are fewer rows or columns than requested, if the images have fewer than
            three axes, or if there is no image.
    """
    images = jnp.asarray(images)
    if images.size == 0:
        raise ValueError(f"images of shape {images.shape} have no pixels; drop empty batches")
    if jnp.issubdtype(images.dtype, jnp.floating):  # dct_2d raises for other types
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
    """Computes the gain of a network in each frequency band of each image.

    The gain is the least-squares factor from the coefficients of the input to those of the output:
    ``sum(output * input) / sum(input^2)`` over the band and all channels. It is 1 if a band passes
    unchanged, and 0 if it is lost or replaced by unrelated content. For a linear filter it is the
    gain of the filter. Between an output and the *clean* image it is the share of the true content
    that the output has.

    Args:
        outputs: Images ``[N, H, W, C]``, floating point.
        inputs: Images of the same shape.
        edges: Ends of the bands, see :func:`radial_mean`. The mean, at radius 0, has nearly all the
            energy of an image; start above 0 to leave it out.

    Returns:
        ``[N, len(edges) - 1]`` float32. It is NaN for a band in which the input is exactly 0, and
        only rounding error for a band in which the input is 0 up to rounding, as after masking.

    Raises:
        TypeError: If the images are integers.
        ValueError: If the shapes differ, or if images or bands are empty or have another number of
            axes.
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
    """Measures which coefficients the random masks of ``sfm.draw_mask`` cover.

    Args:
        key: One random key.
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        count: Number of masks to draw, at least 1.
        mode: How masks are drawn, see ``sfm``.
        center: Center of targeted bands, as a share of ``sfm.max_radius``.
        sigma: Spread of targeted bands, as a share of ``sfm.max_radius``.

    Returns:
        The frequency with which each coefficient is masked, ``[H, W]`` float32 in [0, 1] (a curve
        by :func:`radial_mean`); and the share of coefficients that each mask covers, ``[count]``
        float32.

    Raises:
        ValueError: If ``count`` is below 1, the image is empty or an option is outside its range.
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
    """Averages over the coefficients in each band of radii.

    Args:
        values: ``[..., H, W]``, floating point, one value for each DCT coefficient.
        edges: Ends of the bands as shares of ``sfm.max_radius``, at least two, ascending from 0 or
            above. A coefficient is in band i if ``edges[i] <= share < edges[i + 1]``. The highest
            share in an image is slightly below 1.

    Returns:
        ``[..., len(edges) - 1]`` in the type of ``values``.

    Raises:
        TypeError: If the values are not floating point.
        ValueError: If the values have fewer than two axes, the edges do not ascend, or a band holds
            no coefficient.
    """
    values, ends = jnp.asarray(values), np.asarray(edges, np.float64)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"expected floating-point values, got {values.dtype}; convert them first")
    if values.ndim < 2:
        raise ValueError(f"expected values [..., H, W], got shape {values.shape}; add axes")
    # The condition also rejects NaN.
    if ends.ndim != 1 or len(ends) < 2 or not (ends[0] >= 0 and (np.diff(ends) > 0).all()):
        raise ValueError(
            f"edges {edges} are not bands; use two or more ascending shares, 0 or more"
        )
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
