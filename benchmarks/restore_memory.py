"""Peak memory of restoring one large image in windows; one JSON line, status 1 above 2.5 GB.

    python -m benchmarks.restore_memory                                # 100 megapixels
    python -m benchmarks.restore_memory --megapixels 3 --network sadnet --preset base
    python -m benchmarks.restore_memory --megapixels 3 --network rcan --preset small --scale 2

Idle is the resident memory of this process with all modules imported and JAX started. What comes
on top is counted all of it: the image and its result (uint8 RGB, 0.3 GB each at 100 megapixels, the
result of a network that enlarges larger by the square of its scale), weights, compilation, a window
in the network and the sums of the windows of one band. Of these only the network's window and what
it enlarges depend on the network: 0.1 GB of DnCNN, 0.7 GB of the published SADNet at 512 pixels.
The default is a small DnCNN, because 100 megapixels take long; weights are random. Linux only,
where the kernel tells the peak (VmHWM).
"""

import argparse
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import resident
from lcdnet_jax import Restorer, networks

_LIMIT = 2.5  # GB above idle
_CHEAP = {"channels": 3, "depth": 5, "features": 8}  # of DnCNN


def main() -> None:
    """Restores and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=float, default=100.0)
    parser.add_argument("--network", default="dncnn")
    parser.add_argument("--preset", help="of the network")
    parser.add_argument("--scale", type=int, help="of a network that enlarges")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=64)
    options = parser.parse_args()
    kwargs = _CHEAP if options.network == "dncnn" else {"preset": options.preset}
    if options.scale:
        kwargs = {**kwargs, "scale": options.scale}
    module = networks.create(options.network, **kwargs)
    side = round((options.megapixels * 1e6) ** 0.5)
    jnp.zeros(()).block_until_ready()  # JAX has started
    idle = resident.read("VmRSS")

    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, module.channels)))
    begin = time.perf_counter()
    restorer = Restorer(module, variables, tile=options.tile, overlap=options.overlap)
    restored = restorer(image)
    seconds = time.perf_counter() - begin
    large = side * module.scale
    if (restored.shape, restored.dtype) != ((large, large, 3), image.dtype):
        sys.exit(f"error: the result has shape {restored.shape} and type {restored.dtype}")
    above = resident.read("VmHWM") - idle
    result = {
        "network": options.network,
        **kwargs,
        "image": list(image.shape),
        "dtype": str(image.dtype),
        "mode": restorer.mode,
        "idle_gb": round(idle, 3),
        "above_idle_gb": round(above, 3),
        "image_and_result_gb": round((image.nbytes + restored.nbytes) / 1e9, 3),
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].platform,
    }
    print(json.dumps(result), flush=True)
    if above > _LIMIT:
        sys.exit(f"error: {above:.2f} GB above idle; the limit is {_LIMIT}")


if __name__ == "__main__":
    main()
