"""Manifests, against hashlib; every damage is found."""

import hashlib
import json
import os

import pytest

from lcdnet_jax import atomic_io
from lcdnet_jax.checkpoints import manifest
from lcdnet_jax.checkpoints.manifest import DamageError

CONTENTS = {"params/a": b"123", "params/deep/b": b"", "ema/c": b"\x00" * 99, "top": b"x"}


@pytest.fixture
def directory(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest.write(tmp_path, 8)
    return tmp_path


def test_content(directory):
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in CONTENTS.items()
    }
    assert manifest.read(directory, 8) == files
    assert manifest.items(files) == ["ema", "params"]
    stored = json.loads((directory / manifest.NAME).read_text())
    digest = stored.pop("sha256")
    assert stored == {"step": 8, "files": files}
    assert digest == hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    manifest.verify(directory, files, ["ema", "params"])


@pytest.mark.parametrize(
    "files",
    [
        *([1, 2], None, "abc", {"a": 5}, {"a": {}}, {"a": {"bytes": True, "sha256": ""}}),
        *({name: {"bytes": 1, "sha256": ""}} for name in (
            "", "/etc/passwd", "a/../../b", "a//b", "x" * 5000, "a\0b",
        )),
        {"a": {"bytes": 1, "sha256": 5}},
    ],
)  # fmt: skip
def test_of_any_content_with_a_right_checksum(directory, files):
    content = {"step": 8, "files": files}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    text = json.dumps(content | {"sha256": digest}, sort_keys=True, indent=1) + "\n"
    (directory / manifest.NAME).write_text(text)
    with pytest.raises(DamageError, match=r"does not list files with sizes and SHA-256"):
        manifest.read(directory, 8)


def test_pipe_and_endless_file_are_not_read(directory):
    path = directory / manifest.NAME
    with path.open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(DamageError, match="is not what was written"):
        manifest.read(directory, 8)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamageError, match=r"manifest.json: it is not a regular file"):
        manifest.read(directory, 8)


def test_is_not_replaced(directory):
    with pytest.raises(atomic_io.TargetError):
        manifest.write(directory, 8)


def test_none(tmp_path):
    assert manifest.read(tmp_path, 8) is None


def test_another_step(directory):
    with pytest.raises(DamageError, match=r"manifest\.json is of step 8"):
        manifest.read(directory, 9)


def test_every_flipped_bit_is_found(directory):
    path = directory / manifest.NAME
    content = path.read_bytes()
    for i in range(0, len(content), 7):
        changed = bytearray(content)
        changed[i] ^= 1 << (i % 8)
        path.write_bytes(changed)
        with pytest.raises(DamageError):
            manifest.read(directory, 8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"124"), "params/a holds other bytes than were saved"),
        (lambda path: path.write_bytes(b"12"), "params/a has 2 bytes, not 3"),
        (lambda path: path.unlink(), "params/a is missing"),
        (lambda path: (path.unlink(), path.mkdir()), "params/a is not a file"),
    ],
)
def test_damaged_files(directory, damage, message):
    files = manifest.read(directory, 8)
    damage(directory / "params" / "a")
    with pytest.raises(DamageError, match=message):
        manifest.verify(directory, files, ["params"])
    manifest.verify(directory, files, ["ema"])  # other folders do not count


def test_a_file_in_no_folder_always_counts(directory):
    files = manifest.read(directory, 8)
    (directory / "top").write_bytes(b"y")
    with pytest.raises(DamageError, match="top holds other bytes"):
        manifest.verify(directory, files, [])
