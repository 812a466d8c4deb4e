"""Image restoration in JAX and Flax: LCDNet, SADNet and stochastic frequency masking.

Public functions take and return arrays in NHWC layout, floating point in [0, 1]. Only image files
and ``Restorer`` use integer images. Submodules are imported on first use, so that ``import
lcdnet_jax`` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lcdnet_jax._version import __version__

if TYPE_CHECKING:
    from lcdnet_jax import (
        checkpoints,
        config,
        convert,
        degradations,
        evaluation,
        export,
        image_io,
        inference,
        losses,
        metrics,
        networks,
        ops,
        protocols,
        resident_images,
        sfm,
        spectra,
        training,
        visualization,
        weights,
    )
    from lcdnet_jax.inference import Restorer

_SUBMODULES = (
    "checkpoints",
    "config",
    "convert",
    "degradations",
    "evaluation",
    "export",
    "image_io",
    "inference",
    "losses",
    "metrics",
    "networks",
    "ops",
    "protocols",
    "resident_images",
    "sfm",
    "spectra",
    "training",
    "visualization",
    "weights",
)

__all__ = ["Restorer", "__version__", *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"lcdnet_jax.{name}")
    if name == "Restorer":
        return importlib.import_module("lcdnet_jax.inference").Restorer
    raise AttributeError(f"module 'lcdnet_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
