"""Export of networks with their weights as programs."""

from lcdnet_jax.export.stablehlo import (
    MAX_PIXELS,
    MAX_SIDE,
    PLATFORMS,
    ExportError,
    Sizes,
    export_program,
    write,
    write_saved_model,
)

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "PLATFORMS",
    "ExportError",
    "Sizes",
    "export_program",
    "write",
    "write_saved_model",
]
