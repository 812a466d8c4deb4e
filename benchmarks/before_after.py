"""Files before and after restoration, side by side, as the README shows them.

python -m benchmarks.camera_photos camera
lcdnet-jax restore camera/noisy -o restored
python -m benchmarks.before_after camera/noisy restored --output docs/images/before_after.jpg
"""

import argparse
import pathlib

import numpy as np

from lcdnet_jax import image_io, visualization

_WIDTH = 300


def main() -> None:
    """Reads, draws, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=pathlib.Path, help="folder of images")
    parser.add_argument("after", type=pathlib.Path, help="folder with results of the same names")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a .jpg or .png file")
    arguments = parser.parse_args()
    strips = []
    for path in sorted(arguments.before.iterdir()):
        before, after = (
            image_io.to_float(image_io.read(folder / path.name))
            for folder in (arguments.before, arguments.after)
        )
        pictures = [(f"{path.name}, noisy", before), ("restored", after)]
        strips.append(visualization.draw_panel(pictures, clean=after, width=_WIDTH))
    height = max(len(strip) for strip in strips)
    padded = [np.pad(s, ((0, height - len(s)), (0, 0), (0, 0)), mode="edge") for s in strips]
    image_io.write(arguments.output, np.concatenate(padded, axis=1), quality=75)


if __name__ == "__main__":
    main()
