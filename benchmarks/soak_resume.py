"""Kills a training again and again, then compares it with one that was never interrupted.

    python -m benchmarks.soak_resume                          # 50 kills
    python -m benchmarks.soak_resume --signal TERM --kills 5
    python -m tests._gcs data python -m benchmarks.soak_resume --workdir gs://data/soak --kills 10

The run is train.py as a user starts it, in a process group of its own: SADNet of configs/tiny.py on
photographs, with frequency masking, two parts a step, averaged parameters, a schedule of the
learning rate, and a checkpoint every four steps. Half of the kills come at any moment between the
start and about the second checkpoint; the others are aimed at restoring, at the writing of a
checkpoint, just before and just after its manifest, and at the deletion of an old one. Then the
same command is given again. A run that has reached its end is compared, and a new one started. If
--workdir is in a bucket, the runs are there, and the uninterrupted one is on disk.

It must end with the same state as the uninterrupted run, bit by bit (parameters, state of the
optimizer, averages, step), and with the same loss, PSNR, gradient norm and learning rate in
metrics.jsonl, each step once. After SIGTERM the exit code must be 143 and no step be lost. If not,
the exit status is 1. The last line is JSON:

    kills, restarts      processes killed, and started in the directory of a killed one
    runs                 compared at their end
    hit                  number of kills by what they hit; `while_saving` of them a save
    leftovers            restarts that found an incomplete or half deleted checkpoint
    steps_made           reported by all processes; `steps_lost` of them had to be made again
    seconds              without the uninterrupted run

To start in seconds, processes share compiled programs, and TensorFlow, which only writes events for
TensorBoard then, is hidden from them, unless it reads the images (--data host).
"""

import argparse
import collections
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from lcdnet_jax import storage
from lcdnet_jax.checkpoints import Checkpoints, silence_orbax
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import JsonObject

_ROOT = pathlib.Path(__file__).resolve().parent.parent

_EVERY, _KEEP = 4, 2

_FIELDS = {
    "accumulate": 2,
    "sfm.rate": 0.5,
    "degradation.sigma_min": 10.0,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 5,
    "log_every": 1,  # a mean over several steps would be another one after a restart among them
    "eval_every": 0,
    "checkpoint_every": _EVERY,
    "keep_checkpoints": _KEEP,
}

_REPORTED = ("train/loss", "train/psnr", "train/grad_norm", "train/learning_rate")

# The stages of a save in their order, see lcdnet_jax/checkpoints/folder.py, and how many seconds
# later a kill that is aimed at one may come. Those of 0 last milliseconds.
_STAGES = {
    "writing": 0.6,
    "before the manifest": 0.0,
    "after the manifest": 0.0,
    "before deleting": 0.0,
    "deleting": 0.01,
}


class SoakError(Exception):
    """The training did what it must not do."""


def main() -> None:
    """Makes the uninterrupted run, then the others, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--steps", type=int, default=80, help="of a whole run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--data", choices=("device", "host"), default="device")
    parser.add_argument(
        "--workdir", help="new directory to keep, local or gs://; default: one that is deleted"
    )
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # the trainings need the memory of the accelerator
    silence_orbax()
    workdir = storage.to_path(options.workdir or tempfile.mkdtemp(prefix="soak_resume-"))
    scratch = workdir = workdir if storage.is_bucket(workdir) else workdir.absolute()
    if storage.is_dir(workdir) and storage.list_files(workdir):
        parser.error(f"{workdir} is not empty; give another --workdir")
    if storage.is_bucket(workdir):
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="soak_resume-"))
    print(f"working in {workdir}, output in {scratch}", flush=True)
    soak = _Soak(options, workdir, scratch)
    problem = ""
    try:
        soak.run()
    except SoakError as error:
        problem = str(error)
    print(json.dumps({**soak.result(), "equal": not problem}), flush=True)
    if problem:
        sys.exit(f"error: {problem}\nAll that was written is in {workdir} and {scratch}")
    if not options.workdir or scratch != workdir:
        shutil.rmtree(scratch)


@dataclasses.dataclass(frozen=True)
class _Disk:
    """What a directory of checkpoints holds."""

    newest: int
    stage: str
    leftovers: tuple[str, ...]

    @classmethod
    def read(cls, directory: pathlib.Path, before: int = 0) -> "_Disk":
        """Reads a directory; ``before`` is the newest step when the process began."""
        if storage.is_bucket(directory):
            return cls._read_bucket(directory, before)
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            names = []
        complete = [int(name) for name in names if name.isdigit()]
        leftovers = tuple(name for name in names if not name.isdigit())
        newest = max(complete, default=0)
        # One too many from before stays until the next save.
        stage = "before deleting" if len(complete) > _KEEP and newest > before else ""
        for name in leftovers:
            if name == "trash":
                stage = "deleting"
            elif "orbax-checkpoint-tmp" in name:
                stage = "writing"
            else:
                written = (directory / name / "manifest.json").exists()
                stage = "after the manifest" if written else "before the manifest"
        return cls(newest, stage, leftovers)

    @classmethod
    def _read_bucket(cls, directory: pathlib.Path, before: int) -> "_Disk":
        """The same of a bucket, where a step without a manifest is incomplete."""
        files = storage.list_files(directory)
        steps = {int(n) for n in (f.partition("/")[0] for f in files) if n.isdigit()}
        complete = {step for step in steps if f"{step}/manifest.json" in files}
        newest = max(complete, default=0)
        stage = "before deleting" if len(complete) > _KEEP and newest > before else ""
        for step in steps - complete:
            if step < newest:
                stage = "deleting"
            else:
                written = f"{step}/commit_success.txt" in files  # by Orbax
                stage = "before the manifest" if written else "writing"
        return cls(newest, stage, tuple(map(str, sorted(steps - complete))))


@dataclasses.dataclass(frozen=True)
class _Process:
    """One process of a run: how it ended, what it printed, the disk at the signal and after."""

    exit_code: int
    seconds: float
    output: str
    before: _Disk
    at_signal: _Disk
    after: _Disk

    @property
    def steps(self) -> list[int]:
        """Those it has made and reported."""
        return [int(step) for step in re.findall(r"^step (\d+)/", self.output, re.MULTILINE)]

    @property
    def lost(self) -> int:
        """Number of steps that the next process makes again."""
        return sum(step > self.after.newest for step in self.steps)

    @property
    def hit(self) -> str:
        """What it was doing when the signal came."""
        if not self.steps:  # what is on disk is from an earlier process
            began = "; continuing after" in self.output or "; starting from scratch" in self.output
            return "compiling" if began else "starting or restoring"
        killed = self.exit_code == -signal.SIGKILL
        return (self.after if killed else self.at_signal).stage or "steps"


class _Soak:
    """The uninterrupted run, and all others.

    Args:
        options: Of the command line.
        workdir: For the directories "run-1", "run-2" and so on.
        scratch: Local folder for the directory "uninterrupted", what each process prints, and
            compiled programs.
    """

    def __init__(self, options: argparse.Namespace, workdir: pathlib.Path, scratch: pathlib.Path):
        self._options = options
        self._workdir = workdir
        self._scratch = scratch
        self._hidden = scratch / "hidden"
        self._random = random.Random(options.seed)
        self._reach: list[float] = []  # seconds that processes took to their first checkpoint
        self._hits: collections.Counter[str] = collections.Counter()
        self._restarts = self._runs = self._leftovers = self._made = self._lost = 0
        self._start = time.perf_counter()

    def run(self) -> None:
        """Kills and compares.

        Raises:
            SoakError: If a training fails, or its end is not that of the uninterrupted one.
        """
        uninterrupted = self._scratch / "uninterrupted"
        self._hidden.mkdir(parents=True)
        (self._hidden / "tensorflow.py").write_text("raise ImportError('hidden by soak_resume')\n")
        process = self._run_process(uninterrupted, 0, None)
        _check_end(process, uninterrupted)
        wanted = read_state(uninterrupted)
        print(
            f"uninterrupted run of {format_count(self._options.steps, 'step')}: "
            f"{process.seconds:.0f} s",
            flush=True,
        )
        self._start = time.perf_counter()
        aims = self._draw_aims()
        while self._hits.total() < self._options.kills:
            self._runs += 1
            directory = self._workdir / f"run-{self._runs}"
            self._run_with_kills(directory, aims)
            problems = state_differences(wanted, read_state(directory))
            problems += metrics_differences(uninterrupted, directory)
            if problems:
                raise SoakError("\n  ".join([f"{directory} is not as {uninterrupted}:", *problems]))
            print(f"run {self._runs} has ended as the uninterrupted one", flush=True)

    def result(self) -> JsonObject:
        """The numbers of the last line."""
        return {
            "benchmark": "soak_resume",
            "signal": self._options.signal,
            "data": self._options.data,
            "steps": self._options.steps,
            "kills": self._hits.total(),
            "restarts": self._restarts,
            "runs": self._runs,
            "while_saving": sum(self._hits[stage] for stage in _STAGES),
            "hit": dict(self._hits.most_common()),
            "leftovers": self._leftovers,
            "steps_made": self._made,
            "steps_lost": self._lost,
            "seconds": round(time.perf_counter() - self._start, 1),
        }

    def _run_with_kills(self, directory: pathlib.Path, aims: Iterator[tuple[str, float]]) -> None:
        """One run to its end, killed as long as kills are left."""
        for number in itertools.count():
            killed = self._hits.total()
            aim = next(aims) if killed < self._options.kills else None
            process = self._run_process(directory, number, aim)
            self._restarts += number > 0
            self._leftovers += bool(process.before.leftovers)
            self._made += len(process.steps)
            self._lost += process.lost
            if process.exit_code == 0:
                return _check_end(process, directory)
            self._check_kill(process)
            self._hits[process.hit] += 1
            killed += 1
            assert aim is not None
            eta = (time.perf_counter() - self._start) / killed * (self._options.kills - killed)
            print(
                f"kill {killed}/{self._options.kills}, run {self._runs}, after "
                f"{process.seconds:.1f} s, aimed at {aim[0]}: hit {process.hit}; newest checkpoint "
                f"{process.before.newest} -> {process.after.newest}, "
                f"{format_count(process.lost, 'step')} lost, leftovers: "
                f"{', '.join(process.after.leftovers) or 'none'}; ETA {eta / 60:.1f} min",
                flush=True,
            )

    def _draw_aims(self) -> Iterator[tuple[str, float]]:
        """What to wait for, and how many seconds after it the signal comes."""
        if self._options.signal == "TERM":
            while True:
                yield "steps", self._random.uniform(0.0, 3.0)
        for aim, spread in itertools.cycle([*_STAGES.items(), ("restoring", 1.5)]):
            yield aim, self._random.uniform(0.0, spread)
            reach = statistics.median(self._reach[-5:] or [10.0])
            yield "any moment", self._random.uniform(0.0, 1.3 * reach)

    def _run_process(
        self, directory: pathlib.Path, number: int, aim: tuple[str, float] | None
    ) -> _Process:
        """Runs train.py until it ends or is killed."""
        config, checkpoints = directory / "config.json", directory / "checkpoints"
        before = disk = _Disk.read(checkpoints)
        configured = _modification_time(config)
        wait_for = self._random.choice([0, _EVERY])  # steps to save before an aimed kill
        output = self._scratch / f"{directory.name}.{number:02}.log"
        begin = time.perf_counter()
        with output.open("w") as file:
            process = subprocess.Popen(
                self._command(directory),
                cwd=_ROOT,
                env=self._environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stepping, reached, due = False, False, float("inf")
        try:
            while process.poll() is None:
                now = time.perf_counter()
                disk = _Disk.read(checkpoints, before.newest)
                stepping = stepping or "\nstep " in output.read_text()
                if aim and not reached and disk.newest > before.newest:
                    reached = True
                    self._reach.append(now - begin)
                if aim and due == float("inf"):
                    begun = {"any moment"}
                    if _modification_time(config) != configured:
                        begun.add("restoring")
                    if stepping:
                        begun.add("steps")
                    if stepping and disk.stage and disk.newest >= before.newest + wait_for:
                        stages = list(_STAGES)  # one that was missed has begun as well
                        begun.update(stages[: stages.index(disk.stage) + 1])
                    if aim[0] in begun:
                        due = now + aim[1]
                if now >= due:
                    os.killpg(process.pid, signal.Signals[f"SIG{self._options.signal}"])
                    break
                # Some stages last milliseconds.
                aimed = stepping and aim and aim[0] in _STAGES
                time.sleep(0.0005 if aimed and not storage.is_bucket(directory) else 0.02)
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            raise SoakError(f"{output}: not ended 5 minutes after the signal") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return _Process(
            exit_code=process.returncode,
            seconds=time.perf_counter() - begin,
            output=output.read_text(),
            before=before,
            at_signal=disk,
            after=_Disk.read(checkpoints, before.newest),
        )

    def _command(self, directory: pathlib.Path) -> list[str]:
        fields = {**_FIELDS, "steps": self._options.steps, "data.where": self._options.data}
        return [
            *(sys.executable, "train.py", "--config", "configs/tiny.py"),
            *("--workdir", str(directory)),
            *(f"--config.{name}={value}" for name, value in fields.items()),
        ]

    def _environment(self) -> dict[str, str]:
        hidden = str(self._hidden) if self._options.data == "device" else ""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [hidden, os.environ.get("PYTHONPATH")])),
            "JAX_COMPILATION_CACHE_DIR": str(self._scratch / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def _check_kill(self, process: _Process) -> None:
        if self._options.signal == "KILL":
            if process.exit_code != -signal.SIGKILL:
                raise SoakError(f"exit code {process.exit_code}:\n{process.output[-3000:]}")
        elif process.exit_code != 143 or process.lost or process.after.leftovers:
            raise SoakError(
                f"after SIGTERM the exit code is {process.exit_code}, not 143; "
                f"{format_count(process.lost, 'step')} lost; leftovers: "
                f"{', '.join(process.after.leftovers) or 'none'}\n" + process.output[-3000:]
            )


def _modification_time(path: pathlib.Path) -> int | None:
    """When a file was last written; train.py writes config.json just before it restores."""
    if not storage.exists(path):
        return None
    return path.stat().mtime if storage.is_bucket(path) else path.stat().st_mtime_ns  # type: ignore[attr-defined]


def _check_end(process: _Process, directory: pathlib.Path) -> None:
    if process.exit_code != 0:
        raise SoakError(f"exit code {process.exit_code}:\n{process.output[-3000:]}")
    if process.after.leftovers:  # one complete checkpoint too many stays until the next save
        raise SoakError(
            f"{directory} has leftovers at its end: {', '.join(process.after.leftovers)}"
        )


def read_state(workdir: pathlib.Path) -> JsonObject:
    """The newest checkpoint, verified: its items as trees of NumPy arrays, and "step"."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.latest_step()
        if step is None:
            raise SoakError(f"{workdir} contains no complete checkpoint")
        expected = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), checkpoints.items(step)
        )
        items = checkpoints.restore(step, expected)
    finally:
        checkpoints.close()
    return {"step": np.int64(step), **jax.tree.map(np.asarray, items)}


def state_differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A line for each array of two trees that is not the same bit by bit."""
    theirs, ours = (
        {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (wanted, found)
    )
    lines = [f"{name} is missing" for name in theirs if name not in ours]
    lines += [f"{name} is unknown" for name in ours if name not in theirs]
    for name in theirs.keys() & ours.keys():
        a, b = theirs[name], ours[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            lines.append(f"{name} is {b.dtype}{list(b.shape)}, not {a.dtype}{list(a.shape)}")
        elif a.tobytes() != b.tobytes():  # so that NaN equals itself, and 0 is not -0
            count = sum(x.tobytes() != y.tobytes() for x, y in zip(a.flat, b.flat, strict=True))
            lines.append(f"{name}: {count} of {format_count(a.size, 'value')} different")
    return sorted(lines)


def metrics_differences(wanted: pathlib.Path, found: pathlib.Path) -> list[str]:
    """A line for each step of two runs whose numbers in metrics.jsonl are not the same, once.

    Args:
        wanted: Working directory of the uninterrupted run.
        found: That of the other one.
    """
    theirs, ours = dict(_training_rows(wanted)), _training_rows(found)
    counts = collections.Counter(step for step, _ in ours)
    lines = [f"metrics: step {step} is missing" for step in theirs if step not in counts]
    lines += [f"metrics: step {step} is there {n} times" for step, n in counts.items() if n > 1]
    for step, numbers in ours:
        if numbers != theirs.get(step):
            lines.append(f"metrics: step {step} has {numbers}, not {theirs.get(step)}")
    return lines


def _training_rows(workdir: pathlib.Path) -> list[tuple[int, dict[str, float]]]:
    rows = []
    for line in storage.read_bytes(workdir / "metrics.jsonl").decode().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise SoakError(
                f"{workdir}/metrics.jsonl has a line that is not JSON: {line}"
            ) from None
        if "train/loss" in row:
            rows.append((row["step"], {name: row[name] for name in _REPORTED}))
    return rows


if __name__ == "__main__":
    main()
