"""The recipes of the SFM paper from images on disk to scores, with tiny networks, few steps."""

import functools
import importlib
import json

import cv2
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

import input_pipeline
from lcdnet_jax import config as config_lib
from lcdnet_jax.training import train_and_evaluate

# Networks as small as they get; the U-Net has one size only.
SMALL = {
    "dncnn": {"depth": 3, "features": 4},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "ridnet": {"features": 48, "blocks": 1},
    "unet_n2n": {},
}


@pytest.fixture(autouse=True)
def quick_jit(monkeypatch):
    """Compiles without LLVM's optimization: these programs run two or three times."""
    options = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))


def write(path, rng):
    """A smooth gray picture of 40x44 pixels, with some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = rng.uniform(60, 200, (5, 6)).astype(np.float32)
    picture = cv2.resize(coarse, (44, 40)) + rng.normal(0, 5, (40, 44))
    cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of pictures, and captures in the layout of FMD."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(2):
        write(root / "gray" / f"{i}.png", rng)
    for field in (1, 19):
        write(root / "fmd" / "Confocal_FISH" / "gt" / str(field) / "avg50.png", rng)
        for level in ("raw", "avg2", "avg4", "avg8", "avg16"):
            for i in range(2):
                write(root / "fmd" / "Confocal_FISH" / level / str(field) / f"{i}.png", rng)
    return root


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("sfm_awgn", "dncnn"),
        ("sfm_awgn", "memnet:sfm"),
        pytest.param("sfm_awgn", "ridnet:released", marks=pytest.mark.slow),
        pytest.param("sfm_n2n", "sfm", marks=pytest.mark.slow),
        ("sfm_microscopy", "n2n"),
        ("sfm_microscopy", "n2s:sfm"),
        ("sfm_small", "released"),
    ],
)
def test_trains_and_evaluates(data, tmp_path, name, variant):
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    config.network.kwargs.update(SMALL[config.network.name])
    source = "fmd" if name == "sfm_microscopy" else "gray"
    config.data.train.path = str(data / source)
    config.data.eval.path = str(data / source)
    config.data.crop = config.data.tile = 32
    config.data.tile_stride = 8
    config.batch_size = 8
    config.steps = 2
    config.optimizer.warmup_steps = 0
    config.eval.sigmas = (25.0,)
    config.eval.panels = 0
    config.eval.max_images = 1
    if variant == "dncnn":  # what no recipe switches on
        config.dct_loss_weight = 1.0
        config.degradation.spectrum = "brownian"
    config_lib.validate(config)
    datasets = input_pipeline.create_datasets(config)
    state = train_and_evaluate(config, tmp_path / "run", datasets=datasets)
    assert int(state.step) == 2
    rows = [json.loads(r) for r in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = {k: v for row in rows for k, v in row.items()}
    assert np.isfinite(measured["train/loss"])
    score = "eval/psnr" if source == "fmd" else "eval/sigma25/psnr"
    assert 0 < measured[score] < 60
    if config.network.name in ("dncnn", "memnet"):
        statistics = flatten_dict(state.batch_stats)
        means = [np.asarray(m) for path, m in statistics.items() if path[-1] == "mean"]
        assert all(np.isfinite(mean).all() and mean.any() for mean in means)


def test_recipes_name_their_variants():
    from configs import sfm_awgn, sfm_microscopy, sfm_n2n, sfm_small

    for module, variant in (
        (sfm_awgn, "unet"), (sfm_awgn, "dncnn:on"), (sfm_n2n, "on"), (sfm_microscopy, "n2v"),
        (sfm_small, "on"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"no variant '{variant}'; use"):
            module.get_config(variant)
    assert isinstance(sfm_microscopy.get_config("n2s").network.kwargs, ConfigDict)
