"""What a user sees of a run: lines of progress, metrics on disk, pictures."""

import contextlib
import json
import math
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from lcdnet_jax import atomic_io, image_io
from lcdnet_jax.weights import scores


class ReportError(RuntimeError):
    """The disk refused a log or a picture."""


class Reporter:
    """Writes metrics.jsonl, scores.jsonl, TensorBoard events and PNG panels; and to the screen.

    TensorBoard events are written by clu, which needs TensorFlow and tensorboard; without them
    this is said once and the JSON lines alone are written. What the disk refuses is raised as
    :class:`ReportError`.

    Args:
        workdir: Working directory of the run.
        start_step: Step at which this process starts. Later lines of metrics.jsonl and
            scores.jsonl were written by a run that was cut off after its last checkpoint. They
            are removed.
        active: False on all hosts but the first: nothing is written or printed.
    """

    def __init__(self, workdir: pathlib.Path, *, start_step: int, active: bool):
        self._active = active
        self._workdir = workdir
        self._events: Any = None
        if not active:
            return
        self._jsonl = workdir / "metrics.jsonl"
        with _writing():
            _cut_after(self._jsonl, start_step)
            _cut_after(workdir / scores.FILE, start_step)
        try:
            import tensorflow as tf
            from clu import metric_writers
        except ImportError as error:
            self.say(f"no TensorBoard events, metrics go to metrics.jsonl only ({error})")
            return
        with contextlib.suppress(RuntimeError):  # too late: TensorFlow is in use already
            tf.config.set_visible_devices([], "GPU")  # it would take all of their memory
        with _writing():
            self._events = metric_writers.SummaryWriter(str(workdir))

    def say(self, text: str) -> None:
        """Prints a line, at once, where there still is somebody to read it."""
        if self._active:
            with contextlib.suppress(OSError):
                print(text, flush=True)

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds the finite ones of these numbers (JSON has no others) to both logs."""
        if not self._active:
            return
        scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
        with _writing(), self._jsonl.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        if self._events is not None:
            with _writing_events():
                self._events.write_scalars(step, scalars)

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the rows of one evaluation to scores.jsonl, see :mod:`lcdnet_jax.weights.scores`."""
        if self._active:
            with _writing():
                scores.append(self._workdir, rows)

    def panel(self, step: int, name: str, panel: np.ndarray) -> None:
        """Writes a picture ``[H, W, 3]`` uint8 as panels/<step>_<name>.png and to TensorBoard."""
        if not self._active:
            return
        folder = self._workdir / "panels"
        with _writing():
            folder.mkdir(exist_ok=True)
            image_io.write(folder / f"{step:07d}_{name}.png", panel)
        if self._events is not None:
            with _writing_events():
                self._events.write_images(step, {name: panel[None]})

    def close(self) -> None:
        """Flushes the logs; a log that cannot be written is only worth a warning here."""
        if self._events is not None:
            try:
                self._events.close()
            except Exception as error:  # TensorFlow raises kinds of its own on a full disk
                logging.warning("TensorBoard events are incomplete: %s", error)


class Means:
    """Means of metrics over the steps since they were last taken, but those passed over."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._good = self._skipped = 0
        self._learning_rate = math.nan

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the metrics of one step."""
        self._learning_rate = float(row["learning_rate"])
        good = math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
        self._good += good
        self._skipped += not good
        for name, value in row.items():
            self._sums[name] = self._sums.get(name, 0.0) + (float(value) if good else 0.0)

    def taken(self) -> dict[str, float]:
        """The means, NaN where all steps were passed over; of the learning rate the newest.

        "skipped", the number of steps passed over, is there if there are any.
        """
        count = self._good or math.nan
        means = {name: total / count for name, total in self._sums.items()}
        if self._skipped:
            means["skipped"] = float(self._skipped)
        means["learning_rate"] = self._learning_rate
        self._clear()
        return means


class Progress:
    """Speed, what the time went into and what remains, from the clock.

    Args:
        start_step: First step of this process.
        steps: Last step of the run.
        batch_size: Images in a step.
    """

    def __init__(self, start_step: int, steps: int, batch_size: int):
        self._steps = steps
        self._batch_size = batch_size
        self.restart(start_step)

    def restart(self, step: int) -> None:
        """Measures from ``step`` on, leaving out what came before (compilation)."""
        self._last_step, self._last_time = step, time.perf_counter()
        self._seconds = {"data": 0.0, "save": 0.0}

    @contextlib.contextmanager
    def fetching(self, device_is_idle: Callable[[], bool]) -> Iterator[None]:
        """Around waiting for a batch; counts where the devices had nothing else to do then."""
        begin = time.perf_counter()
        yield
        if device_is_idle():
            self._seconds["data"] += time.perf_counter() - begin

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around saving a checkpoint."""
        begin = time.perf_counter()
        yield
        self._seconds["save"] += time.perf_counter() - begin

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens inside (an evaluation, say) out of all times."""
        begin = time.perf_counter()
        yield
        self._last_time += time.perf_counter() - begin

    def line(self, step: int, means: Mapping[str, float]) -> tuple[str, dict[str, float]]:
        """The line to show after ``step`` steps, and numbers for the logs, since the last line.

        The numbers are "images_per_second" and, in seconds per step, "time/step" and its parts
        "time/data" (the devices waited for a batch), "time/save" (for a checkpoint) and
        "time/compute" (the rest). No step may have been timed yet; then there are none, and no
        ETA.
        """
        now = time.perf_counter()
        line = (
            f"step {step}/{self._steps}  loss {means['loss']:.5f}  psnr {means['psnr']:.2f} dB  "
            f"lr {means['learning_rate']:.2e}"
        )
        if step == self._last_step:
            self.restart(step)
            return line, {}
        steps = step - self._last_step
        whole = max(now - self._last_time, 1e-9)
        data, save = self._seconds["data"], self._seconds["save"]
        numbers = {
            "images_per_second": self._batch_size * steps / whole,
            "time/step": whole / steps,
            "time/data": data / steps,
            "time/save": save / steps,
            "time/compute": max(0.0, whole - data - save) / steps,
        }
        eta = _clock((self._steps - step) * whole / steps)
        line += f"  {numbers['images_per_second']:.1f} images/s  ETA {eta}"
        shares = [
            f"{name} {100 * seconds / whole:.0f} %"
            for name, seconds in (("data", data), ("save", save))
            if seconds >= 0.05 * whole
        ]
        if shares:
            line += f"  (waiting: {', '.join(shares)})"
        self.restart(step)
        return line, numbers


class Compilations:
    """Programs that XLA compiles during the calls that are watched.

    Attributes:
        count: How many so far.
        seconds: What they took.
    """

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Around a call of a jitted function."""
        thread = threading.get_ident()

        def listen(event: str, duration_secs: float, **_: Any) -> None:
            if event.endswith("/backend_compile_duration") and threading.get_ident() == thread:
                self.count += 1
                self.seconds += duration_secs

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)


def device_memory() -> dict[str, float]:
    """Most memory that this host's devices have used, GB; nothing where JAX does not know (CPU)."""
    used = [
        stats["peak_bytes_in_use"]
        for device in jax.local_devices()
        if (stats := device.memory_stats()) and "peak_bytes_in_use" in stats
    ]
    return {"device_memory_gb": max(used) / 1e9} if used else {}


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def _cut_after(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    old = path.read_text()
    kept = []
    for line in old.splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue  # half a line, written when the run was cut off
    new = "".join(f"{line}\n" for line in kept)
    if new != old:
        atomic_io.write(path, new.encode(), force=True)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(error.strerror or str(error)) from error
    except image_io.ImageError as error:
        raise ReportError(str(error)) from error


@contextlib.contextmanager
def _writing_events() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TensorFlow raises kinds of its own on a full disk
        raise ReportError(str(error)) from error
