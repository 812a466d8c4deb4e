"""Paths that answer from a list. No server is asked."""

import pathlib

import pytest

from lcdnet_jax import storage
from lcdnet_jax.storage.listed_paths import make_listed_path

SIZES = {
    "a.png": 3,
    "b/c/d.png": 4,
    "b/c/e.txt": 5,
    "b/f.png": 0,
    "b-2/x.png": 1,
    "odd//name": 1,
    "/odd.png": 1,
    "odd/../name": 1,
    "b/f.png/g.png": 2,  # an object and a folder of one name
}


@pytest.fixture
def folder():
    return make_listed_path("gs://bucket/in/", SIZES)


def test_what_is_there(folder):
    assert str(folder) == "gs://bucket/in"
    assert folder.is_dir()
    assert not folder.is_file()
    for name, size in SIZES.items():
        path = folder / name
        if "odd" in name:
            assert not path.exists()
        else:
            assert (path.exists(), path.is_file(), path.size) == (True, True, size)
            assert path.parent.is_dir()
    assert (folder / "b" / "c").is_dir()
    assert not (folder / "b" / "c").is_file()
    for name in ("b/c/d", "B", "odd", "x"):
        assert not (folder / name).exists()
        assert (folder / name).size is None


def test_other_folders_are_not_in_the_list(folder):
    for path in (folder.parent, folder.with_name("inside"), folder.parent / "out" / "a.png"):
        assert not path.exists()
        assert list(path.iterdir()) == list(path.glob("*")) == []


def test_paths_made_of_it_know_the_list(folder):
    made = [
        folder / "b" / "f.png",
        (folder / "b" / "x.png").with_name("f.png"),
        (folder / "b" / "f.tif").with_suffix(".png"),
        folder.joinpath("b", "f.png"),
        folder / pathlib.Path("b/f.png"),
        (folder / "b" / "c").parent / "f.png",
        (folder / "b" / "f.png").absolute(),
    ]
    assert {str(path) for path in made} == {"gs://bucket/in/b/f.png"}
    assert all(path.size == 0 for path in made)
    assert len(set(made)) == 1
    assert (folder / "b" / "f.png").relative_to(folder).parts == ("b", "f.png")
    assert storage.to_path(made[0]) is made[0]
    assert storage.is_bucket(made[0])


def test_lists(folder):
    assert [path.name for path in folder.iterdir()] == ["a.png", "b", "b-2"]
    assert [str(path)[15:] for path in folder.glob("b*/*.png")] == ["b/f.png", "b-2/x.png"]
    assert list(folder.glob("*/*/*/*")) == []
    found = {str(here)[14:]: (list(folders), names) for here, folders, names in folder.walk()}
    assert found == {
        "": (["b", "b-2"], ["a.png"]),
        "/b": (["c", "f.png"], []),
        "/b/c": ([], ["d.png", "e.txt"]),
        "/b/f.png": ([], ["g.png"]),
        "/b-2": ([], ["x.png"]),
    }


def test_a_walk_leaves_out_what_is_removed(folder):
    visited = []
    for here, folders, _ in storage.walk(folder):
        visited.append(here.name)
        folders[:] = [name for name in folders if name != "b"]
    assert visited == ["in", "b-2"]


def test_a_whole_bucket():
    folder = make_listed_path("gs://bucket", {"a/b": 1})
    assert (folder / "a" / "b").is_file()
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_an_empty_list():
    folder = make_listed_path("gs://bucket/none", {})
    assert not folder.exists()
    assert next(iter(folder.walk()))[1:] == ([], [])
