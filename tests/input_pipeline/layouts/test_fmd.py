"""The fluorescence microscopy data set, in a generated tree of tiny images in its layout."""

import collections
import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

import input_pipeline
from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError

LEVELS = ("raw", "avg2", "avg4", "avg8", "avg16")
CAPTURES = [f"HV110_P05005100{k:02d}" for k in range(5)]


def write(path, value, shape=(12, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "FMD"


@pytest.fixture
def values(root):
    """Writes two types with the fields 2, 10 and 19, and test_mix; every image is of one value.

    Returns the values by path below the root.
    """
    paths = []
    for kind in ("Confocal_FISH", "TwoPhoton_MICE"):
        for field in (2, 10, 19):
            paths += [f"{kind}/{level}/{field}/{n}.png" for level in LEVELS for n in CAPTURES]
            paths.append(f"{kind}/gt/{field}/avg50.png")
        paths += [f"test_mix/{level}/{kind}_1.png" for level in (*LEVELS, "gt")]
    values = {path: value for value, path in enumerate(paths)}
    assert len(values) < 256
    for path, value in values.items():
        write(root / path, value)
    (root / "experiments").mkdir()  # of whoever trains; no type
    (root / "Confocal_FISH.tar").write_bytes(b"left over")
    (root / "Confocal_FISH/raw/19/Thumbs.db").write_bytes(b"left over")
    return values


def pairs(path, split="test", feature="image"):
    """Values of degraded and clean, by name."""
    spec = {"source": "fmd", "path": str(path), "split": split, "feature": feature}
    found = {}
    for item in input_pipeline.create_eval_dataset(spec, 1):
        assert item["degraded"].shape == item["clean"].shape == (12, 16, 1)
        assert item["name"] not in found
        found[item["name"]] = tuple(
            round(255 * float(item[half][0, 0, 0])) for half in ("degraded", "clean")
        )
    assert list(found) == sorted(found)
    return found


def truth_of_field_19(values, kind, level):
    clean = values[f"{kind}/gt/19/avg50.png"]
    return {
        f"{kind}_{level}_19_{n}": (values[f"{kind}/{level}/19/{n}.png"], clean) for n in CAPTURES
    }


def truth_of_mix(values, level):
    names = ("Confocal_FISH_1", "TwoPhoton_MICE_1")
    return {
        f"test_mix_{level}_{n}": tuple(values[f"test_mix/{x}/{n}.png"] for x in (level, "gt"))
        for n in names
    }


# The split test


def test_field_19_with_its_ground_truth(root, values):
    """Without the mix, whose images are among them."""
    expected = {}
    for level in ("raw", "avg4"):
        expected |= truth_of_field_19(values, "Confocal_FISH", level)
        expected |= truth_of_field_19(values, "TwoPhoton_MICE", level)
    assert pairs(root, feature="raw,avg4") == expected
    assert len(expected) == 2 * (5 + 5)


def test_one_type_or_the_mix(root, values, monkeypatch):
    one = truth_of_field_19(values, "TwoPhoton_MICE", "avg16")
    assert pairs(root / "TwoPhoton_MICE", feature="avg16") == one
    assert pairs(root / "test_mix", feature="avg16, raw") == {
        **truth_of_mix(values, "avg16"),
        **truth_of_mix(values, "raw"),
    }
    monkeypatch.chdir(root / "TwoPhoton_MICE")
    assert pairs(".", feature="avg16") == one


def test_image_stands_for_all_levels(root, values):
    """It is the default of the config, which eval.py leaves as it is."""
    assert pairs(root) == pairs(root, feature=",".join(LEVELS))
    assert len(pairs(root)) == 5 * (5 + 5)


# The split train


def test_every_capture_is_input_once_and_target_once(root, values):
    found = pairs(root, split="train", feature="raw,avg2")
    paths = {value: path for path, value in values.items()}
    seen = collections.Counter()
    for name, (degraded, clean) in found.items():
        kind, level, field, capture = paths[degraded].removesuffix(".png").split("/")
        assert name == f"{kind}_{level}_{int(field):02d}_{capture}"
        other = paths[clean].removesuffix(".png").split("/")
        assert other[:3] == [kind, level, field]
        assert other[3] != capture
        seen.update([("input", degraded), ("target", clean)])
    captures = {
        values[f"{kind}/{level}/{field}/{n}.png"]
        for kind, level, field, n in itertools.product(
            ("Confocal_FISH", "TwoPhoton_MICE"), ("raw", "avg2"), (2, 10), CAPTURES
        )
    }
    assert seen == dict.fromkeys(itertools.product(("input", "target"), captures), 1)


def test_targets_are_half_the_captures_further_on(root, values):
    """As far as can be in both directions: means of consecutive captures share the least."""
    found = pairs(root / "Confocal_FISH", split="train", feature="avg16")
    first = values[f"Confocal_FISH/avg16/2/{CAPTURES[0]}.png"]
    assert [found[f"Confocal_FISH_avg16_02_{n}"] for n in CAPTURES] == [
        (first + k, first + (k + 2) % 5) for k in range(5)
    ]


def test_training_needs_no_ground_truth(root, values):
    before = pairs(root, split="train")
    for path in root.glob("*/gt"):
        shutil.rmtree(path)
    assert pairs(root, split="train") == before


def test_training_batches(root, values, config):
    config.data.train.source = "fmd"
    config.data.train.path = str(root)
    config.data.train.feature = "raw"
    config.data.channels = 1
    config.degradation.kind = "none"
    dataset = input_pipeline.create_dataset(config, "train")
    assert f"fmd train {root}: 20 pairs, 12x16, 1 channel" in dataset.describe()
    batches = dataset.batches()
    seen = [
        tuple(round(255 * float(batch[half][k, 0, 0, 0])) for half in ("degraded", "clean"))
        for batch in (next(batches) for _ in range(10))
        for k in range(4)
    ]
    assert sorted(seen) == sorted(2 * list(pairs(root, "train", "raw").values()))


def test_every_header_is_read_once(root, values, monkeypatch):
    """There are tens of thousands of files."""
    read, read_header = collections.Counter(), image_io.read_header
    monkeypatch.setattr(
        image_io, "read_header", lambda path: read.update([path]) or read_header(path)
    )
    for split, count in (("train", 20), ("test", 10 + 2)):
        read.clear()
        spec = {"source": "fmd", "path": str(root), "split": split, "feature": "raw"}
        input_pipeline.create_eval_dataset(spec, 1)
        assert len(read) == count
        assert set(read.values()) == {1}


def test_among_other_sources(root, values):
    spec = {
        "source": "fmd,fmd",
        "path": f"{root}/Confocal_FISH,{root}/TwoPhoton_MICE",
        "split": "test",
        "feature": "raw",
    }
    dataset = input_pipeline.create_eval_dataset(spec, 1)
    names = [f"fmd1_Confocal_FISH_raw_19_{n}" for n in CAPTURES]
    assert [item["name"] for item in dataset][:6] == [
        *names, f"fmd2_TwoPhoton_MICE_raw_19_{CAPTURES[0]}"
    ]  # fmt: skip


# Refusals


def refuses(path, *needles, split="test", feature="image", kind=ImageError):
    with pytest.raises(kind) as caught:
        pairs(path, split, feature)
    for needle in needles:
        assert needle in str(caught.value)


def test_unknown_splits_and_levels(root, values):
    refuses(root, 'source.split is "val"; fmd has the splits train, test', split="val",
            kind=ValueError)  # fmt: skip
    for feature in ("noisy:clean", "raw,avg3", "gt"):
        refuses(
            root,
            f'source.feature is "{feature}"',
            "raw, avg2, avg4, avg8, avg16, or",
            feature=feature,
            kind=ValueError,
        )
    refuses(root, "source.feature is ''", feature="", kind=ValueError)


def test_folders_with_something_else(root, values, tmp_path):
    refuses(root / "nowhere", "source.path: ", "nowhere: does not exist; give the folder")
    refuses(root / "Confocal_FISH.tar", "is a file, not a folder")
    wanted = "looked for folders such as TwoPhoton_MICE/, with raw/, avg2/, ..., gt/"
    refuses(tmp_path, wanted, "found FMD/; give the folder into which")
    refuses(root / "Confocal_FISH/raw", wanted, "found 10/, 19/, 2/;")
    refuses(root / "test_mix", wanted, "test_mix/ is for the split test only", split="train")


def test_missing_levels_fields_and_captures(root, values):
    refuse = {"feature": "raw,avg2"}
    shutil.rmtree(root / "TwoPhoton_MICE/avg2")
    refuses(root, "TwoPhoton_MICE: looked for avg2/, found avg16/, avg4/", **refuse)
    assert len(pairs(root, feature="raw")) == 10
    fish = root / "Confocal_FISH"
    for k, name in enumerate(CAPTURES):
        if k < 4:
            (fish / f"raw/10/{name}.png").unlink()
        (fish / f"raw/19/{name}.png").unlink()
    refuses(fish, "raw/10: looked for at least 2 *.png, found HV110_P0500510004.png",
            split="train", **refuse)  # fmt: skip
    refuses(fish, "raw/19: looked for at least 1 *.png, found Thumbs.db", **refuse)
    shutil.rmtree(fish / "raw/19")
    refuses(fish, "raw: looked for a folder 19/, found 10/, 2/", **refuse)
    shutil.rmtree(fish / "raw/2")
    (fish / "raw/10").rename(fish / "raw/19")
    refuses(fish, "raw: looked for folders 1/ to 20/, found 19/", split="train", **refuse)


def test_missing_ground_truth(root, values):
    truth = root / "TwoPhoton_MICE/gt/19/avg50.png"
    truth.unlink()
    refuses(root, f"{truth}: does not exist, but is the clean image of", "TwoPhoton_MICE/raw/19;")
    write(truth, 9, shape=(12, 15))
    refuses(root, "pairs differ in size", f"raw_19_{CAPTURES[0]} (capture 12x16, target 12x15)",
            feature="raw")  # fmt: skip
    write(truth, 9)
    mix = root / "test_mix/gt/TwoPhoton_MICE_1.png"
    mix.unlink()
    refuses(mix.parent.parent, f"{mix}: does not exist, but is", "raw/TwoPhoton_MICE_1.png")


def test_the_kind_of_degradation(root, values, config):
    config.data.train.source = "fmd"
    config.data.train.path = str(root)
    with pytest.raises(ValueError, match=r"fmd train .* holds pairs, .* set it to \"none\""):
        input_pipeline.create_dataset(config, "train")


@pytest.mark.extended
def test_a_bucket(bucket, root, values):
    storage.upload(root, storage.to_path(f"{bucket}/fmd"))
    for split in ("train", "test"):
        assert pairs(f"{bucket}/fmd", split) == pairs(root, split) != {}
