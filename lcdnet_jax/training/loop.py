"""The training loop. Read :func:`train_and_evaluate`, then what it calls, in order."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from clu import parameter_overview
from flax import linen as nn
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost
from lcdnet_jax.training import preemption
from lcdnet_jax.training.eval_hook import PeriodicEvaluation
from lcdnet_jax.training.metric_writer import (
    Compilations,
    Means,
    Progress,
    Reporter,
    ReportError,
    device_memory,
)
from lcdnet_jax.training.objectives import gan
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.profile import Profile
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Parallel
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.workdir import check_hosts_agree, initial_state, open_workdir


class TrainData(Protocol):
    """Training batches, each a pure function of its step.

    With ``config.data.where`` "device" there is an attribute ``resident`` instead, a
    :class:`device_data.ResidentImages` of NumPy arrays.
    """

    def batches(
        self, start_step: int = 0, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches from ``start_step`` on, without end; of each, this host's slice.

        "clean" ``[b, H, W, C]`` float32 in [0, 1], "mask" ``[b]`` and, unless noise is added on
        the device, "degraded". Where the host masks frequencies before the device adds noise,
        "to_degrade" holds the masked images; for the target "masked" they are "clean" instead.
        """


# Calls of the program that may wait on the devices: enough to keep them busy, few enough for
# their batches to fit.
_IN_FLIGHT = 2

# Metrics of so many calls are left on the devices at most.
_MOST_UNREAD = 1000


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    datasets: Mapping[str, Any],
    devices: Sequence[jax.Device] | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains a network, evaluating and saving as the configuration says.

    Running it again in the same directory continues exactly where the last checkpoint stands,
    also on another number of devices. Ctrl-C or SIGTERM ends the current step, saves and then
    raises :class:`signals.Stopped`. On several hosts each calls this, with one directory that all
    of them share.

    Args:
        config: An experiment, see ``configs/default.py``.
        workdir: Directory for config.json, checkpoints, logs and pictures; made if missing.
        datasets: "train", a :class:`TrainData`, and "eval", an iterable of mappings with "name",
            "clean" and, for pairs, "degraded"; what ``input_pipeline.create_datasets`` returns.
        devices: Devices to use; all of all hosts unless given.
        profile: First and last step of a profiler trace, written to ``workdir``/profile.

    Returns:
        The final state.

    Raises:
        ConfigError: For a configuration that breaks a rule or is not the one of ``workdir``.
        CheckpointError: For checkpoints that do not fit, or cannot be read or written.
        NonFiniteLossError: Naming the first bad step; the last checkpoint is from before it.
        Stopped: A ``KeyboardInterrupt``, after a signal.
    """
    config_lib.validate_once(config)
    parallel = Parallel.over(config, devices)
    check_hosts_agree(config, datasets["train"])
    # These fail before a working directory is made.
    config_lib.check_kernels(config)
    features = gan.read_features(config)
    workdir = pathlib.Path(workdir)
    open_workdir(config, workdir)
    checkpoints = checkpoints_lib.Checkpoints(workdir, keep=config.keep_checkpoints)
    reporter = None
    try:
        module = config_lib.network(config)
        state, origin = initial_state(config, module, checkpoints, parallel, features=features)
        start_step = int(state.step)
        reporter = Reporter(workdir, start_step=start_step, active=jax.process_index() == 0)
        _introduce(config, reporter, state, datasets, parallel, origin)
        if start_step % config.steps_per_call:
            raise config_lib.ConfigError(
                f"the run stands after step {start_step}, which is no multiple of "
                f"config.steps_per_call ({config.steps_per_call}); choose a divisor"
            )
        if start_step >= config.steps:
            reporter.say(f"nothing to do: {start_step} of {config.steps} steps are made")
            return state
        loop = _Loop(config, parallel, checkpoints, reporter)
        if jax.process_index() != 0:
            profile = None
        return loop.run(module, state, datasets, Profile(workdir / "profile", profile))
    except ReportError as error:
        raise checkpoints_lib.CheckpointError(
            f"cannot write to {workdir}: {error}; {checkpoints.saved()}. Free disk space or check "
            "permissions, then run the same command again"
        ) from error
    finally:
        checkpoints.close()
        if reporter is not None:
            reporter.close()


class _Loop:
    """Steps until ``config.steps``. Metrics are read now and then, so that devices never wait."""

    def __init__(
        self,
        config: ConfigDict,
        parallel: Parallel,
        checkpoints: checkpoints_lib.Checkpoints,
        reporter: Reporter,
    ):
        self._config = config
        self._parallel = parallel
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._unread: list[Mapping[str, Any]] = []  # of one call each, on the devices
        self._means = Means()  # of what is read and not yet reported
        self._skipped_in_a_row = 0
        self._compilations = Compilations()

    def run(
        self,
        module: nn.Module,
        state: TrainState,
        datasets: Mapping[str, Any],
        profile: Profile,
    ) -> TrainState:
        config, calls = self._config, self._config.steps_per_call
        evaluate = PeriodicEvaluation(config, module, datasets["eval"], self._reporter)
        program = compile_program(module, make_optimizer(config), config, self._parallel, state)
        start_step = int(state.step)
        state = self._parallel.to_train(state)
        progress = Progress(start_step, config.steps, config.batch_size)
        with contextlib.ExitStack() as stack:
            next_input = self._inputs(datasets["train"], start_step, stack)
            stop = stack.enter_context(preemption.listening(self._parallel))
            stack.callback(profile.end)
            for step in range(start_step + calls, config.steps + 1, calls):
                with progress.fetching(self._idle):
                    given = next_input()
                profile.before(step - calls + 1, step)
                with self._compilations.watched():
                    state, metrics = program(state, given)
                self._unread.append(metrics)
                if step == start_step + calls:
                    jax.block_until_ready(state)
                    self._say_compiled(step)
                    progress.restart(step)  # compilation says nothing about the steps to come
                else:
                    self._warn_of_compilation(step)
                    jax.block_until_ready(self._unread[-_IN_FLIGHT - 1 : -_IN_FLIGHT])
                if profile.ends_after(step):
                    jax.block_until_ready(state)
                    profile.end()
                due = {
                    name: step == config.steps or (every > 0 and step % every == 0)
                    for name, every in (
                        ("log", config.log_every),
                        ("eval", config.eval_every),
                        ("checkpoint", config.checkpoint_every),
                    )
                }
                number = stop.after_call()
                if any(due.values()) or number or len(self._unread) == _MOST_UNREAD:
                    self._read_metrics(step)
                if due["log"]:
                    self._report(step, progress, datasets["train"])
                if due["checkpoint"]:
                    with progress.saving():
                        self._save(step, state)
                if due["eval"] and (not number or step == config.steps):
                    with progress.paused():
                        self._evaluate(evaluate, step, state)
                if step == config.steps:
                    self._checkpoints.finish(step)
                elif number := number or stop.after_report():
                    self._read_metrics(step)  # only a good state is saved
                    self._save(step, state)
                    self._checkpoints.finish(step)
                    raise preemption.Stopped(
                        f"stopped after step {step}; it is saved, and the same command continues "
                        "there",
                        number,
                    )
        self._reporter.say(
            f"done: {config.steps} steps, {config.steps * config.batch_size} images seen, "
            f"checkpoint in {self._checkpoints.directory}"
        )
        return state

    def _inputs(self, data: Any, start_step: int, stack: contextlib.ExitStack) -> Callable[[], Any]:
        """A function that gives the program's next input."""
        config = self._config
        if config.data.where == "device":
            images = self._parallel.put_everywhere(data.resident)
            return lambda: images
        batches = data.batches(
            start_step, process_index=jax.process_index(), process_count=jax.process_count()
        )
        if hasattr(batches, "close"):  # what reads ahead must stop
            stack.callback(batches.close)
        return lambda: self._parallel.put_batches(
            [next(batches) for _ in range(config.steps_per_call)]
        )

    def _idle(self) -> bool:
        return all(x.is_ready() for metrics in self._unread[-1:] for x in metrics.values())

    def _say_compiled(self, step: int) -> None:
        self._compiled = self._compilations.count
        self._reporter.say(
            f"{self._compiled} program(s) compiled in {self._compilations.seconds:.1f} s"
        )
        self._reporter.scalars(
            step,
            {"compilations": self._compiled, "compilation_seconds": self._compilations.seconds},
        )

    def _warn_of_compilation(self, step: int) -> None:
        """Every shape is compiled once; a loop in which they change would be slow unnoticed."""
        if self._compilations.count > self._compiled:
            self._compiled = self._compilations.count
            logging.warning(
                "step %d was compiled anew (programs so far: %d), because its input has another "
                "shape, type or placement than before; often, this makes training slow",
                step,
                self._compiled,
            )

    def _read_metrics(self, step: int) -> None:
        """Fetches the metrics of the steps up to ``step`` and checks that all is finite."""
        fetched = jax.device_get(self._unread)
        self._unread = []
        calls = self._config.steps_per_call
        rows = [
            {name: np.ravel(values)[i] for name, values in metrics.items()}
            for metrics in fetched
            for i in range(calls)
        ]
        for number, row in enumerate(rows, step - len(rows) + 1):
            self._check_finite(number, row)
            self._means.add(row)

    def _check_finite(self, step: int, row: Mapping[str, Any]) -> None:
        if math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]):
            self._skipped_in_a_row = 0
            return
        self._skipped_in_a_row += 1
        what = f"step {step}: loss {float(row['loss'])}, gradient norm {float(row['grad_norm'])}"
        look = f"look at its batch by adding --replay={step} to the same command"
        if self._skipped_in_a_row <= self._config.skip_nonfinite:
            self._reporter.say(f"{what}; passed over, the parameters stay as they are ({look})")
            return
        raise NonFiniteLossError(
            f"{what}; {self._checkpoints.saved()}. Pass over such steps (config.skip_nonfinite); "
            "begin another run from there (config.init_from, another --workdir) with a lower "
            f"config.optimizer.learning_rate or a config.optimizer.clip_norm; or {look}"
        )

    def _report(self, step: int, progress: Progress, data: Any) -> None:
        means = self._means.taken()
        line, numbers = progress.line(step, means)
        replaced = getattr(data, "replaced", 0)
        self._reporter.say(line + (f"  {replaced} damaged images replaced" if replaced else ""))
        scalars = {f"train/{name}": value for name, value in means.items()}
        scalars |= {"images_seen": step * self._config.batch_size, **numbers, **device_memory()}
        self._reporter.scalars(step, scalars)

    def _save(self, step: int, state: TrainState) -> None:
        self._checkpoints.save(step, self._parallel.to_save(state.items()))

    def _evaluate(self, evaluate: PeriodicEvaluation, step: int, state: TrainState) -> None:
        variables = self._parallel.whole(state.variables())
        failure: Exception | None = None
        if jax.process_index() == 0:
            try:
                evaluate(step, variables)
            except Exception as error:  # a damaged image, say: the steps made are not lost
                failure = error
        if multihost.all_succeeded(failure is None):
            return
        self._save(step, state)
        self._checkpoints.finish(step)
        raise failure or RuntimeError("process 0 could not evaluate, see its output")


def _introduce(
    config: ConfigDict,
    reporter: Reporter,
    state: TrainState,
    datasets: Mapping[str, Any],
    parallel: Parallel,
    origin: str,
) -> None:
    reporter.say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    for split in ("train", "eval"):
        describe = getattr(datasets[split], "describe", None)
        if describe is not None:
            reporter.say(f"{split}: {describe()}")
    devices = parallel.mesh.devices.flatten().tolist()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    hosts = f" of {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    shards = config.parallel.state_shards
    divided = f", state divided among {shards}" if shards > 1 else ""
    reporter.say(
        f"{config.network.name} in {config.network.dtype}, global batch {config.batch_size}, "
        f"{config.batch_size // len(devices)} on each of {len(devices)} device(s){hosts} ({kinds}; "
        f"{config.parallel.strategy}{divided}); {origin}, "
        f"{int(state.step) * config.batch_size} images seen"
    )
