"""Receptive fields, measured: how far from the edge of a window its result is that of the image.

    python -m benchmarks.receptive_field sadnet-photo checkpoints/lcdnet-rain.safetensors
    python -m benchmarks.receptive_field sadnet:base sadnet:small       # random weights

Photographs of scikit-image, as they are and with noise, are restored whole and as a window from
their middle. A network that sees no further than d pixels has the same result in both, except for
the d pixels at the edges of the window. One JSON object a line for each network: the least overlap
with which no pixel of any image differs by more than each tolerance, in [0, 1], and the largest
difference at some distances from the edge. "field" is the overlap for the tolerance of
docs/explanations/tiling.md. Next to the overlap, windows blend: a pixel there counts by its weight.
The attribute ``tile_overlap`` of SADNet comes from here.

For a network that uses the whole image (LCDNet) the differences do not end. "field" is null, and
"differences" show from where on they no longer fall.
"""

import argparse
import json
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data

from lcdnet_jax import Restorer, image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import tiling
from lcdnet_jax.typing import Variables
from lcdnet_jax.weights import pretrained

TOLERANCE = 2e-3  # of docs/explanations/tiling.md, "Seams"
_TOLERANCES = (TOLERANCE, 5e-4, 1e-4, 1e-5)
_SIDE = 512
_CUT = 128  # a multiple of the stride of every network
_NOISE = (0, 10, 25)  # standard deviation, of 255
_DISTANCES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "weights", nargs="+", help="weights, or NETWORK:PRESET for those that training starts from"
    )
    parser.add_argument("--side", type=int, default=_SIDE, help="of the images, pixels")
    options = parser.parse_args()
    for name in options.weights:
        module, variables = _load(name)
        differences = measure(module, variables, side=options.side)
        line = {
            "weights": name,
            "network": type(module).__name__,
            "field": find_field(differences, TOLERANCE),
            "fields": {str(t): find_field(differences, t) for t in _TOLERANCES},
            "differences": {
                d: float(f"{differences[d:].max():.2g}") for d in _DISTANCES if d < differences.size
            },
        }
        print(json.dumps(line), flush=True)


def measure(
    module: networks.RestorationNetwork, variables: Variables, *, side: int = _SIDE
) -> np.ndarray:
    """Measures by how much a window differs from the whole image.

    Args:
        module: A network.
        variables: Its variables.
        side: Side of the images in pixels. The window is smaller by ``2 * 128``.

    Returns:
        The largest difference of any pixel and image at each distance, in pixels of the input, from
        the edge of the window.
    """
    restorer = Restorer(module, variables, max_pixels=None, bucket=module.stride)
    inner = side - 2 * _CUT
    scale = module.scale
    ramp = np.arange(inner * scale) // scale
    ramp = np.minimum(ramp, ramp[::-1])
    distances = np.minimum.outer(ramp, ramp)
    largest = np.zeros(inner // 2)
    for image in _make_images(side, module.channels):
        whole = restorer(image)[_CUT * scale : -_CUT * scale, _CUT * scale : -_CUT * scale]
        window = restorer(np.ascontiguousarray(image[_CUT:-_CUT, _CUT:-_CUT]))
        difference = np.abs(window - whole).max(axis=-1)
        for distance in range(largest.size):
            found = difference[distances == distance].max()
            largest[distance] = max(largest[distance], found)
    return largest


def find_field(differences: np.ndarray, tolerance: float) -> int | None:
    """Finds the least overlap with which no difference is above a tolerance.

    Args:
        differences: The result of :func:`measure`.
        tolerance: Difference of a pixel, in [0, 1], of two windows that blend.

    Returns:
        Pixels; None if no overlap is enough.
    """
    weights = (np.arange(tiling.RAMP) + 0.5) / tiling.RAMP
    for overlap in range(differences.size - tiling.RAMP):
        blended = differences[overlap:].copy()
        blended[: tiling.RAMP] *= weights
        if blended.max() <= tolerance:
            return overlap
    return None


def _make_images(side: int, channels: int) -> Iterator[np.ndarray]:
    """Photographs of ``[side, side, channels]``, each with each noise."""
    random = np.random.default_rng(0)
    for name in ("astronaut", "coffee", "text"):
        photo = image_io.to_float(getattr(skimage.data, name)())
        photo = photo[..., None] if photo.ndim == 2 else photo
        repeats = [math.ceil(side / length) for length in photo.shape[:2]]
        photo = np.tile(photo, (*repeats, 1))[:side, :side]  # mirrors would hide what is far
        photo = image_io.convert_channels(photo, channels)
        for noise in _NOISE:
            yield photo + random.normal(0, noise / 255, photo.shape).astype(np.float32)


def _load(name: str) -> tuple[networks.RestorationNetwork, Variables]:
    network, colon, preset = name.partition(":")
    if not colon:
        weights = weights_lib.load(pretrained.find(name))
        return weights.module, weights.variables
    module = networks.create(network, **({"preset": preset} if preset else {}))
    shape = (1, 32, 32, module.channels)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros(shape))


if __name__ == "__main__":
    main()
