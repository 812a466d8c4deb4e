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

        patch.setattr(storage, "upload_file", fail)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert storage.list_files(to_path(bucket)) == {}
    atomic_io.write(path / "x", b"12", force=False)
    with pytest.raises(atomic_io.TargetError, match="is not empty"):
        atomic_io.check_directory(path, kind, force=False)
    atomic_io.check_directory(path, kind, force=True)
    make()
    assert storage.list_files(path) == {"card.json": 1, "x": 1}


def test_folders_are_listed_once(bucket, tmp_path):
    local = tmp_path / "in"
    for name, size in {"a.png": 3, "b/c.png": 4, "ab/d.png": 1}.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(b"x" * size)
    storage.upload(local, to_path(f"{bucket}/in"))
    storage.upload(local, to_path(f"{bucket}/inside"))
    both = storage.list_once(local), storage.list_once(to_path(f"{bucket}/in"))
    assert both[0] == local
    atomic_io.write(to_path(f"{bucket}/in/new.png"), b"", force=False)
    for folder in both:
        walked = [
            (here.relative_to(folder).as_posix(), sorted(folders), sorted(names))
            for here, folders, names in storage.walk(folder)
        ]
        assert sorted(walked) == [
            (".", ["ab", "b"], ["a.png"]),
            ("ab", [], ["d.png"]),
            ("b", [], ["c.png"]),
        ]
        assert storage.find_size(folder / "b" / "c.png") == 4
        assert storage.find_size(folder / "none") is None
        assert storage.is_file(folder / "a.png")
        assert storage.is_dir(folder / "b")
        assert not storage.is_file(folder / "b")
        assert not storage.exists(folder / "new.png")
        assert storage.make_absolute(folder / "b") == storage.resolve(folder / "b") == folder / "b"
        assert storage.read_permissions(folder / "a.png") & 0o600 == 0o600
    assert storage.list_once(both[1] / "b") == both[1] / "b"
    assert (storage.list_once(both[1].parent / "inside") / "a.png").is_file()
    plain = to_path(f"{bucket}/in/new.png")
    assert (storage.is_file(plain), storage.find_size(plain)) == (True, None)
    assert storage.is_same_file(plain, both[1] / "new.png")
    assert not storage.is_same_file(plain, local / "a.png")
    one = storage.list_once(to_path(f"{bucket}/in/a.png"))
    assert (one.is_file(), one.is_dir(), one.size) == (True, False, 3)
    assert not storage.list_once(to_path(f"{bucket}/none")).exists()
    storage.remove_file(plain)
    assert not storage.exists(plain)
    with pytest.raises(StorageError, match="the bucket gs://no-such does not exist"):
        storage.list_once(to_path("gs://no-such/in"))


def test_parts_of_files(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_BLOCK", 4)
    path = to_path(f"{bucket}/a.bin")
    atomic_io.write(path, b"0123456789", force=False)
    requests, cat_file = [], storage._filesystem(path).cat_file
    monkeypatch.setattr(
        storage._filesystem(path),
        "cat_file",
        lambda name, start, end: (requests.append((start, end)), cat_file(name, start, end))[1],
    )
    for found in (path, storage.list_once(path)):
        requests.clear()
        with storage.open_file(found) as file:
            assert [file.read(2), file.read(2), file.tell()] == [b"01", b"23", 4]
            assert file.seek(-1, os.SEEK_END) == 9
            assert [file.read(5), file.read(5)] == [b"9", b""]
            assert file.seek(20) == 20
            assert [file.read(), file.tell()] == [b"", 20]
            file.seek(0)
            assert file.read() == b"0123456789"  # of one request, so that it is of one version
            file.seek(3)
            assert file.read(1) == b"3"
            with pytest.raises(OSError, match="Invalid argument"):
                file.seek(-1)
        assert requests == [(0, 4), (9, 10), (0, 10)]
    atomic_io.write(path, b"", force=True)
    with storage.open_file(path) as file:
        assert file.read(1) == file.read() == b""
    with storage.local_file(path) as local:
        assert (local.name, local.read_bytes()) == ("a.bin", b"")
    assert not local.exists()
    with pytest.raises(FileNotFoundError, match="none"), storage.open_file(path / "none"):
        pass


def test_an_error_while_reading_is_not_hidden(bucket, monkeypatch):
    """Decoders catch what a stream raises, and call the file damaged."""
    path = to_path(f"{bucket}/a.bin")
    atomic_io.write(path, b"0123456789", force=False)
    storage.list_files(path)

    def fail(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(storage._filesystem(path), "cat_file", fail)
    message = r"a.bin: the bucket does not answer \(no route\); check the name"

    def decode(file, raises):
        try:
            file.read(1)
        except OSError:
            if raises:
                raise ValueError("damaged") from None

    for raises in (True, False):
        with (
            pytest.raises(storage.UnreachableError, match=message),
            storage.open_file(path) as file,
        ):
            decode(file, raises)
    assert storage.is_down()
    with pytest.raises(ValueError, match=r"^other$"), storage.open_file(path):
        raise ValueError("other")
    assert storage.exists(path)
    assert not storage.is_down()


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
    monkeypatch.setattr(storage, "_writable", set())

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
