"""Strength and correlation of noise: of pairs of photographs, and of what a recipe makes.

    python -m benchmarks.noise_statistics --pairs DIR
    python -m benchmarks.noise_statistics --photos DIR --config configs/sadnet_photo.py

DIR holds noisy/ and clean/, or clean photographs that the recipe degrades. Noise is the difference
from the clean image, without what a Gaussian blur of 8 pixels keeps of it. For each number the 5th,
50th and 95th percentile over the images are printed. Use training pairs: ranges that are chosen by
test pairs would be fitted to them.
"""

import argparse
from collections.abc import Iterator

import jax
import numpy as np
from scipy import ndimage

from input_pipeline import create_eval_dataset
from lcdnet_jax import config as config_lib
from lcdnet_jax.messages import format_count

# Side of the part in the middle of each image.
_SIDE = 256


def measure(noise: np.ndarray) -> dict[str, float]:
    """Measures noise ``[H, W, 3]`` of values in [0, 1].

    Returns:
        Standard deviations in levels of 255, and correlations of neighbors in a row and of colors.
    """
    noise = 255 * noise.astype(np.float64)
    noise = noise - ndimage.gaussian_filter(noise, 8.0, axes=(0, 1))
    found = {}
    for name, channel in zip("RGB", np.moveaxis(noise, -1, 0), strict=True):
        found[f"deviation {name}"] = float(np.sqrt((channel**2).mean()))
        found[f"neighbors {name}"] = _correlate(channel[:, 1:], channel[:, :-1])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        name = f"colors {'RGB'[first]}{'RGB'[second]}"
        found[name] = _correlate(noise[..., first], noise[..., second])
    return found


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))


def _crop(image: np.ndarray) -> np.ndarray:
    top, left = ((size - min(size, _SIDE)) // 2 for size in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


def _list_noise(folder: str, arguments: list[str] | None) -> Iterator[np.ndarray]:
    """Noise of pairs, or of clean photographs that a configuration degrades."""
    examples = create_eval_dataset({"source": "folder", "path": folder}, 3, field="DIR")
    if arguments is None:
        for example in examples:
            yield _crop(example["degraded"] - example["clean"])
        return
    step = config_lib.create_degradation(config_lib.read_config(arguments))
    if step is None:
        raise SystemExit("--config has no degradation such as 'camera'; use another one")
    degrade = jax.jit(step)
    for number, example in enumerate(examples):
        keys, clean = jax.random.split(jax.random.key(number), 1), _crop(example["clean"])
        yield np.asarray(degrade(keys, clean[None]))[0] - clean


def main() -> None:
    """Prints a line for each number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folders = parser.add_mutually_exclusive_group(required=True)
    folders.add_argument("--pairs", help="folder with noisy/ and clean/")
    folders.add_argument("--photos", help="folder of clean photographs, for --config")
    parser.add_argument("--config", help="a recipe; its fields may follow as --config.FIELD=VALUE")
    options, others = parser.parse_known_args()
    if bool(options.photos) != bool(options.config):
        parser.error("--photos and --config belong together")
    arguments = ["--config", options.config, *others] if options.config else None
    rows = [measure(noise) for noise in _list_noise(options.pairs or options.photos, arguments)]
    print(f"{format_count(len(rows), 'image')}: 5th, 50th and 95th percentile")
    for name in rows[0]:
        low, middle, high = np.percentile([row[name] for row in rows], (5, 50, 95))
        print(f"{name:<12} {low:7.2f} {middle:7.2f} {high:7.2f}")


if __name__ == "__main__":
    main()
