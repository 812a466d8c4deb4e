"""Objects that are written, and what others write."""

import hashlib
import os

import pytest

from lcdnet_jax import atomic_io, storage, strict_json
from lcdnet_jax.storage import to_path


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
        storage.writing,
        "upload_file",
        lambda file, to: (written.append(to.name), upload_file(file, to)),
    )
    atomic_io.check_directory(path, kind, force=False)
    with monkeypatch.context() as patch:
        # As for the object "out/put/" of a console, which this server does not keep.
        patch.setattr(storage, "exists", lambda path: True)
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


def test_a_directory_that_was_not_completed(bucket, monkeypatch):
    """Nothing is left after an error; what a killed process leaves can be replaced."""
    kind = atomic_io.DirectoryKind("export", ("card.json",), ("x",))
    path = to_path(f"{bucket}/out")

    def make():
        with atomic_io.replace_directory(path, kind, force=True) as made:
            made.mkdir()
            (made / "x").write_bytes(b"1")
            (made / "card.json").write_bytes(b"1")

    with monkeypatch.context() as patch:
        upload_file = storage.upload_file

        def fail(file, to):
            if to.name == "card.json":
                raise KeyboardInterrupt
            upload_file(file, to)

        patch.setattr(storage.writing, "upload_file", fail)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert storage.list_files(to_path(bucket)) == {}
    atomic_io.write(path / "x", b"12", force=False)
    with pytest.raises(atomic_io.TargetError, match="is not empty"):
        atomic_io.check_directory(path, kind, force=False)
    atomic_io.check_directory(path, kind, force=True)
    make()
    assert storage.list_files(path) == {"card.json": 1, "x": 1}


def test_full_disk_stays_a_full_disk(bucket, monkeypatch, tmp_path):
    path = to_path(f"{bucket}/run")

    def fail(*arguments, **options):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(storage.buckets.get_filesystem(path), "get_file", fail)
    with pytest.raises(OSError, match="No space left"):
        storage.download_file(path, tmp_path / "a")
