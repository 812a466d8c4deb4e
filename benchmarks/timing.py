"""Clocks, compilation, memory and agreement, measured alike for JAX and for its peers.

    timing.use_one_core()
    ours, peer = timing.measure_medians([call, peer_call], seconds=2.0)

On a CPU the processor time of all threads is measured, in a process that keeps to one core. Other
work of the machine hardly changes it, and no framework waits for threads of another. Calls take
turns. On an accelerator the wall time of many calls is measured, with one wait at their end, so
that launches overlap as in training.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import Result, compare_with_peer, round_significant
from lcdnet_jax.typing import JsonObject

_ROUND_SECONDS = 0.05  # of calls on an accelerator, with one wait at their end
_TRIAL_SECONDS = 0.3


def use_one_core() -> None:
    """Keeps the process to one core, unless JAX has an accelerator. Call it first.

    Threads have the cores of the one that starts them, and JAX starts as many as it finds cores.
    """
    # JAX would take three quarters of an accelerator's memory, of which a peer needs a part.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if not hasattr(os, "sched_setaffinity"):
        return
    core = {max(os.sched_getaffinity(0))}
    if not _may_have_accelerator():
        os.sched_setaffinity(0, core)
    elif on_cpu():  # JAX has started, so each of its threads
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), core)


def _may_have_accelerator() -> bool:
    """Whether JAX has something to find one with; without starting JAX."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    return bool(importlib.metadata.entry_points(group="jax_plugins")) or any(
        importlib.util.find_spec(package) for package in ("jax_plugins", "libtpu")
    )


def on_cpu() -> bool:
    """Whether JAX computes on the CPU; starts JAX."""
    return jax.default_backend() == "cpu"


def clock() -> float:
    """Reads processor time on a CPU, wall time elsewhere, in seconds."""
    return time.process_time() if on_cpu() else time.perf_counter()


def default_set() -> str:
    """Names the set of cases for the device of JAX."""
    return "cpu" if on_cpu() else "accelerator"


def describe_device() -> Result:
    """Describes the device of JAX for the JSON line."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return {
        "device": jax.devices()[0].device_kind,
        "cores": len(cores) or os.cpu_count(),
        "jax": jax.__version__,
    }


@dataclasses.dataclass(frozen=True)
class Call:
    """A computation to time.

    Attributes:
        run: Starts the computation and returns a part of its result.
        wait: Waits until that part is computed.
        steps: Number of steps in it. Times are per step.
    """

    run: Callable[[], Any]
    wait: Callable[[Any], object] = jax.block_until_ready
    steps: int = 1

    def __call__(self) -> Any:
        """Runs and waits."""
        result = self.run()
        self.wait(result)
        return result


@dataclasses.dataclass(frozen=True)
class Peer:
    """Other code that does the same.

    Attributes:
        call: The computation.
        values: Its result, to be compared with ours.
        memory: Peak memory on its device in bytes; None if unknown.
    """

    call: Call
    values: Any
    memory: int | None = None


@dataclasses.dataclass(frozen=True)
class Times:
    """Times of a step, medians over rounds.

    Attributes:
        wall: Wall time, milliseconds.
        processor: Processor time of all threads, milliseconds.
        spread: Interquartile range of :attr:`value` over its median.
        rounds: Number of rounds.
    """

    wall: float
    processor: float
    spread: float
    rounds: int

    @property
    def value(self) -> float:
        """Processor time on a CPU, wall time elsewhere, milliseconds."""
        return self.processor if on_cpu() else self.wall


def measure_medians(calls: Sequence[Call], seconds: float) -> list[Times]:
    """Times calls in turns for ``seconds``, each at least three times, after a warm-up."""
    repeats = [_choose_repeats(call) for call in calls]
    rounds: list[list[tuple[float, float]]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[0]) < 3:
        for call, count, record in zip(calls, repeats, rounds, strict=True):
            record.append(_time_round(call, count))
    return [_summarize(record) for record in rounds]


def _choose_repeats(call: Call) -> int:
    """Chooses the number of calls in a round; also warms up."""
    call()
    if on_cpu():
        return 1
    once = _time_round(call, 1)[0] * call.steps / 1e3
    return int(np.clip(_ROUND_SECONDS / once, 1, 100))


def _time_round(call: Call, count: int) -> tuple[float, float]:
    """Measures wall time and processor time of a step, milliseconds."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        result = call.run()
    call.wait(result)
    factor = 1e3 / (count * call.steps)
    return factor * (time.perf_counter() - wall), factor * (time.process_time() - processor)


def _summarize(rounds: Sequence[tuple[float, float]]) -> Times:
    walls, processors = zip(*rounds, strict=True)
    counts = processors if on_cpu() else walls
    low, middle, high = statistics.quantiles(counts, n=4)
    return Times(
        wall=statistics.median(walls),
        processor=statistics.median(processors),
        spread=(high - low) / middle,
        rounds=len(rounds),
    )


def compare(
    ours: Call,
    peers: Mapping[str, Callable[[], Peer]],
    agree: Callable[[Any], None],
    seconds: float,
) -> Result:
    """Times ours, and beside it the fastest of its peers.

    Args:
        ours: Our work.
        peers: Makers of peers, by their names.
        agree: Is given the values of each peer and raises where they are not ours.
        seconds: To measure for.

    Returns:
        Fields for the JSON line.
    """
    made, trials = {}, {}
    for name, make in peers.items():
        made[name] = make()
        agree(made[name].values)
        (trial,) = measure_medians([made[name].call], _TRIAL_SECONDS)
        trials[name] = trial.value
    best = min(trials, key=trials.__getitem__, default=None)
    times = measure_medians([ours, *([made[best].call] if best else [])], seconds)
    value = times[0].value
    fields: JsonObject = {
        "value": round_significant(value),
        "unit": "ms",
        "clock": "processor" if on_cpu() else "wall",
        "wall_ms": round_significant(times[0].wall),
        "spread": round(times[0].spread, 3),
        "rounds": times[0].rounds,
    }
    if best:
        fields |= compare_with_peer(value, best, times[1].value)
        fields |= {
            "peer_wall_ms": round_significant(times[1].wall),
            "peer_spread": round(times[1].spread, 3),
            "peer_trials_ms": {name: round_significant(trial) for name, trial in trials.items()},
        }
        if memory := made[best].memory:
            fields["peer_memory_mib"] = round_significant(memory / 2**20)
    return fields


def count_planned_bytes(compiled: Any) -> int:
    """Counts the bytes of a compiled program: arguments, results and temporary arrays."""
    plan = compiled.memory_analysis()
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )


@contextlib.contextmanager
def fresh_compilation_cache() -> Iterator[None]:
    """Uses an empty folder as JAX's persistent compilation cache."""
    settings = {
        "jax_compilation_cache_dir": None,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in {**settings, "jax_compilation_cache_dir": folder}.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


@contextlib.contextmanager
def record_compilations() -> Iterator[list[str]]:
    """Collects the programs that are compiled, or found in a cache, within."""
    found: list[str] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("/backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def check_close(what: str, ours: Any, peer: Any, tolerance: float, *, start: Any = 0.0) -> None:
    """Raises where a time would be that of another computation.

    Args:
        what: Name of the numbers.
        ours: Our numbers.
        peer: The peer's.
        tolerance: Largest distance, as a part of the peer's distance from ``start``.
        start: What both start from; what they add to it is compared.

    Raises:
        ValueError: Numbers that differ by more.
    """
    ours, peer, start = (np.asarray(x, np.float64) for x in (ours, peer, start))
    distance = np.linalg.norm((ours - peer).ravel()) / np.linalg.norm((peer - start).ravel())
    if not distance < tolerance:  # NaN neither
        raise ValueError(
            f"{what} differs from the peer's by {distance:.1e} of its size, more than "
            f"{tolerance:.1e}; a time of it would be that of another computation"
        )
