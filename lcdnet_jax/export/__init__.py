"""Export of networks with their weights as programs that run without this library.

The forms are a *program file* for JAX (:mod:`lcdnet_jax.export.stablehlo`), a *SavedModel* for
TensorFlow (:mod:`lcdnet_jax.export.saved_model`), an *ONNX* file for ONNX Runtime and other
programs (:mod:`lcdnet_jax.export.onnx`) and a *LiteRT* file for phones
(:mod:`lcdnet_jax.export.litert`).

LiteRT files take one image of one size. The other forms take any number of images. Most networks
are exported once for images of any size. Their sides are symbolic multiples of the network's
stride, and the runner pads images to such multiples as the network itself does. The code of some
networks needs sizes as numbers (the neighborhoods of N3Net, the Fourier transforms of LCDNet unless
its field ``fourier`` is "matmul"). Such a network becomes one program for each requested size, and
smaller images are padded. The padding influences their results, because such a network sees the
whole image. As ONNX, LCDNet takes any size, too.

Every export is run and compared with the network before it is written.
"""

from lcdnet_jax.export._prepare import (
    DEFAULT_PLATFORMS,
    MAX_PIXELS,
    MAX_SIDE,
    PLATFORMS,
    ExportError,
    Sizes,
)
from lcdnet_jax.export.litert import write_litert
from lcdnet_jax.export.onnx import export_onnx, write_onnx
from lcdnet_jax.export.saved_model import write_saved_model
from lcdnet_jax.export.stablehlo import export_program, write

__all__ = [
    "DEFAULT_PLATFORMS",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PLATFORMS",
    "ExportError",
    "Sizes",
    "export_onnx",
    "export_program",
    "write",
    "write_litert",
    "write_onnx",
    "write_saved_model",
]
