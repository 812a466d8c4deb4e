import itertools
import os

import pytest

from lcdnet_jax import file_names


@pytest.mark.parametrize(
    "name", ["a", "a" * 251, "ü" * 125, "caf\udce9", "北" * 83 + "..", "\udce9" * 251]
)
def test_short_names_stay(name):
    assert file_names.shorten_name(name, ".png") == f"{name}.png"


NAMES = ("a" * 252, "a" * 251 + "b", "a" * 9999, "ü" * 126, "ü" * 127, "aü" * 99, "北" * 90,
         "a北" * 80, "\udce9" * 252, "\udce9" * 251 + "\udcea", "\U0001f600" * 99)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_long_names_are_cut(name, tmp_path):
    fitted = file_names.shorten_name(name, ".png")
    assert len(os.fsencode(fitted)) <= 255
    assert fitted.endswith(".png")
    assert os.fsencode(name).startswith(os.fsencode(fitted.partition("~")[0]))
    assert name.startswith(fitted.partition("~")[0])  # whole characters
    (tmp_path / fitted).touch()


def test_cut_names_differ():
    for one, other in itertools.combinations(NAMES, 2):
        assert file_names.shorten_name(one, ".png") != file_names.shorten_name(other, ".png")


def test_normalize():
    assert file_names.normalize("cafe\u0301") == file_names.normalize("caf\u00e9") == "caf\u00e9"
    assert file_names.normalize("caf\udce9") == "caf\udce9"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , photos,c ", ["a", "photos", "c"]),
        ("my, data", ["my, data"]),
        ("my, data,photos,x", ["my, data", "photos", "x"]),
        ("photos,my, data", ["photos", "my, data"]),
        ("gopro:my, data,tfds:a/b", ["gopro:my, data", "tfds:a/b"]),
        ("other:my, data", ["other:my", "data"]),
        ("gopro: my, data", ["gopro: my, data"]),
        ("1,2", ["1,2"]),
        ("my", ["my"]),
        ("no, data", ["no", "data"]),
    ],
)
def test_split_list(tmp_path, monkeypatch, text, parts):
    monkeypatch.chdir(tmp_path)
    for name in ("my, data", "my", "1,2"):
        (tmp_path / name).mkdir()
    assert file_names.split_list(text, prefixes=("gopro", "tfds")) == parts
