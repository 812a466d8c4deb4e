"""How scripts end, and what they keep for the next start."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from lcdnet_jax import networks, peer_loss, storage, weights
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.cli import _compilation, script
from lcdnet_jax.cli.script import end_in_one_line
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.multihost import DistributedError
from lcdnet_jax.training import NonFiniteLossError, Preempted


def end_of(error, **options):
    with pytest.raises(SystemExit) as end, end_in_one_line(**options):
        raise error
    return end.value.code


@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        ImageError,
        OSError,
        FileNotFoundError,
        ImportError,
        CheckpointError,
        DistributedError,
        NonFiniteLossError,
    ],
)
def test_errors_that_users_can_fix(kind, capsys):
    assert end_of(kind("no \x1b[2J")) == "error: no \\x1b[2J"
    assert capsys.readouterr() == ("", "")


def test_errors_of_the_system_name_the_fix():
    error = PermissionError(13, "Permission denied", "runs/a")
    assert end_of(error).startswith("error: runs/a: Permission denied; check the permissions")


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_memory(error):
    assert end_of(error, out_of_memory="buy more") == "error: buy more"
    assert "use a smaller config.batch_size" in end_of(error)


@pytest.mark.parametrize("error", [KeyError("a"), jax.errors.JaxRuntimeError("INTERNAL: a")])
def test_mistakes_of_the_library_keep_their_traceback(error):
    with pytest.raises(type(error)), end_in_one_line():
        raise error


@pytest.mark.parametrize("error", [ValueError("a"), KeyError("b")])
def test_other_processes_do_not_wait_for_one_that_fails_alone(error, monkeypatch, capsys):
    """It ends without their consent, by its usual code and text."""
    codes = []
    monkeypatch.setattr(peer_loss, "leave_after_error", lambda: False)
    monkeypatch.setattr(os, "_exit", codes.append)
    with end_in_one_line():
        raise error
    assert codes == [1]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("error: a" if isinstance(error, ValueError) else "KeyError: 'b'")


def test_signals(capsys):
    assert end_of(KeyboardInterrupt(), interrupted="not saved") == 130
    assert capsys.readouterr() == ("", "not saved\n")
    assert end_of(Preempted("saved", signal.SIGTERM), interrupted="not saved") == 143
    assert capsys.readouterr() == ("saved\n", "")


def test_success():
    with end_in_one_line():
        pass


class TestCompilationCache:
    @pytest.mark.parametrize(
        ("choice", "variable", "used"),
        [
            ("user", "", [None]),
            ("workdir", "", [pathlib.Path("run")]),
            ("off", "", []),
            ("user", "1", []),
        ],
    )
    def test_the_user_decides(self, monkeypatch, choice, variable, used):
        found = []
        monkeypatch.setattr(_compilation, "use_cache", found.append)
        monkeypatch.setenv(_compilation.VARIABLE, variable)
        script.use_compilation_cache(choice=choice, workdir=pathlib.Path("run"))
        assert found == used


# Runs a script, and prints how many programs were compiled and how many were found.
COUNT = """
import collections, json, runpy, sys
from lcdnet_jax.cli import script_start
import jax
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    cache = "/jax/compilation_cache/cache_"
    print(json.dumps([seen[cache + "misses"], seen[cache + "hits"]]))
"""

CONFIG = """
from ml_collections import ConfigDict
from configs import tiny

def get_config():
    config = tiny.get_config()
    config.network.name = "dncnn"
    config.network.kwargs = ConfigDict({"depth": 3, "features": 4})
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", PHOTOS
    config.data.where = "device"
    config.sfm.rate = 0.5
    config.steps = 4
    config.log_every, config.eval_every, config.checkpoint_every = 1, 2, 2
    return config
"""


def start(home, script, *arguments, **environment):
    """A new process without the settings of the tests, on 4 devices."""
    root = pathlib.Path(__file__).parents[2]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "TF_"))}
    kept.pop(_compilation.VARIABLE)
    kept |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "XDG_CACHE_HOME": str(home),
        **environment,
    }
    command = [sys.executable, "-c", COUNT, script, *map(str, arguments)]
    ended = subprocess.run(command, env=kept, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "cpu_aot_loader" not in ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), ended.stdout


@pytest.fixture
def config(tmp_path, noise_photos):
    path = tmp_path / "small.py"
    folder = noise_photos((18, 25, 3), (19, 25, 3), (20, 25, 3))
    path.write_text(CONFIG.replace("PHOTOS", repr(str(folder))))
    return path


@pytest.mark.extended
@pytest.mark.slow
def test_a_run_that_continues_compiles_nothing(config, tmp_path):
    """And its parameters are those of a run without the cache, bit for bit."""
    arguments = ("train.py", "--config", config, "--workdir")
    (compiled, found), output = start(
        tmp_path, *arguments, tmp_path / "off", "--compilation_cache=off"
    )
    assert (compiled, found) == (0, 0)  # JAX does not count without a cache
    assert "1 program compiled in " in output
    assert not (tmp_path / "lcdnet-jax").exists()
    workdir = tmp_path / "run"
    (compiled, _), _ = start(tmp_path, *arguments, workdir, "--config.steps=2")
    assert compiled > 0
    (compiled, found), output = start(tmp_path, *arguments, workdir)
    assert (compiled, found > 0) == (0, True)
    assert "continuing after step 2" in output
    assert "1 program loaded from the cache in " in output
    alone, both = (weights.load(tmp_path / name).variables for name in ("off", "run"))
    jax.tree.map(np.testing.assert_array_equal, alone, both)
    (compiled, _), first = start(tmp_path, "eval.py", "--workdir", workdir)
    (again, _), second = start(tmp_path, "eval.py", "--workdir", workdir)
    assert again == 0
    assert first.splitlines()[:-1] == second.splitlines()[:-1]
    assert not (workdir / "compiled").exists()


@pytest.mark.extended
@pytest.mark.slow
def test_programs_in_a_bucket(config, tmp_path, bucket):
    """As for a machine that does not last."""
    arguments = ("train.py", "--config", config, "--workdir", f"{bucket}/run")
    arguments += ("--compilation_cache=workdir",)
    (compiled, _), _ = start(tmp_path, *arguments, "--config.steps=2")
    names = storage.list_files(storage.to_path(f"{bucket}/run/compiled"))
    assert len(names) == compiled > 0
    (compiled, found), _ = start(tmp_path, *arguments)
    assert (compiled, found > 0) == (0, True)
    assert not (tmp_path / "lcdnet-jax").exists()


def test_options_of_the_network(monkeypatch):
    given = _compilation._NO_UNROLLING
    monkeypatch.setenv("XLA_FLAGS", given)
    script.set_network_options("lcdnet")
    assert os.environ["XLA_FLAGS"] == ",".join([given, *networks.LCDNet.xla_cpu_options])
