"""Full images for evaluation."""

import numpy as np
import pytest

import input_pipeline
from lcdnet_jax import image_io

create = input_pipeline.create_dataset


def test_eval_in_gray(tmp_path, config, fill):
    images = fill(tmp_path, {"a.png": (9, 10, 3)}, dtype=np.uint16)
    config.data.channels = 1
    config.data.eval.path = str(tmp_path)
    (item,) = create(config, "eval")
    assert item["clean"].dtype == np.float32
    np.testing.assert_array_equal(
        item["clean"], image_io.to_float(image_io.convert_channels(images["a.png"], 1))
    )


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


def test_gray_images_of_a_color_network(tmp_path, config, fill):
    """Said only if all images are gray and the network takes three channels."""
    config.data.eval.path = str(tmp_path)
    fill(tmp_path, {"a.png": (8, 8, 1), "b.png": (8, 9, 1)})
    config.data.channels = 1
    assert not create(config, "eval").shows_gray_as_color
    config.data.channels = 3
    assert create(config, "eval").shows_gray_as_color
    fill(tmp_path, {"c.png": (8, 9, 3)})
    assert not create(config, "eval").shows_gray_as_color


def test_groups_whose_scores_papers_average():
    rain = {"source": "rain13k", "path": "R", "split": "test"}
    sources = {"a": rain, "b": {**rain, "split": "Rain100H"}, "c": {"source": "folder"},
               "d": {"source": "dpdd", "path": "D", "split": "test"}}  # fmt: skip
    single, groups = input_pipeline.split_groups(sources)
    names = ("a_Test100", "a_Rain100H", "a_Rain100L", "a_Test2800", "a_Test1200")
    assert groups == {"a": names}
    assert list(single) == [*names, "b", "c", "d"]
    assert single["a_Rain100H"] == {**rain, "split": "Rain100H"}
    assert all(single[name] == sources[name] for name in "bcd")


def test_two_views_keep_16_bits(scenes, config):
    dataset = create(config, "eval")
    assert "2 pairs (published: 76), 9x8, 6 channels" in dataset.describe()
    for item, number in zip(dataset, (917, 933), strict=True):
        assert item["name"] == f"1P0A0{number}"
        clean, left, right = (scenes["test", half, number] for half in ("clean", "left", "right"))
        np.testing.assert_array_equal(item["clean"], image_io.to_float(clean))
        views = image_io.to_float(np.concatenate([left, right], axis=-1))
        np.testing.assert_array_equal(item["degraded"], views)


def test_names_of_folders_in_buckets():
    named = input_pipeline.parse_sources(
        ["gs://data/kodak", "gopro:gs://data/GOPRO"], {"source": "folder"}
    )
    assert {name: source["path"] for name, source in named.items()} == {
        "kodak": "gs://data/kodak",
        "gopro_GOPRO": "gs://data/GOPRO",
    }


def test_patterns_of_held_out_images_are_for_their_own_folder():
    default = {"source": "gopro", "path": "mine", "split": "test", "names": "*7"}
    assert input_pipeline.parse_sources([], default) == {"gopro_mine_part": default}
    named = input_pipeline.parse_sources(["gopro:other"], default)
    source = named["gopro_other"]
    assert not source.get("names")
    assert source["split"] == "test"
