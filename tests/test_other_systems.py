"""Importing and restoring where parts of Linux are missing, as on macOS and Windows."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.checkpoints import folder as checkpoint_folder
from lcdnet_jax.serve import folder as serve_folder
from tests.cli.commands import ROOT

# What the library finds on such a system. Other packages, which have versions of their own for
# each system, find everything.
_WITHOUT_LINUX = """
import builtins, os, pathlib, shutil, signal, sys, tempfile
import jax, orbax.checkpoint

missing = {"fcntl", "grp", "pwd", "resource", "termios"}
complete_import, read_text = builtins.__import__, pathlib.Path.read_text

def find(name, globals=None, *arguments, **options):
    if name in missing and (globals or {}).get("__name__", "").startswith("lcdnet_jax"):
        raise ImportError(name)
    return complete_import(name, globals, *arguments, **options)

def read(path, *arguments, **options):
    if str(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(str(path))
    return read_text(path, *arguments, **options)

builtins.__import__, pathlib.Path.read_text = find, read
for name in ("fork", "geteuid", "getuid", "pwrite", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)

import lcdnet_jax
for name in lcdnet_jax.__all__:
    getattr(lcdnet_jax, name)
from lcdnet_jax.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.extended
def test_import_and_restore(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 256, (32, 40), np.uint8)
    image_io.write(tmp_path / "noisy.png", noisy)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("LCDNET_JAX_NO_COMPILATION_CACHE")  # its folder is checked, too
    command = ("restore", "noisy.png", "--checkpoint", "sadnet-gray-blind", "-o", "restored.png")
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_LINUX, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert image_io.read(tmp_path / "restored.png").shape == noisy.shape
    assert any((tmp_path / "cache").rglob("compiled/*/*"))


def test_checkpoints_without_locks(tmp_path, monkeypatch):
    """A second run cannot be refused, but one works."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    opened = checkpoint_folder.CheckpointFolder(tmp_path / "checkpoints", writable=True)
    opened.open()
    opened.check_identity()
    opened.unlock()
    assert opened.path.is_dir()


def test_temporary_folder_of_the_server_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(serve_folder, "fcntl")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serve_folder.create_folder() as made:
        assert made.parent == tmp_path
        assert made.is_dir()
    assert not made.exists()
