"""Buckets that do not exist or deny access."""

import pytest

from lcdnet_jax import atomic_io, storage
from lcdnet_jax.storage import StorageError, to_path


def test_buckets_that_do_not_exist(bucket):
    storage.check_bucket(to_path(f"{bucket}/new/run"), write=True)
    assert storage.list_files(to_path(bucket)) == {}
    for write in (True, False):
        with pytest.raises(StorageError, match="the bucket gs://no-such does not exist; check"):
            storage.check_bucket(to_path("gs://no-such/run"), write=write)
    with pytest.raises(StorageError, match="the bucket gs://no-such does not exist; check"):
        atomic_io.check_file("gs://no-such/run/file", force=False)


def test_denied_access(bucket, monkeypatch):
    path = to_path(f"{bucket}/run")
    monkeypatch.setattr(storage.questions, "_writable", set())

    def refuse(*arguments, **options):
        raise OSError("Forbidden: http://...\nno permission storage.objects.create")

    monkeypatch.setattr(storage.buckets.get_filesystem(path), "pipe_file", refuse)
    with pytest.raises(StorageError, match=r"run: access is denied \(no permission .*; ask for"):
        storage.check_bucket(path, write=True)
