"""The two views of a dual-pixel camera as one array: left RGB, then right RGB, six channels."""

from typing import TypeVar

TWO_VIEW_CHANNELS = 6

_ArrayT = TypeVar("_ArrayT")


def clean_channels(channels: int) -> int:
    """Channels of the ground truth of images with ``channels``: 3 for two views, else as many."""
    return 3 if channels == TWO_VIEW_CHANNELS else channels


def mean_of_views(x: _ArrayT) -> _ArrayT:
    """``[..., 6]`` to ``[..., 3]``, for NumPy and JAX arrays."""
    return (x[..., :3] + x[..., 3:]) / 2  # type: ignore[index]
