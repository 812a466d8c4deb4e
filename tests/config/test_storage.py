import contextlib
import json

import pytest
from ml_collections import ConfigDict

from configs import default, tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.config.schema import flatten


@pytest.fixture
def config():
    return tiny.get_config()


class TestFile:
    def test_round_trip(self, config, tmp_path):
        config.network.kwargs.dilations = (1, 2, 4, 8)
        config.eval.sigmas = (15.0, 50.0)
        config_lib.save(config, tmp_path / "config.json")
        loaded = config_lib.load(tmp_path / "config.json")
        given = config.to_dict()
        kwargs = given["network"].pop("kwargs")
        found = loaded.to_dict()
        assert found["network"].pop("kwargs").items() >= kwargs.items()
        assert found == given
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

    def test_of_a_run_before_held_out_images(self, config, tmp_path):
        """Later fields of a section within a section; all images are used."""
        path, stored = tmp_path / "config.json", config.to_dict()
        del stored["data"]["train"]["names"], stored["data"]["eval"]["names"]
        path.write_text(json.dumps(stored))
        loaded = config_lib.load(path)
        config_lib.validate(loaded)
        assert loaded.data.train.names == loaded.data.eval.names == ""
        stored["data"]["train"] = "x"
        assert config_lib.upgrade(stored)["data"]["train"] == "x"

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

    def test_holds_every_field_of_the_network_and_no_preset(self, tmp_path):
        config, path = default.get_config(), tmp_path / "config.json"
        config_lib.save(config, path)
        assert config.network.kwargs.to_dict() == {"preset": "base"}  # as it was
        kwargs = json.loads(path.read_text())["network"]["kwargs"]
        assert kwargs == {
            "width": 32, "offset_width": 32, "groups": 8, "dilations": [1, 2, 3, 4],
            "use_rsab": True, "use_offset_transfer": True, "use_context": True,
            "rsab_scales": 4, "unshuffle": 1, "low_memory": False, "zero_init_offsets": False,
        }  # fmt: skip
        loaded = config_lib.load(path)
        assert config_lib.network(loaded) == config_lib.network(config)
        config_lib.save(loaded, path)
        assert json.loads(path.read_text())["network"]["kwargs"] == kwargs

    @pytest.mark.parametrize("alone", [True, False])
    def test_of_a_version_that_stored_presets(self, tmp_path, alone, monkeypatch):
        """It means the preset of its time; a command that names the preset continues the run."""
        config, path = default.get_config(), tmp_path / "config.json"
        config.network.kwargs = ConfigDict({"preset": "small", "use_rsab": False})
        stored = config.to_dict()
        if alone:
            stored = {"network": stored["network"], "data": {"channels": 3}}
        path.write_text(json.dumps(stored))
        before = networks.create("sadnet", preset="small", use_rsab=False)
        assert config_lib.network(config_lib.load(path)) == before
        if not alone:
            assert config_lib.differences(config_lib.load(path), config) == []
        changed = {"small": {"width": 16, "offset_width": 16, "groups": 4}}
        monkeypatch.setattr(networks.SADNet, "PRESETS", changed)
        assert config_lib.network(config_lib.load(path)) == before
        if not alone:
            assert config_lib.differences(config_lib.load(path), config) == [
                "config.network.kwargs.groups: 2 there, 4 given",
                "config.network.kwargs.width: 8 there, 16 given",
            ]

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
        with pytest.raises(ConfigError, match=r"config.json is not a configuration of train.py"):
            config_lib.load(path)

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize(
        ("kwargs", "wanted"),
        [
            (
                {"channels": 1},
                "a mapping without name, channels and dtype, which are stored apart",
            ),
            ({"name": "a"}, "a mapping without name, channels and dtype, which are stored apart"),
            (3, "a mapping"),
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

    def test_upgrading_leaves_the_original(self):
        stored = {"steps": 3, "optimizer": {"halve_every": 5, "schedule": "halving"}, "data": 4}
        found = config_lib.upgrade(stored)
        assert stored["optimizer"] == {"halve_every": 5, "schedule": "halving"}
        assert found["optimizer"]["decay_every"] == 5
        assert found["optimizer"]["schedule"] == "step"
        assert (found["data"], found["sfm"]["rate"], found["steps_per_call"]) == (4, 0.0, 1)

    def test_lists_make_a_hashable_network_too(self):
        module = networks.create("sadnet", dilations=[1, 2, 4, 8])
        assert hash(module) == hash(networks.create("sadnet", dilations=(1, 2, 4, 8)))


class TestChecksum:
    @pytest.fixture(params=[False, True], ids=["training", "network alone"])
    def path(self, config, tmp_path, request):
        if request.param:
            alone = {"name": "dncnn", "kwargs": {"depth": 3}, "dtype": "float32"}
            config = ConfigDict({"network": alone, "data": {"channels": 1}})
        config_lib.save(config, tmp_path / "config.json")
        return tmp_path / "config.json"

    def test_every_bit(self, path):
        """A flipped bit is an error, or changes nothing that is read."""
        content, intact = path.read_bytes(), config_lib.load(path).to_dict()
        assert "sha256" not in intact
        accepted = []
        for i in range(0, 8 * len(content), 89):
            changed = bytearray(content)
            changed[i // 8] ^= 1 << (i % 8)
            path.write_bytes(changed)
            with contextlib.suppress(ConfigError):
                accepted.append(config_lib.load(path).to_dict())
        assert all(read == intact for read in accepted)
        assert len(accepted) < len(content) / 89

    def test_change_on_purpose(self, path):
        stored = json.loads(path.read_text())
        stored["data"]["channels"] = 6
        path.write_text(json.dumps(stored))
        with pytest.raises(
            ConfigError, match=r'is not as it was written.*delete its line "sha256"'
        ):
            config_lib.load(path)
        del stored["sha256"]
        path.write_text(json.dumps(stored))
        assert config_lib.load(path).data.channels == 6


class TestDifferences:
    @pytest.mark.parametrize(
        "field",
        ["log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "steps",
         "eval.max_images", "eval.panels", "eval.bucket"],
    )  # fmt: skip
    def test_what_may_change(self, config, field):
        other = tiny.get_config()
        other.update_from_flattened_dict({field: 65})
        assert flatten(other)[field] != flatten(config)[field]
        assert config_lib.differences(config, other) == []

    def test_what_may_change_of_the_data(self, config):
        other = tiny.get_config()
        other.data.eval = ConfigDict(
            {"source": "folder", "path": "elsewhere", "split": "", "feature": ""}
        )
        other.data.cache_gb = 1.0
        other.data.cache_dir = "elsewhere"
        other.data.encoded_cache_gb = 1.0
        other.data.on_bad_image = "replace"
        other.eval.sigmas = (10.0, 20.0)
        other.init_from = "elsewhere"
        assert config_lib.differences(config, other) == []

    def test_what_may_not_change(self, config):
        other = tiny.get_config()
        other.seed = 1
        other.data.train.split = "elsewhere"
        other.network.kwargs.width = 4
        other.ema_decay = 0.5
        assert config_lib.differences(config, other) == [
            "config.data.train.split: 'train' there, 'elsewhere' given",
            "config.ema_decay: 0.9 there, 0.5 given",
            "config.network.kwargs.width: 2 there, 4 given",
            "config.seed: 0 there, 1 given",
        ]

    def test_another_network(self, config):
        other = tiny.get_config()
        other.network.name, other.network.kwargs = "dncnn", {"depth": 3}
        assert config_lib.differences(config, other) == [
            "config.network.name: 'sadnet' there, 'dncnn' given"
        ]

    def test_a_field_as_its_default(self, config):
        """Whether it is given, or left out, or given as a list."""
        other = tiny.get_config()
        other.network.kwargs.use_context = True
        other.network.kwargs.dilations = [1, 2, 3, 4]
        assert config_lib.differences(config, other) == []

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
