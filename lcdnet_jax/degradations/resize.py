"""Bicubic resizing as the two programs do that super-resolution data are made with.

Both widen the kernel where they shrink, so that nothing is aliased, and both place pixel ``i`` of
an image at ``i + 0.5``. They differ at borders only, and in what they round.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import checked

BICUBIC = ("pillow", "matlab")


def bicubic(images: ArrayLike, *, height: int, width: int, like: str = "pillow") -> Array:
    """Resizes images by Keys' cubic convolution (IEEE TASSP 1981, a = -0.5).

    ``pillow``: ``Image.resize(..., BICUBIC)``. The kernel ends at the border, and what is left of
    it is scaled to a sum of 1. ``matlab``: ``imresize(image, [height width])``. The image is
    mirrored at its border, the edge pixel repeated.

    Nothing is rounded or clipped here, as for Pillow's mode "F" and MATLAB's type double. 8-bit
    images are rounded and clipped by both programs after each direction: columns first by Pillow,
    the one of the smaller scale first (rows, if equal) by MATLAB. Resize by two calls and round
    after each where that last level matters.

    Two products with matrices, as in ``ops.dct``: a batch may be sharded over devices.

    Args:
        images: ``[N, H, W, C]``, floating point with any values.
        height: Rows of the result; fewer, as many or more than H.
        width: Columns.
        like: One of ``BICUBIC``.

    Returns:
        ``[N, height, width, C]`` in the type of ``images``. Beside edges the kernel overshoots: up
        to a few tenths outside the range of the images.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For a size below 1, an unknown program, other than four axes or empty images.
    """
    images = checked(images)
    if like not in BICUBIC:
        raise ValueError(f"no bicubic resizing like {like!r}; use one of {', '.join(BICUBIC)}")
    if height < 1 or width < 1:
        raise ValueError(f"images cannot have {height}x{width} pixels; use 1 or more each way")
    down, across = (
        jnp.asarray(_weights(before, after, mirrored=like == "matlab"), jnp.float32)
        for before, after in zip(images.shape[1:3], (height, width), strict=True)
    )
    highest = jax.lax.Precision.HIGHEST
    planes = jnp.moveaxis(images.astype(jnp.float32), -1, 1)
    planes = jnp.matmul(jnp.matmul(down, planes, precision=highest), across.T, precision=highest)
    return jnp.moveaxis(planes, 1, -1).astype(images.dtype)


def _weights(before: int, after: int, *, mirrored: bool) -> np.ndarray:
    """What each of ``before`` pixels adds to each of ``after``, ``[after, before]`` float64."""
    stretch = max(before / after, 1.0)
    reach = int(np.ceil(2 * stretch)) + 1 if mirrored else 0  # pixels beyond the border
    pixels = np.arange(-reach, before + reach)
    centers = (np.arange(after) + 0.5) * (before / after) - 0.5
    weights = _cubic((pixels - centers[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    # Where the pixels beyond the border come from: the image, its mirror image, the image, ...
    turns = pixels % (2 * before)
    sources = np.minimum(turns, 2 * before - 1 - turns)
    folded = np.zeros((after, before))
    np.add.at(folded.T, sources, weights.T)
    return folded


def _cubic(distance: np.ndarray) -> np.ndarray:
    x = abs(distance)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
