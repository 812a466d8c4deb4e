"""Photographs as a camera would have stored them in little light: files to try a denoiser on.

    python -m benchmarks.camera_photos camera
    lcdnet-jax restore camera/noisy -o restored --reference camera/clean
    python -m benchmarks.before_after camera/noisy restored --output docs/images/before_after.jpg

The three photographs of scikit-image that no recipe trains on, with the noise of a sensor at one
level and the other steps of the camera of configs/sadnet_photo.py, saved as JPEG of quality 90.
"""

import argparse
import functools
import pathlib

import jax
import numpy as np

from configs import sadnet_photo
from input_pipeline import create_eval_dataset
from lcdnet_jax import degradations, image_io

# Variance for each unit of light; little light, in the range of the recipe.
_SHOT = 2e-2
_QUALITY = 90


def main() -> None:
    """Writes noisy/NAME.jpg and clean/NAME.png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=pathlib.Path, help="folder to make")
    output: pathlib.Path = parser.parse_args().output
    for folder in ("noisy", "clean"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    camera = sadnet_photo.get_config().degradation.options.camera.to_dict()
    camera |= {"shot": (_SHOT, _SHOT), "quality": None, "second_quality": None, "processed": 1.0}
    degrade = jax.jit(functools.partial(degradations.camera_noise, **camera))
    spec = {"source": "photos", "path": "", "split": "test", "feature": ""}
    for number, example in enumerate(create_eval_dataset(spec, 3, field="photos")):
        name, clean = example["name"], example["clean"]
        noisy = np.asarray(degrade(jax.random.split(jax.random.key(number), 1), clean[None]))[0]
        files = {f"noisy/{name}.jpg": noisy, f"clean/{name}.png": clean}
        for file, image in files.items():
            image_io.write(output / file, image_io.to_uint8(image), quality=_QUALITY)
            print(output / file)


if __name__ == "__main__":
    main()
