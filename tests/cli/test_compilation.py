"""The folder of compiled programs: where it lies, who decides, and that it saves compilation."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.cli import _compilation

# Restores a file, and prints how many programs were compiled and how many were found.
COUNT = """
import collections, json, sys
from lcdnet_jax.cli import _compilation, main
_compilation.set_environment(debug=False)
import jax
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
main.main(sys.argv[1:])
cache = "/jax/compilation_cache/cache_"
print(json.dumps([seen[cache + "misses"], seen[cache + "hits"]]))
"""


def run(home, *arguments, code=COUNT, **environment):
    """A new process without the settings of the tests, with this folder for caches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "TF_"))}
    kept = {**kept, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=kept, capture_output=True, text=True
    )


@pytest.fixture
def restore(tmp_path):
    image_io.write(tmp_path / "in.png", np.zeros((20, 24, 3), np.uint8))
    weights = pathlib.Path(__file__).parents[2] / "checkpoints" / "dncnn-gray.safetensors"
    files = ["restore", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--force"]
    return [*files, "--checkpoint", str(weights)]


def count(result):
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout.splitlines()[-1])


def test_the_second_start_compiles_nothing(tmp_path, restore):
    """And a first start compiles the network alone: weights load without programs."""
    assert count(run(tmp_path / "caches", *restore)) == [1, 0]
    (folder,) = (tmp_path / "caches" / "lcdnet-jax" / "compiled").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert count(run(tmp_path / "caches", *restore)) == [0, 1]


@pytest.mark.parametrize("how", ["option", "variable", "jax"])
def test_the_user_decides(tmp_path, restore, how):
    home, other = tmp_path / "caches", tmp_path / "other"
    if how == "option":
        result = run(home, *restore, "--no-compilation-cache")
    elif how == "variable":
        result = run(home, *restore, **{_compilation.OFF: "1"})
    else:
        result = run(home, *restore, JAX_COMPILATION_CACHE_DIR=str(other))
    count(result)
    assert not home.exists()
    assert other.exists() == (how == "jax")


def test_a_folder_that_cannot_be_written(tmp_path, restore):
    (tmp_path / "caches").write_text("a file")
    result = run(tmp_path / "caches", *restore)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("compiled programs are not kept for the next start: cannot write to ")
    assert _compilation.OFF in line
    assert (tmp_path / "out.png").exists()


def test_xla_says_nothing_of_other_machines(tmp_path, restore):
    """It takes its own tuning for features that the processor lacks."""
    from jax._src import compilation_cache

    count(run(tmp_path, *restore))
    for file in tmp_path.glob("lcdnet-jax/compiled/*/*-cache"):
        program = compilation_cache.decompress_executable(file.read_bytes())
        assert b"+sse," in program or b"+neon," in program
        program = program.replace(b"+sse,", b"+ssx,").replace(b"+neon,", b"+neox,")
        file.write_bytes(compilation_cache.compress_executable(program))
    assert count(run(tmp_path, *restore)) == [0, 1]
    assert "cpu_aot_loader" in run(tmp_path, *restore, "--debug", code=DEBUG).stderr


DEBUG = "import sys\nfrom lcdnet_jax.cli import main\nmain.main(sys.argv[1:])"


def test_places(monkeypatch):
    for platform, variables, expected in (
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x"),
        ("linux", {"XDG_CACHE_HOME": ""}, "~/.cache"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "~/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
        ("win32", {}, "~/AppData/Local"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        folder = _compilation.find_folder(variables)
        assert folder.parent == pathlib.Path(expected, "lcdnet-jax", "compiled").expanduser()


def test_each_machine_and_version_has_a_folder(monkeypatch):
    folders = [_compilation.find_folder({})]
    with monkeypatch.context() as patch:
        patch.setattr(_compilation.importlib.metadata, "version", lambda package: "0.0.1")
        folders.append(_compilation.find_folder({}))
    with monkeypatch.context() as patch:
        patch.setattr(_compilation, "_describe_processor", lambda: "another")
        folders.append(_compilation.find_folder({}))
    assert len(set(folders)) == 3
    assert _compilation.find_folder({}) == folders[0]


def test_variables_of_the_user_stay(monkeypatch):
    flags = "--xla_backend_extra_options=mine"
    monkeypatch.setitem(os.environ, "TF_CPP_MIN_LOG_LEVEL", "0")
    for given, expected in ((flags, flags), ("", _compilation._QUICK)):
        monkeypatch.setenv("XLA_FLAGS", given)
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "jax")
            _compilation.set_environment(debug=False)
        assert os.environ["XLA_FLAGS"] == expected
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.setenv("XLA_FLAGS", "")
    _compilation.set_environment(debug=False)  # too late
    assert os.environ["XLA_FLAGS"] == ""
