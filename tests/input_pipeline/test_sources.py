"""What sources find, and what they refuse."""

import os

import numpy as np
import pytest

import input_pipeline
from input_pipeline import sources
from lcdnet_jax import data_sets, image_io
from lcdnet_jax.config import ConfigError
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.image_io import ImageError

create = input_pipeline.create_dataset


def test_folder_of_clean_images(tmp_path, config, fill):
    images = fill(tmp_path, {"b.png": (12, 9, 3), "a.png": (10, 20), "a-1.tif": (8, 8, 3)})
    (tmp_path / "notes.txt").write_text("no image")
    config.data.eval.path = str(tmp_path)
    dataset = create(config, "eval")
    assert len(dataset) == 3
    for _ in range(2):  # can be iterated again
        items = list(dataset)
        assert [item["name"] for item in items] == ["a", "a-1", "b"]
        for item, name in zip(items, ("a.png", "a-1.tif", "b.png"), strict=True):
            assert set(item) == {"name", "clean"}
            np.testing.assert_array_equal(
                item["clean"], image_io.to_float(image_io.convert_channels(images[name], 3))
            )
    assert "3 images, from 8x8 to 12x20, 3 channels" in dataset.describe()


def test_equal_stems_are_told_apart_by_suffix(tmp_path, config, fill):
    fill(tmp_path, {"a.png": (8, 8), "a.bmp": (8, 8), "b.png": (8, 8)})
    config.data.eval.path = str(tmp_path)
    assert [item["name"] for item in create(config, "eval")] == ["a.bmp", "a.png", "b"]


def test_eval_in_grey(tmp_path, config, fill):
    images = fill(tmp_path, {"a.png": (9, 10, 3)}, dtype=np.uint16)
    config.data.channels = 1
    config.data.eval.path = str(tmp_path)
    (item,) = create(config, "eval")
    assert item["clean"].dtype == np.float32
    np.testing.assert_array_equal(
        item["clean"], image_io.to_float(image_io.convert_channels(images["a.png"], 1))
    )


def test_pairs_match_by_stem(tmp_path, config, fill):
    targets = fill(tmp_path / "target", {"a.png": (10, 12, 3), "b.png": (9, 9, 3)}, seed=1)
    inputs = fill(tmp_path / "input", {"a.bmp": (10, 12, 3), "b.tif": (9, 9, 3)}, seed=2)
    config.data.eval.path = str(tmp_path)
    config.degradation.kind = "none"
    dataset = create(config, "eval")
    assert "2 pairs" in dataset.describe()
    items = list(dataset)
    assert [item["name"] for item in items] == ["a", "b"]
    np.testing.assert_array_equal(items[0]["clean"], image_io.to_float(targets["a.png"]))
    np.testing.assert_array_equal(items[1]["degraded"], image_io.to_float(inputs["b.tif"]))


def test_photos_are_split_by_name(config):
    config.data.train.source = config.data.eval.source = "photos"
    datasets = input_pipeline.create_datasets(config)
    assert len(datasets["train"]) == 6
    items = list(datasets["eval"])
    assert [item["name"] for item in items] == ["chelsea", "coffee", "rocket"]
    assert items[0]["clean"].shape == (300, 451, 3)
    assert "photos train: 6 images, from 500x512 to 1411x1411" in datasets["train"].describe()


def test_create_eval_dataset_takes_any_mapping(tmp_path, fill):
    fill(tmp_path / "input", {"a.png": (8, 8, 3)})
    fill(tmp_path / "target", {"a.png": (8, 8, 3)})
    dataset = input_pipeline.create_eval_dataset(
        {"source": "folder", "path": str(tmp_path)}, channels=1
    )
    assert [item["degraded"].shape for item in dataset] == [(8, 8, 1)]
    with pytest.raises(ValueError, match=r"other\.path is None"):
        input_pipeline.create_eval_dataset({"source": "folder"}, 3, field="other")
    with pytest.raises(
        ValueError, match=r'other\.source is "web"; use one of photos, folder, tfds'
    ):
        input_pipeline.create_eval_dataset({"source": "web"}, 3, field="other")
    with pytest.raises(ValueError, match="channels is 4; use 3"):
        input_pipeline.create_eval_dataset({"source": "photos", "split": "test"}, 4)


def test_real_photographs(config, shared_data, tmp_path):
    folder = shared_data("train/bsds500")
    for path in sorted(folder.iterdir())[:4]:
        os.symlink(path, tmp_path / path.name)
    config.data.train.path = str(tmp_path)
    config.data.crop = 64
    batch = next(create(config, "train").batches())
    assert batch["clean"].shape == (4, 64, 64, 3)
    assert 0.05 < batch["clean"].std() < 0.5


def test_real_pairs(config, shared_data, tmp_path):
    for name, half in (("noisy", "input"), ("clean", "target")):
        (tmp_path / half).mkdir()
        for path in sorted((shared_data("realnoise/sidd") / name).iterdir()):
            os.symlink(path, tmp_path / half / path.name)
    config.data.train.path = str(tmp_path)
    config.data.crop = 64
    config.degradation.kind = "none"
    batch = next(create(config, "train").batches())
    difference = batch["degraded"] - batch["clean"]
    assert 0 < np.abs(difference).mean() < 0.1  # noise, so the halves show the same place


# The registry


def test_every_data_set_has_a_reader():
    assert set(sources.READERS) == set(data_sets.SOURCES)
    assert tuple(sources.PHOTOS) == tuple(DATA_SETS["photos"].splits)


# Refusals


def refuses(config, *needles, kind=ValueError, split="train"):
    with pytest.raises(kind) as caught:
        create(config, split)
    for needle in needles:
        assert needle in str(caught.value)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_missing_empty_and_unset_folders(tmp_path, config, split):
    spec = config.data[split]
    refuses(config, f"config.data.{split}.path", split=split)
    spec.path = str(tmp_path / "nowhere")
    refuses(config, f"config.data.{split}.path", "nowhere", kind=ImageError, split=split)
    spec.path = str(tmp_path)
    refuses(config, f"config.data.{split}.path", str(tmp_path), kind=ImageError, split=split)


def test_unknown_names(config):
    refuses(config, "train", "eval", split="test")
    config.data.train.source = "web"
    refuses(config, "config.data.train.source", "web", "'photos', 'folder', 'tfds'")
    config.data.train.source = "photos"
    config.data.train.split = "validation"
    refuses(config, "config.data.train.split", "validation", "train, test")


def test_photos_without_their_files(config, monkeypatch):
    config.data.train.source = "photos"
    monkeypatch.setitem(sources.PHOTOS, "train", ("astronaut.png", "lost.png"))
    refuses(config, "lacks lost.png", "scikit-image", kind=ImageError)
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    refuses(config, "pip install", kind=ImageError)


def test_unreadable_headers_are_named(tmp_path, config, fill, cut_in_half):
    fill(tmp_path, {"a.png": (64, 64, 3), "b.png": (64, 64, 3)})
    config.data.train.path = str(tmp_path)
    cut_in_half(tmp_path / "b.png")  # a cut PNG is seen without decoding it
    refuses(config, "b.png", kind=ImageError)
    (tmp_path / "b.png").write_text("words")
    refuses(config, "b.png", kind=ImageError)
    (tmp_path / "b.png").write_bytes(b"")
    refuses(config, "b.png", "empty", kind=ImageError)


@pytest.mark.parametrize("shape", [(9, 8, 4), (9, 8, 2)])
def test_alpha_is_refused_with_a_way_out(tmp_path, config, fill, shape):
    fill(tmp_path, {"a.png": (8, 8, 3), "b.png": shape})
    for split in ("train", "eval"):
        config.data[split].path = str(tmp_path)
        refuses(config, "b.png", "alpha", "convert", str(shape), kind=ImageError, split=split)


def test_one_half_of_pairs(tmp_path, config, fill):
    fill(tmp_path / "input", {"a.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    refuses(config, "has input/ but no target/", kind=ImageError)
    (tmp_path / "target").mkdir()
    refuses(config, str(tmp_path / "target"), kind=ImageError)  # there, but empty


def test_pairs_whose_names_do_not_match(tmp_path, config, fill):
    fill(tmp_path / "input", {f"{k}.png": (8, 8, 3) for k in range(9)})
    fill(tmp_path / "target", {"0.png": (8, 8, 3), "zz.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    refuses(
        config,
        "config.data.train.path",
        "9 files have no partner",
        "input/1.png, input/2.png, input/3.png, input/4.png, input/5.png ...",
        kind=ImageError,
    )


def test_pairs_with_equal_stems(tmp_path, config, fill):
    fill(tmp_path / "input", {"a.png": (8, 8, 3), "a.bmp": (8, 8, 3)})
    fill(tmp_path / "target", {"a.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    refuses(config, "a.bmp and a.png have equal names", kind=ImageError)


def test_pairs_whose_sizes_do_not_match(tmp_path, config, fill):
    fill(tmp_path / "input", {"a.png": (8, 8, 3), "b.png": (10, 20, 3)})
    fill(tmp_path / "target", {"a.png": (8, 8, 3), "b.png": (10, 21, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    refuses(config, "1 pairs differ", "b (input 10x20, target 10x21)", kind=ImageError)


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


@pytest.mark.parametrize("paired", [False, True])
def test_a_crop_larger_than_every_image(tmp_path, config, fill, paired):
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none" if paired else "awgn"
    for half in ("input", "target") if paired else ("",):
        fill(tmp_path / half, {"a.png": (24, 9, 3), "b.png": (20, 30, 3), "c.png": (29, 29, 3)})
    config.data.crop = 31
    refuses(config, "config.data.crop 31", "the largest is 20x30", "use at most 30")
    config.data.crop = 30  # all are padded, but one along one side only
    assert next(create(config, "train").batches())["clean"].shape == (4, 30, 30, 3)
    config.data.crop = 31
    config.data.eval.path = str(tmp_path)
    assert len(create(config, "eval")) == 3  # evaluation takes full images
