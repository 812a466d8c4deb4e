"""Progress of a run: average metrics, speed, time left, compilations, device memory."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import jax

from lcdnet_jax.messages import format_count, format_duration


class AverageMeter:
    """Averages metrics over steps, without steps that are not finite."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._finite = self._skipped = 0
        self._learning_rate = math.nan

    def update(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of one step."""
        self._learning_rate = float(metrics["learning_rate"])
        finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
        self._finite += finite
        self._skipped += not finite
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + (float(value) if finite else 0.0)

    def pop(self) -> dict[str, float]:
        """Returns the averages since the last call, NaN if all steps were skipped.

        "learning_rate" is the rate of the last step. "skipped" is the number of skipped steps, and
        is missing if it is 0.
        """
        count = self._finite or math.nan
        averages = {name: total / count for name, total in self._sums.items()}
        if self._skipped:
            averages["skipped"] = float(self._skipped)
        averages["learning_rate"] = self._learning_rate
        self._reset()
        return averages


class Progress:
    """Measures throughput, the shares of data and checkpoints in the time, and the time left.

    Args:
        start_step: First step of this process.
        steps: Last step of the run.
        batch_size: Images in a step.
    """

    def __init__(self, start_step: int, steps: int, batch_size: int):
        self._steps = steps
        self._batch_size = batch_size
        self.restart(start_step)

    def restart(self, step: int, *, batch_size: int | None = None) -> None:
        """Measures from ``step`` on, to leave out compilation before it.

        Args:
            step: Number of steps so far.
            batch_size: Images in a step from now on. None leaves it as it is.
        """
        self._batch_size = batch_size or self._batch_size
        self._last_step, self._last_time = step, time.perf_counter()
        self._seconds = {"data": 0.0, "save": 0.0}

    @contextlib.contextmanager
    def time_data(self, device_is_idle: Callable[[], bool]) -> Iterator[None]:
        """Measures the wait for a batch. It counts only if the devices are idle after it."""
        begin = time.perf_counter()
        yield
        if device_is_idle():
            self._seconds["data"] += time.perf_counter() - begin

    @contextlib.contextmanager
    def time_save(self) -> Iterator[None]:
        """Measures the saving of a checkpoint."""
        begin = time.perf_counter()
        yield
        self._seconds["save"] += time.perf_counter() - begin

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time inside the block, such as an evaluation, from all times."""
        begin = time.perf_counter()
        yield
        self._last_time += time.perf_counter() - begin

    def report(self, step: int, averages: Mapping[str, float]) -> tuple[str, dict[str, float]]:
        """Returns the line to print after ``step`` steps and numbers for the logs.

        Both cover the time since the last call. The numbers are "images_per_second" and, in seconds
        per step, "time/step" and its parts "time/data" (the devices waited for a batch),
        "time/save" (for a checkpoint) and "time/compute" (the rest). Before the first timed step
        there are no numbers, and the line has no time left.
        """
        now = time.perf_counter()
        line = (
            f"step {step}/{self._steps}  loss {averages['loss']:.5f}  "
            f"psnr {averages['psnr']:.2f} dB  lr {averages['learning_rate']:.2e}"
        )
        if step == self._last_step:
            self.restart(step)
            return line, {}
        steps = step - self._last_step
        total = max(now - self._last_time, 1e-9)
        data, save = self._seconds["data"], self._seconds["save"]
        numbers = {
            "images_per_second": self._batch_size * steps / total,
            "time/step": total / steps,
            "time/data": data / steps,
            "time/save": save / steps,
            "time/compute": max(0.0, total - data - save) / steps,
        }
        time_left = format_duration((self._steps - step) * total / steps)
        line += f"  {numbers['images_per_second']:.1f} images/s  ETA {time_left}"
        shares = [
            f"{name} {100 * seconds / total:.0f} %"
            for name, seconds in (("data", data), ("save", save))
            if seconds >= 0.05 * total
        ]
        if shares:
            line += f"  (waiting: {', '.join(shares)})"
        self.restart(step)
        return line, numbers


class CompilationCounter:
    """Counts the programs that XLA compiles, or loads from a cache, inside :meth:`watch`.

    Attributes:
        count: Number of programs so far.
        cached: Number of those that came from a cache of compiled programs.
        seconds: Total time of compiling and loading.
        other_seconds: Time of the last :meth:`watch` without compiling and loading. It is the time
            of tracing if the block starts a new program and does not wait for its result.
    """

    def __init__(self) -> None:
        self.count = self.cached = 0
        self.seconds = self.other_seconds = 0.0

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Counts programs of this thread inside the block."""
        thread = threading.get_ident()
        begin, before = time.perf_counter(), self.seconds

        def listen(event: str, duration_secs: float, **_: str | int) -> None:
            if event.endswith("/backend_compile_duration") and threading.get_ident() == thread:
                self.count += 1
                self.seconds += duration_secs

        def listen_for_hits(event: str, **_: str | int) -> None:
            if event.endswith("/cache_hits") and threading.get_ident() == thread:
                self.cached += 1

        jax.monitoring.register_event_duration_secs_listener(listen)
        jax.monitoring.register_event_listener(listen_for_hits)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
            jax.monitoring.unregister_event_listener(listen_for_hits)
            self.other_seconds = time.perf_counter() - begin - (self.seconds - before)

    def describe(self, **before: float) -> str:
        """Describes the programs and their time in one line.

        Args:
            **before: Seconds of what else came before the first step, by name.

        Returns:
            Such as "1 program compiled in 30.0 s, after 5.0 s of initialization, 7.0 s of
            tracing".
        """
        parts = []
        if self.cached < self.count:
            parts.append(f"{format_count(self.count - self.cached, 'program')} compiled")
        if self.cached:
            parts.append(f"{format_count(self.cached, 'program')} loaded from the cache")
        line = f"{', '.join(parts)} in {self.seconds:.1f} s"
        if not before:
            return line
        return f"{line}, after " + ", ".join(f"{s:.1f} s of {name}" for name, s in before.items())


def measure_device_memory() -> dict[str, float]:
    """Peak memory of this host's devices, GB. Empty if JAX does not know it (CPU)."""
    used = [
        stats["peak_bytes_in_use"]
        for device in jax.local_devices()
        if (stats := device.memory_stats()) and "peak_bytes_in_use" in stats
    ]
    return {"device_memory_gb": max(used) / 1e9} if used else {}
