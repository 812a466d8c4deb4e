"""Strength and correlation of noise, of noise that is known, of pairs and of a recipe."""

import numpy as np
import pytest

from benchmarks import noise_statistics
from lcdnet_jax import image_io

# Of ml_collections.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def test_known_noise(rng):
    """A moving average of two pixels in a row; green is half red; blue is independent."""
    white = rng.standard_normal((2, 300, 301)) / 255
    red, blue = 4 * white[0], 3 * (white[1, :, 1:] + white[1, :, :-1]) / np.sqrt(2)
    green = (red + 4 * np.roll(white[1], 50, axis=0)) / np.sqrt(2)
    noise = np.stack([red[:, 1:], green[:, 1:], blue], axis=-1).astype(np.float32)
    found = noise_statistics.measure(noise + np.float32(0.1))  # a shift is no noise
    wanted = {"deviation R": 4, "deviation G": 4, "deviation B": 3, "neighbors R": 0,
              "neighbors B": 0.5, "colors RG": 0.71, "colors RB": 0}  # fmt: skip
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=0.02, abs=0.02)


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["noise_statistics", *map(str, arguments)])
        noise_statistics.main()
        return capsys.readouterr().out

    return run


def test_pairs(run, tmp_path, rng):
    for number in range(3):
        clean = np.full((40, 50, 3), 0.5, np.float32)
        noisy = clean + 0.04 * rng.standard_normal(clean.shape).astype(np.float32)
        for folder, image in (("clean", clean), ("noisy", noisy)):
            (tmp_path / folder).mkdir(exist_ok=True)
            image_io.write(tmp_path / folder / f"{number}.png", image_io.to_uint8(image))
    lines = run("--pairs", tmp_path).splitlines()
    assert lines[0].startswith("3 images")
    assert float(lines[1].split()[-2]) == pytest.approx(10.2, abs=0.5)


@pytest.mark.extended
def test_a_recipe(run, tmp_path):
    image_io.write(tmp_path / "gray.png", np.full((40, 50, 3), 128, np.uint8))
    options = ("--config", "configs/sadnet_photo.py")
    fixed = "--config.degradation.options.camera.shot=(1e-3,1e-3)"
    lines = run("--photos", tmp_path, *options, fixed).splitlines()
    assert lines[0].startswith("1 image")
    assert 3 < float(lines[1].split()[-1]) < 15


def test_mistakes(run, tmp_path):
    with pytest.raises(SystemExit):
        run("--photos", tmp_path)
    image_io.write(tmp_path / "gray.png", np.full((9, 9, 3), 128, np.uint8))
    with pytest.raises(SystemExit, match="no degradation such as 'camera'"):
        run("--photos", tmp_path, "--config", "configs/sadnet_blind.py")
