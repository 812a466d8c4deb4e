import importlib
import json
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError, schema
from lcdnet_jax.training.optimizer import make_schedule

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
WITH_SIGMA = {"sadnet_base", "sadnet_color_awgn", "sadnet_gray_awgn", "sadnet_small"}


@pytest.fixture
def config():
    return tiny.get_config()


def error_of(config) -> str:
    with pytest.raises(ConfigError) as error:
        config_lib.validate(config)
    return str(error.value)


def shipped(name, *arguments):
    return importlib.import_module(f"configs.{name}").get_config(*arguments)


class TestShippedConfigs:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_is_valid_and_has_exactly_the_known_fields(self, name):
        config = shipped(name)
        config_lib.validate(config)
        assert set(schema._flatten(config)) == set(config_lib.RULES)

    @pytest.mark.parametrize("name", sorted(WITH_SIGMA))
    def test_takes_a_noise_level(self, name):
        config = shipped(name, "30")
        config_lib.validate(config)
        assert config.degradation.sigma_min == config.degradation.sigma_max == 30.0
        assert config.eval.sigmas == (30.0,)

    def test_ablation_rows(self):
        """All rows of the table in its docstring, with the switches that it marks by x."""
        table = importlib.import_module("configs.sadnet_ablation").__doc__
        rows = re.findall(r"^ {4}(\w+) +([-x]) +([-x]) +([-x]) +\d\d\.\d\d", table, re.MULTILINE)
        assert len(rows) == len(set(rows)) == 6
        for name, *marks in rows:
            network = config_lib.network(shipped("sadnet_ablation", name))
            switches = (network.use_rsab, network.use_offset_transfer, network.use_context)
            assert switches == tuple(mark == "x" for mark in marks)
            assert network.width == 32
        assert shipped("sadnet_ablation") == shipped("sadnet_ablation", "full")
        with pytest.raises(ValueError, match="no ablation row 'all'; use one of none, rsab"):
            shipped("sadnet_ablation", "all")

    def test_real_noise(self):
        real, other, nam = (shipped(f"sadnet_{name}") for name in ("real", "1248", "nam"))
        assert real.loss == nam.loss == "l1"
        assert config_lib.network(real).dilations == (1, 2, 3, 4)
        assert config_lib.network(other).dilations == (1, 2, 4, 8)
        ends = make_schedule(real)(real.steps - 1)
        assert nam.optimizer.learning_rate == pytest.approx(float(ends), rel=1e-6)
        assert nam.init_from in importlib.import_module("configs.sadnet_real").__doc__

    def test_variants_of_frequency_masking(self):
        for network in ("dncnn", "memnet", "ridnet"):
            plain, paper, released = (
                shipped("sfm_awgn", network + variant) for variant in ("", ":sfm", ":released")
            )
            for config in (plain, paper, released):
                config_lib.validate(config)
                assert config.network.name == network
            assert (plain.sfm.rate, paper.sfm.rate, released.sfm.rate) == (0, 0.5, 0.5)
            assert plain.steps == paper.steps == released.steps == 50 * 282
            # The masks are all that differs.
            assert (paper.sfm.unselected, paper.sfm.target) == ("keep", "clean")
            assert (released.sfm.unselected, released.sfm.target) == ("zero", "masked")
            plain.sfm = paper.sfm = released.sfm
            assert plain == paper == released
        rates = [float(make_schedule(plain)(epoch * 282)) for epoch in (0, 29, 30, 49)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
        for objective, peak in (("n2n", 1e-4), ("n2s", 1e-5)):
            config = shipped("sfm_microscopy", f"{objective}:sfm")
            config_lib.validate(config)
            assert config.sfm.rate == shipped("sfm_n2n", "sfm").sfm.rate == 0.5
            highest = float(make_schedule(config)(config.steps * 3 // 10))
            assert highest == pytest.approx(peak, rel=1e-3)

    @pytest.mark.parametrize("name", SHIPPED)
    def test_documented_commands_exist(self, name):
        text = importlib.import_module(f"configs.{name}").__doc__
        for path in re.findall(r"\bconfigs/\w+\.py", text):
            assert (ROOT / path).is_file()
        for target in re.findall(r"\bmake (\w+)", text):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if name != "default":
            assert f"--config configs/{name}.py" in text or "make" in text
        assert ":50" not in text or name in WITH_SIGMA

    def test_every_default_is_explained(self):
        """Each assignment stands directly below a comment, or below one that shares it."""
        lines = (ROOT / "configs/default.py").read_text().splitlines()
        body = lines[next(i for i, line in enumerate(lines) if "config = ConfigDict()" in line) :]
        explained = False
        for line in (line.strip() for line in body[1:]):
            explained = line.startswith("#") or (explained and bool(line))
            if line.startswith("config.") and not line.endswith("= ConfigDict()"):
                assert explained, line


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
        assert len(lines) == 5

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
            ("network.kwargs", 3, "a ConfigDict"),
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
            ("sfm.mode", "central", "one of 'targeted', 'uniform', 'random'"),
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
    def test_optimisers_that_would_stop_or_fail(self, config, field, value):
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
            ({"channels": 1}, "must be a ConfigDict without name, channels and dtype"),
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


class TestFile:
    def test_round_trip(self, config, tmp_path):
        config.network.kwargs.dilations = (1, 2, 4, 8)
        config.eval.sigmas = (15.0, 50.0)
        config_lib.save(config, tmp_path / "config.json")
        loaded = config_lib.load(tmp_path / "config.json")
        assert loaded.to_dict() == config.to_dict()
        assert loaded.eval.sigmas == (15.0, 50.0)
        config_lib.validate(loaded)
        assert config_lib.differences(loaded, config) == []
        assert hash(config_lib.network(loaded)) == hash(config_lib.network(config))
        assert [p.name for p in tmp_path.iterdir()] == ["config.json"]

    def test_of_a_run_before_masking(self, config, tmp_path):
        """It had none, and may be continued without."""
        path = tmp_path / "config.json"
        stored = config.to_dict()
        del stored["sfm"]
        del stored["data"]["tile"], stored["data"]["tile_stride"]
        path.write_text(json.dumps(stored))
        loaded = config_lib.load(path)
        config_lib.validate(loaded)
        assert config_lib.differences(loaded, config) == []
        config.sfm.rate = 0.5
        lines = config_lib.differences(loaded, config)
        assert lines == ["config.sfm.rate: 0.0 there, 0.5 given"]

    def test_of_a_run_before_fields_were_renamed(self, config, tmp_path):
        path = tmp_path / "config.json"
        stored = config.to_dict()
        for field in ("objective", "fft_weight", "dct_loss_weight"):
            del stored[field]
        stored["optimizer"] = {
            **{"learning_rate": 1e-3, "schedule": "halving", "halve_every": 300_000},
            **{"final_fraction": 0.0, "warmup_steps": 0, "clip_norm": 1.0},
        }
        path.write_text(json.dumps(stored))
        loaded = config_lib.load(path)
        config_lib.validate(loaded)
        assert config_lib.differences(loaded, config) == []

    def test_failed_write_keeps_the_old_file(self, config, tmp_path):
        path = tmp_path / "config.json"
        config_lib.save(config, path)
        before = path.read_bytes()
        config.network.kwargs.bad = object()
        with pytest.raises(TypeError):
            config_lib.save(config, path)
        assert path.read_bytes() == before

    def test_missing(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "config.json", tmp_path / "file" / "config.json"):
            with pytest.raises(ConfigError, match=r"config.json does not exist; give a working"):
                config_lib.load(path)

    def test_unreadable(self, tmp_path):
        (tmp_path / "config.json").mkdir()
        with pytest.raises(ConfigError, match=r"cannot read .*config.json"):
            config_lib.load(tmp_path / "config.json")

    @pytest.mark.parametrize("content", [b"", b'{"steps": ', b"\xff\xfe{}", b"[" * 200_000])
    def test_damaged(self, tmp_path, content):
        path = tmp_path / "config.json"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"config.json is not valid JSON"):
            config_lib.load(path)

    @pytest.mark.parametrize("content", [[], 3, None, {}, {"network": "sadnet"}])
    def test_of_something_else(self, tmp_path, content):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"config.json is no configuration of train.py"):
            config_lib.load(path)

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize(
        ("kwargs", "wanted"),
        [
            (
                {"channels": 1},
                "a ConfigDict without name, channels and dtype, which have their own",
            ),
            ({"name": "a"}, "a ConfigDict without name, channels and dtype, which have their own"),
            (3, "a ConfigDict"),
        ],
        ids=str,
    )
    def test_kwargs_of_the_network(self, config, tmp_path, alone, kwargs, wanted):
        stored = config.to_dict()
        stored["network"]["kwargs"] = kwargs
        if alone:
            stored = {"network": stored["network"], "data": {"channels": 3}}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(stored))
        with pytest.raises(ConfigError) as error:
            config_lib.load(path)
        assert str(error.value).startswith(f"{path}: network.kwargs must be {wanted}")

    def test_values_that_the_network_does_not_expect(self, config):
        config.network.kwargs = {"dilations": 1234}
        with pytest.raises(ValueError, match="SADNet dilations must be 4 integers of at least 1"):
            config_lib.network(config)
        config.network.kwargs = {"name": "x"}
        with pytest.raises(ConfigError, match=r"sadnet with {'name': 'x'}: .* multiple values"):
            config_lib.network(config)

    def test_later_fields_leave_the_original(self):
        stored = {"steps": 3, "optimizer": {"halve_every": 5, "schedule": "halving"}, "data": 4}
        found = config_lib.with_later_fields(stored)
        assert stored["optimizer"] == {"halve_every": 5, "schedule": "halving"}
        assert found["optimizer"]["decay_every"] == 5
        assert found["optimizer"]["schedule"] == "step"
        assert (found["data"], found["sfm"]["rate"], found["steps_per_call"]) == (4, 0.0, 1)

    def test_lists_make_a_hashable_network_too(self):
        module = networks.create("sadnet", dilations=[1, 2, 4, 8])
        assert hash(module) == hash(networks.create("sadnet", dilations=(1, 2, 4, 8)))


class TestDifferences:
    @pytest.mark.parametrize(
        "field",
        ["log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "steps",
         "eval.max_images", "eval.panels", "eval.bucket"],
    )  # fmt: skip
    def test_what_may_change(self, config, field):
        other = tiny.get_config()
        other.update_from_flattened_dict({field: 65})
        assert schema._flatten(other)[field] != schema._flatten(config)[field]
        assert config_lib.differences(config, other) == []

    def test_what_may_change_of_the_data(self, config):
        other = tiny.get_config()
        other.data.eval = ConfigDict(
            {"source": "folder", "path": "elsewhere", "split": "", "feature": ""}
        )
        other.data.cache_gb = 1.0
        other.data.on_bad_image = "replace"
        other.eval.sigmas = (10.0, 20.0)
        other.init_from = "elsewhere"
        assert config_lib.differences(config, other) == []

    def test_what_may_not_change(self, config):
        other = tiny.get_config()
        other.seed = 1
        other.data.train.path = "elsewhere"
        other.network.kwargs.width = 4
        other.ema_decay = 0.5
        assert config_lib.differences(config, other) == [
            "config.data.train.path: '' there, 'elsewhere' given",
            "config.ema_decay: 0.9 there, 0.5 given",
            "config.network.kwargs: {'groups': 1, 'offset_width': 2, 'width': 2} there, "
            "{'groups': 1, 'offset_width': 2, 'width': 4} given",
            "config.seed: 0 there, 1 given",
        ]

    def test_added_and_removed_fields(self, config):
        other = tiny.get_config()
        del other.loss
        assert config_lib.differences(config, other) == ["config.loss: 'l2' there, None given"]
        assert config_lib.differences(other, config) == ["config.loss: None there, 'l2' given"]

    def test_steps_are_fixed_where_the_schedule_needs_them(self, config):
        other = tiny.get_config()
        other.steps = 20
        for one in (config, other):
            one.optimizer.schedule = "cosine"
        assert config_lib.differences(config, other) == ["config.steps: 8 there, 20 given"]
