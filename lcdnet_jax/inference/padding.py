"""Padding of images by reflection."""

import numpy as np

from lcdnet_jax.inference import tiling


def pad_to_bucket(
    batch: np.ndarray, bucket: int | None, *, tile: int | None = None, overlap: int = 0
) -> np.ndarray:
    """Pads images by reflection at the bottom and right.

    :func:`lcdnet_jax.inference.tiling.compute_padded_size` computes the size.

    Args:
        batch: Images ``[N, H, W, C]`` of any dtype.
        bucket: Sides are padded to a multiple of this many pixels, or to the next common size if
            it is None.
        tile: Side of the tiles in pixels, or None for whole images.
        overlap: Overlap of the tiles in pixels.

    Returns:
        A copy ``[N, H', W', C]`` of the same dtype.
    """
    rows, columns = (
        reflect_indices(side, tiling.compute_padded_size(side, bucket, tile=tile, overlap=overlap))
        for side in batch.shape[1:3]
    )
    if (rows.size, columns.size) == batch.shape[1:3]:
        return batch.copy()
    return batch[:, rows[:, None], columns]


def reflect_indices(side: int, end: int) -> np.ndarray:
    """Indices that pad a side to ``end`` pixels by reflection."""
    return np.pad(np.arange(side), (0, max(end - side, 0)), mode="reflect")
