"""Data sets in a bucket: the same images as from a folder."""

import numpy as np
import pytest

import input_pipeline
from input_pipeline.eval_images import parse_sources
from input_pipeline.sources import open_source
from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError


@pytest.fixture
def write(bucket, rng):
    """Writes images of noise below a folder of the bucket; returns the folder."""

    def make(folder, *names, shape=(20, 24, 3)):
        for name in names:
            image_io.write(f"{bucket}/{folder}/{name}", rng.integers(0, 256, shape, np.uint8))
        return f"{bucket}/{folder}"

    return make


def open_folder(path, **spec):
    return open_source({"source": "folder", "path": path, **spec}, field="config.data.train")


def test_images(write, tmp_path):
    folder = write("photos", "b.png", "a.jpg", "c.tif", "d.webp", ".hidden.png", "below/e.png")
    storage.write(storage.to_path(folder) / "notes.txt", b"")
    source = open_folder(folder)
    assert [example.name for example in source.examples] == ["a", "b", "c", "d"]
    local = tmp_path / "photos"
    local.mkdir()
    for name in ("b.png", "a.jpg", "c.tif", "d.webp"):
        storage.download_file(storage.to_path(folder) / name, local / name)
    expected = open_folder(str(local))
    assert source.list_images() == expected.list_images()
    for one, other in zip(source.examples, expected.examples, strict=True):
        np.testing.assert_array_equal(one.read(3), other.read(3))


def test_pairs(write):
    write("pairs/input", "a.png", "b.png")
    folder = write("pairs/target", "b.png", "a.png").removesuffix("/target")
    source = open_folder(folder)
    assert source.is_paired
    assert [example.name for example in source.examples] == ["a", "b"]
    assert source.examples[0].degraded.label == f"{folder}/input/a.png"
    storage.remove(storage.to_path(folder) / "target" / "a.png")
    with pytest.raises(ImageError, match=r"1 files have no partner: input/a.png; files in input/"):
        open_folder(folder)


def test_a_published_layout(write):
    for half in ("blur", "sharp"):
        write(f"GOPRO/test/GOPR1/{half}", "000001.png", "000002.png")
    folder = write("GOPRO/test/GOPR2/blur", "000001.png").partition("/test/")[0]
    write("GOPRO/test/GOPR2/sharp", "000001.png")
    source = open_folder(folder, source="gopro", split="test")
    names = [example.name for example in source.examples]
    assert names == ["GOPR1_000001", "GOPR1_000002", "GOPR2_000001"]
    with pytest.raises(ImageError, match=r"looked for .*train.*, found test/"):
        open_folder(folder, source="gopro", split="train")


def test_mistakes(write, bucket):
    with pytest.raises(ImageError, match=r"config.data.train.path: gs://.*/none: does not exist"):
        open_folder(f"{bucket}/none")
    folder = write("photos", "a.png")
    with pytest.raises(ImageError, match=r"a.png: is a file, not a folder"):
        open_folder(f"{folder}/a.png")
    path = storage.to_path(folder) / "a.png"
    storage.write(path, storage.read_bytes(path)[:100])
    with pytest.raises(ImageError, match=r"gs://.*/a.png: .*cut short"):
        open_folder(folder)


@pytest.mark.extended
def test_batches(write, tmp_path):
    """tf.data gets the same bytes."""
    pytest.importorskip("tensorflow")
    from configs import tiny

    config = tiny.get_config()
    folder = write("photos", "a.png", "b.png")
    local = tmp_path / "photos"
    local.mkdir()
    batches = []
    for name in ("a.png", "b.png"):
        storage.download_file(storage.to_path(folder) / name, local / name)
    for path in (folder, str(local)):
        for split in ("train", "eval"):
            config.data[split].source, config.data[split].path = "folder", path
        data = input_pipeline.create_dataset(config, "train")
        batches.append(next(iter(data.batches(3))))
    np.testing.assert_array_equal(batches[0]["clean"], batches[1]["clean"])


def test_names_of_evaluation(bucket):
    named = parse_sources([f"{bucket}/kodak", f"gopro:{bucket}/GOPRO"], {"source": "folder"})
    assert {name: source["path"] for name, source in named.items()} == {
        "kodak": f"{bucket}/kodak",
        "gopro_GOPRO": f"{bucket}/GOPRO",
    }
