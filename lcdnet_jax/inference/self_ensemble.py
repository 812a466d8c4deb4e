"""Orientations of the self-ensemble: flips and transposition of images, and their reversal."""

import itertools

import numpy as np

# Whether rows are flipped, whether columns are, and whether the result is transposed.
Orientation = tuple[bool, bool, bool]


def orientations(*, two_views: bool) -> list[Orientation]:
    """Lists the orientations, the unchanged image first.

    Args:
        two_views: Whether images hold two views, which must not be transposed.

    Returns:
        All eight orientations; four for two views.
    """
    return list(
        itertools.product((False, True), (False, True), (False,) if two_views else (False, True))
    )


def orient(x: np.ndarray, orientation: Orientation, *, two_views: bool) -> np.ndarray:
    """Orients images as ``input_pipeline.tf_ops.orient``; flipped columns swap two views.

    Args:
        x: Images ``[N, H, W, C]``.
        orientation: One of :func:`orientations`.
        two_views: Whether images hold two views along channels.

    Returns:
        ``[N, H, W, C]``, or ``[N, W, H, C]`` if transposed.
    """
    rows, columns, transposed = orientation
    if columns and two_views:
        left, right = np.split(x, 2, axis=-1)
        x = np.concatenate([right, left], axis=-1)
    x = x[:, :: -1 if rows else 1, :: -1 if columns else 1]
    return x.swapaxes(1, 2) if transposed else x


def revert(x: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Reverts :func:`orient` on results, which are not two views.

    Args:
        x: Results ``[N, H, W, C]`` of oriented images.
        orientation: The orientation of these images.

    Returns:
        ``[N, H, W, C]``, or ``[N, W, H, C]`` if transposed.
    """
    rows, columns, transposed = orientation
    x = x.swapaxes(1, 2) if transposed else x
    return x[:, :: -1 if rows else 1, :: -1 if columns else 1]
