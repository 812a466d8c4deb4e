"""The folder of compiled programs: where it lies, who decides, and that it saves compilation."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from lcdnet_jax import image_io, networks
from lcdnet_jax.cli import _compilation
from lcdnet_jax.inference import MemoryWarning

# Restores a file, and prints how many programs were compiled and how many were found.
COUNT = """
import collections, json, sys
from lcdnet_jax.cli import _compilation, main
_compilation.set_environment(quiet=True)
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
    kept.pop(_compilation.VARIABLE)  # of the tests
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


@pytest.mark.extended
def test_the_second_start_compiles_nothing(tmp_path, restore):
    """And a first start compiles the network alone: weights load without programs."""
    assert count(run(tmp_path / "caches", *restore)) == [1, 0]
    (folder,) = (tmp_path / "caches" / "lcdnet-jax" / "compiled").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert count(run(tmp_path / "caches", *restore)) == [0, 1]


@pytest.mark.extended
@pytest.mark.parametrize("how", ["option", "variable", "jax"])
def test_the_user_decides(tmp_path, restore, how):
    home, other = tmp_path / "caches", tmp_path / "other"
    if how == "option":
        result = run(home, *restore, "--no-compilation-cache")
    elif how == "variable":
        result = run(home, *restore, **{_compilation.VARIABLE: "1"})
    else:
        result = run(home, *restore, JAX_COMPILATION_CACHE_DIR=str(other))
    count(result)
    assert not home.exists()
    assert other.exists() == (how == "jax")


@pytest.mark.extended
def test_a_folder_that_cannot_be_written(tmp_path, restore):
    (tmp_path / "caches").write_text("a file")
    result = run(tmp_path / "caches", *restore)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("compiled programs are not kept for the next start: cannot write to ")
    assert _compilation.VARIABLE in line
    assert (tmp_path / "out.png").exists()


@pytest.mark.extended
def test_a_file_instead_of_the_folder_of_jax(tmp_path, restore):
    (tmp_path / "file").write_text("a file")
    result = run(tmp_path / "caches", *restore, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "file"))
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("compiled programs are not kept for the next start: ")
    assert f"{tmp_path / 'file'} is a file; set JAX_COMPILATION_CACHE_DIR to another folder" in line
    assert not (tmp_path / "caches").exists()


@pytest.fixture
def kept(tmp_path, restore):
    """The only compiled program of a first start."""
    count(run(tmp_path, *restore))
    (file,) = tmp_path.glob("lcdnet-jax/compiled/*/*-cache")
    return file


@pytest.mark.extended
@pytest.mark.parametrize("left", [0, 100])
def test_a_program_that_was_cut_off_is_compiled_again(tmp_path, restore, kept, left):
    """By a full disk or a killed process."""
    whole = kept.read_bytes()
    kept.write_bytes(whole[:left])
    result = run(tmp_path, *restore)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line == (
        f"warning: a compiled program in {kept.parent} is damaged; it is compiled again"
    )
    assert kept.stat().st_size > len(whole) // 2
    assert count(run(tmp_path, *restore)) == [0, 1]


@pytest.mark.extended
def test_a_full_disk(tmp_path, restore):
    code = COUNT.replace(
        "import jax\n",
        "import jax\nfrom jax._src import lru_cache\n"
        "def put(self, key, value): raise OSError(28, 'No space left on device')\n"
        "lru_cache.LRUCache.put = put\n",
    )
    result = run(tmp_path, *restore, code=code)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: compiled programs cannot be kept in ")
    assert line.endswith(": OSError: [Errno 28] No space left on device")


def test_other_warnings_stay(capsys, monkeypatch):
    monkeypatch.setattr(_compilation, "_folder", pathlib.Path("/mine"))
    text = "Error reading persistent compilation cache entry for 'f': EOFError: "
    assert _compilation.describe_warning(text) == text  # in a folder that the user chose
    assert _compilation.describe_warning("anything") == "anything"
    shown = []
    monkeypatch.setattr(_compilation, "_show_in_full", lambda *all: shown.append(all))
    _compilation._show(UserWarning("anything"), UserWarning, "file.py", 1)
    assert len(shown) == 1
    # One of this library is one line, as an error is.
    _compilation._show(MemoryWarning("too small"), MemoryWarning, "file.py", 1)
    assert len(shown) == 1
    assert capsys.readouterr().err == "warning: too small\n"


@pytest.mark.extended
def test_xla_says_nothing_of_other_machines(tmp_path, restore, kept):
    """It takes its own tuning for features that the processor lacks."""
    from jax._src import compilation_cache

    program = compilation_cache.decompress_executable(kept.read_bytes())
    assert b"+sse," in program or b"+neon," in program
    program = program.replace(b"+sse,", b"+ssx,").replace(b"+neon,", b"+neox,")
    kept.write_bytes(compilation_cache.compress_executable(program))
    assert count(run(tmp_path, *restore)) == [0, 1]
    assert "cpu_aot_loader" in run(tmp_path, *restore, "--debug", code=DEBUG).stderr


DEBUG = "import sys\nfrom lcdnet_jax.cli import main\nmain.main(sys.argv[1:])"


@pytest.mark.extended
def test_xla_logs_again_in_processes_of_this_one(tmp_path, restore):
    code = COUNT + "import os; print('TF_CPP_MIN_LOG_LEVEL' in os.environ)"
    assert run(tmp_path, *restore, code=code).stdout.splitlines()[-1] == "False"


def test_commands_that_compute_nothing_keep_nothing(tmp_path):
    result = run(tmp_path / "caches", "models", code=DEBUG)
    assert (result.returncode, result.stderr) == (0, "")
    assert not (tmp_path / "caches").exists()
    result = run(tmp_path / "caches", "models", "--no-compilation-cache", code=DEBUG)
    assert result.returncode == 1


def test_values_of_the_variable():
    for value in ("", "0", "false", "No"):
        assert _compilation.is_allowed({_compilation.VARIABLE: value})
    for value in ("1", "true", "yes"):
        assert not _compilation.is_allowed({_compilation.VARIABLE: value})
    assert _compilation.is_allowed({})


def test_without_a_home(monkeypatch, capsys):
    """As in a container whose user has no entry in the list of users."""

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(pathlib.Path, "home", fail)
    assert _compilation.find_folder({"XDG_CACHE_HOME": "/x"}).is_relative_to("/x")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        _compilation.use_cache()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the next start: Could not determine home directory; set JAX_COMPIL" in line


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
class TestOtherUsers:
    def test_every_folder_is_of_this_user_alone(self, tmp_path):
        _compilation._create(tmp_path / "caches" / "a" / "b" / "c")
        for name in ("a", "a/b", "a/b/c"):
            assert (tmp_path / "caches" / name).stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("name", ["a", "a/b", "a/b/c"])
    @pytest.mark.parametrize("mode", [0o770, 0o702])
    def test_a_folder_that_others_can_write(self, tmp_path, name, mode):
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / name).chmod(mode)
        with pytest.raises(OSError, match=rf"can write to {tmp_path / name} \(chmod go-w"):
            _compilation._create(tmp_path / "a" / "b" / "c")

    def test_a_folder_of_another_user(self, tmp_path, monkeypatch):
        (tmp_path / "a").mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(OSError, match=rf"{tmp_path / 'a'} belongs to another user"):
            _compilation._create(tmp_path / "a" / "b" / "c")


class TestPrune:
    def write(self, folder, days):
        paths = []
        for age in days:
            path = folder / f"version{age % 2}" / f"{age}-cache"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * 10)
            os.utime(path, (time.time() - age * 86400,) * 2)
            paths.append(path)
        return paths

    def test_by_age(self, tmp_path):
        paths = self.write(tmp_path, [1, 80, 100, 89, 91])
        _compilation._prune(tmp_path)
        assert [path.exists() for path in paths] == [True, True, False, True, False]

    def test_a_program_that_is_used_stays(self, tmp_path):
        (path,) = self.write(tmp_path, [100])
        os.utime(path, (time.time() - 86400, path.stat().st_mtime))  # read yesterday
        _compilation._prune(tmp_path)
        assert path.exists()

    def test_by_size(self, tmp_path, monkeypatch):
        paths = self.write(tmp_path, [3, 1, 4, 2])
        monkeypatch.setattr(_compilation, "_MOST_BYTES", 25)
        _compilation._prune(tmp_path)
        assert [path.exists() for path in paths] == [False, True, False, True]


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


def test_a_relative_folder_for_caches_is_ignored(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert _compilation.find_folder({"XDG_CACHE_HOME": "caches"}) == _compilation.find_folder({})


def test_each_machine_and_version_has_a_folder(monkeypatch):
    folders = [_compilation.find_folder({})]
    with monkeypatch.context() as patch:
        patch.setattr(_compilation.importlib.metadata, "version", lambda package: "0.0.1")
        folders.append(_compilation.find_folder({}))
    with monkeypatch.context() as patch:
        patch.setattr(_compilation, "_describe_processor", lambda: "another")
        folders.append(_compilation.find_folder({}))
    with monkeypatch.context() as patch:  # an update of the system changes nothing
        patch.setattr(_compilation.platform, "platform", lambda: "another kernel")
        assert _compilation.find_folder({}) == folders[0]
    assert len(set(folders)) == 3
    assert _compilation.find_folder({}) == folders[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"--mine {_compilation._NO_UNROLLING}", f"--mine {_compilation._NO_UNROLLING},one,other"),
        ("--xla_backend_extra_options=mine", "--xla_backend_extra_options=mine"),
        ("", ""),
    ],
)
def test_options_of_a_network(given, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(networks.LCDNet, "xla_cpu_options", ("one", "other"))
    _compilation.set_network_options("dncnn")
    assert os.environ["XLA_FLAGS"] == given
    for _ in range(2):
        _compilation.set_network_options("lcdnet")
        assert os.environ["XLA_FLAGS"] == expected


def test_variables_of_the_user_stay(monkeypatch):
    flags = "--xla_backend_extra_options=mine"
    monkeypatch.setitem(os.environ, "TF_CPP_MIN_LOG_LEVEL", "0")
    for given, expected in ((flags, flags), ("", _compilation._NO_UNROLLING)):
        monkeypatch.setenv("XLA_FLAGS", given)
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "jax")
            _compilation.set_environment(quiet=True)
        assert os.environ["XLA_FLAGS"] == expected
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.setenv("XLA_FLAGS", "")
    _compilation.set_environment(quiet=True)  # too late
    assert os.environ["XLA_FLAGS"] == ""
