"""The script that says what LiteRT files cost."""

import numpy as np
import pytest

from benchmarks import litert_cost
from lcdnet_jax import image_io
from lcdnet_jax import weights as weights_lib


def run(monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["litert_cost", "sadnet-gray-blind", *map(str, options)])
    litert_cost.main()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("large", (40, 52)), ("small", (20, 52)), ("exact", (32, 32))):
        image_io.write(tmp_path / f"{name}.png", rng.integers(0, 256, shape, np.uint8))
    return tmp_path


def test_table(folder, monkeypatch, capsys):
    """Every program sees the same noisy crops; images below the size are left out."""
    seen = {"network": [], "LiteRT int8": []}

    def make_programs(weights, side, folder):
        assert (type(weights), side) == (weights_lib.Weights, 32)

        def record(name):
            return lambda noisy: seen[name].append(noisy) or noisy

        return {name: record(name) for name in seen}

    monkeypatch.setattr(litert_cost, "_make_programs", make_programs)
    run(monkeypatch, "--data", folder, "--sigmas", "25,50", "--side", "32")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines if "images" in line] == [
        *("2 images", "2 images"),
    ]
    assert lines[1].startswith("  network         PSNR 20.")
    assert [image.shape for image in seen["network"]] == [(32, 32, 1)] * 4
    np.testing.assert_array_equal(*seen.values())


@pytest.mark.extended
@pytest.mark.slow
def test_programs(folder, monkeypatch, capsys):
    run(monkeypatch, "--data", folder, "--side", "32", "--max-images", "1")
    out = capsys.readouterr().out
    for name in ("network  ", "LiteRT float32", "LiteRT int8"):
        assert f"  {name}" in out
