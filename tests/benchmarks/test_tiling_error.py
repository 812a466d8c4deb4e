"""The measurement of what tiles change."""

import json
import math

import jax
import numpy as np
import pytest

from benchmarks import tiling_error
from lcdnet_jax import networks


@pytest.mark.usefixtures("quickly_compiled")
class TestTilingError:
    """Of networks small enough for a test; the docs have the table of real ones."""

    def measured(self, module, tiles, width):
        """Kernels such as training starts with; other parameters, layer scales among them, 0.1."""
        rng = np.random.default_rng(0)

        def start(leaf):
            spread = math.prod(leaf.shape[:-1]) ** -0.5
            is_kernel = leaf.ndim > 2
            return rng.normal(0, spread, leaf.shape) if is_kernel else np.full(leaf.shape, 0.1)

        shapes = networks.abstract_variables(module)
        variables = jax.tree.map(lambda leaf: start(leaf).astype(np.float32), shapes)
        return list(tiling_error.measure((module, variables, "random"), tiles, width=width))

    @pytest.mark.extended
    @pytest.mark.slow
    def test_sadnet_with_an_overlap_of_64(self):
        """And with less, which its deformable blocks see beyond."""
        module = networks.create("sadnet", channels=1, width=4, offset_width=2, groups=2)
        enough, little = self.measured(module, [(160, 64), (160, 4)], width=270)
        assert enough["image"] == [180, 270, 1]
        assert enough["max_difference"] <= 2e-3 < little["max_difference"] / 10
        assert enough["change"] > 0.01  # so that differences could show
        assert enough["psnr_tiled"] == pytest.approx(enough["psnr_whole"], abs=0.01)

    @pytest.mark.extended
    @pytest.mark.slow
    def test_lcdnet_sees_the_whole_frame(self):
        """With layer scales that are not 0: its means over the image differ, and are reported."""
        module = networks.create(
            "lcdnet", channels=1, width=16, enc_blocks=(1, 1, 1, 1), block="naf", use_msfm=False,
            scam_type="none", sfe_type="naf", global_branch="none", layer_scale_init=0.3,
        )  # fmt: skip
        (line,) = self.measured(module, [(64, 16)], width=90)
        assert 1e-4 < line["max_difference"] < 1
        assert line["psnr_tiled"] != line["psnr_whole"]
        assert line["psnr_input"] == pytest.approx(20.7, abs=0.5)

    def test_a_network_that_enlarges(self):
        fields = {"channels": 1, "groups": 1, "blocks": 1, "features": 16}
        (line,) = self.measured(networks.create("rcan", scale=2, **fields), [(64, 16)], width=90)
        assert line["image"] == [60, 90, 1]
        assert 0 < line["mean_difference"] < line["change"]  # means over the image differ
        assert line["psnr_input"] > 30  # of bicubic interpolation

    def test_the_program(self, monkeypatch, capsys):
        monkeypatch.setitem(tiling_error._RANDOM, "dncnn-3", ("dncnn", {"depth": 3, "features": 4}))
        command = ["tiling_error", "--networks", "dncnn-3,dncnn", "--tiles=32/4", "--size=60"]
        monkeypatch.setattr("sys.argv", command)
        tiling_error.main()
        out, err = capsys.readouterr()
        line = json.loads(out)
        assert (line["network"], line["weights"], line["tile"]) == ("dncnn-3", "random", 32)
        assert line["max_difference"] < 1e-6
        assert err == "left out: dncnn, without weights\n"
        monkeypatch.setattr("sys.argv", ["tiling_error", "--networks", "unknown"])
        with pytest.raises(SystemExit, match="no network 'unknown'; there are dncnn, "):
            tiling_error.main()
