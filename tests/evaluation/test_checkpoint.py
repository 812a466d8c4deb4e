"""The checkpoint of an evaluation and the configuration of its training."""

import pathlib

import pytest
from ml_collections import ConfigDict

from configs import default
from lcdnet_jax import networks, weights
from lcdnet_jax.evaluation.checkpoint import find_checkpoint, training_config


class TestFindCheckpoint:
    def test_needs_exactly_one_argument(self):
        for arguments in ((None, None), ("", ""), ("a", "b")):
            with pytest.raises(ValueError, match="give one directory, as --workdir or as"):
                find_checkpoint(*arguments)

    def test_existing_directory_wins_over_pretrained_weights(self, tmp_path, monkeypatch):
        name = weights.pretrained.DEFAULT
        assert find_checkpoint(None, name) == weights.pretrained.find(name) != pathlib.Path(name)
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path)
        assert find_checkpoint(name, None) == pathlib.Path(name)


class TestTrainingConfig:
    def config(self, tmp_path, stored, *, needs_eval_data=False):
        """The configuration of converted weights, which are in no working directory."""
        card = {"training": {"network": {"name": "dncnn", "kwargs": {"depth": 3}}, **stored}}
        return training_config(
            tmp_path / "x.safetensors",
            weights.Weights(networks.create("dncnn", depth=3), {}, card),
            default.get_config(),
            needs_eval_data=needs_eval_data,
        )

    @pytest.fixture(autouse=True)
    def stored_config(self, monkeypatch):
        """Cards are tested elsewhere; here the stored part is what the card holds."""
        monkeypatch.setattr(
            weights,
            "training_config",
            lambda card, name: ConfigDict({"data": {}} | card["training"]),
        )

    def test_adds_missing_fields(self, tmp_path):
        config = self.config(tmp_path, {"degradation": {"protocol": "8bit"}})
        assert config.degradation.protocol == "8bit"
        assert config.data.crop == default.get_config().data.crop

    def test_network_is_the_stored_one_alone(self, tmp_path):
        config = self.config(tmp_path, {})
        assert config.network.to_dict() == {"name": "dncnn", "kwargs": {"depth": 3}}

    def test_folder_that_the_card_only_names(self, tmp_path):
        stored = {"data": {"eval": {"source": "folder", "path": "kodim"}}}
        with pytest.raises(ValueError, match=r"only names \(kodim\); give --data"):
            self.config(tmp_path, stored, needs_eval_data=True)
        assert self.config(tmp_path, stored).data.eval.path == "kodim"

    def test_photographs_need_no_folder(self, tmp_path):
        stored = {"data": {"eval": {"source": "photos"}}}
        assert self.config(tmp_path, stored, needs_eval_data=True).data.eval.source == "photos"

    def test_defaults_are_not_changed(self, tmp_path):
        defaults = default.get_config()
        card = {"training": {"network": {"name": "dncnn", "kwargs": {}}, "seed": 77}}
        loaded = weights.Weights(networks.create("dncnn"), {}, card)
        config = training_config(tmp_path / "x.pth", loaded, defaults, needs_eval_data=False)
        assert config.seed == 77
        assert defaults.to_dict() == default.get_config().to_dict()
