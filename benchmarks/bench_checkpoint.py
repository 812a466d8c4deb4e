"""What saving checkpoints costs a training; one JSON line per case.

    python -m benchmarks.bench_checkpoint             # about three minutes on 2 CPU cores
    python -m benchmarks.bench_checkpoint --quick

The state is that of SADNet `base` with Adam and averaged parameters, of random values, which hardly
compress. A step changes all of it and computes for about a tenth of a second. The cases: steps
alone; steps with saves among them, which go on in the background, as in training; and one save, the
time until it returns, when the arrays are copied and training goes on, and until it is complete,
with its manifest. The peer waits for every save. Steps of all kinds take turns, so that other work
of the machine slows all of them. On a CPU a save takes its part of the cores that steps could use;
beside an accelerator it need not cost more than the copy. TMPDIR says on which disk to save.
"""

import argparse
import dataclasses
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Result, compare_with_peer, run_cases
from configs import default
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import Checkpoints, silence_orbax
from lcdnet_jax.training import TrainState, make_optimizer
from lcdnet_jax.training.state import abstract_state


def main() -> None:
    """Measures once, then prints the three cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=60, help="steps for each save")
    parser.add_argument("--rounds", type=int, default=6, help="saves of each kind")
    parser.add_argument("--quick", action="store_true", help="a DnCNN, few and short steps")
    options = parser.parse_args()
    if options.quick:
        options.every, options.rounds = 10, 1
    silence_orbax()
    measure = functools.cache(lambda: _measure(options))
    run_cases(
        "checkpoint",
        [
            ("steps alone", lambda: _report_steps(measure())),
            (f"steps, a save every {options.every}", lambda: _report_steps_with_saves(measure())),
            ("one save", lambda: _report_save(measure())),
        ],
    )


@dataclasses.dataclass
class _Times:
    """Seconds: of all steps and saves; of each step, of those during a save, of each save."""

    total: float = 0.0
    steps: list[float] = dataclasses.field(default_factory=list)
    during: list[float] = dataclasses.field(default_factory=list)
    returned: list[float] = dataclasses.field(default_factory=list)
    complete: list[float] = dataclasses.field(default_factory=list)

    @property
    def mean(self) -> float:
        """Of a step with its share of a save, milliseconds."""
        return 1e3 * self.total / len(self.steps)


@dataclasses.dataclass
class _Measurement:
    """Steps without saves, with saves in the background, and with saves that are waited for."""

    alone: _Times
    background: _Times
    waiting: _Times
    megabytes: float
    megabytes_on_disk: float


def _report_steps(measured: _Measurement) -> Result:
    return {
        "value": round(measured.alone.mean, 2),
        "unit": "ms/step",
        "median_ms": _median_ms(measured.alone.steps),
        "device": jax.devices()[0].device_kind,
    }


def _report_steps_with_saves(measured: _Measurement) -> Result:
    ours, peer, alone = measured.background, measured.waiting, measured.alone
    saves = len(ours.returned)
    return {
        "value": round(ours.mean, 2),
        "unit": "ms/step",
        **compare_with_peer(ours.mean, "waiting for each save", peer.mean),
        "median_ms": _median_ms(ours.steps),
        "median_during_a_save_ms": _median_ms(ours.during),
        "throughput_of_steps_alone": round(alone.mean / ours.mean, 3),
        "peer_throughput_of_steps_alone": round(alone.mean / peer.mean, 3),
        "lost_per_save_ms": round(1e3 * (ours.total - alone.total) / saves, 1),
        "peer_lost_per_save_ms": round(1e3 * (peer.total - alone.total) / saves, 1),
        "saves": saves,
    }


def _report_save(measured: _Measurement) -> Result:
    ours, peer = measured.background, measured.waiting
    returned, complete = _median_ms(ours.returned), _median_ms(peer.complete)
    return {
        "value": returned,
        "unit": "ms until it returns",
        **compare_with_peer(returned, "until it is complete, nothing else running", complete),
        "complete_beside_steps_ms": _median_ms(ours.complete),
        "megabytes": round(measured.megabytes, 1),
        "megabytes_on_disk": round(measured.megabytes_on_disk, 1),
    }


def _median_ms(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 2)


def _measure(options: argparse.Namespace) -> _Measurement:
    state, step = _create_step(0.01 if options.quick else 0.1, _create_state(small=options.quick))
    alone, background, waiting = _Times(), _Times(), _Times()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder, keep=1)
        checkpoints.save(0, state.items())  # the first one is slower
        checkpoints.finish(0)
        for _ in range(options.rounds):
            for kind, wait in ((alone, None), (background, False), (waiting, True)):
                state = _round(kind, state, step, options.every, checkpoints, wait=wait)
        checkpoints.close()
        on_disk = sum(x.stat().st_size for x in pathlib.Path(folder).rglob("*") if x.is_file())
    size = sum(x.nbytes for x in jax.tree.leaves(state.items()))
    return _Measurement(alone, background, waiting, size / 1e6, on_disk / 1e6)


def _round(
    kind: _Times,
    state: TrainState,
    step: Callable[[TrainState], TrainState],
    count: int,
    checkpoints: Checkpoints,
    *,
    wait: bool | None,
) -> TrainState:
    """One save, unless ``wait`` is None, and so many steps; adds the times to ``kind``."""
    number = (checkpoints.latest_step() or 0) + 1
    start = time.perf_counter()
    saving = wait is not None
    if saving:
        checkpoints.save(number, state.items())
        kind.returned.append(time.perf_counter() - start)
    if wait:
        checkpoints.finish(number)
        kind.complete.append(time.perf_counter() - start)
        saving = False
    for place in range(count):
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state))
        kind.steps.append(time.perf_counter() - begin)
        if saving:
            kind.during.append(kind.steps[-1])
            if place == count - 1:
                checkpoints.finish(number)
            if number in checkpoints.steps():
                kind.complete.append(time.perf_counter() - start)
                saving = False
    kind.total += time.perf_counter() - start
    return state


def _create_state(*, small: bool) -> TrainState:
    """Random arrays in the shapes of a training of configs/default.py, which compiles nothing."""
    config = default.get_config()
    if small:
        config.network.name, config.network.kwargs = "dncnn", {"depth": 6}
    shapes = abstract_state(config_lib.network(config), make_optimizer(config), ema=True)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(1e-3 * rng.standard_normal(x.shape), x.dtype), shapes)


def _create_step(
    seconds: float, state: TrainState
) -> tuple[TrainState, Callable[[TrainState], TrainState]]:
    """A state, and a step that computes for so long and then changes all arrays."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, products: int) -> TrainState:
        matrix = jnp.full((512, 512), 1.0)
        matrix = jax.lax.fori_loop(0, products, lambda _, x: x @ x / x.max() / 512.0, matrix)
        factor = 1.0 - 1e-3 * matrix[0, 0]
        return jax.tree.map(lambda x: (x.astype(jnp.float32) * factor).astype(x.dtype), state)

    times = {}
    for products in (1, 1, 1, 33, 33):  # the first call compiles
        start = time.perf_counter()
        state = jax.block_until_ready(step(state, products))
        times[products] = time.perf_counter() - start
    each = max((times[33] - times[1]) / 32, 1e-6)
    products = 1 + max(0, round((seconds - times[1]) / each))
    return state, lambda state: step(state, products)


if __name__ == "__main__":
    main()
