"""What a path that a user gives means."""

import pathlib

import pytest

from lcdnet_jax import storage
from lcdnet_jax.storage import StorageError, to_path


def test_local_paths():
    for text in ("runs/a", "/runs/a", "C:/runs", "a:b", "odd:/name", ".", ""):
        assert to_path(text) == pathlib.Path(text)
        assert not storage.is_bucket(to_path(text))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("http://host/x", r"http:// is not supported; use a local path, gs:// \(Google Cloud"),
        ("file:///x", "file:// is not supported"),
        ("gs:/bucket/x", "gs:/bucket/x names no bucket; write gs://BUCKET/PATH"),
        ("gs:///x", "names no bucket"),
        ("gs://bucket/a/../../x", "leads out of its bucket; write gs://BUCKET/PATH"),
    ],
)
def test_mistaken_urls(path, message):
    with pytest.raises(StorageError, match=message):
        to_path(path)


def test_dots_in_urls():
    """No object is called "a/../b": a bucket would take ".." for a name."""
    for text, meant in (
        ("gs://bucket/a/../b/./c//d/", "gs://bucket/b/c/d"),
        ("gs://bucket/a/..", "gs://bucket"),
        ("gs://bucket/", "gs://bucket"),
        ("gs://bucket/..a/b..", "gs://bucket/..a/b.."),
        ("gs://bucket/http://a", "gs://bucket/http:/a"),
    ):
        assert str(to_path(text)) == meant


def test_missing_package(monkeypatch):
    monkeypatch.setattr(storage.paths.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r'pip install "lcdnet-jax\[gcs\]"'):
        to_path("gs://bucket/run")
    with pytest.raises(StorageError, match=r'Azure Blob Storage needs .* pip install "adlfs"'):
        to_path("az://bucket/run")
