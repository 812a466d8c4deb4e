"""The folder of temporary files, and those that killed servers leave."""

import os
import subprocess
import sys
import tempfile
import time

import pytest

from lcdnet_jax.serve.folder import create_folder

pytest.importorskip("fcntl")


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def make_older(folder):
    os.utime(folder, (time.time() - 3600, time.time() - 3600))


def test_is_private_and_deleted(parent):
    with create_folder() as folder:
        assert folder.parent == parent
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").mkdir()
        (folder / "a" / "photo.jpg").write_bytes(b"x")
    assert not list(parent.iterdir())


def test_leftovers_of_killed_servers(parent):
    code = (
        "import os, signal\nfrom lcdnet_jax.serve.folder import create_folder\n"
        "with create_folder() as folder:\n"
        "    (folder / 'photo.jpg').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(parent)})
    (left,) = parent.iterdir()
    with create_folder():
        assert left.exists()  # it may belong to a server that starts at this moment
    make_older(left)
    with create_folder() as folder:
        assert list(parent.iterdir()) == [folder]


def test_what_others_use_is_kept(parent):
    (parent / "lcdnet-jax-serve-file").write_text("no folder")
    (parent / "other").mkdir()
    (parent / "lcdnet-jax-serve-link").symlink_to(parent / "other")
    with create_folder() as first:
        make_older(first)
        with create_folder() as second:
            assert first.exists()
            assert second != first
    names = {path.name for path in parent.iterdir()}
    assert names == {"lcdnet-jax-serve-file", "lcdnet-jax-serve-link", "other"}
