"""Bicubic resizing that equals Pillow's or MATLAB's.

Super-resolution data sets are made with these two programs. Both widen the kernel when they reduce
an image (antialiasing), and both put the center of pixel ``i`` at ``i + 0.5``. They differ at the
borders and in rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import check_images

#: Libraries whose bicubic filter :func:`bicubic` has.
BICUBIC = ("pillow", "matlab")


def bicubic(images: ArrayLike, *, height: int, width: int, like: str = "pillow") -> Array:
    """Resizes images by cubic convolution (Keys, IEEE TASSP 1981, a = -0.5).

    * ``pillow`` equals ``Image.resize(..., BICUBIC)``. The kernel is cut at the border and scaled
      to sum 1.
    * ``matlab`` equals ``imresize(image, [height width])``. The image is reflected at the border,
      with the edge pixel repeated.

    Values are neither rounded nor clipped, as for Pillow's mode "F" and MATLAB's type double. For
    8-bit images both programs round and clip after each direction: Pillow resizes columns first,
    MATLAB the direction of the smaller scale (rows if equal). To reproduce their 8-bit results to
    the last level, resize in two calls and round after each.

    The computation is two matrix products, as in ``ops.dct``, so a batch may be sharded.

    Args:
        images: Images ``[N, H, W, C]``, floating point, any values.
        height: Rows of the result, at least 1.
        width: Columns of the result, at least 1.
        like: "pillow" or "matlab".

    Returns:
        ``[N, height, width, C]`` in the type of ``images``. Next to edges the kernel overshoots, so
        values may lie a few tenths outside the range of the images.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If a size is below 1, ``like`` is unknown or the images have another shape.
    """
    images = check_images(images)
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
    """Builds the resizing matrix along one axis, ``[after, before]`` float64."""
    stretch = max(before / after, 1.0)
    reach = int(np.ceil(2 * stretch)) + 1 if mirrored else 0  # pixels beyond the border
    pixels = np.arange(-reach, before + reach)
    centers = (np.arange(after) + 0.5) * (before / after) - 0.5
    weights = _cubic((pixels - centers[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    # Pixels beyond the border repeat the image and its reflection in turn.
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
