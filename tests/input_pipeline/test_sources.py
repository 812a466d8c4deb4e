"""What sources find, and what they refuse."""

import os
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

import input_pipeline
from input_pipeline import sources
from lcdnet_jax import data_sets, image_io, storage
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


def test_the_list_of_images(tmp_path, config, fill):
    """As data.json stores it."""
    fill(tmp_path, {"a.png": (10, 20), "b.tif": (12, 9, 3)})
    config.data.train.path = str(tmp_path)
    a, b = ((tmp_path / name).stat().st_size for name in ("a.png", "b.tif"))
    assert create(config, "train").list_images() == {
        "a": f"10x20, 1 channel, 8 bits, {a} bytes",
        "b": f"12x9, 3 channels, 8 bits, {b} bytes",
    }


@pytest.fixture
def bad_headers(tmp_path, fill):
    """Two good images and five that cannot be used, as far as their headers tell."""
    fill(tmp_path, {"good.png": (10, 12, 3), "also_good.png": (9, 9), "alpha.png": (9, 9, 4)})
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "animation.webp", save_all=True, append_images=frames[1:])
    return tmp_path


BAD = ("alpha.png", "animation.webp", "empty.png", "half.png", "page.jpg")


def test_bad_headers_are_all_named_in_one_error(bad_headers, config):
    config.data.train.path = config.data.eval.path = str(bad_headers)
    for split, hint in (("train", True), ("eval", False)):
        with pytest.raises(
            ImageError, match=r"^config\.data\..*: 5 images cannot be used"
        ) as caught:
            create(config, split)
        assert all(name in str(caught.value) for name in BAD)
        assert "/good.png" not in str(caught.value)
        assert ("config.data.on_bad_image" in str(caught.value)) == hint


def test_bad_headers_are_left_out_and_reported(bad_headers, config, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        logging, "warning", lambda message, *values: warnings.append(message % values)
    )
    config.data.train.path = config.data.eval.path = str(bad_headers)
    config.data.on_bad_image = "replace"
    for where in ("host", "device"):
        config.data.where = where
        warnings.clear()
        dataset = create(config, "train")
        assert list(dataset.list_images()) == ["also_good", "good"]
        assert "2 images (5 left out, which cannot be used)" in dataset.describe()
        assert len(warnings) == 5
        assert all(any(name in warning for warning in warnings) for name in BAD)
    with pytest.raises(ImageError, match="5 images cannot be used"):  # scores need all images
        create(config, "eval")


def test_only_bad_headers(bad_headers, config):
    for name in ("good.png", "also_good.png"):
        (bad_headers / name).unlink()
    config.data.train.path = str(bad_headers)
    config.data.on_bad_image = "replace"
    with pytest.raises(ImageError, match="no image is left: 5 images cannot be used"):
        create(config, "train")


def test_a_pair_with_a_bad_half_is_left_out(tmp_path, config, fill):
    fill(tmp_path / "target", {"a.png": (10, 12, 3), "b.png": (9, 9, 3)})
    fill(tmp_path / "input", {"a.png": (10, 12, 3), "b.png": (9, 9, 3)})
    (tmp_path / "input/b.png").write_bytes(b"")
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    with pytest.raises(
        ImageError, match=r"input/b\.png: the file is empty .* \(or set config\.data\.on_bad_image"
    ):
        create(config, "train")
    config.data.on_bad_image = "replace"
    assert list(create(config, "train").list_images()) == ["a"]


def test_photos_of_cameras_are_no_examples(tmp_path, config, fill):
    """HEIC and raw files beside the images do not change what a run trains on."""
    images = {"a.png": (8, 8, 3), "b.jfif": (8, 8, 3), "c.avif": (8, 8, 3)}
    for folder in ("photos", "input", "target"):
        fill(tmp_path / folder, images)
        for name in ("a.dng", "x.dng", "y.heic", "z.NEF"):
            (tmp_path / folder / name).write_bytes(b"photo")
    for path, kind in ((tmp_path / "photos", "awgn"), (tmp_path, "none")):
        config.data.eval.path, config.degradation.kind = str(path), kind
        assert [item["name"] for item in create(config, "eval")] == ["a", "b", "c"]


def test_equal_stems_are_told_apart_by_suffix(tmp_path, config, fill):
    fill(tmp_path, {"a.png": (8, 8), "a.bmp": (8, 8), "b.png": (8, 8)})
    config.data.eval.path = str(tmp_path)
    assert [item["name"] for item in create(config, "eval")] == ["a.bmp", "a.png", "b"]


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


def test_real_photographs(config, shared_data, tmp_path):
    folder = shared_data("train/bsds500")
    for path in sorted(folder.iterdir())[:4]:
        os.symlink(path, tmp_path / path.name)
    config.data.train.path = str(tmp_path)
    config.data.crop = 64
    batch = next(create(config, "train").batches())
    assert batch["clean"].shape == (4, 64, 64, 3)
    assert 0.05 < batch["clean"].std() < 0.5


@pytest.mark.parametrize("name", ["a [v2]", "my, data", "a*b", "caf\udce9", "~x"])
def test_folders_of_any_name(tmp_path, config, fill, name):
    """A path is a path, not a pattern or a list."""
    fill(tmp_path / name, {"a.png": (8, 8, 3)})
    config.data.eval.path = str(tmp_path / name)
    assert [item["name"] for item in create(config, "eval")] == ["a"]
    config.data.eval.source = "folder,folder"
    config.data.eval.path = f"{tmp_path / name}, {tmp_path / name}"
    assert [item["name"] for item in create(config, "eval")] == ["folder1_a", "folder2_a"]


def test_pairs_match_in_any_form_of_unicode(tmp_path, config, fill):
    """A Mac writes an accent as a character of its own. The name is that of the degraded file."""
    shapes = {"cafe\u0301.png": (8, 8, 3), "caf\udce9.png": (9, 9, 3)}
    fill(tmp_path / "input", shapes)
    fill(tmp_path / "target", {"caf\u00e9.png": (8, 8, 3), "caf\udce9.png": (9, 9, 3)})
    config.data.eval.path = str(tmp_path)
    config.degradation.kind = "none"
    items = list(create(config, "eval"))
    assert [item["name"] for item in items] == ["cafe\u0301", "caf\udce9"]
    assert [item["clean"].shape for item in items] == [(8, 8, 3), (9, 9, 3)]
    fill(tmp_path / "input", {"caf\u00e9.bmp": (8, 8, 3)})
    with pytest.raises(ImageError, match="have equal names, so their partner is not clear"):
        create(config, "eval")


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


def test_pairs_in_other_folders(tmp_path, config, fill):
    for half in ("train", "gt", "1", "2"):
        fill(tmp_path / half, {"a.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    needs = "; for pairs it needs input/ and target/ or noisy/ and clean/, but has "
    refuses(config, "contains no image", f"{needs}1/, 2/, gt/ and 1 more", kind=ImageError)


def test_pairs_whose_names_do_not_match(tmp_path, config, fill):
    fill(tmp_path / "input", {f"{k}.png": (8, 8, 3) for k in range(9)})
    fill(tmp_path / "target", {"0.png": (8, 8, 3), "zz.png": (8, 8, 3)})
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    refuses(
        config,
        "config.data.train.path",
        "files without a partner: ",
        "input/1.png, input/2.png, input/3.png, input/4.png, input/5.png and 4 more",
        "must have equal names, also in capitals (the suffix may differ; subfolders, HEIC and raw",
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
    refuses(
        config, "the halves of some pairs differ", "b (input 10x20, target 10x21)", kind=ImageError
    )


def test_one_and_two_views_are_not_joined(scenes, tmp_path, fill):
    for half in ("input", "target"):
        fill(tmp_path / "plain" / half, {"a.png": (9, 9, 3)})
    spec = {"source": "folder,dpdd_dual", "path": f"{tmp_path}/plain,{tmp_path}", "split": "test"}
    with pytest.raises(
        ValueError, match=r"x: dpdd_dual .* two views of every scene and folder .*;"
    ):
        sources.open_source(spec, field="x")


# TFDS, on a data set that is made here; nothing is downloaded


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
def test_tfds_refusals(tfds_config, field, value, needles):
    tfds_config.data.train[field] = value
    with pytest.raises(ValueError, match=re.escape(needles[0])) as caught:
        input_pipeline.create_dataset(tfds_config, "train")
    for needle in needles[1:]:
        assert needle in str(caught.value)
    assert len(str(caught.value)) < 500  # TFDS itself lists all its data sets


def test_tfds_data_that_is_not_prepared(tfds_config, monkeypatch, tmp_path):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="tfds build tiny_pictures") as caught:
        input_pipeline.create_dataset(tfds_config, "train")
    assert str(tmp_path) in str(caught.value)


def test_a_damaged_tfds_record_is_named(tfds_config, monkeypatch):
    real = image_io.decode_header
    monkeypatch.setattr(
        image_io, "decode_header", lambda data, *, name: real(data[:-20], name=name)
    )
    with pytest.raises(ImageError, match=r"TFDS tiny_pictures train 0000000: .*cut short"):
        input_pipeline.create_dataset(tfds_config, "train")


@pytest.fixture
def lists(bucket, monkeypatch):
    """Folders in the bucket that were listed."""
    found = []
    filesystem = storage.buckets.get_filesystem(storage.to_path(bucket))
    find = filesystem.find
    monkeypatch.setattr(
        filesystem, "find", lambda path, detail: (found.append(path), find(path, detail=detail))[1]
    )
    return found


def test_a_bucket(bucket, lists, tmp_path, config, fill):
    """What a local folder gives; the folder is listed once."""
    fill(tmp_path / "clean", {"b.png": (12, 9, 3), "a.tif": (10, 20)})
    for half, seed in (("input", 1), ("target", 2)):
        fill(tmp_path / "pairs" / half, {"x.png": (9, 9, 3), "y.png": (12, 8, 3)}, seed=seed)
    storage.upload(tmp_path, storage.to_path(bucket))
    for kind in ("clean", "pairs"):
        config.degradation.kind = "awgn" if kind == "clean" else "none"
        config.data.eval.path = str(tmp_path / kind)
        local = create(config, "eval")
        lists.clear()
        config.data.eval.path = f"{bucket}/{kind}"
        there = create(config, "eval")
        assert lists == [f"{bucket}/{kind}"]
        assert there.source.list_images() == local.source.list_images()
        for a, b in zip(there, local, strict=True):
            assert a.pop("name") == b.pop("name")
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
        assert there.describe().replace(bucket, str(tmp_path)) == local.describe()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}/none", r"config.data.eval.path: gs://.*/none: does not exist; give the folder"),
        ("{}/in/a.png", r"config.data.eval.path: gs://.*a.png: is a file, not a folder"),
        ("{}/in", r"eval: no image is left: gs://.*/in/a.png: the file is empty"),
        (
            "gs://no-such/in",
            r"config.data.eval.path: gs://no-such/in: the bucket gs://no-such does",
        ),
        ("gs:/in", r"config.data.eval.path: gs:/in names no bucket; write gs://BUCKET/PATH"),
    ],
)
def test_mistakes_in_a_bucket(bucket, config, path, message):
    storage.write(storage.to_path(f"{bucket}/in/a.png"), b"")
    config.data.eval.path = path.format(bucket)
    with pytest.raises(ImageError, match=message):
        create(config, "eval")


def test_images_are_not_left_out_while_a_bucket_does_not_answer(bucket, config, fill, monkeypatch):
    config.data.train.path = f"{bucket}/in"
    config.data.on_bad_image = "replace"
    images = {"a.png": (12, 9, 3), "b.png": (10, 20, 3)}
    for name, shape in images.items():
        image_io.write(f"{bucket}/in/{name}", np.zeros(shape, np.uint8))
    storage.write(storage.to_path(f"{bucket}/in/bad.png"), b"text")
    assert create(config, "train").list_images().keys() == {"a", "b"}
    filesystem = storage.buckets.get_filesystem(storage.to_path(bucket))
    cat_file = filesystem.cat_file

    def fail(name, start, end):
        if "a.png" in name:
            raise ConnectionError("no route")
        return cat_file(name, start=start, end=end)

    monkeypatch.setattr(filesystem, "cat_file", fail)
    with pytest.raises(ImageError, match=r"a.png: the bucket does not answer \(no route"):
        create(config, "train")
