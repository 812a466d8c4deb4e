"""Parts of objects, and errors while they are read."""

import os

import pytest

from lcdnet_jax import atomic_io, storage
from lcdnet_jax.storage import to_path


def test_parts_of_files(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.reading, "_BLOCK", 4)
    path = to_path(f"{bucket}/a.bin")
    atomic_io.write(path, b"0123456789", force=False)
    requests, cat_file = [], storage.buckets.get_filesystem(path).cat_file
    monkeypatch.setattr(
        storage.buckets.get_filesystem(path),
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


def test_several_parts_at_once(bucket, tmp_path):
    for path in (to_path(f"{bucket}/a.bin"), tmp_path / "a.bin"):
        atomic_io.write(path, b"0123456789", force=False)
        assert storage.read_parts(path, [(8, 2), (0, 3), (4, 0), (9, 5)]) == [
            *(b"89", b"012", b"", b"9")
        ]
        with pytest.raises(FileNotFoundError):
            storage.read_parts(path.with_name("b.bin"), [(0, 1)])


def test_an_error_while_reading_is_not_hidden(bucket, monkeypatch):
    """Decoders catch what a stream raises, and call the file damaged."""
    path = to_path(f"{bucket}/a.bin")
    atomic_io.write(path, b"0123456789", force=False)
    storage.list_files(path)

    def fail(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(storage.buckets.get_filesystem(path), "cat_file", fail)
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
