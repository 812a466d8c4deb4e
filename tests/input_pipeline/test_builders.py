"""TFDS data sets of pairs, prepared from generated folders."""

import re
import runpy
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

import input_pipeline
from input_pipeline import builders
from input_pipeline.sources import open_source
from lcdnet_jax import image_io
from lcdnet_jax.data_sets import DATA_SETS


def images(root):
    """A PolyU of two scenes, of which only the first gives tiles; flat, but for gradients."""
    rows, columns = np.mgrid[:460, :610]
    shapes = {"a": (460, 610), "b": (310, 290)}
    pixels = {}
    for scene, (height, width) in shapes.items():
        for k, half in enumerate(("real", "mean")):
            image = np.stack([rows % 251, columns % 241, rows * 0 + 99 + k], axis=-1)
            pixels[scene, half] = image[:height, :width].astype(np.uint8)
            path = root / "CroppedImages" / f"{scene}_{half}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image_io.write(path, pixels[scene, half])
    return pixels


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Pixels, and where TFDS finds the prepared data sets."""
    root, data_dir = tmp_path_factory.mktemp("polyu"), tmp_path_factory.mktemp("tfds")
    pixels = images(root)
    for name in ("polyu", "polyu/tiles"):
        builders.main([name, "--manual_dir", str(root), "--data_dir", str(data_dir)])
    return pixels, data_dir


@pytest.fixture
def opened(prepared, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared[1]))

    def opened(path, feature="noisy:clean"):
        return input_pipeline.create_eval_dataset(
            {"source": "tfds", "path": path, "split": "train", "feature": feature}, 3
        )

    return opened


def test_full(prepared, opened):
    pixels, _ = prepared
    items = {item["clean"].shape[0]: item for item in opened("polyu")}
    assert len(items) == 2
    for scene, height in (("a", 460), ("b", 310)):
        for half, name in (("degraded", "real"), ("clean", "mean")):
            np.testing.assert_array_equal(
                items[height][half], image_io.to_float(pixels[scene, name])
            )


def test_tiles(prepared, opened):
    """Tops 0 and 150 (460 >= 450), lefts 0, 150 and 300 (610 >= 600); their pixels tell which."""
    found, narrow = {}, []
    for item in opened("polyu/tiles"):
        assert item["clean"].shape == item["degraded"].shape
        if item["clean"].shape != (300, 300, 3):
            narrow.append(item)
            continue
        corner = np.rint(255 * item["clean"][0, 0]).astype(int)
        found[int(corner[0]), int(corner[1])] = item
    places = [(0, 0), (0, 150), (0, 300), (150, 0), (150, 150), (150, 300)]
    assert sorted(found) == sorted((top % 251, left % 241) for top, left in places)
    pixels, _ = prepared
    (item,) = narrow  # an image of 310x290 is not cut along its short side
    np.testing.assert_array_equal(item["clean"], image_io.to_float(pixels["b", "mean"][:300]))
    for top, left in places:
        item = found[top % 251, left % 241]
        for half, name in (("degraded", "real"), ("clean", "mean")):
            np.testing.assert_array_equal(
                item[half],
                image_io.to_float(pixels["a", name][top : top + 300, left : left + 300]),
            )


@pytest.mark.parametrize("height", [299, 300, 449, 450, 599, 600])
def test_a_tile_that_ends_at_the_border_is_kept(monkeypatch, tmp_path, height):
    monkeypatch.setitem(
        builders.LAYOUTS,
        "polyu",
        lambda root: [
            input_pipeline.examples.Example(
                "x", *2 * [input_pipeline.examples.Picture("", None, None)]
            )
        ],
    )
    monkeypatch.setattr(
        input_pipeline.examples.Picture,
        "read",
        lambda self, channels: np.zeros((height, 300, channels), np.uint8),
    )
    builder = builders.Polyu(config="tiles", data_dir=tmp_path)
    names = [name for name, _ in builder._generate_examples(tmp_path)]
    expected = [top for top in range(0, 700, 150) if top + 300 <= height] or [0]
    assert names == [f"x_{top:04d}_0000" for top in expected]


def test_names(prepared):
    rows = builders.Polyu(config="tiles", data_dir=prepared[1]).as_dataset(split="train")
    names = sorted(row["name"].decode() for row in rows.as_numpy_iterator())
    tiles = [f"a_{t:04d}_{x:04d}" for t in (0, 150) for x in (0, 150, 300)]
    assert names == [*tiles, "b_0000_0000"]


def test_training_batches(prepared, config, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared[1]))
    config.data.train = {
        "source": "tfds",
        "path": "polyu/tiles",
        "split": "train",
        "feature": "noisy:clean",
        "names": "",
    }
    config.degradation.kind = "none"
    batch = next(input_pipeline.create_dataset(config, "train").batches())
    assert set(np.rint(255 * batch["degraded"][..., 2]).ravel()) == {99}
    assert set(np.rint(255 * batch["clean"][..., 2]).ravel()) == {100}
    np.testing.assert_array_equal(batch["clean"][..., :2], batch["degraded"][..., :2])


def test_one_feature_is_not_paired(opened):
    dataset = opened("polyu", feature="clean")
    assert not dataset.source.is_paired
    assert all(set(item) == {"name", "clean"} for item in dataset)


@pytest.mark.parametrize(
    ("path", "feature", "message"),
    [
        (
            "polyu",
            "image",
            'source.feature "image" is not a 8- or 16-bit image of TFDS polyu; use one',
        ),
        ("polyu", "noisy:name", "use one of noisy, clean, or two of them as degraded:clean"),
        ("polyu", "noisy:clean:name", 'feature "name" is not a 8- or 16-bit image of TFDS polyu'),
        (
            "polyu",
            "noisy:clean:noisy:clean",
            'names more than 3 images; use "clean", "degraded:clean" for pairs, or "left:',
        ),
        ("renoir/tiles", "noisy:clean", "`python -m input_pipeline.builders renoir/tiles --manual"),
        (
            "sidd_medium",
            "clean",
            "`python -m input_pipeline.builders sidd_medium --manual_dir DIR`",
        ),
    ],
)
def test_refusals(opened, path, feature, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        opened(path, feature)


def test_command(tmp_path, monkeypatch, capsys):
    """As a user starts it; RENOIR, whose clean halves are computed."""
    batch = tmp_path / "T3i_Aligned" / "Batch_001"
    batch.mkdir(parents=True)
    for name, value in (("1Reference", 10), ("2full", 13), ("3Noisy", 20), ("4Noisy", 30)):
        image_io.write(batch / f"{name}.bmp", np.full((9, 7, 3), value, np.uint8))
    # The command is another module of that name, which registers the same builders.
    monkeypatch.setattr(tfds.core.registered, "_DATASET_REGISTRY", {})
    arguments = ["renoir", "--manual_dir", str(tmp_path), "--data_dir", str(tmp_path / "tfds")]
    monkeypatch.setattr(sys, "argv", ["builders", *arguments])
    monkeypatch.delitem(sys.modules, "input_pipeline.builders")
    runpy.run_module("input_pipeline.builders", run_name="__main__")
    assert f"2 pairs in {tmp_path}/tfds/renoir/full/1.0.0" in capsys.readouterr().out
    rows = tfds.builder_from_directory(tmp_path / "tfds/renoir/full/1.0.0").as_dataset("train")
    values = sorted(
        (int(row["noisy"][0, 0, 0]), int(row["clean"][0, 0, 0])) for row in rows.as_numpy_iterator()
    )
    assert values == [(20, 11), (30, 11)]


def test_command_refuses_other_folders(tmp_path):
    arguments = ["sidd_medium", "--data_dir", str(tmp_path / "tfds"), "--manual_dir"]
    with pytest.raises(SystemExit, match=r"error: Manual directory .*nowhere does not exist"):
        builders.main([*arguments, str(tmp_path / "nowhere")])
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(SystemExit, match=r"error: .*looked for folders of scenes .*notes\.txt"):
        builders.main([*arguments, str(tmp_path)])


# Deblurring and deraining


def test_folder_that_tfds_takes_for_a_pattern(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "a [v2]"))
    spec = {"source": "tfds", "path": "polyu", "split": "train", "feature": "clean"}
    with pytest.raises(ValueError, match=r"for a pattern .*set TFDS_DATA_DIR to a folder without"):
        open_source(spec, field="data")


def prepare(name, root, data_dir, monkeypatch):
    builders.main([name, "--manual_dir", str(root), "--data_dir", str(data_dir)])
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))


def test_the_splits_that_are_there(tmp_path, fill, monkeypatch, capsys):
    """Of Rain13K the training pairs and one test set."""
    written = {
        (place, half): fill(
            tmp_path / place / half, {"1.png": (5, 6, 3), "2.png": (7, 4, 3)}, seed=k
        )
        for place in ("train/Rain13K", "test/Rain100H")
        for k, half in enumerate(("input", "target"))
    }
    prepare("rain13k", tmp_path, tmp_path / "tfds", monkeypatch)
    where = f"{tmp_path}/tfds/rain13k/1.0.0"
    said = capsys.readouterr().out
    assert f"train: 2 pairs (published: 13,711) in {where}" in said
    assert f"Rain100H: 2 pairs (published: 100) in {where}" in said
    spec = {"source": "tfds", "path": "rain13k", "feature": "degraded:clean"}
    for split, place in (("train", "train/Rain13K"), ("Rain100H", "test/Rain100H")):
        items = {
            item["clean"].shape: item
            for item in input_pipeline.create_eval_dataset({**spec, "split": split}, 3)
        }
        for half, key in (("input", "degraded"), ("target", "clean")):
            for image in written[place, half].values():
                np.testing.assert_array_equal(items[image.shape][key], image_io.to_float(image))
    with pytest.raises(ValueError, match=r'source\.split "Test100" of TFDS rain13k'):
        input_pipeline.create_eval_dataset({**spec, "split": "Test100"}, 3)


def test_two_views_of_16_bits(tmp_path, fill, monkeypatch, config):
    written = {
        half: fill(tmp_path / folder, {file: (9, 10, 3)}, dtype=np.uint16, seed=k)[file]
        for k, (half, folder, file) in enumerate(
            [
                ("left", "val_l/source", "1P0A0894_L.png"),
                ("right", "val_r/source", "1P0A0894_R.png"),
                ("clean", "val_c/target", "1P0A0895.png"),
            ]
        )
    }
    prepare("dpdd_dual", tmp_path, tmp_path / "tfds", monkeypatch)
    spec = {"source": "tfds", "path": "dpdd_dual", "split": "val", "feature": "left:right:clean"}
    (item,) = input_pipeline.create_eval_dataset(spec, 6)
    np.testing.assert_array_equal(item["clean"], image_io.to_float(written["clean"]))
    np.testing.assert_array_equal(
        item["degraded"],
        image_io.to_float(np.concatenate([written["left"], written["right"]], axis=-1)),
    )
    (item,) = input_pipeline.create_eval_dataset({**spec, "feature": "right:clean"}, 3)
    np.testing.assert_array_equal(item["degraded"], image_io.to_float(written["right"]))
    with pytest.raises(ValueError, match=r"holds two views .*\.channels is 3; set it to 6"):
        input_pipeline.create_eval_dataset(spec, 3)


def test_a_folder_without_any_split(tmp_path):
    (tmp_path / "GOPRO_Large").mkdir()
    arguments = ["gopro", "--data_dir", str(tmp_path / "tfds"), "--manual_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"error: .*looked for train/, found GOPRO_Large/.*; give"):
        builders.main(arguments)


def test_every_data_set_with_published_counts_has_a_builder():
    names = [
        name for name, row in DATA_SETS.items() if row.pairs != "none" and any(row.splits.values())
    ]
    assert len(names) == 10
    for name in names:
        assert tfds.builder_cls(name).__module__ == "input_pipeline.builders"
