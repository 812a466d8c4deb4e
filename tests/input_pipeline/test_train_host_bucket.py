"""Batches of images in a bucket."""

import pytest

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError
from tests.input_pipeline.batches import assert_equal, create, take


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
