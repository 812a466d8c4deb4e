"""README.md: short, and its Python runs."""

import pathlib
import re
import runpy

import numpy as np
import pytest

from configs import sadnet_quickstart, tiny
from lcdnet_jax import image_io
from tests.scripts import stand_in

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESTORE, TRAIN = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def test_length():
    assert len(README.splitlines()) < 150


@pytest.mark.extended
def test_restore(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noisy = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    image_io.write("photo.jpg", noisy)
    (tmp_path / "readme.py").write_text(RESTORE)
    runpy.run_path("readme.py")
    assert image_io.read("restored.png").shape == noisy.shape


@pytest.mark.extended
def test_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.get_config()
    config.steps = config.eval_every = config.checkpoint_every = 2
    monkeypatch.setattr(sadnet_quickstart, "get_config", lambda: config)
    (tmp_path / "readme.py").write_text(TRAIN)
    with stand_in():
        runpy.run_path("readme.py")
    assert (tmp_path / "runs/mine/checkpoints/2").is_dir()


def test_commands_name_files_of_the_repository():
    """Scripts and configurations in the text exist."""
    named = set(re.findall(r"\b(?:configs/\w+\.py|(?:train|eval)\.py)", README))
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).is_file()] == []
