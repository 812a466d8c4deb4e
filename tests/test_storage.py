"""Paths of buckets, and what is read and written there."""

import hashlib
import logging
import os
import pathlib

import pytest

from lcdnet_jax import atomic_io, storage, strict_json
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
    ],
)
def test_mistaken_urls(path, message):
    with pytest.raises(StorageError, match=message):
        to_path(path)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r'pip install "lcdnet-jax\[gcs\]"'):
        to_path("gs://bucket/run")
    with pytest.raises(StorageError, match=r'Azure Blob Storage needs .* pip install "adlfs"'):
        to_path("az://bucket/run")


def test_files(bucket, tmp_path):
    path = to_path(f"{bucket}/a/b.bin")
    assert str(path) == f"{bucket}/a/b.bin"
    assert (path.name, str(path.parent / "c")) == ("b.bin", f"{bucket}/a/c")
    assert to_path(path) is path
    assert not storage.exists(path)
    for data in (b"", b"one", b"two"):
        atomic_io.write(path, data, force=True)
        assert storage.read_bytes(path) == data
    with pytest.raises(atomic_io.TargetError, match=r"b.bin exists; choose another name"):
        atomic_io.write(path, b"three", force=False)
    assert storage.read_bytes(path, most=2) == b"tw"
    assert storage.compute_sha256(path) == hashlib.sha256(b"two").hexdigest()
    assert storage.exists(path.parent)
    assert storage.is_dir(path.parent)
    assert not storage.is_dir(path)
    atomic_io.write(path.with_name("bb"), b"", force=False)
    assert storage.list_files(path.parent) == {"b.bin": 3, "bb": 0}
    odd = to_path(f"{bucket}/o?d [1]*/a#b %20")
    atomic_io.write(odd, b"", force=False)
    assert storage.list_files(odd.parent) == {"a#b %20": 0}
    storage.remove(odd.parent)
    assert not storage.exists(odd)
    assert storage.list_files(path) == storage.list_files(path.with_name("none")) == {}
    assert str(atomic_io.find_free_path(path)) == f"{bucket}/a/b.bin-2"
    storage.download_file(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"two"
    storage.remove(path)
    storage.remove(path)
    with pytest.raises(FileNotFoundError, match="bin"):
        storage.read_bytes(path)
    with pytest.raises(FileNotFoundError, match="bin"):
        strict_json.read(path)
    storage.remove(path.parent)
    assert storage.list_files(to_path(bucket)) == {}


def test_what_others_write_is_seen(bucket):
    import fsspec

    folder = to_path(f"{bucket}/a")
    assert storage.list_files(folder) == {}
    fsspec.filesystem("gs", skip_instance_cache=True).pipe_file(f"{bucket}/a/b", b"1")
    assert storage.list_files(folder) == {"b": 1}
    assert storage.exists(folder / "b")


def test_directories(bucket, monkeypatch):
    kind = atomic_io.DirectoryKind("export", ("card.json",), ("x",))
    path = to_path(f"{bucket}/out/put")

    def make(content, force):
        with atomic_io.replace_directory(path, kind, force=force) as made:
            (made / "x").mkdir(parents=True)
            (made / "card.json").write_bytes(content)
            (made / "x" / "y").write_bytes(content)

    written, upload_file = [], storage.upload_file
    monkeypatch.setattr(
        storage, "upload_file", lambda file, to: (written.append(to.name), upload_file(file, to))
    )
    atomic_io.check_directory(path, kind, force=False)
    make(b"1", force=False)
    assert written == ["y", "card.json"]  # the marker comes last
    with pytest.raises(atomic_io.TargetError, match="is not empty; choose another"):
        atomic_io.check_directory(path, kind, force=False)
    with pytest.raises(atomic_io.TargetError, match="exists; choose another name"):
        make(b"2", force=False)
    atomic_io.check_directory(path, kind, force=True)
    make(b"345", force=True)
    assert storage.list_files(path) == {"card.json": 3, "x/y": 3}
    atomic_io.write(path / "other", b"", force=False)
    with pytest.raises(atomic_io.TargetError, match=r"not an earlier export \(other\)"):
        atomic_io.check_directory(path, kind, force=True)
    with pytest.raises(atomic_io.TargetError, match="is a file; give a directory"):
        atomic_io.check_directory(path / "other", kind, force=True)


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

    def refuse(*arguments, **options):
        raise OSError("Forbidden: http://...\nno permission storage.objects.create")

    monkeypatch.setattr(storage._filesystem(path), "pipe_file", refuse)
    with pytest.raises(StorageError, match=r"run: access is denied \(no permission .*; ask for"):
        storage.check_bucket(path, write=True)


def test_full_disk_stays_a_full_disk(bucket, monkeypatch, tmp_path):
    path = to_path(f"{bucket}/run")

    def fail(*arguments, **options):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(storage._filesystem(path), "get_file", fail)
    with pytest.raises(OSError, match="No space left"):
        storage.download_file(path, tmp_path / "a")


@pytest.mark.extended
def test_a_server_that_stops(bucket, gcs, caplog):
    path = to_path(f"{bucket}/run")
    gcs.stop()
    try:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(StorageError, match=r"run: the bucket does not answer \(Cannot connect"),
        ):
            storage.read_bytes(path)
    finally:
        gcs.start()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all("the bucket does not answer (Cannot connect" in line for line in lines)
    assert all(len(line.splitlines()) == 1 for line in lines)


def test_lines_of_gcsfs(bucket, caplog):
    to_path(bucket)
    logger, auth = logging.getLogger("gcsfs"), logging.getLogger("google.auth._default")
    with caplog.at_level(logging.WARNING):
        logger.debug("GET: b/{}/o")
        logger.warning("Could not determine bucket type for bucket name x: no credentials")
        auth.warning("Authentication failed using Compute Engine authentication due to x")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
