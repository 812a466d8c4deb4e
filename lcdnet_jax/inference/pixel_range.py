"""Warning about floating-point images that are far outside of the range [0, 1] of the networks."""

import numpy as np

from lcdnet_jax.inference.transparency import find_hidden_pixels

# Noise without clipping and highlights go a little beyond [0, 1]. Values beyond these are most
# often those of 8-bit or 16-bit images that were never divided.
_LOWEST, _HIGHEST = -4.0, 5.0


class PixelRangeWarning(UserWarning):
    """Pixels are far outside of [0, 1]; the message names the fix."""


def describe_range(image: np.ndarray, *, channels: int) -> str | None:
    """Describes pixels that are far outside of [0, 1].

    Args:
        image: ``[H, W]`` or ``[H, W, C]`` of any type, not empty, without NaN. Alpha does not
            count, nor do the pixels that it hides: the network does not see them.
        channels: Channels of the network. An image of 2 or 4 has alpha, unless the network has as
            many.

    Returns:
        A message that names the range and the fix. None for integers, whose white is known, and
        for values from -4 to 5.
    """
    if image.dtype.kind in "iu":
        return None
    if image.ndim == 3 and image.shape[2] in (2, 4) and image.shape[2] != channels:
        hidden = find_hidden_pixels(image[..., -1])
        image = image[..., :-1] if hidden is None else image[~hidden, :-1]
    low, high = float(image.min()), float(image.max())
    if low >= _LOWEST and high <= _HIGHEST:
        return None
    divisor = next((white for white in (255, 65535) if low >= 0 and high <= white), None)
    fix = f"divide them by {divisor}" if divisor else "scale them to [0, 1]"
    return (
        f"the pixels are from {low:.4g} to {high:.4g}, far outside of the [0, 1] that networks are "
        f"trained on, so the result is likely wrong; {fix}"
    )
