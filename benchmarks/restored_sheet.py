"""What trained networks do to photographs that they have not seen (docs/results/lcdnet.md).

    python -m benchmarks.restored_sheet runs/motion runs/rain --output docs/images/lcdnet.jpg

Each network restores scikit-image's photograph of a cup, degraded in the way that it was trained
against. A minute on a CPU; the same checkpoints draw the same sheet.
"""

import argparse
import pathlib

import numpy as np
import skimage.data

from lcdnet_jax import Restorer, image_io, protocols, visualization
from lcdnet_jax import config as config_lib
from lcdnet_jax.evaluation import Evaluator

_WIDTH = 300


def main() -> None:
    """Restores, draws, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, help="of train.py")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a .jpg or .png file")
    arguments = parser.parse_args()
    clean = image_io.to_float(skimage.data.coffee())
    strips = []
    for workdir in arguments.workdirs:
        config = config_lib.load(workdir / "config.json")
        kind = config.degradation.kind
        protocol = config.degradation.protocol.split(",")[0]
        evaluator = Evaluator(
            protocols.get(protocol).with_degradation(kind),
            degradation=config_lib.create_degradation(config),
        )
        restorer = Restorer.from_checkpoint(workdir)
        (scored,) = evaluator.score_images(restorer, [{"name": "coffee", "clean": clean}])
        pictures = [
            (f"{kind}: {scored.input_psnr:.2f} dB", scored.degraded),
            (f"{config.network.name}: {scored.psnr:.2f} dB", scored.restored),
            ("clean", scored.clean),
        ]
        strips.append(visualization.draw_panel(pictures, clean=clean, width=_WIDTH))
    image_io.write(arguments.output, np.concatenate(strips), quality=80)


if __name__ == "__main__":
    main()
