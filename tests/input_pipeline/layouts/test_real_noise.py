"""Data sets with real noise, in folders and files generated in the layouts of their makers."""

import pathlib
import re

import numpy as np
import pytest
import scipy.io

import input_pipeline
from input_pipeline import examples, sources
from input_pipeline.layouts import real_noise
from lcdnet_jax import config as config_lib
from lcdnet_jax import data_sets, image_io, storage
from lcdnet_jax.image_io import ImageError


@pytest.fixture
def flat():
    """Writes flat images: ``flat(folder, {"a.png": 7, "b.bmp": (10, 12, 3)})`` (gray or color)."""

    def flat(folder, values, shape=(12, 16)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            image = np.full((*shape, 3), value, np.uint8)
            # Pillow and JPEG keep flat gray exactly.
            image_io.write(folder / name, image)

    return flat


def pairs(kind, path):
    """First pixel's red of noisy and clean, by name."""
    dataset = input_pipeline.create_eval_dataset({"source": kind, "path": str(path)}, 3)
    assert dataset.source.is_paired
    values = {}
    for item in dataset:
        assert set(item) == {"name", "clean", "degraded"}
        assert item["clean"].shape == item["degraded"].shape
        values[item["name"]] = tuple(
            round(255 * float(item[half][0, 0, 0])) for half in ("degraded", "clean")
        )
    assert list(values) == sorted(values)
    return values


def refuses(kind, path, *needles):
    with pytest.raises(ImageError, match=r"^source\.path: ") as caught:
        pairs(kind, path)
    for needle in needles:
        assert needle in str(caught.value)


# SIDD


@pytest.fixture
def sidd(tmp_path, flat):
    root = tmp_path / "SIDD_Medium_Srgb"
    (root / "Data").mkdir(parents=True)
    (root / "ReadMe_sRGB.txt").write_text("words")
    for scene, k in (("0001_001_S6_00100_00060_3200_L", 0), ("0002_001_S6_00100_00020_3200_N", 50)):
        start = scene[:4]
        flat(
            root / "Data" / scene,
            {
                f"{start}_NOISY_SRGB_010.PNG": k + 1,
                f"{start}_GT_SRGB_010.PNG": k + 2,
                f"{start}_NOISY_SRGB_011.PNG": k + 3,
                f"{start}_GT_SRGB_011.PNG": k + 4,
            },
        )
    return root


def test_sidd(sidd):
    expected = {
        "0001_001_S6_00100_00060_3200_L_0001_SRGB_010": (1, 2),
        "0001_001_S6_00100_00060_3200_L_0001_SRGB_011": (3, 4),
        "0002_001_S6_00100_00020_3200_N_0002_SRGB_010": (51, 52),
        "0002_001_S6_00100_00020_3200_N_0002_SRGB_011": (53, 54),
    }
    assert pairs("sidd", sidd) == expected
    assert pairs("sidd", sidd / "Data") == expected


def test_names_without_a_number(tmp_path, flat):
    """As in SIDD-Small."""
    flat(tmp_path / "scene", {"NOISY_SRGB_010.PNG": 1, "GT_SRGB_010.PNG": 2})
    assert pairs("sidd", tmp_path) == {"scene_SRGB_010": (1, 2)}


def test_a_folder_that_may_not_be_read(sidd, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "iterdir", denied)
    refuses("sidd", sidd, "Data: cannot be read (Permission denied); check the path")


def test_sidd_refusals(sidd, tmp_path, flat):
    refuses("sidd", tmp_path / "nowhere", "nowhere: does not exist; give the folder")
    refuses("sidd", sidd / "ReadMe_sRGB.txt", "is a file, not a folder")
    refuses(
        "sidd",
        tmp_path,
        "looked for folders of scenes with *_NOISY_SRGB_*.PNG and *_GT_SRGB_*.PNG",
        "found SIDD_Medium_Srgb/; give the folder of SIDD-Medium sRGB that holds Data/",
    )
    scene = sidd / "Data" / "0001_001_S6_00100_00060_3200_L"
    (scene / "0001_GT_SRGB_011.PNG").rename(scene / "0001_GT_SRGB_012.PNG")
    refuses(
        "sidd", sidd, "files without a partner: ", "0001_GT_SRGB_012.PNG", "0001_NOISY_SRGB_011.PNG"
    )
    (scene / "0001_GT_SRGB_012.PNG").unlink()
    flat(scene, {"0001_GT_SRGB_011.PNG": 9}, shape=(12, 15))
    refuses(
        "sidd", sidd, "halves of some pairs differ in size", "SRGB_011 (noisy 12x16, clean 12x15)"
    )


# RENOIR


def renoir_tree(root, flat):
    flat(
        root / "Mi3_Aligned" / "Batch_001",
        {
            "IMG_1Reference.bmp": 100,
            "IMG_2full.bmp": 103,
            "IMG_3Noisy.bmp": 90,
            "IMG_4Noisy.bmp": 80,
            "Mask.bmp": 255,
        },
    )
    # Capitals as in some archives, and an archive extracted into a folder of its own name.
    flat(
        root / "S90_Aligned" / "S90_Aligned" / "Batch_002",
        {"IMG_1Reference.bmp": 255, "IMG_2Full.bmp": 255, "IMG_3Noisy.bmp": 250},
    )
    return root


def test_renoir(tmp_path, flat):
    """(100 + 103) / 2 = 101.5 is truncated to 101; the mean of 255 and 255 does not wrap."""
    root = renoir_tree(tmp_path, flat)
    mi3 = {"Batch_001_IMG_3Noisy": (90, 101), "Batch_001_IMG_4Noisy": (80, 101)}
    assert pairs("renoir", root / "Mi3_Aligned") == mi3
    assert pairs("renoir", root) == {
        **{f"Mi3_Aligned_{name}": value for name, value in mi3.items()},
        "S90_Aligned_S90_Aligned_Batch_002_IMG_3Noisy": (250, 255),
    }
    assert list(pairs("renoir", root / "S90_Aligned")) == ["S90_Aligned_Batch_002_IMG_3Noisy"]


def test_renoir_mean_of_all_values():
    """Against the official order of operations: float mean, clip, cut to uint8."""
    a, b = (x.astype(np.uint8) for x in np.meshgrid(np.arange(256), np.arange(256)))
    header = image_io.Header(256, 256, channels=1, bits=8)
    mean = real_noise._average(
        *(examples.Picture("", header, lambda image=image: image) for image in (a, b))
    )
    expected = np.clip((a.astype(np.float32) + b.astype(np.float32)) / 2, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(mean[..., 0], expected)


def test_renoir_refusals(tmp_path, flat):
    refuses("renoir", tmp_path / "nowhere", "does not exist")
    refuses(
        "renoir",
        tmp_path,
        "looked for Mi3_Aligned/",
        "found an empty folder",
        "archives of aligned",
    )
    root = renoir_tree(tmp_path, flat)
    batch = root / "Mi3_Aligned" / "Batch_001"
    flat(batch, {"IMG_5Reference.bmp": 1})
    wanted = "one *Reference.bmp, one *full.bmp and at least one *Noisy.bmp"
    refuses("renoir", root, str(batch), wanted, "IMG_5Reference.bmp")
    (batch / "IMG_5Reference.bmp").unlink()
    flat(batch, {"IMG_4Noisy.bmp": 1}, shape=(12, 15))
    refuses(
        "renoir", root, "the halves of some pairs differ", "IMG_4Noisy (noisy 12x15, clean 12x16)"
    )
    flat(batch, {"IMG_2full.bmp": 1}, shape=(13, 16))
    refuses("renoir", root, "IMG_1Reference.bmp", "IMG_2full.bmp differ in size or channels")
    (batch / "IMG_2full.bmp").unlink()
    refuses("renoir", root, wanted)


def test_renoir_names_the_damaged_file(tmp_path, flat, cut_in_half):
    root = renoir_tree(tmp_path, flat)
    cut_in_half(root / "Mi3_Aligned" / "Batch_001" / "IMG_2full.bmp")
    with pytest.raises(ImageError, match=r"IMG_2full\.bmp: the BMP file is cut short"):
        pairs("renoir", root)


# PolyU and Nam


def test_polyu(tmp_path, flat):
    cropped = tmp_path / "CroppedImages"
    flat(
        cropped,
        {
            "Canon5D2_5_160_3200_chair_5_real.JPG": 30,
            "Canon5D2_5_160_3200_chair_5_mean.JPG": 40,
            "Nikon800_desk_1_Real.JPG": 50,
            "Nikon800_desk_1_mean.JPG": 60,
        },
    )
    flat(tmp_path / "OriginalImages", {"Canon_Real.JPG": 1, "Canon_mean.JPG": 2})
    (cropped / "._Canon5D2_5_160_3200_chair_5_real.JPG").write_bytes(b"left by a Mac")
    expected = {"Canon5D2_5_160_3200_chair_5": (30, 40), "Nikon800_desk_1": (50, 60)}
    assert pairs("polyu", tmp_path) == expected
    assert pairs("polyu", cropped) == expected


def test_polyu_refusals(tmp_path, flat):
    flat(tmp_path, {"a.JPG": 1})
    refuses(
        "polyu", tmp_path, "images *_real.* (noisy) and *_mean.* (clean), found a.JPG", "CroppedIm"
    )
    flat(tmp_path, {"a_real.JPG": 1, "b_mean.JPG": 2, "b_real.JPG": 3})
    refuses("polyu", tmp_path, "files without a partner: ", "a_real.JPG", "*_real*", "*_mean*")
    flat(tmp_path, {"a_mean.JPG": 1, "a_mean.png": 1})
    refuses("polyu", tmp_path, "a_mean.JPG and a_mean.png have equal names")


def test_nam_as_cc(tmp_path, flat):
    flat(
        tmp_path,
        {
            "5dmark3_iso3200_1_real.png": 5,
            "5dmark3_iso3200_1_mean.png": 6,
            "5dmark3_iso3200_1_ours.png": 7,
        },
    )
    assert pairs("nam", tmp_path) == {"5dmark3_iso3200_1": (5, 6)}


def test_nam_as_in_cbdnet(tmp_path, flat):
    flat(tmp_path / "Nam_patches", {"01_noise.png": 5, "02_noise.png": 6})
    refuses("nam", tmp_path, "Nam_patch_GT: does not exist")
    flat(tmp_path / "Nam_patch_GT", {"01_gt.png": 7})
    refuses("nam", tmp_path, "files without a partner: ", "02_noise.png")
    flat(tmp_path / "Nam_patch_GT", {"02_gt.png": 8})
    (tmp_path / "Nam_patch_GT" / "readme.md").write_text("words")
    assert pairs("nam", tmp_path) == {"01": (5, 7), "02": (6, 8)}
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    refuses("nam", tmp_path, "looked for *_noise.png, with *_gt.png in Nam_patch_GT/")


def test_nam_in_neither_layout(tmp_path):
    refuses("nam", tmp_path, "*_real.*", "found an empty folder", "Nam_patches/ and Nam_patch_GT/")


# Validation blocks of SIDD


@pytest.fixture
def blocks(tmp_path, rng):
    """Three images with two blocks of 8x10 each."""
    arrays = {}
    for half in ("Noisy", "Gt"):
        name = f"Validation{half}BlocksSrgb"
        arrays[half] = rng.integers(0, 256, (3, 2, 8, 10, 3), np.uint8)
        scipy.io.savemat(tmp_path / f"{name}.mat", {name: arrays[half]}, do_compression=True)
    return arrays


def test_sidd_validation(tmp_path, blocks, monkeypatch):
    loads, loadmat = [], scipy.io.loadmat
    monkeypatch.setattr(scipy.io, "loadmat", lambda path: loads.append(path) or loadmat(path))
    dataset = input_pipeline.create_eval_dataset(
        {"source": "sidd_validation", "path": str(tmp_path)}, 3
    )
    assert "6 pairs, 8x10" in dataset.describe()
    assert not loads  # shapes only
    items = list(dataset)
    assert len(loads) == 2
    assert [item["name"] for item in items] == [
        "01_01",
        "01_02",
        "02_01",
        "02_02",
        "03_01",
        "03_02",
    ]
    for item, i, j in zip(items, (0, 0, 1, 1, 2, 2), (0, 1) * 3, strict=True):
        np.testing.assert_array_equal(item["degraded"], image_io.to_float(blocks["Noisy"][i, j]))
        np.testing.assert_array_equal(item["clean"], image_io.to_float(blocks["Gt"][i, j]))


def test_sidd_validation_trains(tmp_path, blocks, config):
    """Many threads fill the memory at once."""
    config.data.train.source = "sidd_validation"
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    config.data.augment = False
    batch = next(input_pipeline.create_dataset(config, "train").batches())
    whole = {
        half: image_io.to_float(blocks[name].reshape(-1, 8, 10, 3))
        for half, name in (("degraded", "Noisy"), ("clean", "Gt"))
    }
    for k in range(4):
        assert any(
            all(
                np.array_equal(batch[half][k], whole[half][n, :, left : left + 8])
                for half in ("clean", "degraded")
            )
            for n in range(6)
            for left in range(3)
        )


def test_sidd_validation_refusals(tmp_path, blocks):
    clean = tmp_path / "ValidationGtBlocksSrgb.mat"
    scipy.io.savemat(clean, {"ValidationGtBlocksSrgb": blocks["Gt"][:2]})
    refuses("sidd_validation", tmp_path, "the blocks differ", "(3, 2, 8, 10, 3) in ValidationNoisy")
    scipy.io.savemat(clean, {"ValidationGtBlocksSrgb": blocks["Gt"].astype(np.float64)})
    refuses("sidd_validation", tmp_path, str(clean), "uint8 [images", "double; download it again")
    scipy.io.savemat(clean, {"x": blocks["Gt"]})
    refuses("sidd_validation", tmp_path, "looked for ValidationGtBlocksSrgb", "found x (3, 2, 8")
    clean.write_bytes(b"words" * 100)
    refuses("sidd_validation", tmp_path, f"{clean}: is not a MATLAB file")
    clean.unlink()
    refuses("sidd_validation", tmp_path, "looked for ValidationGtBlocksSrgb.mat, found Validation")
    refuses("sidd_validation", tmp_path / "nowhere", "does not exist")


# Folders with noisy/ and clean/


def test_folder_with_noisy_and_clean(tmp_path, flat):
    flat(tmp_path / "noisy", {"a.png": 1})
    flat(tmp_path / "clean", {"a.bmp": 2})
    assert pairs("folder", tmp_path) == {"a": (1, 2)}
    flat(tmp_path / "clean", {"b.png": 2})
    refuses("folder", tmp_path, "clean/b.png; files in noisy/ and clean/ must have equal names")
    flat(tmp_path / "noisy", {"b.png": 2}, shape=(9, 9))
    refuses("folder", tmp_path, "b (noisy 9x9, clean 12x16)")
    (tmp_path / "target").mkdir()
    refuses("folder", tmp_path, "has input/ or target/ and noisy/ or clean/, so it is not clear")


def test_folder_with_one_half(tmp_path, flat):
    flat(tmp_path / "clean", {"a.png": 1})
    refuses("folder", tmp_path, "has clean/ but no noisy/; add it for pairs")


# Several sources


def test_config_and_sources_know_the_same_kinds():
    with pytest.raises(ValueError, match=re.escape(", ".join(data_sets.SOURCES))):
        sources.open_source({"source": "web"}, field="x")


def test_config_refuses_unknown_kinds(config):
    config.data.eval.source = "sidd,web"
    with pytest.raises(
        config_lib.ConfigError, match=r"eval\.source .*joined by commas.*'sidd,web'"
    ):
        config_lib.validate(config)


def test_training_batches_of_several_sources(tmp_path, sidd, flat, config):
    renoir = renoir_tree(tmp_path / "renoir", flat)
    config.data.train.source = "sidd, renoir"
    config.data.train.path = f"{sidd}, {renoir}"
    config.degradation.kind = "none"
    dataset = input_pipeline.create_dataset(config, "train")
    assert len(dataset) == 7
    assert f"sidd {sidd} + renoir {renoir}: 7 pairs, 12x16" in dataset.describe()
    batches = dataset.batches()
    seen = [
        (round(255 * float(noisy[0, 0, 0])), round(255 * float(clean[0, 0, 0])))
        for batch in (next(batches) for _ in range(7))
        for noisy, clean in zip(batch["degraded"], batch["clean"], strict=True)
    ]
    each = [(1, 2), (3, 4), (51, 52), (53, 54), (80, 101), (90, 101), (250, 255)]
    assert sorted(seen) == sorted(4 * each)  # 28 examples are four epochs


def test_names_of_several_sources_are_unique(tmp_path, flat):
    for name in ("a", "b"):
        flat(tmp_path / name, {"x_real.png": 1, "x_mean.png": 2})
    path = f"{tmp_path}/a,{tmp_path}/b,{tmp_path}/a"
    assert list(pairs("nam,nam,polyu", path)) == ["nam1_x", "nam2_x", "polyu_x"]


def test_photos_among_several_sources(tmp_path, flat):
    flat(tmp_path, {"x.png": 1})
    spec = {"source": "photos,folder", "path": f",{tmp_path}", "split": "test"}
    names = [example.name for example in sources.open_source(spec, field="x").examples]
    assert names == ["folder_x", "photos_chelsea", "photos_coffee", "photos_rocket"]


def test_several_sources_that_do_not_fit(tmp_path, sidd, flat):
    flat(tmp_path / "plain", {"a.png": 1})

    def opened(source, path):
        return sources.open_source({"source": source, "path": path}, field="config.data.train")

    with pytest.raises(ValueError, match=r"names 2 sources, but .*path 1 folder "):
        opened("sidd,renoir", str(sidd))
    with pytest.raises(ValueError, match=r"names 2 sources, but .*path 3 folders \(a, b, c\); giv"):
        opened("sidd,renoir", "a,b,c")
    with pytest.raises(ValueError, match=r"sidd .* holds pairs and folder .* clean images only"):
        opened("folder,sidd", f"{tmp_path}/plain,{sidd}")
    with pytest.raises(ValueError, match='source is "web"; use one of photos'):
        opened("sidd,web", "a,b")
    with pytest.raises(ValueError, match=r"path is ''"):
        opened("sidd,renoir", f"{sidd},")


@pytest.mark.parametrize("name", ["cc", "polyu", "sidd"])
def test_real_images(shared_data, name):
    dataset = input_pipeline.create_eval_dataset(
        {"source": "folder", "path": str(shared_data(f"realnoise/{name}"))}, 3
    )
    item = next(iter(dataset))
    difference = item["degraded"] - item["clean"]
    assert 0 < np.abs(difference).mean() < 0.1  # noise, so the halves show the same place


@pytest.mark.extended
def test_a_bucket(bucket, tmp_path, sidd, flat, rng):
    """As in a local folder: scenes, patterns of folders, MATLAB files."""
    renoir_tree(tmp_path / "renoir", flat)
    for half in ("Noisy", "Gt"):
        name = f"Validation{half}BlocksSrgb"
        content = rng.integers(0, 256, (1, 2, 8, 8, 3), np.uint8)
        (tmp_path / "val").mkdir(exist_ok=True)
        scipy.io.savemat(tmp_path / "val" / f"{name}.mat", {name: content})
    folders = {"sidd": sidd, "renoir": tmp_path / "renoir", "sidd_validation": tmp_path / "val"}
    for kind, folder in folders.items():
        storage.upload(folder, storage.to_path(f"{bucket}/{kind}"))
        assert pairs(kind, f"{bucket}/{kind}") == pairs(kind, folder) != {}
    storage.write(storage.to_path(f"{bucket}/sidd_validation/ValidationGtBlocksSrgb.mat"), b"text")
    refuses("sidd_validation", f"{bucket}/sidd_validation", "is not a MATLAB file")
