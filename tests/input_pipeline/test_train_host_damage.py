"""Training on damaged and changed files: the error, or the image that replaces one."""

import numpy as np
import pytest
from absl import logging

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.input_pipeline.batches import assert_equal, create, take


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
