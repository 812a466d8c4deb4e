"""Pairs for deblurring and deraining, in generated trees of tiny images in their layouts."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest

import input_pipeline
from input_pipeline import sources
from lcdnet_jax import storage
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.image_io import ImageError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


@pytest.fixture
def tree(root):
    """Writes flat PNGs: ``tree("a/1.png", "b/1.png")`` gives them the values 1 and 2, and so on."""
    written = {}

    def tree(*names, shape=(6, 8), dtype=np.uint8):
        for name in names:
            written[name] = len(written) + 1
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / name), np.full((*shape, 3), written[name], dtype))
        return written

    return tree


def opened(kind, path, split):
    spec = {"source": kind, "path": str(path), "split": split}
    return input_pipeline.create_eval_dataset(spec, 3)


def pairs(kind, path, split):
    """Values of degraded and clean, by name."""
    found = {}
    for item in opened(kind, path, split):
        assert item["degraded"].shape == item["clean"].shape == (6, 8, 3)
        found[item["name"]] = tuple(
            round(255 * float(item[half][0, 0, 0])) for half in ("degraded", "clean")
        )
    assert list(found) == sorted(found)
    return found


def test_reds(root, tree):
    """Named by sequence and frame; with and without the folder of the split."""
    tree(
        *("train/train_blur/000/00000000.png", "train/train_sharp/000/00000000.png"),
        *("train/train_blur/001/00000007.png", "train/train_sharp/001/00000007.png"),
        *("train/train_blur_jpeg/001/00000007.jpg", "train/train_sharp/001/00000008.png"),
    )
    (root / "train/train_sharp/001/00000008.png").unlink()
    expected = {"000_00000000": (1, 2), "001_00000007": (3, 4)}
    assert pairs("reds", root, "train") == pairs("reds", root / "train", "train") == expected
    refuses("reds_jpeg", root, "train", "train_blur_jpeg: looked for 000/, found 001/")
    shutil.rmtree(root / "train/train_sharp/000")
    assert pairs("reds_jpeg", root, "train") == {"001_00000007": (5, 4)}
    refuses("reds", root, "val", "looked for val_blur/")


def refuses(kind, path, split, *needles):
    with pytest.raises(ImageError, match=r"^source\.path: ") as caught:
        pairs(kind, path, split)
    for needle in needles:
        assert needle in str(caught.value)


# GoPro


@pytest.fixture
def gopro(tree):
    """Two sequences to train on and one to test on, with values by path."""
    return tree(
        *(
            f"{sequence}/{half}/{frame}.png"
            for sequence in ("train/GOPR0372_07_00", "train/GOPR0374_11_01", "test/GOPR0384_11_00")
            for half in ("blur", "blur_gamma", "sharp")
            for frame in ("000047", "000048")
        )
    )


@pytest.mark.parametrize(("kind", "blur"), [("gopro", "blur"), ("gopro_gamma", "blur_gamma")])
def test_gopro(root, gopro, kind, blur):
    def values(split, sequence):
        return {
            f"{sequence}_{frame}": tuple(
                gopro[f"{split}/{sequence}/{half}/{frame}.png"] for half in (blur, "sharp")
            )
            for frame in ("000047", "000048")
        }

    assert pairs(kind, root, "test") == values("test", "GOPR0384_11_00")
    assert pairs(kind, root, "train") == {
        **values("train", "GOPR0372_07_00"),
        **values("train", "GOPR0374_11_01"),
    }


def test_counts_are_compared_with_the_published_ones(root, gopro, monkeypatch):
    assert opened("gopro", root, "train").describe() == (
        f"gopro train {root}: 4 pairs (published: 2,103), 6x8, 3 channels"
    )
    row = dataclasses.replace(DATA_SETS["gopro"], splits={"train": 4, "test": 2})
    monkeypatch.setitem(DATA_SETS, "gopro", row)
    assert ": 4 pairs (as published), 6x8" in opened("gopro", root, "train").describe()
    both = sources.open_source(
        {"source": "gopro,gopro_gamma", "path": f"{root},{root}", "split": "test"}, field="x"
    )
    assert both.describe().endswith("4 pairs (published: 1,113), 6x8")


def test_splits(root, gopro):
    with pytest.raises(ValueError, match=r'source\.split is "val"; gopro has the splits train, t'):
        opened("gopro", root, "val")
    with pytest.raises(ValueError, match=r"source\.split is ''"):
        opened("gopro", root, "")


def test_gopro_refusals(root, gopro, tree, tmp_path):
    refuses("gopro", root / "nowhere", "test", "nowhere: does not exist; give the folder")
    refuses("gopro", tmp_path, "test", "looked for test/, found set/; give the folder GOPRO_Large")
    refuses(
        "gopro",
        root / "test/GOPR0384_11_00",
        "train",
        "looked for train/, found blur/, blur_gamma/, sharp/; give the folder GOPRO_Large",
    )
    sequence = root / "train/GOPR0372_07_00"
    shutil.rmtree(sequence / "blur_gamma")
    refuses("gopro_gamma", root, "train", f"{sequence}: looked for blur_gamma/, found blur/, sha")
    assert len(pairs("gopro", root, "train")) == 4
    (sequence / "sharp/000048.png").unlink()
    refuses("gopro", root, "train", "files without a partner: blur/000048.png; files in blur/ and")
    shutil.rmtree(sequence)
    assert len(pairs("gopro", root, "train")) == 2  # part of the data is welcome
    tree("train/GOPR0374_11_01/sharp/000047.png", shape=(6, 9))
    refuses("gopro", root, "train", "GOPR0374_11_01_000047 (blur 6x8, sharp 6x9)")
    shutil.rmtree(root / "train/GOPR0374_11_01")
    refuses("gopro", root, "train", "looked for folders of sequences such as GOPR0372_07_00/")


# HIDE


def test_hide(root, tree):
    values = tree(
        *("train/1fromGOPR1.png", "train/2fromGOPR1.png"),
        *("test/test-close-ups/3fromGOPR1.png", "test/test-long-shot/4fromGOPR1.png"),
        *(f"GT/{k}fromGOPR1.png" for k in (1, 2, 3, 4, 5)),
    )
    (root / "train.txt").write_text("1fromGOPR1.png\n")

    def pair(path, k):
        return values[f"{path}/{k}fromGOPR1.png"], values[f"GT/{k}fromGOPR1.png"]

    train = {f"{k}fromGOPR1": pair("train", k) for k in (1, 2)}
    near = {"test-close-ups_3fromGOPR1": pair("test/test-close-ups", 3)}
    far = {"test-long-shot_4fromGOPR1": pair("test/test-long-shot", 4)}
    assert pairs("hide", root, "train") == train
    assert pairs("hide", root, "test") == {**near, **far}
    assert "2 pairs (published: 2,025)" in opened("hide", root, "test").describe()
    shutil.rmtree(root / "test/test-close-ups")
    assert pairs("hide", root, "test") == far
    (root / "GT/4fromGOPR1.png").unlink()
    refuses("hide", root, "test", "files without a partner: test-long-shot/4fromGOPR1.png")
    shutil.rmtree(root / "test/test-long-shot")
    refuses("hide", root, "test", "test: looked for test-close-ups/, found an empty folder; give")
    shutil.rmtree(root / "GT")
    refuses("hide", root, "train", "looked for GT/, found test/, train/, train.txt; give the fold")


# RealBlur


J, R = (f"RealBlur-{x}_ECC_IMCORR_centroid_itensity_ref" for x in ("J", "R_BM3D"))


@pytest.fixture
def realblur(root, tree):
    """Three scenes and the lists that name them, with values by path."""
    paths = [
        f"{folder}/{scene}/{half}/{half}_{number}.png"
        for folder in (J, R)
        for scene, number in (("scene001", 1), ("scene230", 7), ("scene230", 12))
        for half in ("gt", "blur")
    ]
    for letter, folder in (("J", J), ("R", R)):
        for split, scenes in (
            ("train", [("scene001", 1)]),
            ("test", [("scene230", 7), ("scene230", 12), ("scene231", 1)]),  # the last is missing
        ):
            lines = [
                f"{folder}/{scene}/gt/gt_{n}.png {folder}/{scene}/blur/blur_{n}.png \r\n"
                for scene, n in scenes
            ]
            root.mkdir(exist_ok=True)
            (root / f"RealBlur_{letter}_{split}_list.txt").write_text("".join(lines) + "\n")
    return tree(*paths)


@pytest.mark.parametrize(("kind", "folder"), [("realblur_j", J), ("realblur_r", R)])
def test_realblur(root, realblur, kind, folder):
    def pair(scene, n):
        return tuple(realblur[f"{folder}/{scene}/{half}/{half}_{n}.png"] for half in ("blur", "gt"))

    assert pairs(kind, root, "train") == {"scene001_1": pair("scene001", 1)}
    assert pairs(kind, root, "test") == {
        "scene230_7": pair("scene230", 7),
        "scene230_12": pair("scene230", 12),
    }
    assert "2 pairs (published: 980)" in opened(kind, root, "test").describe()


def test_realblur_refusals(root, realblur):
    gone = root / J / "scene230/gt/gt_12.png"
    gone.unlink()
    refuses(
        "realblur_j",
        root,
        "test",
        f"RealBlur_J_test_list.txt names files without a partner: {J}/scene230/blur/blur_12",
    )
    shutil.rmtree(root / J)
    refuses("realblur_j", root, "test", "looked for the images that RealBlur_J_test_list.txt names")
    listing = root / "RealBlur_R_test_list.txt"
    listing.write_text("a.png\n")
    refuses("realblur_r", root, "test", f'{listing}: line 1 is "a.png", not the names of a sharp')
    listing.unlink()
    refuses("realblur_r", root, "test", "looked for RealBlur_R_test_list.txt, found RealBlur-R")
    refuses("realblur_r", root / "nowhere", "test", "does not exist")


# DPDD (two views: test_pipeline_two_views.py)


def dpdd_tree(tree, split, scenes, **options):
    """Scenes are numbers of the blurred and the sharp picture."""
    names = [f"{split}_c/source/1P0A{blurred}.png" for blurred, _ in scenes]
    names += [f"{split}_c/target/1P0A{sharp}.png" for _, sharp in scenes]
    return tree(*names, **options)


SCENES = [("0917", "0916"), ("0984", "0985"), ("1046", "1045"), ("1983", "1985")]


def test_dpdd(root, tree):
    """Halves of a scene differ in number and are paired by order; 1046 and 1983 are indoors."""
    values = dpdd_tree(tree, "test", SCENES)
    values = dpdd_tree(tree, "val", [("0894", "0895")])
    expected = {
        f"1P0A{b}": (values[f"test_c/source/1P0A{b}.png"], values[f"test_c/target/1P0A{s}.png"])
        for b, s in SCENES
    }
    assert pairs("dpdd", root, "test") == expected
    indoor = {name: expected[name] for name in ("1P0A1046", "1P0A1983")}
    assert pairs("dpdd", root, "test_indoor") == indoor
    assert pairs("dpdd", root, "test_outdoor") == {
        name: pair for name, pair in expected.items() if name not in indoor
    }
    assert list(pairs("dpdd", root, "val")) == ["1P0A0894"]
    assert "2 pairs (published: 37)" in opened("dpdd", root, "test_indoor").describe()


def test_dpdd_keeps_16_bits(root, tree):
    values = dpdd_tree(tree, "train", [("0890", "0891")], dtype=np.uint16)
    (item,) = opened("dpdd", root, "train")
    for half, name in (("degraded", "source/1P0A0890"), ("clean", "target/1P0A0891")):
        assert (item[half] == np.float32(values[f"train_c/{name}.png"]) / 65535).all()


def test_dpdd_refusals(root, tree):
    dpdd_tree(tree, "test", SCENES)
    refuses("dpdd", root, "train", "looked for train_c/source/, found test_c/; give the folder dd_")
    target = root / "test_c/target"
    (target / "1P0A0916.png").unlink()
    refuses("dpdd", root, "test", "test_c/source/ has 4 pictures and test_c/target/ 3; they ")
    (root / "test_c/source/1P0A1983.png").unlink()  # as many again, but of other scenes
    refuses("dpdd", root, "test", "by their order 1P0A0917 in test_c/source/ and 1P0A0985 in test")
    tree("test_c/target/1P0A0916.png")
    (target / "1P0A1985.png").unlink()
    assert len(pairs("dpdd", root, "test")) == 3
    tree("test_c/target/1P0A0985.png", shape=(6, 9))
    refuses("dpdd", root, "test", "1P0A0984 (blurred 6x8, sharp 6x9)")
    shutil.rmtree(target)
    refuses("dpdd", root, "test", "test_c: looked for target/, found source/; give the folder dd_")


def test_indoor_and_outdoor_are_told_by_published_names_only(root, tree):
    tree("test_c/source/00000.png", "test_c/target/00000.png")
    assert list(pairs("dpdd", root, "test")) == ["00000"]
    for place in ("indoor", "outdoor"):
        refuses("dpdd", root, f"test_{place}", "looked for names as published, such as 1P0A0917")
    shutil.rmtree(root)
    dpdd_tree(tree, "test", [("0917", "0916")])
    refuses("dpdd", root, "test_indoor", "looked for indoor scenes, found 1P0A0917.png; set the sp")


# Rain13K


TESTS = ("Rain100H", "Rain100L", "Test100", "Test1200", "Test2800")


def test_rain13k(root, tree):
    values = tree(
        *(f"train/Rain13K/{half}/{k}.jpg" for half in ("input", "target") for k in (1, 10)),
        *(f"test/{name}/{half}/1.png" for name in TESTS for half in ("input", "target")),
    )

    def pair(folder, file):
        return values[f"{folder}/input/{file}"], values[f"{folder}/target/{file}"]

    train = {"1": pair("train/Rain13K", "1.jpg"), "10": pair("train/Rain13K", "10.jpg")}
    assert pairs("rain13k", root, "train") == train
    for name in TESTS:
        assert pairs("rain13k", root, name) == {"1": pair(f"test/{name}", "1.png")}
    assert pairs("rain13k", root, "test") == {
        f"{name}_1": pair(f"test/{name}", "1.png") for name in TESTS
    }
    assert "1 pair (published: 98)" in opened("rain13k", root, "Test100").describe()
    assert "5 pairs (published: 4,298)" in opened("rain13k", root, "test").describe()

    (root / "test/Rain100H/target/1.png").rename(root / "test/Rain100H/target/2.png")
    refuses("rain13k", root, "test", "Rain100H: files without a partner: input/1.png, target/2.png")
    shutil.rmtree(root / "test/Test2800/target")
    refuses("rain13k", root, "Test2800", "test/Test2800: looked for target/, found input/; give th")
    shutil.rmtree(root / "test/Test2800")
    refuses("rain13k", root, "test", "test: looked for Test2800/input/, found Rain100H/, Rain100L/")
    shutil.rmtree(root / "train")
    refuses("rain13k", root, "train", "looked for train/Rain13K/input/, found test/; give the fol")


# In training


def test_training_batches(root, gopro, config):
    config.data.train.source = "gopro"
    config.data.train.path = str(root)
    config.data.crop = 6
    config.degradation.kind = "none"
    dataset = input_pipeline.create_dataset(config, "train")
    assert f"gopro train {root}: 4 pairs (published: 2,103), 6x8, 3 ch" in dataset.describe()
    batch = next(dataset.batches())
    seen = [
        tuple(round(255 * float(batch[half][k, 0, 0, 0])) for half in ("degraded", "clean"))
        for k in range(4)
    ]
    assert sorted(seen) == sorted(pairs("gopro", root, "train").values())


@pytest.mark.extended
def test_a_bucket(bucket, root, tree, gopro):
    """As in a local folder: folders of sequences, lists, two views."""
    tree("RealBlur-J/scene1/gt/gt_1.png", "RealBlur-J/scene1/blur/blur_1.png")
    line = "RealBlur-J/scene1/gt/gt_1.png RealBlur-J/scene1/blur/blur_1.png\n"
    (root / "RealBlur_J_test_list.txt").write_text(line)
    tree(*(f"test/{half}/9.png" for half in ("Test100/input", "Test100/target")))
    storage.upload(root, storage.to_path(f"{bucket}/set"))
    for kind, split in (("gopro", "train"), ("realblur_j", "test"), ("rain13k", "Test100")):
        found = pairs(kind, f"{bucket}/set", split)
        assert found == pairs(kind, root, split) != {}
    refuses("hide", f"{bucket}/set", "test", f"{bucket}/set/test: looked for test-close-ups/")
    refuses("gopro", f"{bucket}/none", "test", "does not exist")
