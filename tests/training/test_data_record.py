"""The record of the training images: what differs, and damage."""

import hashlib
import json
import os

import pytest

from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import data_record

IMAGES = {"b": "8x8, 99 bytes", "a": "9x9, 98 bytes"}


class Data:
    def __init__(self, images):
        self.images = images

    def list_images(self):
        return self.images


RECORD = {"step": 0, "images": IMAGES, "sha256": "00"}


def with_checksum(records):
    """Bytes of a file whose own checksum is right."""
    digest = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()
    return json.dumps({"records": records, "sha256": digest}).encode()


@pytest.fixture
def workdir(tmp_path):
    data_record.write(tmp_path, Data(IMAGES), step=0)
    return tmp_path


def test_content(workdir):
    stored = json.loads((workdir / data_record.NAME).read_text())
    text = '{"a": "9x9, 98 bytes", "b": "8x8, 99 bytes"}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    (record,) = stored["records"]
    assert record == {"step": 0, "images": IMAGES, "sha256": digest}
    assert data_record.compute_fingerprint(Data(IMAGES)) == digest
    assert data_record.check(workdir, Data(dict(sorted(IMAGES.items())))) is None


def test_data_without_a_list(tmp_path):
    data_record.write(tmp_path, object(), step=0)
    assert list(tmp_path.iterdir()) == []
    assert data_record.check(tmp_path, object()) is None
    empty = hashlib.sha256(b"{}").hexdigest()
    assert data_record.compute_fingerprint(object()) == empty


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ({**IMAGES, "c": ""}, "added: c"),
        ({"a": IMAGES["a"]}, "missing: b"),
        ({**IMAGES, "c\nerror: \x1b[31m": ""}, "added: c\\nerror: \\x1b[31m"),
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


def test_accepted_images_are_valid_from_their_step_on(workdir):
    other = Data({**IMAGES, "c": ""})
    data_record.write(workdir, other, step=4)
    data_record.write(workdir, other, step=6)  # the same: nothing new
    assert len(json.loads((workdir / data_record.NAME).read_text())["records"]) == 2
    for step in (0, 3):
        assert data_record.check(workdir, Data(IMAGES), step=step) is None
        with pytest.raises(ConfigError, match="added: c"):
            data_record.check(workdir, other, step=step)
    for step in (4, 9, None):
        assert data_record.check(workdir, other, step=step) is None
        with pytest.raises(ConfigError, match="missing: c"):
            data_record.check(workdir, Data(IMAGES), step=step)
    # The run goes on from an earlier step: what came after it is forgotten.
    data_record.write(workdir, Data(IMAGES), step=3)
    assert data_record.check(workdir, Data(IMAGES), step=9) is None


def test_record_that_begins_later(tmp_path):
    data_record.write(tmp_path, Data(IMAGES), step=5)
    assert "begins after step 4" in data_record.check(tmp_path, Data(IMAGES), step=4)


def test_too_many_images_to_list(workdir, monkeypatch):
    monkeypatch.setattr(data_record, "_MOST_LISTED", 2)
    many = Data({**IMAGES, "c": ""})
    data_record.write(workdir, many, step=1)
    assert data_record.check(workdir, many) is None
    with pytest.raises(ConfigError, match="some of 2 images; the record has too many to list"):
        data_record.check(workdir, Data(IMAGES))


def test_pipe_is_not_read(workdir):
    (workdir / data_record.NAME).unlink()
    os.mkfifo(workdir / data_record.NAME)
    assert "data.json is damaged" in data_record.check(workdir, Data(IMAGES))


def test_no_record(tmp_path):
    line = data_record.check(tmp_path, Data(IMAGES))
    assert line == (
        f"{tmp_path}/data.json is missing, so the training images cannot be compared with those "
        "before"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 10**5,
        *(with_checksum(records) for records in (1, None, [1], [[]], [{}], {"a": 1})),
        *(with_checksum([{**RECORD, **change}]) for change in (
            {"images": [1, 2]}, {"images": 5}, {"images": {"a": 1}}, {"step": "0"}, {"step": True},
            {"sha256": None}, {"more": 1},
        )),
    ],
)  # fmt: skip
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
