"""Functions that several peers share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirrored at the bottom and right, as :func:`lcdnet_jax.ops.pad_to_multiple`."""
    below, right = (-size % multiple for size in x.shape[2:])
    return pad_by_reflection(x, (0, right, 0, below)) if below or right else x


def pad_by_reflection(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """``F.pad`` by reflection, and further than the image is large."""
    height, width = x.shape[2:]
    if max(sides[:2]) < width and max(sides[2:]) < height:
        return F.pad(x, sides, mode="reflect")
    for axis, before, after in ((3, *sides[:2]), (2, *sides[2:])):
        last = x.shape[axis] - 1
        place = torch.arange(-before, last + 1 + after, device=x.device) % max(2 * last, 1)
        x = x.index_select(axis, torch.minimum(place, (2 * last - place).abs()))
    return x


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over the pixels of each channel, ``[N, C, 1, 1]``."""
    return x.mean((2, 3), keepdim=True)
