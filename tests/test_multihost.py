"""train.py in two processes, which find each other on loopback; and where TensorFlow is missing."""

import json
import os
import pathlib
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

import input_pipeline
from lcdnet_jax import multihost, peer_loss, storage
from lcdnet_jax.multihost import DistributedError
from lcdnet_jax.training import train_and_evaluate
from tests.scripts import results_of_any_command

ROOT = pathlib.Path(__file__).resolve().parents[1]

CONFIG = """
    from ml_collections import ConfigDict
    from configs import tiny

    def get_config():
        config = tiny.get_config()
        # With batch normalization, whose statistics all devices share.
        config.network.name = "dncnn"
        config.network.kwargs = ConfigDict({"depth": 3, "features": 4})
        for split in ("train", "eval"):
            config.data[split].source, config.data[split].path = "folder", PHOTOS
        config.degradation.sigma_min = 5.0
        config.sfm.rate = 0.5
        config.steps = 10
        config.log_every, config.eval_every, config.checkpoint_every = 1, 0, 2
        return config
"""


# train.py, whose second process fails in the step.
FAILS_ALONE = """
import runpy, sys
from lcdnet_jax.training import preemption

def fail(self):
    raise OSError(5, "broken")

if "--process_index=1" in sys.argv:
    preemption.PreemptionHandler.get_signal_after_call = fail
runpy.run_path("train.py", run_name="__main__")
"""


# train.py, whose processes take unequal times to read images and to compile.
UNEQUAL = """
import runpy, sys, time
import input_pipeline
from lcdnet_jax.training import sharding

def wait_before(function, process):
    def wait(*args, **kwargs):
        time.sleep(33 if f"--process_index={process}" in sys.argv else 0)
        return function(*args, **kwargs)
    return wait

input_pipeline.create_datasets = wait_before(input_pipeline.create_datasets, 0)
sharding.Program.lower = wait_before(sharding.Program.lower, 1)
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory, noise_photos):
    folder = noise_photos((18, 25, 3), (19, 25, 3), (20, 25, 3))
    path = tmp_path_factory.mktemp("config") / "two.py"
    path.write_text(textwrap.dedent(CONFIG).replace("PHOTOS", repr(str(folder))))
    # What processes find in place of TensorFlow, if they look here.
    blocked = path.with_name("blocked")
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise ImportError('TensorFlow is missing')")
    return path


def start(config, workdir, *arguments, devices, script="train.py"):
    path = [str(ROOT)]
    if "--config.data.where=device" in arguments:  # which does without it
        path.insert(0, str(config.parent / "blocked"))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        # The last flag counts; the others are the tests'.
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, ROOT / script, "--config", config, "--workdir", workdir]
    return subprocess.Popen(
        [*map(str, command), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def flags_of_two(*arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = (f"--coordinator=localhost:{port}", "--processes=2")
    return [(*together, f"--process_index={i}", *arguments) for i in range(2)]


def start_two(config, workdir, *arguments, **options):
    each = flags_of_two(*arguments)
    return [start(config, workdir, *flags, devices=2, **options) for flags in each]


def end(process, timeout=120):
    """Output and exit code; a process that hangs fails the test."""
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return output, process.returncode


def wait_for(path, processes):
    """Waits for a file that running processes write."""
    deadline = time.monotonic() + 100
    while not path.exists():
        if any(process.poll() is not None for process in processes):
            pytest.fail("".join(end(process)[0] for process in processes))
        assert time.monotonic() < deadline
        time.sleep(0.05)


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def train_here(path, workdir, where):
    """What two processes must agree with: one, which is this one, with four devices."""
    config = runpy.run_path(str(path))["get_config"]()
    config.data.where = where
    datasets = input_pipeline.create_datasets(config)
    train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:4])
    return losses(workdir)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("strategy", "where", "begun"),
    [
        ("jit", "host", True),
        pytest.param("pmap", "device", False, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one(config, tmp_path, strategy, where, begun):
    """Until a signal that one of them gets; from the start, or from what one process has saved."""
    alone = train_here(config, tmp_path / "one", where)
    workdir = tmp_path / "run"
    if begun:
        shutil.copytree(tmp_path / "one", workdir)
        for step in (8, 10):
            shutil.rmtree(workdir / "checkpoints" / str(step))
    where = f"--config.data.where={where}"
    steps = ("--config.steps=4000", f"--config.parallel.strategy={strategy}")
    first, second = start_two(config, workdir, where, *steps)
    wait_for(workdir / "checkpoints" / "12", (first, second))
    second.send_signal(signal.SIGTERM)
    (first_output, first_code), (second_output, second_code) = end(first), end(second)
    assert (first_code, second_code) == (143, 143), first_output + second_output
    saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    for output in (first_output, second_output):
        assert f"stopped after step {saved}; it is saved" in output
    assert "process 0 of 2 (found by flags), 2 of 4 devices here" in first_output
    assert "2 on each of 4 devices of 2 hosts" in first_output
    assert ("continuing after step 6" in first_output) == begun
    assert f"step {saved - 1}/4000" in first_output
    assert "/4000" not in second_output  # process 0 alone reports
    no_events = "metrics go to metrics.jsonl only (TensorFlow is missing)"
    assert (no_events in first_output) == where.endswith("device")
    both = losses(workdir)
    assert sorted(both) == list(range(1, saved + 1))
    np.testing.assert_allclose([both[i] for i in alone], [*alone.values()], rtol=1e-5)


@pytest.mark.extended
@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_is_lost(config, tmp_path, lost):
    """The other one ends in time with one line and code 75; the same commands continue."""
    workdir = tmp_path / "run"
    arguments = ("--config.data.where=device", "--peer_timeout=10")
    started = start_two(config, workdir, *arguments, "--config.steps=4000")
    wait_for(workdir / "checkpoints" / "4", started)
    started[lost].kill()
    killed = time.monotonic()
    output, code = end(started[1 - lost])
    seconds = time.monotonic() - killed
    end(started[lost])
    assert code == peer_loss.EXIT_CODE == 75, output
    assert seconds < 15
    (line,) = [line for line in output.splitlines() if "error" in line.lower()]
    assert line.startswith("error: another process of this run has ended, or has sent no sign of l")
    assert output.endswith(line + "\n")
    assert "Traceback" not in output
    saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    for output, code in map(end, start_two(config, workdir, *arguments, f"--config.steps={saved}")):
        assert code == 0, output
    steps = ("--config.steps", str(saved + 2))
    (first, code), (second, _) = map(end, start_two(config, workdir, *arguments, *steps))
    assert code == 0, first + second
    assert f"continuing after step {saved}" in first
    assert sorted(losses(workdir)) == list(range(1, saved + 3))


@pytest.mark.extended
@pytest.mark.slow
def test_a_process_fails_alone(config, tmp_path):
    """It ends with its own error soon after, and the other one in time."""
    wrapper = tmp_path / "fails.py"
    wrapper.write_text(FAILS_ALONE)
    first, second = start_two(
        config, tmp_path / "run", "--config.data.where=device", "--peer_timeout=10",
        "--config.steps=4000", script=wrapper,
    )  # fmt: skip
    (first_output, first_code), (second_output, second_code) = end(first), end(second)
    assert (first_code, second_code) == (75, 1), first_output + second_output
    assert first_output.splitlines()[-1].startswith("error: another process of this run has ended")
    assert second_output.splitlines()[-1] == "error: [Errno 5] broken"


@pytest.mark.extended
@pytest.mark.slow
def test_processes_take_unequal_times(config, tmp_path):
    """Longer than the 30 seconds that Gloo waits, with which JAX connects CPUs."""
    wrapper = tmp_path / "unequal.py"
    wrapper.write_text(UNEQUAL)
    arguments = ("--config.data.where=device", "--config.steps=2")
    for process in start_two(config, tmp_path, *arguments, script=wrapper):
        output, code = end(process, timeout=300)  # they sleep for 66 seconds
        assert code == 0, output


@pytest.mark.extended
def test_a_process_is_stopped(config, tmp_path):
    """As by a debugger or a machine that swaps: it is given up, and ends if it wakes."""
    arguments = ("--config.data.where=device", "--peer_timeout=10", "--config.steps=4000")
    first, second = start_two(config, tmp_path / "run", *arguments)
    wait_for(tmp_path / "run" / "checkpoints" / "4", (first, second))
    second.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    output, code = end(first)
    seconds = time.monotonic() - stopped
    second.send_signal(signal.SIGCONT)
    woken, woken_code = end(second)
    assert (code, woken_code) == (75, 75), output + woken
    assert seconds < 20
    for text in (output, woken):
        assert text.splitlines()[-1].startswith("error: another process of this run has ended, or")


@pytest.mark.extended
@pytest.mark.slow
def test_the_best_checkpoint_of_two_processes(config, tmp_path):
    """Process 0 alone has the scores; both keep the same checkpoints, also when they continue."""
    workdir = tmp_path / "run"
    arguments = (
        "--config.data.where=device",
        "--config.eval_every=2",
        "--config.keep_checkpoints=1",
    )
    arguments += ("--config.best_metric=psnr", "--config.optimizer.learning_rate=0.1")
    for steps in (6, 8):
        for process in start_two(config, workdir, *arguments, f"--config.steps={steps}"):
            output, code = end(process)
            assert code == 0, output
        rows = [json.loads(line) for line in (workdir / "scores.jsonl").read_text().splitlines()]
        scores = {}
        for row in rows:
            scores.setdefault(row["step"], []).append(row["psnr"])
        means = {step: np.mean(some) for step, some in scores.items()}
        assert sorted(means) == list(range(2, steps + 1, 2))
        kept = {int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()}
        assert kept == {max(means, key=means.get), steps}


@pytest.mark.extended
@pytest.mark.slow
def test_two_processes_save_in_a_bucket(config, tmp_path, bucket):
    """As one process does on disk; after SIGTERM to one of them, and continued by both."""
    alone = train_here(config, tmp_path / "one", "device")
    workdir = storage.to_path(f"{bucket}/run")
    arguments = ("--config.data.where=device", "--config.steps=4000")
    first, second = start_two(config, workdir, *arguments)
    deadline = time.monotonic() + 100
    while not storage.exists(workdir / "checkpoints" / "4" / "manifest.json"):
        if (first.poll(), second.poll()) != (None, None):
            pytest.fail(end(first)[0] + end(second)[0])
        assert time.monotonic() < deadline
        time.sleep(0.2)
    second.send_signal(signal.SIGTERM)
    (first_output, first_code), (second_output, second_code) = end(first), end(second)
    assert (first_code, second_code) == (143, 143), first_output + second_output
    files = storage.list_files(workdir)
    saved = max(int(name.split("/")[1]) for name in files if name.endswith("/manifest.json"))
    assert f"stopped after step {saved}; it is saved" in second_output
    assert "checkpoints/lock.json" not in files
    steps = f"--config.steps={saved + 2}"
    for output, code in map(end, start_two(config, workdir, *arguments, steps)):
        assert code == 0, output
        assert f"continuing after step {saved}" in output or "/4000" not in output
    text = storage.read_bytes(workdir / "metrics.jsonl").decode()
    rows = [json.loads(line) for line in text.splitlines()]
    both = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert sorted(both) == list(range(1, saved + 3))
    compared = [step for step in alone if step in both]
    np.testing.assert_allclose(
        [both[step] for step in compared], [alone[step] for step in compared], rtol=1e-5
    )


@pytest.mark.extended
def test_two_processes_evaluate_as_one(config, tmp_path):
    """With two devices each, during a training and by eval.py; and one process with one device."""
    workdir, scored = tmp_path / "run", ("--config.eval.max_images=0",)
    arguments = ("--config.data.where=device", "--config.steps=2", "--config.eval_every=2")
    arguments += ("--config.eval.panels=3", *scored)
    for output, code in map(end, start_two(config, workdir, *arguments)):
        assert code == 0, output
    panels = sorted(path.name for path in (workdir / "panels").iterdir())
    assert [name.split("_")[1] for name in panels] == ["0", "1", "2"]
    (during,) = [json.loads(line) for line in (workdir / "scores.jsonl").read_text().splitlines()]

    def evaluate(name):
        options = ("--output", tmp_path / name, "--save_images", "--protocols=float,8bit")
        return map(str, (*options, *scored))

    output, code = end(start(config, workdir, *evaluate("one"), devices=1, script="eval.py"))
    assert code == 0, output
    ended = [end(one) for one in start_two(config, workdir, *evaluate("two"), script="eval.py")]
    for index, (output, code) in enumerate(ended):
        assert code == 0, output
        assert ("written: " in output) == (index == 0)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 2 + 2 * 3  # results and images
    for file in files:
        if file.stem != "results":
            assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
    first, second = (results_of_any_command(tmp_path / name) for name in ("one", "two"))
    assert first == second
    # One of them is killed: the other ends in time and keeps the rows.
    sigmas = ",".join(map(str, range(1, 200)))
    first, second = start_two(
        config, workdir, "--output", str(tmp_path / "lost"), "--sigmas", sigmas, *scored,
        "--protocols=float", "--peer_timeout=10", script="eval.py",
    )  # fmt: skip
    wait_for(tmp_path / "lost" / "results.csv", (first, second))
    second.kill()
    output, code = end(first)
    end(second)
    assert code == peer_loss.EXIT_CODE, output
    assert output.splitlines()[-1].startswith("error: another process of this run has ended, or")
    assert json.loads((tmp_path / "lost" / "results.json").read_text())[0]["sigma"] == 1.0
    full, _ = json.loads((tmp_path / "one" / "results.json").read_text())
    assert (during["psnr"], during["ssim"], during["n"]) == (full["psnr"], full["ssim"], 3)


@pytest.mark.extended
def test_processes_that_were_started_differently(config, tmp_path):
    """Refused by both, before anything is written."""
    started = [
        start(config, tmp_path / "run", *arguments, f"--config.seed={i}", devices=1)
        for i, arguments in enumerate(flags_of_two("--config.data.where=device"))
    ]
    for output, code in [end(process) for process in started]:
        assert code == 1, output
        assert "other configurations, or other training images, than process 0" in output
    assert not (tmp_path / "run").exists()


def test_missing_process(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        multihost.jax.distributed,
        "initialize",
        lambda *args, **kwargs: (_ for _ in ()).throw(RuntimeError("DEADLINE_EXCEEDED")),
    )
    with pytest.raises(DistributedError, match=r"\(flags\): DEADLINE_EXCEEDED\nCheck that all"):
        multihost.initialize(coordinator="localhost:1", processes=2, index=0)
    with pytest.raises(DistributedError, match="no launcher found"):
        multihost.initialize(mode="on")


def test_incomplete_flags():
    with pytest.raises(DistributedError, match="together; missing: --processes, --process_index"):
        multihost.initialize(coordinator="localhost:1")


def test_one_process_joins_nothing(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "TPU_")):
            monkeypatch.delenv(name)
    assert multihost.initialize() is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert multihost.initialize(mode="off") is None


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"SLURM_STEP_NUM_TASKS": "16"}, "SLURM"),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "16"}, None),  # an interactive shell
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "Open MPI"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "GKE"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_launchers(environment, found):
    assert multihost.find_launcher(environment) == found


class TestDevices:
    """A process that is told to use a GPU where there is none ends with one clear line."""

    def test_there_are_some(self):
        multihost.check_devices()

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (AssertionError(), "it finds no such device"),
            (
                RuntimeError("Unable to initialize backend 'tpu':\n no file"),
                "Unable to .*: no file",
            ),
        ],
        ids=repr,
    )
    def test_there_are_none(self, monkeypatch, error, reason):
        def fail():
            raise error

        monkeypatch.setattr(jax, "local_devices", fail)
        monkeypatch.setenv("JAX_PLATFORMS", "cuda")
        message = (
            rf"^JAX cannot compute with JAX_PLATFORMS='cuda' \({reason}\); unset JAX_PLATFORMS"
        )
        with pytest.raises(multihost.DeviceError, match=message) as found:
            multihost.check_devices()
        assert "\n" not in str(found.value)

    @pytest.mark.extended
    @pytest.mark.skipif(
        any(path.startswith("nvidia") for path in os.listdir("/dev")), reason="there is a GPU"
    )
    @pytest.mark.parametrize(
        "command",
        [
            ("train.py", "--config", "configs/tiny.py", "--workdir", "FOLDER"),
            ("eval.py", "--checkpoint", "sadnet-photo", "--data", "photos", "--output", "FOLDER"),
            ("quickstart.py", "--output", "FOLDER"),
            ("-m", "lcdnet_jax.cli.main", "restore", "docs/images/lcdnet.jpg", "-o", "FOLDER/"),
            ("-m", "lcdnet_jax.cli.main", "export", "sadnet-photo", "-o", "FOLDER"),
        ],
        ids=lambda command: " ".join(command)[:30],
    )
    def test_commands(self, tmp_path, command):
        code = "import runpy, sys; from lcdnet_jax.cli.main import main; main(sys.argv[1:])"
        words = [word.replace("FOLDER", str(tmp_path / "out")) for word in command]
        words = ["-c", code, *words[2:]] if words[0] == "-m" else words
        ended = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cuda"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ended.returncode == 1
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: JAX cannot compute with JAX_PLATFORMS='cuda' (")
        assert "Traceback" not in ended.stderr
