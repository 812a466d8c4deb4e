"""Every shipped experiment is valid, complete and documented."""

import importlib
import pathlib
import re

import pytest

from lcdnet_jax import config as config_lib
from lcdnet_jax.config.schema import flatten
from lcdnet_jax.training.optimizer import make_schedule

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
WITH_SIGMA = {"sadnet_base", "sadnet_color_awgn", "sadnet_gray_awgn", "sadnet_small"}


def shipped(name, *arguments):
    return importlib.import_module(f"configs.{name}").get_config(*arguments)


class TestShippedConfigs:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_is_valid_and_has_exactly_the_known_fields(self, name):
        config = shipped(name)
        config_lib.validate(config)
        assert set(flatten(config)) == set(config_lib.FIELDS)

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
