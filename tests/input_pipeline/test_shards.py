"""Shards: batches are those of the files, whatever the images; damaged shards are errors."""

import itertools
import pathlib
import re
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

import input_pipeline
from input_pipeline import prepare
from input_pipeline.sources import open_source
from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import BucketError, ImageError

RGB = {"a.png": (20, 30, 3), "b.png": (16, 17, 3), "c.png": (33, 40, 3)}


def write_shards(spec, out, *, tile=16):
    source = open_source(spec, field="data")
    prepare.write(source, str(out), name="folder", split="train", tile=tile, force=False)


def open_shards(out):
    return open_source({"source": "shards", "path": str(out)}, field="data")


def batches(config, count=3, start_step=0, **shares):
    """Crops are cut out of tiles: no image is kept decoded."""
    config.data.cache_gb = 0.0
    dataset = input_pipeline.create_dataset(config, "train")
    return list(itertools.islice(dataset.batches(start_step, **shares), count))


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture
def pairs(tmp_path, config, fill):
    """Shards of pairs of 8 bits, whose crops of 8 pixels touch up to nine tiles of 4 pixels."""
    for seed, half in enumerate(("input", "target")):
        fill(tmp_path / "pairs" / half, RGB, seed=seed)
    config.degradation.kind = "none"
    config.data.train.path = str(tmp_path / "pairs")
    write_shards(config.data.train, tmp_path / "out", tile=4)
    return tmp_path / "out"


def use_shards(config, out):
    config = config.copy_and_resolve_references()
    config.data.train.source, config.data.train.path = "shards", str(out)
    return config


@pytest.mark.parametrize("encoded_cache_gb", [0.0, 1.0])
def test_the_same_batches(pairs, config, encoded_cache_gb):
    expected = batches(config, 5)
    config = use_shards(config, pairs)
    config.data.encoded_cache_gb = encoded_cache_gb
    assert_equal(batches(config, 5), expected)
    assert_equal(batches(config, 2, start_step=3), expected[3:])  # resumed
    halves = [batches(config, 5, process_index=p, process_count=2) for p in (0, 1)]  # two hosts
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*halves, strict=True)
    ]
    assert_equal(joined, expected)


def test_whole_images(pairs, config, tmp_path):
    """In evaluation, and where decoded images are kept."""
    spec = {"source": "shards", "path": str(pairs)}
    items = input_pipeline.create_eval_dataset(spec, 3)
    files = input_pipeline.create_eval_dataset(
        {"source": "folder", "path": str(tmp_path / "pairs")}, 3
    )
    for item, expected in zip(items, files, strict=True):
        assert item["name"] == expected["name"]
        np.testing.assert_array_equal(item["clean"], expected["clean"])
        np.testing.assert_array_equal(item["degraded"], expected["degraded"])
    assert "3 pairs, from 16x17 to 33x40" in items.describe()


@pytest.mark.extended
@pytest.mark.parametrize(
    ("shapes", "dtype", "channels"),
    [
        (RGB, np.uint16, 3),
        ({"a.png": (20, 30), "b.png": (16, 17)}, np.uint8, 1),
        ({"a.png": (20, 30), "b.png": (16, 17, 3)}, np.uint8, 3),  # both gray and color
        ({"a.png": (20, 30), "b.png": (16, 17, 3)}, np.uint8, 1),
    ],
)
def test_clean_images(tmp_path, config, fill, shapes, dtype, channels):
    fill(tmp_path / "images", shapes, dtype=dtype)
    config.data.train.path = str(tmp_path / "images")
    config.data.channels = channels
    write_shards(config.data.train, tmp_path / "out")
    assert_equal(batches(use_shards(config, tmp_path / "out")), batches(config))


@pytest.mark.parametrize("channels", [1, 3])
def test_8_and_16_bits(tmp_path, config, fill, channels):
    """An image of 8 bits becomes gray in 8 bits, as from its file."""
    fill(tmp_path / "images", {"a.png": (20, 30, 3), "c.png": (20, 30)})
    fill(tmp_path / "images", {"b.png": (20, 30, 3)}, dtype=np.uint16)
    config.data.train.path = str(tmp_path / "images")
    config.data.channels = channels
    write_shards(config.data.train, tmp_path / "out")
    assert_equal(batches(use_shards(config, tmp_path / "out")), batches(config))


def test_pairs_for_super_resolution(tmp_path, config, fill):
    """Tiles of 16 pixels become 18, a multiple of the scale."""
    fill(tmp_path / "pairs" / "input", {"a.png": (20, 31, 3)})
    fill(tmp_path / "pairs" / "target", {"a.png": (60, 93, 3)}, seed=1)
    config.degradation.kind = "none"
    config.network.name = "rcan"
    config.network.kwargs = {"preset": "small", "scale": 3}
    config.data.crop = 12
    config.data.train.path = str(tmp_path / "pairs")
    write_shards(config.data.train, tmp_path / "out")
    shards = open_shards(tmp_path / "out")
    assert shards.scale == 3
    assert_equal(batches(use_shards(config, tmp_path / "out")), batches(config))


def test_two_views(scenes, config, tmp_path):
    write_shards(config.data.train, tmp_path / "out")
    config.data.encoded_cache_gb = 1.0
    assert_equal(batches(use_shards(config, tmp_path / "out")), batches(config))


def test_tfds_reads_the_records(pairs, tmp_path):
    builder = tfds.builder_from_directory(pairs / "tfds")
    images = {}
    for row in builder.as_dataset("train").as_numpy_iterator():
        image = images.setdefault(row["name"].decode(), np.zeros((40, 40, 3), np.uint8))
        tile = row["clean"]
        image[row["row"] :, row["column"] :][: tile.shape[0], : tile.shape[1]] = tile
    assert builder.info.splits["train"].num_examples == 40 + 20 + 90
    for name, image in images.items():
        expected = image_io.read(tmp_path / "pairs" / "target" / f"{name}.png")
        np.testing.assert_array_equal(image[: expected.shape[0], : expected.shape[1]], expected)


def test_several_shards(tmp_path, config, fill, monkeypatch):
    from input_pipeline import shard_writer

    fill(tmp_path / "images", RGB)
    config.data.train.path = str(tmp_path / "images")
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 3000)
    write_shards(config.data.train, tmp_path / "out")
    names = [path.name for path in sorted((tmp_path / "out" / "tfds").glob("*.tfrecord-*"))]
    assert names == [
        "folder-train.tfrecord-00000-of-00002",
        "folder-train.tfrecord-00001-of-00002",
    ]
    assert_equal(batches(use_shards(config, tmp_path / "out")), batches(config))


# Damage


def shard(out):
    return next((out / "tfds").glob("*.tfrecord-*"))


def test_a_damaged_tile(pairs, config):
    data = bytearray(shard(pairs).read_bytes())
    place = data.index(b"IDAT") + 6
    data[place] ^= 1
    shard(pairs).write_bytes(data)
    config = use_shards(config, pairs)
    with pytest.raises(ImageError, match=r"out a clean: is damaged in .*prepare the data set"):
        batches(config, 20)
    config.data.on_bad_image = "replace"
    assert len(batches(config, 3)) == 3


def test_incomplete_folders(pairs, tmp_path):
    whole = shard(pairs).read_bytes()
    shard(pairs).write_bytes(whole[:-1])
    with pytest.raises(ImageError, match=r"1 of 1 shard missing .* bytes instead of"):
        open_shards(pairs)
    shard(pairs).unlink()
    with pytest.raises(ImageError, match=r"00000-of-00001 \(missing\); copy or prepare"):
        open_shards(pairs)
    (pairs / "index.npz").unlink()
    with pytest.raises(ImageError, match=r"has no index.npz, so its shards are not complete"):
        open_shards(pairs)
    with pytest.raises(ImageError, match=r"nowhere: is no folder; give one of shards"):
        open_shards(tmp_path / "nowhere")


def test_damaged_indices(pairs):
    path = pairs / "index.npz"
    whole = path.read_bytes()
    with np.load(path) as file:
        index = dict(file)
    middle = len(whole) // 2
    for data in (b"", b"text", whole[:-20], whole[:middle] + b"damage" + whole[middle + 6 :]):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"index.npz: is no index of shards, or damaged"):
            open_shards(pairs)
    for name, value, message in (
        ("version", np.array(2), "its version is 2, not 1"),
        ("version", np.array("x"), "its version has another type"),
        ("tiles", index["tiles"][1:], "another number of tiles"),
        ("examples", index["examples"][1:], "different lengths"),
        ("headers", index["headers"] * 0, "out of range"),
    ):
        np.savez(path, **{**index, name: value})
        with pytest.raises(ImageError, match=message):
            open_shards(pairs)


# Buckets


@pytest.mark.extended
class TestBucket:
    @pytest.fixture
    def out(self, bucket, pairs, config, tmp_path):
        """Shards that were written into a bucket."""
        write_shards(config.data.train, f"{bucket}/out", tile=4)
        return f"{bucket}/out"

    @pytest.mark.parametrize("encoded_cache_gb", [0.0, 1.0])
    def test_the_same_batches(self, out, config, encoded_cache_gb):
        expected = batches(config)
        config = use_shards(config, out)
        config.data.encoded_cache_gb = encoded_cache_gb
        assert_equal(batches(config), expected)

    def test_a_cache_needs_no_request_in_training(self, out, config, monkeypatch):
        config = use_shards(config, out)
        config.data.encoded_cache_gb, config.data.cache_gb = 1.0, 0.0
        dataset = input_pipeline.create_dataset(config, "train")
        monkeypatch.setattr(storage, "read_parts", None)
        assert len(list(itertools.islice(dataset.batches(), 3))) == 3

    def test_an_outage(self, out, config, monkeypatch):
        def fail(*arguments):
            raise storage.UnreachableError("gs://x: the bucket does not answer")

        monkeypatch.setattr(storage, "read_parts", fail)
        config = use_shards(config, out)
        config.data.on_bad_image = "replace"
        with pytest.raises(BucketError, match="does not answer"):
            batches(config)


def test_crops_are_read_by_more_threads_than_cores(pairs, config, monkeypatch):
    read, lock = storage.read_parts, threading.Lock()
    active, most = 0, 0

    def read_slowly(path: pathlib.Path, parts):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.1)
        with lock:
            active -= 1
        return read(path, parts)

    monkeypatch.setattr(storage, "read_parts", read_slowly)
    config = use_shards(config, pairs)
    config.batch_size = 16
    batches(config, 2)
    assert most >= 16


def test_messages_name_the_field(tmp_path):
    with pytest.raises(ImageError, match=re.escape("data.path: ")):
        open_shards(tmp_path)
