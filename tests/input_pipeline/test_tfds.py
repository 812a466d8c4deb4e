"""The tfds source, on a data set that is made here; nothing is downloaded."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

import input_pipeline
from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), np.uint8)


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Five examples in "train"."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "depth": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16),
            "flow": tfds.features.Image(shape=(None, None, 1), dtype=np.float32),
            "label": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(IMAGES)}

    def _generate_examples(self, images):
        for k, image in enumerate(images):
            yield (
                k,
                {
                    "image": image,
                    "depth": np.full((20, 24, 1), 1000 * k, np.uint16),
                    "flow": np.zeros((20, 24, 1), np.float32),
                    "label": k,
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where TFDS finds the prepared data set during this module."""
    folder = tmp_path_factory.mktemp("tfds")
    TinyPictures(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def tfds_config(config, data_dir, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))
    for split in ("train", "eval"):
        config.data[split].source = "tfds"
        config.data[split].path = "tiny_pictures"
        config.data[split].split = "train"
    return config


def in_image_set(image):
    return any(np.array_equal(image, image_io.to_float(original)) for original in IMAGES)


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_batches_from_tfds(tfds_config, cache_gb):
    tfds_config.data.cache_gb = cache_gb
    dataset = input_pipeline.create_dataset(tfds_config, "train")
    assert len(dataset) == 5
    assert "tfds tiny_pictures train: 5 images, 20x24" in dataset.describe()
    batch = next(dataset.batches())
    assert batch["clean"].shape == (4, 8, 8, 3)


def test_eval_from_tfds(tfds_config):
    tfds_config.data.eval.split = "train[:3]"
    items = list(input_pipeline.create_dataset(tfds_config, "eval"))
    assert [item["name"] for item in items] == ["0000000", "0000001", "0000002"]
    assert all(in_image_set(item["clean"]) for item in items)


def test_another_feature_and_16_bits(tfds_config):
    tfds_config.data.eval.feature = "depth"
    tfds_config.data.channels = 1
    items = list(input_pipeline.create_dataset(tfds_config, "eval"))
    values = sorted(int(np.rint(item["clean"][0, 0, 0] * 65535)) for item in items)
    assert values == [0, 1000, 2000, 3000, 4000]


@pytest.mark.parametrize(
    ("field", "value", "needles"),
    [
        ("path", "no_such_pictures", ("config.data.train.path", "no_such_pictures not found")),
        ("feature", "label", ("config.data.train.feature", "use one of image, depth")),
        ("feature", "flow", ("config.data.train.feature", "use one of image, depth")),
        ("split", "holdout", ("config.data.train.split", "holdout", "train")),
        ("split", "train[:0]", ("config.data.train.split", "no data")),
        ("path", "", ("config.data.train.path",)),
    ],
)
def test_refusals(tfds_config, field, value, needles):
    tfds_config.data.train[field] = value
    with pytest.raises(ValueError, match=re.escape(needles[0])) as caught:
        input_pipeline.create_dataset(tfds_config, "train")
    for needle in needles[1:]:
        assert needle in str(caught.value)
    assert len(str(caught.value)) < 500  # TFDS itself lists all its data sets


def test_data_that_is_not_prepared(tfds_config, monkeypatch, tmp_path):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="tfds build tiny_pictures") as caught:
        input_pipeline.create_dataset(tfds_config, "train")
    assert str(tmp_path) in str(caught.value)


def test_a_damaged_record_is_named(tfds_config, monkeypatch):
    real = image_io.decode_header
    monkeypatch.setattr(
        image_io, "decode_header", lambda data, *, name: real(data[:-20], name=name)
    )
    with pytest.raises(ImageError, match=r"^TFDS tiny_pictures train 0000000: .*cut short"):
        input_pipeline.create_dataset(tfds_config, "train")
