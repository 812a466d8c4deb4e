"""Folders of a bucket that are listed once."""

import pytest

from lcdnet_jax import atomic_io, storage
from lcdnet_jax.storage import StorageError, to_path


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
