"""The record of the training images: what differs, and damage."""

import hashlib
import json

import pytest

from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import data_record

IMAGES = {"b": "8x8, 99 bytes", "a": "9x9, 98 bytes"}


class Data:
    def __init__(self, images):
        self.images = images

    def list_images(self):
        return self.images


@pytest.fixture
def workdir(tmp_path):
    data_record.write(tmp_path, Data(IMAGES))
    return tmp_path


def test_content(workdir):
    stored = json.loads((workdir / data_record.NAME).read_text())
    text = '{"a": "9x9, 98 bytes", "b": "8x8, 99 bytes"}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert stored == {"images": IMAGES, "sha256": digest}
    assert data_record.compute_fingerprint(Data(IMAGES)) == digest
    assert data_record.check(workdir, Data(dict(sorted(IMAGES.items())))) is None


def test_data_without_a_list(tmp_path):
    data_record.write(tmp_path, object())
    assert list(tmp_path.iterdir()) == []
    assert data_record.check(tmp_path, object()) is None
    empty = hashlib.sha256(b"{}").hexdigest()
    assert data_record.compute_fingerprint(object()) == empty


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ({**IMAGES, "c": ""}, "added: c"),
        ({"a": IMAGES["a"]}, "missing: b"),
        ({**IMAGES, "a": "1x1"}, "changed: a (9x9, 98 bytes before, 1x1 now)"),
        (
            {**IMAGES, **dict.fromkeys("cdefghi", "")},
            "added: c, d, e, f, g and 2 more",
        ),
    ],
)
def test_other_images(workdir, images, line):
    with pytest.raises(ConfigError) as error:
        data_record.check(workdir, Data(images))
    first, *lines, fix = str(error.value).splitlines()
    assert first == f"the training images are not those of the run in {workdir}:"
    assert lines == [f"  {line}"]
    assert "--accept_changed_data" in fix


def test_no_record(tmp_path):
    line = data_record.check(tmp_path, Data(IMAGES))
    assert line == (
        f"{tmp_path}/data.json is missing, so the training images cannot be compared with those "
        "before"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"images": 1, "sha256": 2}', b"[" * 10**5]
)
def test_damaged_record(workdir, content):
    (workdir / data_record.NAME).write_bytes(content)
    assert "data.json is damaged" in data_record.check(workdir, Data(IMAGES))


def test_every_byte_of_the_record(workdir):
    """A flipped bit never makes the same images different ones."""
    path = workdir / data_record.NAME
    content = path.read_bytes()
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 1 << (i % 8)
        path.write_bytes(changed)
        line = data_record.check(workdir, Data(IMAGES))
        assert line is None or "data.json is damaged" in line
