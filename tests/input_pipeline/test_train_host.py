"""Batches: what is in them, and that they are a function of (seed, step) alone."""

import errno
import itertools
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict
from scipy import fft

import input_pipeline
from configs import tiny
from input_pipeline import train_host
from lcdnet_jax import image_io, networks, storage
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.networks import registered
from lcdnet_jax.training import train_and_evaluate


def create(config, **fields):
    """A training set, after changing some fields of a copy of the config."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    return input_pipeline.create_dataset(config, "train")


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


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


# Damaged files


@pytest.fixture
def jpegs(tmp_path, config, rng):
    """Five JPEG files, the second cut: its header is good, its pixels are not."""
    config.data.train.path = str(tmp_path)
    for k in range(5):
        noise = rng.integers(0, 9, (40, 48, 3), np.uint8)
        image_io.write(tmp_path / f"{k}.jpg", noise + np.uint8(40 * k + 20))
    damaged = tmp_path / "1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    return sorted(tmp_path.iterdir())


def levels(batch):
    return np.rint((batch["clean"].mean(axis=(1, 2, 3)) * 255 - 24) / 40).astype(int).tolist()


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_a_damaged_file_stops_and_is_named(config, jpegs, cache_gb):
    with pytest.raises(ImageError, match=r"1\.jpg.*config\.data\.on_bad_image"):
        take(create(config, **{"data.cache_gb": cache_gb}).batches(), 3)


def test_stopping_keeps_the_batches_before(config, jpegs):
    """However far ahead the pipeline reads, the batches before the damaged file arrive."""
    fields = {"data.cache_gb": 0.0, "batch_size": 1}
    replacing = create(config, **fields, **{"data.on_bad_image": "replace"})
    expected = 0
    for _ in replacing.batches():
        if replacing.replaced:
            break
        expected += 1
    batches = create(config, **fields).batches()
    assert len(take(batches, expected)) == expected
    with pytest.raises(ImageError, match=r"1\.jpg.*config\.data\.on_bad_image"):
        next(batches)


@pytest.mark.extended
@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_a_damaged_file_is_replaced_counted_and_reported(
    config, jpegs, cache_gb, monkeypatch, tmp_path
):
    warnings = []
    monkeypatch.setattr(
        logging, "warning", lambda message, *values: warnings.append(message % values)
    )
    config.data.on_bad_image = "replace"
    config.batch_size = 5  # an epoch
    dataset = create(config, **{"data.cache_gb": cache_gb})
    batches = take(dataset.batches(), 8)
    assert dataset.replaced == 8
    for batch in batches:
        assert sorted({*levels(batch)}) == [0, 2, 3, 4]
    assert len({tuple(levels(batch)) for batch in batches}) > 1
    assert len(warnings) == 1
    assert "1.jpg" in warnings[0]
    # Again, from the middle, and with or without the cache: the same.
    other = create(config, **{"data.cache_gb": 1.0 - cache_gb})
    for a, b in zip(take(other.batches(3), 5), batches[3:], strict=True):
        assert_equal(a, b)
    assert other.replaced == 5
    mapped = create(config, **{"data.cache_gb": 0.0, "data.cache_dir": str(tmp_path)})
    assert_equal(take(mapped.batches(7), 1)[0], batches[7])


def test_files_that_change_after_the_start(config, tmp_path, write_numbered_images):
    paths = write_numbered_images(tmp_path, 3)
    config.data.train.path = str(tmp_path)
    config.data.cache_gb = 0.0
    first, second = create(config), create(config)
    image_io.write(paths[1], np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(ImageError, match=r"01\.png: is now 30x30 .* was 12x16"):
        take(first.batches(), 2)
    paths[1].unlink()
    with pytest.raises(ImageError, match=r"01\.png"):
        take(second.batches(), 2)


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_only_damaged_files(config, tmp_path, jpegs, cache_gb):
    for path in jpegs:
        path.write_bytes(jpegs[1].read_bytes())
    with pytest.raises(ImageError, match=r"no image can be decoded.*\.jpg"):
        next(
            create(config, **{"data.on_bad_image": "replace", "data.cache_gb": cache_gb}).batches()
        )


# Frequency masking


ON = {"sfm.rate": 0.5, "sfm.where": "host"}
NOISE = {"degradation.where": "host"}
NOISELESS = {**NOISE, "degradation.sigma_min": 0.0, "degradation.sigma_max": 0.0}


@pytest.fixture
def four_images(tmp_path, config, fill):
    config.data.train.path = str(tmp_path)
    return fill(tmp_path, {f"{k}.png": (16, 20, 3) for k in range(4)})


def first_batch(config, **fields):
    batches = create(config, batch_size=16, **fields).batches()
    batch = next(batches)
    batches.close()
    return batch


def test_streams_of_random_numbers_are_those_of_earlier_runs(config, four_images):
    """Batches of runs without masking stay what they were."""
    assert create(config)._streams[:4] == [
        3948308845846928943,
        1459132311362927889,
        4298829809192954015,
        1645606736464176184,
    ]


@pytest.mark.extended
def test_masked_after_the_crop_and_before_noise(config, four_images):
    plain, noisy = first_batch(config), first_batch(config, **NOISE)
    device = first_batch(config, **ON)
    assert set(device) == {"clean", "to_degrade", "mask"}
    np.testing.assert_array_equal(device["clean"], plain["clean"])
    change = np.abs(device["to_degrade"] - plain["clean"]).max((1, 2, 3))
    assert 0 < (change == 0).sum() < 16
    before, after = (
        fft.dctn(x.astype(np.float64), axes=(1, 2), norm="ortho")
        for x in (plain["clean"], device["to_degrade"])
    )
    gone = (np.abs(after) < 1e-5) & (np.abs(before) > 1e-5)
    np.testing.assert_allclose(after, np.where(gone, 0, before), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(gone.any((1, 2, 3)), change > 0)
    # With noise on the host, too: the same masks, then the noise of a run without masking.
    host = first_batch(config, **ON, **NOISE)
    assert set(host) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(host["clean"], plain["clean"])
    noise = noisy["degraded"] - noisy["clean"]
    np.testing.assert_allclose(host["degraded"] - device["to_degrade"], noise, atol=1e-6)
    quiet = first_batch(config, **ON, **NOISELESS)
    np.testing.assert_array_equal(quiet["degraded"], device["to_degrade"])
    clipped = first_batch(config, **ON, **NOISELESS, **{"degradation.protocol": "clipped"})
    np.testing.assert_array_equal(clipped["degraded"], device["to_degrade"].clip(0, 1))


def test_masks_and_noise_levels_know_nothing_of_each_other(config, four_images):
    fields = {**NOISE, "degradation.sigma_min": 0.0, "degradation.sigma_max": 50.0}
    target = {"sfm.target": "masked"}
    config.batch_size = 64
    batches = [
        next(create(config, **each).batches()) for each in (fields, {**ON, **fields, **target})
    ]
    levels = (batches[1]["degraded"] - batches[1]["clean"]).std((1, 2, 3))
    selected = (batches[1]["clean"] != batches[0]["clean"]).any((1, 2, 3))
    # 5.3 standard deviations; one key for both would give 0.87.
    assert abs(np.corrcoef(levels, selected)[0, 1]) < 0.66


def test_unselected_and_target(config, four_images):
    keep = first_batch(config, **ON)
    zero = first_batch(config, **ON, **{"sfm.unselected": "zero"})
    black = (keep["to_degrade"] == keep["clean"]).all((1, 2, 3))
    assert not zero["to_degrade"][black].any()
    np.testing.assert_array_equal(zero["to_degrade"][~black], keep["to_degrade"][~black])
    np.testing.assert_array_equal(zero["clean"], keep["clean"])
    target = {"sfm.target": "masked"}
    for batch, keys in (
        (first_batch(config, **ON, **target), {"clean", "mask"}),
        (first_batch(config, **ON, **target, **NOISELESS), {"clean", "degraded", "mask"}),
    ):
        assert set(batch) == keys
        for key in keys - {"mask"}:
            np.testing.assert_array_equal(batch[key], keep["to_degrade"])


def test_masking_left_to_the_device_and_none(config, four_images):
    for fields in ({"sfm.rate": 0.5}, {"sfm.where": "host"}):
        assert set(first_batch(config, **fields)) == {"clean", "mask"}


def test_of_pairs_the_degraded_half_is_masked(config, tmp_path, fill):
    targets = fill(tmp_path / "target", {"a.png": (12, 20, 3), "b.png": (9, 9, 3)})
    (tmp_path / "input").mkdir()
    for name, image in targets.items():
        image_io.write(tmp_path / "input" / name, 255 - image)
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    plain, masked = first_batch(config), first_batch(config, **ON)
    assert set(masked) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    change = np.abs(masked["degraded"] - plain["degraded"]).max((1, 2, 3))
    assert 0 < (change == 0).sum() < 16


@pytest.mark.extended
@pytest.mark.parametrize("fields", [ON, {**ON, **NOISE}], ids=["noise later", "noise too"])
def test_masked_batches_are_a_function_of_seed_and_step(config, four_images, fields):
    dataset = create(config, **fields)
    from_start = list(itertools.islice(dataset.batches(), 4))
    shares = [dataset.batches(3, process_index=p, process_count=2) for p in range(2)]
    shares = [next(share) for share in shares]
    joined = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
    for other in (next(dataset.batches(3)), joined):
        assert other.keys() == from_start[3].keys()
        for key in other:
            np.testing.assert_array_equal(other[key], from_start[3][key])


class Conv(networks.RestorationNetwork):
    channels: int = 3
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + nn.Conv(self.channels, (3, 3), dtype=self.dtype)(x)


@pytest.mark.extended
def test_training_with_masking_on_either_side(tmp_path, fill):
    fill(tmp_path / "images", {"a.png": (20, 17, 3), "b.png": (18, 30, 3)})
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.steps, config.eval.bucket, config.sfm.rate = 1, 8, 0.5
    for split in (config.data.train, config.data.eval):
        split.source, split.path = "folder", str(tmp_path / "images")
    kernels = []
    for where in ("device", "host"):
        config.sfm.where = where
        with registered("conv", Conv):
            datasets = input_pipeline.create_datasets(config)
            state = train_and_evaluate(config, tmp_path / where, datasets=datasets)
        kernels.append(np.asarray(state.params["Conv_0"]["kernel"]))
    assert np.isfinite(kernels).all()
    assert (kernels[0] != kernels[1]).any()  # other masks


# Two views of a dual-pixel camera


def join_halves(images, split, number):
    """Clean, left and right, in [0, 1]."""
    halves = [images[split, half, number] for half in ("clean", "left", "right")]
    return image_io.to_float(np.concatenate(halves, axis=-1))


def orientations(crop):
    """A crop and its flips, each a picture that the camera could have taken."""
    clean, left, right = np.split(crop, 3, axis=-1)
    mirrored = np.concatenate([clean[:, ::-1], right[:, ::-1], left[:, ::-1]], axis=-1)
    return [crop, crop[::-1], mirrored, mirrored[::-1]]


@pytest.mark.parametrize("augment", [True, False])
def test_crops_of_two_views_and_their_flips(scenes, config, augment):
    """All of them appear, and nothing else: no transposition, no flip with unexchanged views."""
    expected = {
        turned.tobytes()
        for number in (890, 892)
        for top, left in itertools.product(range(2), range(4))
        for crop in [join_halves(scenes, "train", number)[top : top + 6, left : left + 6]]
        for turned in (orientations(crop) if augment else [crop])
    }
    assert len(expected) == 2 * 8 * (4 if augment else 1)
    seen = set()
    dataset = create(config, batch_size=80, **{"data.augment": augment})
    for batch in itertools.islice(dataset.batches(), 8):
        assert batch["clean"].shape == (80, 6, 6, 3)
        assert batch["degraded"].shape == (80, 6, 6, 6)
        whole = np.concatenate([batch["clean"], batch["degraded"]], axis=-1)
        seen |= {example.tobytes() for example in whole}
    assert seen == expected


@pytest.mark.extended
@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_batches_of_two_views_are_a_function_of_seed_and_step(scenes, config, cache_gb):
    dataset = create(config, **{"data.cache_gb": cache_gb})
    from_start = list(itertools.islice(create(config).batches(), 4))
    shares = [next(dataset.batches(3, process_index=p, process_count=2)) for p in range(2)]
    for key in ("clean", "degraded", "mask"):
        for other in (next(dataset.batches(3))[key], np.concatenate([s[key] for s in shares])):
            np.testing.assert_array_equal(other, from_start[3][key])


def test_masked_frequencies_of_two_views(scenes, config):
    fields = {"sfm.rate": 1.0, "sfm.where": "host"}
    plain, masked = (next(create(config, **f).batches()) for f in ({}, fields))
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    assert masked["degraded"].shape == (4, 6, 6, 6)
    assert (masked["degraded"] != plain["degraded"]).any()


class FromViews(networks.RestorationNetwork):
    """A base of both views and a convolution."""

    channels: int = 6
    dtype: type = np.float32
    two_views = True

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return (x[..., :3] + x[..., 3:]) / 2 + nn.Conv(3, (3, 3), dtype=self.dtype)(x)


@pytest.mark.extended
def test_training_and_evaluation_on_two_views(scenes, config, tmp_path, capsys):
    """Two steps, evaluation on full images with panels, and the checkpoint."""
    fields = tiny.get_config()
    fields.network.name, fields.network.kwargs = "from_views", ConfigDict()
    fields.data, fields.degradation = config.data, config.degradation
    fields.steps, fields.eval.bucket = 2, 8
    with registered("from_views", FromViews):
        datasets = input_pipeline.create_datasets(fields)
        state = train_and_evaluate(fields, tmp_path / "run", datasets=datasets)
    assert state.params["Conv_0"]["kernel"].shape == (3, 3, 6, 3)
    said = capsys.readouterr()
    assert re.search(r"\(input \d+\.\d\d dB\), 1 image,", said.out + said.err)
    assert list((tmp_path / "run/panels").glob("**/*.png"))
    x = jnp.zeros((1, 6, 6, 6))
    assert jax.eval_shape(FromViews().apply, state.variables(), x).shape == (1, 6, 6, 3)


@pytest.mark.extended
class TestBuckets:
    @pytest.fixture
    def folder(self, bucket, tmp_path, config, fill):
        config.data.train.path = str(tmp_path / "in")
        fill(tmp_path / "in", {f"{k}.png": (20 + k, 30, 3) for k in range(5)})
        storage.upload(tmp_path / "in", storage.to_path(bucket) / "in")
        return f"{bucket}/in"

    @pytest.mark.parametrize("cache", [0.0, 1.0])
    def test_the_same_batches(self, folder, config, cache):
        """As from a local folder, so that a run may continue from either."""
        local = create(config, **{"data.cache_gb": cache})
        there = create(config, **{"data.cache_gb": cache, "data.train.path": folder})
        assert there.list_images() == local.list_images()
        for a, b in zip(take(there.batches(3), 3), take(local.batches(3), 3), strict=True):
            assert_equal(a, b)

    def test_encoded_images_need_no_bucket(self, folder, config, monkeypatch):
        fields = {"data.cache_gb": 0.0, "data.train.path": folder}
        expected = take(create(config, **fields).batches(), 2)
        loaded = create(config, **fields | {"data.encoded_cache_gb": 1.0})
        monkeypatch.setattr(image_io, "read", None)
        monkeypatch.setattr(storage, "open_file", None)
        for a, b in zip(take(loaded.batches(), 2), expected, strict=True):
            assert_equal(a, b)

    def test_an_outage_replaces_no_image(self, folder, config, monkeypatch):
        """Batches would differ from those of a run without it."""
        fields = {"data.cache_gb": 0.0, "data.train.path": folder, "data.on_bad_image": "replace"}
        data = create(config, **fields)
        batches = data.batches()
        next(batches)

        def fail(*arguments, **options):
            raise ConnectionError("no route")

        filesystem = storage.buckets.get_filesystem(storage.to_path(folder))
        monkeypatch.setattr(filesystem, "cat_file", fail)
        with pytest.raises(image_io.BucketError, match=r"in/\d.png: the bucket does not answer"):
            take(batches, 100)
        assert data.replaced == 0

    def test_a_damaged_image_is_replaced(self, folder, config):
        data = create(config, **{"data.cache_gb": 0.0, "data.train.path": folder})
        path = storage.to_path(f"{folder}/3.png")
        storage.write(path, storage.read_bytes(path)[:-20])
        with pytest.raises(ImageError, match=r"3.png"):
            take(data.batches(), 5)
        fields = {"data.train.path": folder, "data.on_bad_image": "replace"}
        data = create(config, **{"data.cache_gb": 0.0, **fields})
        assert len(take(data.batches(), 5)) == 5
