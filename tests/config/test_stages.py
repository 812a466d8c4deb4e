"""Stages of progressive training: which step is in which, and what is refused."""

import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax.config import ConfigError


@pytest.fixture
def config():
    config = tiny.get_config()
    config.data.crop, config.batch_size, config.steps = 24, 8, 20
    config.stages = ConfigDict({"steps": (4, 6, 2), "crops": (8, 16, 24), "batch_sizes": (8, 4, 2)})
    return config


def error_of(config):
    with pytest.raises(ConfigError) as error:
        config_lib.validate(config)
    return str(error.value)


def test_of_each_step(config):
    """The last stage goes on. Images are those of all batches before."""
    config_lib.validate(config)
    sizes = [(8, 8)] * 4 + [(16, 4)] * 6 + [(24, 2)] * 10
    seen = 0
    for step, size in enumerate(sizes):
        stage = config_lib.stage_at(config, step)
        assert (stage.crop, stage.batch_size) == size
        assert config_lib.count_images(config, step) == seen
        first = stage.first_example + (step - stage.first_step) * stage.batch_size
        assert first == seen
        seen += size[1]
    assert config_lib.count_images(config, len(sizes)) == seen


def test_without_stages():
    config = tiny.get_config()
    stage = config_lib.Stage(0, 0, config.data.crop, config.batch_size)
    assert config_lib.list_stages(config) == (stage,)
    assert config_lib.stage_at(config, 1000) == stage
    assert config_lib.count_images(config, 1000) == 1000 * config.batch_size
    assert config_lib.with_stage(config, stage) == config


def test_copy_for_a_stage(config):
    copied = config_lib.with_stage(config, config_lib.stage_at(config, 5))
    assert (copied.data.crop, copied.batch_size) == (16, 4)
    assert config_lib.list_stages(copied) == (config_lib.Stage(0, 0, 16, 4),)
    config_lib.validate(copied)
    assert config.data.crop == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stages.crops": (8, 16)},
            "config.stages.crops (2), config.stages.batch_sizes (3)",
        ),
        ({"stages.steps": (4, 0, 2)}, "config.stages.steps must be a tuple, () for none, with"),
        ({"stages.steps": 4}, "config.stages.steps must be a tuple"),
        ({"data.crop": 16}, "config.data.crop (16) is not the largest of config.stages.crops"),
        ({"batch_size": 4}, "config.batch_size (4) is not the largest of config.stages.batch"),
        ({"accumulate": 4}, "config.batch_size (2) is not divisible by config.accumulate (4)"),
        (
            {"steps_per_call": 4, "log_every": 4},
            "a stage begins after step 10, which is not a multiple of config.steps_per_call (4);",
        ),
        ({"data.tile": 20, "data.tile_stride": 10}, "with crops of 24: config.data.tile (20)"),
        (
            {"optimizer.schedule": "cosine_restarts"},
            "config.optimizer.schedule 'cosine_restarts' and config.optimizer.cycle_steps () do",
        ),
        (
            {"optimizer.cycle_steps": (9,)},
            "config.optimizer.cycle_final_fractions (0) differ in length; give each an entry for",
        ),
    ],
)
def test_refusals(config, changes, message):
    config.unlock()
    with config.ignore_type():
        for name, value in changes.items():
            section, _, key = name.rpartition(".")
            (config[section] if section else config)[key] = value
    assert message in error_of(config)


def test_a_critic_has_one_size(config):
    config.objective = "gan"
    assert "has a critic for crops of one size; set config.stages to ()" in error_of(config)


def test_old_configurations_have_none(config):
    stored = config.to_dict()
    del stored["stages"], stored["optimizer"]["weight_decay"], stored["optimizer"]["cycle_steps"]
    upgraded = config_lib.upgrade(stored)
    assert upgraded["stages"] == {"steps": (), "crops": (), "batch_sizes": ()}
    assert upgraded["optimizer"]["weight_decay"] == 0.0
    assert upgraded["optimizer"]["cycle_steps"] == ()


def test_files_keep_them(config, tmp_path):
    config_lib.save(config, tmp_path / "config.json")
    assert config_lib.list_stages(config_lib.load(tmp_path / "config.json")) == (
        config_lib.list_stages(config)
    )
    assert config_lib.differences(config_lib.load(tmp_path / "config.json"), config) == []
    other = config.copy_and_resolve_references()
    other.stages.steps = (4, 6, 3)
    (line,) = config_lib.differences(config_lib.load(tmp_path / "config.json"), other)
    assert "config.stages.steps" in line
