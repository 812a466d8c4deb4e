"""Small image folders and configs for the tests of the pipeline."""

import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from lcdnet_jax import image_io


@pytest.fixture
def config():
    """Defaults with a small crop and batch, reading ``config.data.train.path``."""
    config = default.get_config()
    config.data.train.source = "folder"
    config.data.eval.source = "folder"
    config.data.crop = 8
    config.batch_size = 4
    return config


@pytest.fixture
def fill():
    """Writes random images: ``fill(folder, {"a.png": (20, 30, 3)}, dtype=np.uint8)``."""

    def fill(
        folder: pathlib.Path,
        shapes: dict[str, tuple[int, ...]],
        *,
        dtype: type = np.uint8,
        seed: int = 0,
    ) -> dict[str, np.ndarray]:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        top = np.iinfo(dtype).max
        images = {}
        for name, shape in shapes.items():
            images[name] = rng.integers(0, top, shape, dtype, endpoint=True)
            image_io.write(folder / name, images[name])
        return images

    return fill


@pytest.fixture
def write_numbered_images():
    """Writes flat images whose value is ten times their number: ``(folder, 5)``."""

    def write_numbered_images(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{k:02d}.png" for k in range(count)]
        for k, path in enumerate(paths):
            image_io.write(path, np.full((12, 16, 3), 10 * k, np.uint8))
        return paths

    return write_numbered_images


@pytest.fixture
def cut_in_half():
    """Truncates a file so that its header stays readable and its pixels do not."""

    def cut(path: pathlib.Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return cut


HALVES = {
    "left": ("l/source", 0, "_L"),
    "right": ("r/source", 0, "_R"),
    "clean": ("c/target", 1, ""),
}


@pytest.fixture
def scenes(tmp_path, config, fill):
    """Two scenes to train on, two to test on; images by split, half and number."""
    images = {}
    for split, numbers, shape in (
        ("train", (890, 892), (7, 9, 3)),
        ("test", (917, 933), (9, 8, 3)),
    ):
        for seed, (half, (folder, step, suffix)) in enumerate(HALVES.items()):
            names = {f"1P0A{n + step:04d}{suffix}.png": shape for n in numbers}
            written = fill(tmp_path / f"{split}_{folder}", names, dtype=np.uint16, seed=seed)
            for number, image in zip(numbers, written.values(), strict=True):
                images[split, half, number] = image
    for split, part in (("train", config.data.train), ("test", config.data.eval)):
        part.source, part.path, part.split = "dpdd_dual", str(tmp_path), split
    config.data.channels = 6
    config.data.crop = 6
    config.degradation.kind = "none"
    config.network.name, config.network.kwargs = "lcdnet", ConfigDict({"preset": "tiny"})
    return images
