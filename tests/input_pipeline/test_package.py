"""``create_dataset``: which images go with which configuration."""

import itertools

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


class TestHeldOutImages:
    @pytest.fixture
    def numbered(self, tmp_path, config, write_numbered_images):
        write_numbered_images(tmp_path, 12)
        config.data.train.path = config.data.eval.path = str(tmp_path)
        return config

    def test_patterns(self, numbered):
        numbered.data.train.names, numbered.data.eval.names = "!*3, 1?", "*3,1?"
        datasets = input_pipeline.create_datasets(numbered)
        assert [item["name"] for item in datasets["eval"]] == ["03", "10", "11"]
        names = [*datasets["train"].list_images()]
        assert names == ["00", "01", "02", "04", "05", "06", "07", "08", "09"]
        batches = itertools.islice(datasets["train"].batches(), 40)
        brightest = np.stack([batch["clean"].max(axis=(1, 2, 3)) for batch in batches])
        assert {*np.rint(brightest.ravel() * 25.5).astype(int)} == {int(name) for name in names}

    def test_names_begin_with_the_source(self, numbered):
        for split, names in (("train", "!folder_*3"), ("eval", "folder_*3")):
            data = numbered.data[split]
            data.source, data.path, data.split = "folder,photos", f"{data.path},", "train"
            data.names = names
        datasets = input_pipeline.create_datasets(numbered)
        assert [item["name"] for item in datasets["eval"]] == ["folder_03"]
        assert len(datasets["train"]) == 11 + 6

    def test_pairs(self, tmp_path, config, fill):
        for half in ("noisy", "clean"):
            fill(tmp_path / half, {f"{k}.png": (9, 9, 3) for k in range(4)})
        config.degradation.kind = "none"
        config.data.train.path = config.data.eval.path = str(tmp_path)
        config.data.train.names, config.data.eval.names = "!2", "2"
        datasets = input_pipeline.create_datasets(config)
        assert len(datasets["train"]) == 3
        assert [item["name"] for item in datasets["eval"]] == ["2"]

    def test_no_image_in_both(self, numbered):
        """By file, whatever the other fields are."""
        numbered.data.train.names, numbered.data.eval.names = "!*3", "*4"
        with pytest.raises(ValueError, match=r"1 image of config.data.eval are .*: 04; make"):
            input_pipeline.create_datasets(numbered)
        numbered.data.train.names = numbered.data.eval.names = ""
        input_pipeline.create_datasets(numbered)  # nothing is said to be held out

    def test_mistakes(self, numbered):
        numbered.data.eval.names = "*3,x*"
        refuses(numbered, "config.data.eval.names '*3,x*': no image of folder", split="eval")
        refuses(numbered, "matches 'x*'; names are such as '00', '01', '02' and", split="eval")
        numbered.data.train.names = "!*"
        refuses(numbered, "config.data.train.names '!*' leaves no image of folder")
        for names, pattern in (("!*3,!*4", "!*4"), ("*3,", ""), ("!", "")):
            numbered.data.train.names = names
            refuses(numbered, f'has the pattern {pattern!r}; write patterns as in "*7,door_*"')
