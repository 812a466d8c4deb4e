"""What a user sees of a run: lines of progress, metrics on disk, pictures."""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from lcdnet_jax import image_io


class ReportError(RuntimeError):
    """The disk refused a log or a picture."""


class Reporter:
    """Writes to ``workdir``: metrics.jsonl, TensorBoard events and PNG panels; and to the screen.

    TensorBoard events are written by clu, which needs TensorFlow and tensorboard; without them
    this is said once and the JSON lines alone are written. What the disk refuses is raised as
    :class:`ReportError`.

    Args:
        workdir: Working directory of the run.
        start_step: Step at which this process starts. Lines of metrics.jsonl beyond it were
            written by a run that was cut off after its last checkpoint and are removed.
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
        """Prints a line, at once."""
        if self._active:
            print(text, flush=True)

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers of one step to both logs."""
        if not self._active:
            return
        with _writing(), self._jsonl.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        if self._events is not None:
            self._events.write_scalars(step, scalars)

    def panel(self, step: int, name: str, panel: np.ndarray) -> None:
        """Writes a picture ``[H, W, 3]`` uint8 as panels/<step>_<name>.png and to TensorBoard."""
        if not self._active:
            return
        folder = self._workdir / "panels"
        with _writing():
            folder.mkdir(exist_ok=True)
            image_io.write(folder / f"{step:07d}_{name}.png", panel)
        if self._events is not None:
            self._events.write_images(step, {name: panel[None]})

    def close(self) -> None:
        """Flushes the logs; a log that cannot be written is only worth a warning here."""
        if self._events is not None:
            try:
                self._events.close()
            except Exception as error:  # TensorFlow raises kinds of its own on a full disk
                logging.warning("TensorBoard events are incomplete: %s", error)


class Progress:
    """Speed and remaining time, from the clock.

    Args:
        start_step: First step of this process.
        steps: Last step of the run.
        batch_size: Images in a step.
    """

    def __init__(self, start_step: int, steps: int, batch_size: int):
        self._steps = steps
        self._batch_size = batch_size
        self._last = (start_step, time.perf_counter())

    def line(self, step: int, means: Mapping[str, float]) -> tuple[str, float | None]:
        """The line to show after ``step`` steps, and images per second since the last line.

        No step may have been timed yet; then there is neither speed nor ETA.
        """
        last_step, last_time = self._last
        now = time.perf_counter()
        self._last = (step, now)
        line = (
            f"step {step}/{self._steps}  loss {means['loss']:.5f}  psnr {means['psnr']:.2f} dB  "
            f"lr {means['learning_rate']:.2e}"
        )
        if step == last_step:
            return line, None
        seconds = max(now - last_time, 1e-9) / (step - last_step)
        speed = self._batch_size / seconds
        eta = _clock((self._steps - step) * seconds)
        return f"{line}  {speed:.1f} images/s  ETA {eta}", speed

    def restart(self, step: int) -> None:
        """Measures speed from ``step`` on, leaving out what came before (compilation)."""
        self._last = (step, time.perf_counter())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens inside (an evaluation, say) out of the speed."""
        begin = time.perf_counter()
        yield
        step, last = self._last
        self._last = (step, last + time.perf_counter() - begin)


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
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(new)
        os.replace(temporary, path)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(error.strerror or str(error)) from error
    except image_io.ImageError as error:
        raise ReportError(str(error)) from error
