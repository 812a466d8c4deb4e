"""Inference: restoring arrays and files with trained networks."""

from lcdnet_jax.inference.padding import pad_to_bucket
from lcdnet_jax.inference.pixel_range import PixelRangeWarning
from lcdnet_jax.inference.restorer import (
    MAX_PIXELS,
    ComputeTypeWarning,
    MemoryWarning,
    Restorer,
)

__all__ = [
    "MAX_PIXELS",
    "ComputeTypeWarning",
    "MemoryWarning",
    "PixelRangeWarning",
    "Restorer",
    "pad_to_bucket",
]
