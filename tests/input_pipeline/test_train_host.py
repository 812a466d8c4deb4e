"""Batches: what is in them, and that they are a function of (seed, step) alone."""

import errno
import itertools
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import input_pipeline
from input_pipeline import train_host
from lcdnet_jax import image_io
from tests.input_pipeline.batches import assert_equal, create, take


@pytest.fixture
def images(tmp_path, config, fill):
    """Seven images of different sizes, the last two smaller than the crop."""
    config.data.train.path = str(tmp_path)
    shapes = [(20, 30, 3), (16, 8, 3), (9, 40), (8, 8, 3), (33, 11, 3), (5, 20, 3), (2, 1, 3)]
    return fill(tmp_path, {f"{k}.png": shape for k, shape in enumerate(shapes)})


def numbers(batch):
    """Which of the flat images of ``write_numbered_images`` the examples show."""
    return np.rint(batch["clean"][:, 0, 0, 0] * 25.5).astype(int).tolist()


# What is in a batch


@pytest.mark.extended
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_ranges(config, images, channels):
    batch = next(iter(create(config, **{"data.channels": channels})))
    assert set(batch) == {"clean", "mask"}
    assert batch["clean"].shape == (4, 8, 8, channels)
    assert batch["clean"].dtype == batch["mask"].dtype == np.float32
    assert batch["clean"].min() >= 0
    assert batch["clean"].max() <= 1
    np.testing.assert_array_equal(batch["mask"], np.ones(4))


def crops_of(image, side):
    """All crops of an image, in all orientations, as a set of bytes."""
    image = np.pad(
        image, [(0, max(side - size, 0)) for size in image.shape[:2]] + [(0, 0)], mode="reflect"
    )
    rows, columns = image.shape[0] - side + 1, image.shape[1] - side + 1
    return {
        view.tobytes()
        for top, left in itertools.product(range(rows), range(columns))
        for k in range(4)
        for crop in [np.rot90(image[top : top + side, left : left + side], k)]
        for view in (crop, crop[::-1])
    }


def test_every_example_is_a_crop_of_its_image(config, images):
    """Small images are padded by reflection at the bottom and right, then turned."""
    allowed = {
        k: crops_of(image_io.to_float(image_io.convert_channels(image, 3)), 8)
        for k, image in enumerate(images.values())
    }
    seen = set()
    for batch in take(create(config).batches(), 14):  # 8 epochs of 7 images
        for example in batch["clean"]:
            data = example.tobytes()
            seen |= {k for k in allowed if data in allowed[k]}
            assert any(data in crops for crops in allowed.values())
    assert seen == set(range(7))


def test_crops_reach_all_places_and_orientations(tmp_path, config, fill):
    images = fill(tmp_path, {"a.png": (10, 9, 3)})
    config.data.train.path = str(tmp_path)
    seen = {
        example.tobytes()
        for batch in take(create(config, batch_size=50).batches(), 10)
        for example in batch["clean"]
    }
    assert seen == crops_of(image_io.to_float(images["a.png"]), 8)
    assert len(seen) == 3 * 2 * 8


def test_without_augmentation_crops_keep_their_orientation(tmp_path, config, fill):
    image = fill(tmp_path, {"a.png": (8, 8, 3)})["a.png"]
    config.data.train.path = str(tmp_path)
    for batch in take(create(config, **{"data.augment": False}).batches(), 2):
        for example in batch["clean"]:
            np.testing.assert_array_equal(example, image_io.to_float(image))


@pytest.fixture
def positions(tmp_path, config):
    """Two images whose pixels tell (image, row, column): 18x21, and 5x9 which is below a tile."""
    for k, (height, width) in enumerate([(18, 21), (5, 9)]):
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([np.full_like(rows, k), rows, columns], axis=-1).astype(np.uint8)
        image_io.write(tmp_path / f"{k}.png", image)
    config.data.train.path = str(tmp_path)
    config.data.augment = False
    config.data.tile, config.data.tile_stride = 8, 4
    return config


def corners(batches, count):
    """(image, row, column) of the first pixel of each example."""
    pixels = np.concatenate([batch["clean"][:, 0, 0] for batch in take(batches, count)])
    return [tuple(corner) for corner in np.rint(pixels * 255).astype(int).tolist()]


@pytest.mark.extended
@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_an_epoch_shows_every_tile_once(positions, cache_gb):
    dataset = create(positions, batch_size=13, **{"data.cache_gb": cache_gb})
    assert "13 tiles" in dataset.describe()
    expected = [(0, top, left) for top in (0, 4, 8) for left in (0, 4, 8, 12)] + [(1, 0, 0)]
    for start in range(3):
        assert sorted(corners(dataset.batches(start), 1)) == expected


@pytest.mark.extended
def test_crops_lie_inside_tiles(positions):
    dataset = create(positions, batch_size=50, **{"data.crop": 3})
    seen = set(corners(dataset.batches(), 100))
    # Rows 16 and 17, column 20 of the large image, column 8 of the small one are in no tile.
    large = {(0, row, column) for row in range(14) for column in range(18)}
    assert seen == large | {(1, row, column) for row in range(3) for column in range(6)}


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_16_bit_images_keep_their_bits(tmp_path, config, fill, cache_gb):
    """8-bit images among them stay exact too."""
    deep = fill(tmp_path, {"a.png": (8, 8, 3)}, dtype=np.uint16)["a.png"]
    plain = fill(tmp_path, {"b.png": (8, 8, 3)})["b.png"]
    config.data.train.path = str(tmp_path)
    dataset = create(config, **{"data.augment": False, "data.cache_gb": cache_gb})
    seen = {example.tobytes() for example in next(dataset.batches())["clean"]}
    assert seen == {image_io.to_float(deep).tobytes(), image_io.to_float(plain).tobytes()}


@pytest.mark.extended
@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_stay_aligned(tmp_path, config, fill, cache_gb, channels):
    """The input is the negative of the target at every pixel, so their sum is one."""
    targets = fill(tmp_path / "target", {"a.png": (12, 20), "b.png": (5, 9), "c.png": (30, 11)})
    (tmp_path / "input").mkdir()
    for name, image in targets.items():
        image_io.write(tmp_path / "input" / name, 255 - image)
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    config.data.channels = channels
    dataset = create(config, **{"data.cache_gb": cache_gb})
    for batch in take(dataset.batches(), 10):
        assert set(batch) == {"clean", "degraded", "mask"}
        assert batch["clean"].std() > 0.2
        assert batch["degraded"].shape == (4, 8, 8, channels)
        np.testing.assert_allclose(batch["clean"] + batch["degraded"], 1, atol=1e-6)


@pytest.mark.extended
def test_noise_on_the_host(config, images):
    fields = {"degradation.where": "host", "batch_size": 64}
    batch = next(create(config, **fields).batches())
    noise = 255 * (batch["degraded"] - batch["clean"])
    count = noise.size
    assert abs(noise.mean()) < 4 * 50 / np.sqrt(count)
    assert abs(noise.std() - 50) < 4 * 50 / np.sqrt(2 * count)
    # Every example has noise of its own.
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.3
    stepped = next(create(config, **fields, **{"degradation.protocol": "8bit"}).batches())
    np.testing.assert_array_equal(stepped["clean"], batch["clean"])
    np.testing.assert_array_equal(
        stepped["degraded"],
        np.round(batch["degraded"].clip(0, 1) * np.float32(255)) / np.float32(255),
    )


def test_blind_noise_has_a_level_for_each_example(config, images):
    fields = {
        "degradation.where": "host",
        "degradation.sigma_min": 0.0,
        "batch_size": 64,
        "data.crop": 16,
    }
    batch = next(create(config, **fields).batches())
    levels = 255 * (batch["degraded"] - batch["clean"]).std(axis=(1, 2, 3))
    assert levels.min() < 8
    assert levels.max() > 42
    assert levels.max() < 55


# The function of (seed, step)


@pytest.fixture
def noisy(config, images):
    """Config whose batches hold every kind of random number."""
    config.degradation.where = "host"
    config.degradation.sigma_min = 5.0
    return config


def test_batches_are_a_function_of_the_seed(noisy):
    first, again = (take(create(noisy).batches(), 3) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert_equal(a, b)
    assert not np.array_equal(next(create(noisy, seed=1).batches())["clean"], first[0]["clean"])
    assert not np.array_equal(first[0]["degraded"], first[1]["degraded"])


@pytest.mark.extended
def test_start_step_resumes_exactly(noisy):
    dataset = create(noisy)
    from_start = take(dataset.batches(), 6)
    for step in (1, 5):
        assert_equal(next(dataset.batches(step)), from_start[step])
    deep = take(dataset.batches(10**6), 2)
    assert_equal(next(dataset.batches(10**6 + 1)), deep[1])
    assert_equal(next(dataset.batches(10**12)), next(dataset.batches(10**12)))


@pytest.mark.extended
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_global_batch(noisy, hosts):
    dataset = create(noisy)
    whole = take(dataset.batches(3), 2)
    shares = [
        take(dataset.batches(3, process_index=p, process_count=hosts), 2) for p in range(hosts)
    ]
    for k, batch in enumerate(whole):
        parts = [share[k] for share in shares]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in batch}
        assert_equal(joined, batch)


def test_wrong_shares_are_refused(config, images):
    dataset = create(config)
    with pytest.raises(ValueError, match=r"config\.batch_size 4 is not divisible by 3"):
        dataset.batches(process_count=3)
    with pytest.raises(ValueError, match="process_index < process_count"):
        dataset.batches(process_index=2, process_count=2)
    with pytest.raises(ValueError, match="start_step >= 0"):
        dataset.batches(-1)


@pytest.mark.extended
@pytest.mark.parametrize(("cache_gb", "kept"), [(0.0, 0), (3.3e-6, 3)])
def test_the_cache_changes_nothing(noisy, cache_gb, kept):
    """None, some (the first three) or all images in memory give the same batches."""
    partly, whole = create(noisy, **{"data.cache_gb": cache_gb}), create(noisy)
    assert f"{kept} decoded in memory" in partly.describe()
    assert "7 decoded in memory" in whole.describe()
    for a, b in zip(take(partly.batches(), 4), take(whole.batches(), 4), strict=True):
        assert_equal(a, b)


def test_encoded_images_in_memory(noisy, tmp_path):
    """Those after the decoded ones, as many as fit; no file is read again."""
    fields = {"data.cache_gb": 3.3e-6, "data.encoded_cache_gb": 1.0}
    loaded, whole = create(noisy, **fields), create(noisy)
    assert re.search(r"3 decoded in memory .*, 4 encoded in memory \(0\.0 MB\)", loaded.describe())
    assert loaded.list_images() == whole.list_images()
    size = (tmp_path / "3.png").stat().st_size + (tmp_path / "4.png").stat().st_size
    two = create(noisy, **fields | {"data.encoded_cache_gb": (size + 1) / 1e9})
    assert ", 2 encoded in memory" in two.describe()
    for path in tmp_path.glob("*.png"):
        path.unlink()
    for a, b in zip(take(loaded.batches(), 4), take(whole.batches(), 4), strict=True):
        assert_equal(a, b)


def test_images_in_a_temporary_file(noisy, tmp_path):
    """All of them, with the batches of those in memory; nothing is left in the folder."""
    folder = tmp_path / "cache"
    fields = {"data.cache_gb": 3.3e-6, "data.cache_dir": str(folder)}
    with pytest.raises(ValueError, match=r"config\.data\.cache_dir: .*No such file or directory"):
        create(noisy, **fields)
    folder.mkdir()
    mapped, whole = create(noisy, **fields), create(noisy)
    assert f"7 decoded in a file in {folder} (" in mapped.describe()
    assert not list(folder.iterdir())
    for a, b in zip(take(mapped.batches(), 4), take(whole.batches(), 4), strict=True):
        assert_equal(a, b)
    small = create(noisy, **fields | {"data.cache_gb": 1.0})  # all fit into memory
    assert "7 decoded in memory" in small.describe()


def test_a_full_disk_is_an_error(noisy, tmp_path, monkeypatch):
    def pwrite(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(ValueError, match=r"config\.data\.cache_dir: .*No space left on device"):
        create(noisy, **{"data.cache_gb": 0.0, "data.cache_dir": str(tmp_path)})


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_every_epoch_shows_each_image_once(tmp_path, config, write_numbered_images, count):
    write_numbered_images(tmp_path, count)
    config.data.train.path = str(tmp_path)
    batches = take(create(config, **{"data.augment": False}).batches(), 5 * count)
    shown = [number for batch in batches for number in numbers(batch)]
    epochs = [shown[k : k + count] for k in range(0, len(shown), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 2:
        assert len({tuple(epoch) for epoch in epochs}) > 2


def test_shuffling_is_a_permutation_for_every_length():
    for n in (1, 2, 3, 17, 256, 1000):
        order = train_host._permute(
            tf.range(n, dtype=tf.int64), tf.constant([9, 2**40], tf.int64), n
        )
        assert sorted(order.numpy()) == list(range(n))


@pytest.mark.extended
def test_a_program_can_end_while_files_are_being_decoded():
    """TensorFlow's threads must not wait for a Python that has gone."""
    program = """
import input_pipeline
from configs import default
config = default.get_config()
config.data.cache_gb = 0.0
batches = input_pipeline.create_dataset(config, "train").batches()
next(batches)
"""
    root = pathlib.Path(input_pipeline.__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60, check=True)
