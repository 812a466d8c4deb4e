"""The two views of a dual-pixel camera as one array: left RGB, then right RGB, six channels."""

from typing import TypeVar

#: Channels of the two views of a dual-pixel camera: left RGB, then right RGB.
TWO_VIEW_CHANNELS = 6

_ArrayT = TypeVar("_ArrayT")


def clean_channels(channels: int) -> int:
    """Returns the number of channels of the ground truth.

    Args:
        channels: Channels of the degraded image.

    Returns:
        3 for the two views of a dual-pixel camera (6 channels), else ``channels``.
    """
    return 3 if channels == TWO_VIEW_CHANNELS else channels


def mean_of_views(x: _ArrayT) -> _ArrayT:
    """Averages the two views of a dual-pixel camera.

    Args:
        x: Left view, then right view, ``[..., 6]``, a NumPy or JAX array.

    Returns:
        The mean of both views, ``[..., 3]``.
    """
    return (x[..., :3] + x[..., 3:]) / 2  # type: ignore[index]
