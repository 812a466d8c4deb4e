import re

import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax.config import ConfigError


@pytest.fixture
def config():
    return tiny.get_config()


def error_of(config) -> str:
    with pytest.raises(ConfigError) as error:
        config_lib.validate(config)
    return str(error.value)


class TestRules:
    def test_unknown_field_with_a_guess(self, config):
        config.batchsize = 3
        config.data.train.pth = "x"
        config.quux = 1
        assert error_of(config).splitlines() == [
            "unknown field config.batchsize; did you mean batch_size?",
            "unknown field config.data.train.pth; did you mean data.train.path?",
            "unknown field config.quux; see configs/default.py",
        ]

    def test_missing_fields(self, config):
        del config.loss
        del config.data.eval
        lines = error_of(config).splitlines()
        assert lines[0] == "missing field config.data.eval.feature; start from configs/default.py"
        assert lines[-1] == "missing field config.loss; start from configs/default.py"
        assert len(lines) == 6

    @pytest.mark.parametrize(
        ("field", "value", "wanted"),
        [
            ("seed", -1, "an integer from 0 up to 4294967295"),
            ("seed", 2**32, "an integer from 0 up to 4294967295"),
            ("steps", 0, "an integer of at least 1"),
            ("steps", True, "an integer of at least 1"),
            ("steps", 8.0, "an integer of at least 1"),
            ("batch_size", "8", "an integer of at least 1"),
            ("network.name", "resnet", "one of .*'sadnet'"),
            ("network.dtype", "float16", "one of 'float32', 'bfloat16'"),
            ("network.kwargs", 3, "a mapping"),
            ("data.channels", 2, "one of 1, 3"),
            ("data.channels", True, "one of 1, 3"),
            ("data.channels", 3.0, "one of 1, 3"),
            ("data.augment", 1, "True or False"),
            ("data.train.source", "web", "one of 'photos', 'folder', 'tfds'"),
            ("data.train.path", None, "a string"),
            ("data.cache_gb", -0.5, "a number of at least 0"),
            ("degradation.sigma_max", "50", "a number of at least 0"),
            ("degradation.protocol", "8-bit", "one of 'float', 'clipped', '8bit', or several"),
            (
                "degradation.protocol",
                "float,float",
                "one of 'float', 'clipped', '8bit', or several",
            ),
            ("degradation.protocol", "float,", "one of 'float', 'clipped', '8bit', or several"),
            ("sfm.rate", 1.5, "a number from 0 up to 1"),
            ("sfm.mode", "middle", "one of 'targeted', 'uniform', 'random', 'central'"),
            ("sfm.center", -0.1, "a number from 0 up to 1"),
            ("sfm.sigma", float("inf"), "a number of at least 0"),
            ("sfm.where", "gpu", "one of 'device', 'host'"),
            ("sfm.unselected", "black", "one of 'keep', 'zero'"),
            ("sfm.target", "noisy", "one of 'clean', 'masked'"),
            ("optimizer.learning_rate", float("nan"), "a number of at least 0"),
            ("optimizer.learning_rate", float("inf"), "a number of at least 0"),
            ("optimizer.learning_rate", True, "a number of at least 0"),
            ("ema_decay", 1.5, "a number from 0 up to 1"),
            ("eval.sigmas", (), "a tuple of one or more noise levels"),
            ("eval.sigmas", (25.0, -1.0), "a tuple of one or more noise levels"),
            ("eval.sigmas", 25.0, "a tuple of one or more noise levels"),
            ("eval.bucket", 4, "an integer of at least 8"),
        ],
    )
    def test_wrong_value(self, config, field, value, wanted):
        section, _, name = field.rpartition(".")
        holder = config.to_dict()
        inner = holder
        for part in section.split(".") if section else []:
            inner = inner[part]
        inner[name] = value
        message = error_of(ConfigDict(holder))
        assert re.fullmatch(
            rf"config\.{field} must be {wanted}.*, got {re.escape(repr(value))}", message
        )

    def test_integers_are_numbers(self, config):
        config = ConfigDict(config.to_dict() | {"ema_decay": 0})
        config.eval = ConfigDict(config.eval.to_dict() | {"sigmas": [25, 50]})
        config_lib.validate(config)

    def test_noise_range(self, config):
        config.degradation.sigma_min, config.degradation.sigma_max = 30.0, 20.0
        assert "sigma_min (30.0) is above sigma_max (20.0); swap them" in error_of(config)
        config.degradation.sigma_max = 30.0
        config_lib.validate(config)

    def test_several_protocols_are_of_the_device(self, config):
        config.degradation.protocol = "float,8bit"
        config_lib.validate(config)
        config.degradation.where = "host"
        assert "'float,8bit' is drawn for each image, on the device only" in error_of(config)

    def test_masking_comes_before_noise(self, config):
        config.sfm.rate = 0.5
        config_lib.validate(config)
        config.degradation.where = "host"
        assert "masking comes before noise and the host before the device" in error_of(config)
        config.sfm.where = "host"
        config_lib.validate(config)
        config.degradation.where = "device"
        config_lib.validate(config)

    def test_masking_of_pairs(self, config):
        config.degradation.kind, config.degradation.where = "none", "host"
        config.sfm.unselected, config.sfm.target = "zero", "masked"
        config_lib.validate(config)  # off
        config.sfm.rate = 0.5
        assert re.search(r"^config\.sfm\.target 'masked' would make .*'clean'$", error_of(config))
        config.sfm.target = "clean"
        config_lib.validate(config)

    def test_filtered_noise_is_added_on_the_device(self, config):
        config.degradation.spectrum = "low"
        config_lib.validate(config)
        config.degradation.where = "host"
        assert "'low' is made on the device only" in error_of(config)
        config.degradation.kind = "none"
        assert "config.degradation.kind 'none' adds none; set it to 'white'" in error_of(config)

    @pytest.mark.parametrize(("field", "value"), [("beta2", 1.0), ("decay_factor", 0.0)])
    def test_optimizers_that_would_stop_or_fail(self, config, field, value):
        config.optimizer[field] = value
        assert f"config.optimizer.{field} must be a number" in error_of(config)

    def test_tiles_hold_the_crop_and_have_a_stride(self, config):
        config.data.crop, config.data.tile, config.data.tile_stride = 64, 32, 16
        assert "tile (32) is smaller than config.data.crop (64)" in error_of(config)
        config.data.tile, config.data.tile_stride = 96, 0
        assert "tile (96) and config.data.tile_stride (0) belong together" in error_of(config)
        config.data.tile, config.data.tile_stride = 0, 48
        assert "belong together" in error_of(config)
        config.data.tile = 96
        config_lib.validate(config)

    def test_accumulation_divides_the_batch(self, config):
        config.accumulate = 3
        assert "batch_size (8) is not divisible by config.accumulate (3)" in error_of(config)

    def test_one_origin_of_the_state(self, config):
        config.resume, config.init_from = "a", "b"
        assert "config.resume and config.init_from are both set" in error_of(config)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"widht": 8}, "'sadnet' has no field 'widht'; its fields: "),
            ({"preset": "huge"}, "no preset 'huge'; its presets: "),
            ({"width": 20, "groups": 8}, "width 20 is not divisible by 8 offset groups"),
            ({"width": "8"}, "width must be an integer of at least 1, got '8'"),
            ({"channels": 1}, "must be a mapping without name, channels and dtype"),
        ],
    )
    def test_network_arguments(self, config, kwargs, message):
        config.network.kwargs = ConfigDict(kwargs)
        assert error_of(config).startswith("config.network.kwargs")
        assert message in error_of(config)

    def test_all_problems_at_once(self, config):
        config.steps = -1
        config.loss = "huber"
        config.stepz = 1
        del config.seed
        assert len(error_of(config).splitlines()) == 4
        config = tiny.get_config()
        config.accumulate = 3
        config.degradation.sigma_min = 60.0
        config.resume, config.init_from = "a", "b"
        config.network.kwargs.groups = 7
        assert len(error_of(config).splitlines()) == 4
