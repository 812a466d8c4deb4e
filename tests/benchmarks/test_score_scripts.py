"""Scripts that tell what weights are worth: BM3D on the same noisy images, photographs to try."""

import json
import sys
import types

import numpy as np
import pytest
import skimage.restoration

from benchmarks import camera_photos, score_bm3d
from lcdnet_jax import image_io, metrics


@pytest.fixture
def levels(monkeypatch):
    """Stands in for the package: halves the distance to gray, and notes the levels it was told."""
    told = []

    def restore(noisy, level):
        told.append((noisy.shape, level))
        return (noisy + 0.5) / 2

    module = types.SimpleNamespace(bm3d=restore, bm3d_rgb=restore)
    monkeypatch.setitem(sys.modules, "bm3d", module)
    return told


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write(path, image)


def score(monkeypatch, output, *options):
    monkeypatch.setattr("sys.argv", ["score_bm3d", "--output", str(output), *options])
    score_bm3d.main()
    return [json.loads(line) for line in output.read_text().splitlines()]


class TestBM3D:
    def test_clean_images_are_made_noisy_and_the_level_is_told(
        self, levels, monkeypatch, tmp_path, rng, capsys
    ):
        for name in ("a.png", "b.png"):
            write(tmp_path / "set" / name, rng.integers(0, 256, (12, 14, 3), np.uint8))
        options = ["--data", str(tmp_path / "set"), "--sigmas", "25,50", "--protocols", "float"]
        rows = score(monkeypatch, tmp_path / "scores.jsonl", *options)
        assert [(row["image"], row["sigma"]) for row in rows] == [
            *(("a", 25.0), ("b", 25.0), ("a", 50.0), ("b", 50.0))
        ]
        assert {row["protocol"] for row in rows} == {"float"}
        assert levels == [((12, 14, 3), sigma / 255) for sigma in (25, 25, 50, 50)]
        assert rows[0]["input_psnr"] == pytest.approx(20.17, abs=1)
        assert rows[0]["psnr"] != pytest.approx(rows[0]["input_psnr"])
        out = capsys.readouterr().out.splitlines()
        mean = (rows[2]["psnr"] + rows[3]["psnr"]) / 2
        assert out[1].split()[:2] == ["set", "sigma"]
        assert f"PSNR {mean:5.2f} dB" in out[1]
        assert out[1].endswith("2 images")

        # A run that was killed while it wrote goes on where it was.
        del levels[:]
        scores = tmp_path / "scores.jsonl"
        scores.write_text(scores.read_text()[:-20])
        again = score(monkeypatch, scores, *options, "--max-images", "2")
        assert again == rows
        assert len(levels) == 1

    def test_of_pairs_the_level_is_estimated(self, levels, monkeypatch, tmp_path, rng):
        def estimate(noisy, *, channel_axis, average_sigmas):  # needs PyWavelets
            assert average_sigmas
            return np.std(noisy, axis=(0, 1)).mean() if channel_axis == -1 else None

        monkeypatch.setattr(skimage.restoration, "estimate_sigma", estimate)
        clean = np.full((64, 64, 3), 120, np.uint8)
        noisy = (clean + rng.normal(0, 20, clean.shape)).round().clip(0, 255).astype(np.uint8)
        for folder, image in (("input", noisy), ("target", clean)):
            write(tmp_path / "pairs" / folder / "a.png", image)
        (row,) = score(monkeypatch, tmp_path / "s.jsonl", "--data", str(tmp_path / "pairs"))
        assert (row["dataset"], row["protocol"], row["sigma"]) == ("pairs", "pairs", None)
        assert levels[0][1] * 255 == pytest.approx(20, abs=0.5)
        seen, wanted = (image_io.to_float(x)[None] for x in (noisy, clean))
        assert row["input_psnr"] == pytest.approx(float(metrics.psnr(seen, wanted)[0]), abs=1e-3)

    def test_gray(self, levels, monkeypatch, tmp_path, rng):
        write(tmp_path / "set/a.png", rng.integers(0, 256, (12, 14), np.uint8))
        options = ["--data", str(tmp_path / "set"), "--channels", "1", "--protocols", "8bit"]
        (row,) = score(monkeypatch, tmp_path / "s.jsonl", *options)
        assert row["channels"] == 1
        assert levels == [((12, 14), 50 / 255)]


@pytest.mark.usefixtures("quickly_compiled")
def test_camera_photos(monkeypatch, tmp_path, rng):
    clean = np.kron(rng.random((4, 5, 3)), np.ones((12, 12, 1))).astype(np.float32)
    photos = [{"name": "a", "clean": clean}]
    monkeypatch.setattr(camera_photos, "create_eval_dataset", lambda *args, **kwargs: photos)
    monkeypatch.setattr("sys.argv", ["camera_photos", str(tmp_path)])
    camera_photos.main()
    np.testing.assert_array_equal(image_io.read(tmp_path / "clean/a.png"), (255 * clean).round())
    noisy = image_io.to_float(image_io.read(tmp_path / "noisy/a.jpg"))
    assert 18 < metrics.psnr(noisy[None], clean[None])[0] < 32
