"""SADNet's recipes for photographs: cameras, held-out images, and a gain by fine-tuning."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import sadnet_photo, sadnet_photo_polyu
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io
from lcdnet_jax.config import ConfigError
from lcdnet_jax.networks import registered
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.weights import scores
from tests.training.conv_net import ConvNet


class TestRecipes:
    def test_mistakes(self):
        config = sadnet_photo.get_config()
        config.degradation.options.camera.contrast = (0.0, 3.0)
        with pytest.raises(ConfigError, match=r"degradation\.options: contrast is \(0.0, 3.0\)"):
            config_lib.validate(config)
        config.degradation.options.camera = ConfigDict({"crosstalk": (0.0, 0.5)})
        with pytest.raises(
            ConfigError, match="'camera' has no option 'crosstalk'; use shot, quality, "
        ):
            config_lib.validate(config)

    @pytest.mark.parametrize("recipe", [sadnet_photo, sadnet_photo_polyu])
    def test_validation_images_are_no_training_images(self, recipe):
        config = recipe.get_config()
        config_lib.validate(config)
        assert config.best_metric == "psnr"
        assert config.data.train.names == f"!{config.data.eval.names}"
        train, evaluated = config.data.train.to_dict(), config.data.eval.to_dict()
        assert {**train, "names": ""} == {**evaluated, "names": ""}

    def test_scenes_of_polyu(self, shared_data):
        """All pairs of a scene, in names CAMERA_..._SCENE_NUMBER, are on one side."""
        config = sadnet_photo_polyu.get_config()
        config.data.train.path = config.data.eval.path = str(shared_data("realnoise_train/polyu"))
        datasets = input_pipeline.create_datasets(config)
        sides = [datasets["train"].list_images(), [item["name"] for item in datasets["eval"]]]
        assert [len(side) for side in sides] == [48, 9]
        train, held_out = ({name.rstrip("0123456789_") for name in side} for side in sides)
        assert not train & held_out


@pytest.mark.extended
def test_fine_tuning_on_pairs_gains_on_held_out_ones(tmp_path, rng):
    """The recipe with a network of two layers, on pairs whose noise is not what it has learned."""
    for number in range(8):
        clean = cv2.resize(rng.random((5, 5, 3), np.float32), (32, 32)) * 0.6 + 0.2
        noisy = clean + cv2.GaussianBlur(rng.standard_normal((32, 32, 3)), (3, 3), 0.8) * 0.2 + 0.1
        for half, image in (("clean", clean), ("noisy", noisy)):
            (tmp_path / half).mkdir(exist_ok=True)
            pixels = image_io.to_uint8(np.clip(image, 0, 1).astype(np.float32))
            image_io.write(tmp_path / half / f"scene_{number}.png", pixels)

    def run(name, *, held_out="*[37]", **fields):
        config = sadnet_photo_polyu.get_config()
        config.network.name, config.network.kwargs = "conv", ConfigDict({"norm": False})
        config.data.train.path = config.data.eval.path = str(tmp_path)
        config.data.train.names, config.data.eval.names = f"!{held_out}", held_out
        config.data.crop, config.batch_size, config.ema_decay = 16, 8, 0.0
        config.update(fields)
        datasets = input_pipeline.create_datasets(config)
        train_and_evaluate(config, tmp_path / name, datasets=datasets)
        rows = scores.read(tmp_path / name)
        assert all(row["data"].endswith(f", names {held_out}") for row in rows)
        return [row["psnr"] for row in rows]

    with registered("conv", ConvNet):
        (before,) = run("first", init_from="", steps=1)
        fields = {
            "init_from": str(tmp_path / "first"),
            "steps": 150,
            "eval_every": 75,
            "checkpoint_every": 75,
            "optimizer": {"learning_rate": 0.01, "warmup_steps": 0},
        }
        after = run("tuned", **fields)
        with pytest.raises(ConfigError, match="added: scene_7"):
            run("tuned", held_out="*3", **fields)
    assert len(after) == 2
    assert max(after) > before + 1
