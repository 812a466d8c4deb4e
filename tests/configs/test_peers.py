"""Recipes of NAFNet and Restormer: the authors' settings, and training end to end on tiny data."""

import importlib

import jax
import numpy as np
import pytest

import input_pipeline
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, protocols
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.optimizer import make_schedule

RESTORMER = ("gopro", "derain", "dpdd_single", "dpdd_dual", "sidd", "gaussian")
VARIANTS = {
    "nafnet_gopro": ("32", "64"),
    "nafnet_sidd": ("32", "64"),
    "restormer_gaussian": tuple(
        f"{kind}:{level}" for kind in ("color", "gray") for level in ("15", "25", "50", "blind")
    ),
}


def recipe(name, *variant):
    return importlib.import_module(f"configs.{name}").get_config(*variant)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    for variant in VARIANTS[name]:
        config_lib.validate(recipe(name, variant))
    with pytest.raises(ValueError, match=r"no (width|variant) 'huge'"):
        recipe(name, "huge")


@pytest.mark.parametrize("data", ["gopro", "sidd"])
@pytest.mark.parametrize("width", [32, 64])
def test_settings_of_nafnet(data, width):
    config = recipe(f"nafnet_{data}", str(width))
    network = config_lib.network(config)
    assert (network.width, network.local_pool) == (width, 384 if data == "gopro" else None)
    assert config.steps == {32: 200_000, 64: 400_000}[width]
    assert config.batch_size == width
    assert (config.data.crop, config.data.augment) == (256, data == "gopro")
    assert config.optimizer.weight_decay == (1e-3 if (data, width) == ("gopro", 64) else 0)
    assert (config.loss, config.optimizer.clip_norm, config.optimizer.beta2) == ("psnr", 0.01, 0.9)
    assert config.mixup.rate == 0
    schedule = make_schedule(config)
    np.testing.assert_allclose(schedule(0), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(schedule(config.steps // 2), 5e-4, rtol=1e-3)
    np.testing.assert_allclose(schedule(config.steps - 1), 1e-7, rtol=1e-3)


@pytest.mark.parametrize("data", RESTORMER)
def test_settings_of_restormer(data):
    """The stages of section 4 of the paper; the batches there are 64, 40, 32, 16, 8, 8."""
    config = recipe(f"restormer_{data}")
    starts = [stage.first_step for stage in config_lib.list_stages(config)]
    assert starts == [0, 92_000, 156_000, 204_000, 240_000, 276_000]
    assert [(stage.crop, stage.batch_size) for stage in config_lib.list_stages(config)] == [
        (128, 64), (160, 40), (192, 32), (256, 16), (320, 8), (384, 8)
    ]  # fmt: skip
    assert (config.loss, config.optimizer.clip_norm) == ("l1", 0.01)
    assert (config.optimizer.weight_decay, config.optimizer.beta2) == (1e-4, 0.999)
    schedule = make_schedule(config)
    for step, rate in ((0, 3e-4), (92_000, 3e-4), (196_000, 1.505e-4), (300_000, 1e-6)):
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-3)
    mixup = {"rate": 0.5, "beta": 1.2, "groups": 8}  # on each of 8 GPUs
    assert (config.mixup.to_dict() == mixup) == (data in ("sidd", "gaussian"))
    assert (config.mixup.rate == 0) == (data not in ("sidd", "gaussian"))
    network = config_lib.network(config)
    assert network.norm_bias == (data not in ("sidd", "gaussian"))
    assert network.channels == (6 if data == "dpdd_dual" else 3)


def test_protocols():
    """Evaluation during training is that of the benchmark."""
    for name, protocol in (
        ("nafnet_gopro", "gopro"),
        ("nafnet_sidd", "sidd"),
        ("restormer_derain", "rain"),
        ("restormer_dpdd_dual", "dpdd"),
        ("restormer_sidd", "sidd"),
    ):
        assert protocols.for_source(recipe(name).data.eval.source) == protocol


TINY = {
    "nafnet": {"width": 4, "enc_blocks": (1,) * 4, "mid_blocks": 1, "dec_blocks": (1,) * 4},
    "restormer": {"width": 8, "blocks": (1,) * 4, "refinement_blocks": 1, "heads": (1, 1, 2, 2)},
}


@pytest.mark.extended
@pytest.mark.parametrize(
    "name",
    [
        "nafnet_gopro",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("nafnet_sidd", "restormer_derain", "restormer_sidd")
        ),
    ],
)
def test_train_end_to_end(tmp_path, rng, name, quickly_compiled):
    """A tiny network of the recipe on pairs of pictures, cut in the middle of a stage."""
    for i in range(3):
        clean = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        for half, image in (("target", clean), ("input", clean // 2)):
            (tmp_path / half).mkdir(exist_ok=True)
            image_io.write(tmp_path / half / f"{i}.png", image)
    config = recipe(name)
    config.network.kwargs.update(TINY[config.network.name])
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", str(tmp_path)
    config.data.crop, config.data.tile, config.data.tile_stride = 32, 0, 0
    config.batch_size = 4
    if config.mixup.rate:
        config.mixup.rate, config.mixup.groups = 1.0, 2
    if config.stages.steps:
        config.stages.steps, config.stages.crops = (2, 1), (16, 32)
        config.stages.batch_sizes = (4, 2)
    config.log_every, config.eval.max_images, config.eval.panels = 1, 1, 1

    def run(workdir, steps):
        config.steps = steps
        datasets = input_pipeline.create_datasets(config)
        return train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:1])

    config.optimizer.learning_rate = 1e-3
    state = run(tmp_path / "straight", 3)
    assert int(state.step) == 3
    if config.optimizer.schedule == "cosine":  # whose rates depend on the number of steps
        return
    run(tmp_path / "cut", 1)
    jax.tree.map(np.testing.assert_array_equal, state, run(tmp_path / "cut", 3))
