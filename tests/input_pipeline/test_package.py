"""``create_dataset``: which images go with which configuration."""

import numpy as np
import pytest

import input_pipeline
from lcdnet_jax.config import ConfigError

create = input_pipeline.create_dataset


def refuses(config, *needles, kind=ValueError, split="train"):
    with pytest.raises(kind) as caught:
        create(config, split)
    for needle in needles:
        assert needle in str(caught.value)


def test_degradation_must_suit_the_source(tmp_path, config, fill):
    fill(tmp_path / "target", {"a.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path / "target")
    config.degradation.kind = "none"
    refuses(config, "config.degradation.kind", "input/ and target/")
    fill(tmp_path / "input", {"a.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "awgn"
    refuses(config, "config.degradation.kind", '"none"', "target/")


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("batch_size", 0),
        ("data.crop", 0),
        ("data.channels", 4),
        ("data.on_bad_image", "ignore"),
        ("degradation.kind", "snow"),
        ("degradation.where", "moon"),
        ("degradation.protocol", "jpeg"),
        ("degradation.sigma_min", 60.0),
        ("network.name", "resnet"),
    ],
)
def test_the_whole_config_is_checked_before_the_images(config, field, value, split):
    """The folder does not exist either, but what is cheap to find out comes first."""
    config.data[split].path = "nowhere"
    config.update_from_flattened_dict({field: value})
    refuses(config, f"config.{field}", kind=ConfigError, split=split)


def test_noise2self_needs_pairs_for_scores_only(tmp_path, config, fill):
    fill(tmp_path, {"a.png": (20, 31, 3), "b.png": (24, 40, 3)})
    config.data.train.path = config.data.eval.path = str(tmp_path)
    config.data.eval.source = "folder"
    config.degradation.kind = "none"
    with pytest.raises(ValueError, match="holds clean images only"):
        input_pipeline.create_dataset(config, "train")
    config.objective = "noise2self"
    dataset = input_pipeline.create_dataset(config, "train")
    batches = dataset.batches()
    batch = next(batches)
    batches.close()
    assert set(batch) == {"clean", "mask"}  # the step takes "clean" for the degraded image
    assert np.ptp(batch["clean"]) > 0
    with pytest.raises(
        ValueError, match=r"config\.data\.eval .* contains no pairs, but scores need"
    ):
        input_pipeline.create_dataset(config, "eval")
