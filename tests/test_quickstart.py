"""quickstart.py as a user starts it."""

import json

import numpy as np
import pytest

from lcdnet_jax import image_io, visualization
from tests.scripts import TINY, error_of, images_of, run

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.usefixtures("sadnet_stand_in"),
    # ml_collections loads config files in an old way.
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def output(tmp_path_factory, data, sadnet_stand_in):
    """What quickstart.py leaves after two steps."""
    output = tmp_path_factory.mktemp("quickstart")
    assert run("quickstart.py", "--config", TINY, "--output", output, *images_of(data),
               "--config.steps=2", "--config.degradation.sigma_min=40",
               "--config.degradation.sigma_max=40",
               ) is None  # fmt: skip
    return output


class TestQuickstart:
    @pytest.mark.extended
    def test_result(self, output):
        result = json.loads((output / "result.json").read_text())
        assert set(result) == {"images", "mean", "train_seconds"}
        scores = {"noisy_psnr", "classical_psnr", "restored_psnr"}
        assert [image["name"] for image in result["images"]] == ["k0", "k1", "k2"]
        for image in result["images"]:
            assert set(image) == scores | {"name"}
        assert set(result["mean"]) == scores
        for key in scores:
            mean = np.mean([image[key] for image in result["images"]])
            np.testing.assert_allclose(result["mean"][key], mean)
        assert result["train_seconds"] > 0

    def test_leaves_files_to_restore(self, output):
        for version in ("noisy", "clean"):
            files = sorted((output / version).iterdir())
            assert [file.name for file in files] == ["k0.png", "k1.png", "k2.png"]
            stored = np.load(output / f"k1_{version}.npy").clip(0, 1)
            np.testing.assert_allclose(image_io.read(files[1]) / 255, stored, atol=0.51 / 255)

    def test_other_degradations_than_noise_are_refused(self, tmp_path):
        message = error_of("quickstart.py", "--config", TINY, "--output", tmp_path,
                           "--config.degradation.kind=rain")  # fmt: skip
        assert "non-local means removes noise" in message

    def test_a_bucket_is_refused(self):
        message = error_of("quickstart.py", "--config", TINY, "--output", "gs://bucket/run")
        assert "--output=gs://bucket/run is in a bucket" in message
        assert "use train.py" in message

    def test_arrays_are_what_was_scored(self, output, data):
        result = json.loads((output / "result.json").read_text())
        for row in result["images"]:
            versions = {
                version: np.load(output / f"{row['name']}_{version}.npy")
                for version in ("clean", "noisy", "classical", "restored")
            }
            image = image_io.to_float(image_io.read(data / "kodim" / f"{row['name']}.png"))
            np.testing.assert_array_equal(versions["clean"], image)
            for version, array in versions.items():
                assert array.dtype == np.float32
                assert array.shape == image.shape
                if version != "clean":
                    error = np.mean((array.clip(0, 1).astype(float) - image) ** 2)
                    psnr = -10 * np.log10(error)
                    np.testing.assert_allclose(row[f"{version}_psnr"], psnr, rtol=1e-5)
            noise = versions["noisy"] - image
            assert abs(noise.std() - 40 / 255) < 4 * 40 / 255 / np.sqrt(2 * noise.size)
        assert versions["noisy"].min() < 0  # the protocol "float"

    def test_panel_and_checkpoint(self, output):
        blank = visualization.draw_panel(
            [("", np.zeros((20, 24, 3)))] * 4, clean=np.zeros((20, 24, 3))
        )
        panel = image_io.read(output / "panel.png")
        assert panel.dtype == np.uint8
        assert panel.shape[1:] == blank.shape[1:]
        assert panel.shape[0] > 2 * blank.shape[0]  # three images
        assert (output / "checkpoints" / "2").is_dir()
