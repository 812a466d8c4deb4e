"""The training loop. Read :func:`train_and_evaluate`, then what it calls, in order."""

import contextlib
import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from absl import logging
from clu import parameter_overview
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost, storage
from lcdnet_jax.freed_memory import return_freed_memory
from lcdnet_jax.messages import SlowWorkReporter, format_count, join_some
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training import objectives
from lcdnet_jax.training.best_checkpoint import BestCheckpoint
from lcdnet_jax.training.eval_hook import EvalHook
from lcdnet_jax.training.metric_writer import MetricWriter, MetricWriterError, check_packages
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.preemption import Preempted, PreemptionHandler, handle_preemption
from lcdnet_jax.training.profile import Profile
from lcdnet_jax.training.program import (
    CountsReplacements,
    Datasets,
    Describable,
    compile_program,
    open_inputs,
)
from lcdnet_jax.training.progress import (
    AverageMeter,
    CompilationCounter,
    Progress,
    measure_device_memory,
)
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.workdir import (
    check_hosts_agree,
    load_or_create_state,
    open_workdir,
    record_data,
)
from lcdnet_jax.typing import PyTree

# Number of calls of the program that may wait on the devices. It keeps them busy, and their batches
# fit into memory.
_MAX_IN_FLIGHT = 2

# Number of calls whose metrics may stay on the devices.
_MAX_UNREAD = 1000


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the state became NaN or infinite."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    datasets: Datasets,
    devices: Sequence[jax.Device] | None = None,
    profile: tuple[int, int] | None = None,
    accept_changed_data: bool = False,
) -> TrainState:
    """Trains a network, evaluates it and saves checkpoints as the configuration says.

    A second call with the same directory continues exactly after the last checkpoint, even on
    another number of devices. After Ctrl-C or SIGTERM, the current step is finished and saved, then
    :class:`Preempted` is raised. With several hosts, each calls this function with a directory that
    all of them share.

    Args:
        config: An experiment, see ``configs/default.py``.
        workdir: Directory for config.json, checkpoints, logs and pictures. Created if missing. It
            may be in a bucket of Google Cloud Storage: gs://bucket/run.
        datasets: What ``input_pipeline.create_datasets`` returns, see
            :class:`~lcdnet_jax.training.program.Datasets`. Both parts may be
            :class:`~lcdnet_jax.training.program.Describable`, and "train" may be
            :class:`~lcdnet_jax.training.program.CountsReplacements`.
        devices: Devices to use. None: all devices of all hosts.
        profile: First and last step of a profiler trace, which is written to ``workdir``/profile.
        accept_changed_data: Continue a run with training images that are not those before. Without
            it they are refused, because the steps would not be those of the run.

    Returns:
        The final state.

    Raises:
        ConfigError: If the configuration breaks a rule, or the configuration or the training images
            are not those of the run in ``workdir``.
        ImportError: If a package of ``config.writers`` is missing.
        CheckpointError: If checkpoints do not fit, or cannot be read or written.
        NonFiniteLossError: Names the first step that is not finite. The last checkpoint is older.
        Preempted: After a signal. A ``KeyboardInterrupt``.
    """
    config_lib.validate_once(config)
    check_packages(config)
    partitioner = Partitioner.from_config(config, devices)
    check_hosts_agree(config, datasets["train"])
    # These fail before a working directory is made.
    for stage in config_lib.list_stages(config):
        config_lib.check_kernels(config_lib.with_stage(config, stage))
    features = objectives.get(config).read_features(config)
    workdir = storage.to_path(workdir)
    checkpoints = checkpoints_lib.Checkpoints(workdir, keep=config.keep_checkpoints)
    writer = None
    try:
        data_line = open_workdir(
            config,
            workdir,
            checkpoints,
            datasets["train"],
            accept_changed_data=accept_changed_data,
        )
        # config.json keeps the type that was asked for.
        asked_type = config.network.dtype
        config = config_lib.with_compute_type(config, partitioner.platform)
        module = config_lib.network(config)
        begin = time.perf_counter()
        state, origin = load_or_create_state(config, module, checkpoints, partitioner)
        jax.block_until_ready(state)
        initialization = time.perf_counter() - begin
        state = state.with_features(features, partitioner.get_state_sharding)
        start_step = int(state.step)
        record_data(workdir, datasets["train"], step=start_step)
        writer = MetricWriter(
            workdir, start_step=start_step, active=jax.process_index() == 0, config=config
        )
        overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        run = _describe_run(config, asked_type, partitioner, start_step, origin)
        images = [
            f"degradation: {config_lib.describe_degradation(config)}",
            f"frequency masking: {config_lib.describe_masking(config)}",
            f"mixup: {config_lib.describe_mixup(config)}",
        ]
        for line in (overview, *_describe_data(datasets), data_line, *images, run):
            if line:
                writer.print_line(line)
        writer.write_text(start_step, "images", "\n\n".join(images))  # Markdown
        if start_step % config.steps_per_call:
            raise config_lib.ConfigError(
                f"the run continues after step {start_step}, which is not a multiple of "
                f"config.steps_per_call ({config.steps_per_call}); choose a divisor"
            )
        loop = _Loop(config, module, datasets, partitioner, checkpoints, writer)
        loop.repeat_evaluation(state)
        if start_step >= config.steps:
            writer.print_line(
                f"nothing to do: the run has {start_step} of {format_count(config.steps, 'step')}"
            )
            return state
        if jax.process_index() != 0:
            profile = None
        return loop.run(
            state, Profile(writer.folder / "profile", profile), initialization=initialization
        )
    except MetricWriterError as error:
        raise checkpoints_lib.CheckpointError(
            f"cannot write to {workdir}: {error}; {checkpoints.saved()}. {checkpoints.advice()}, "
            "then run the same command again"
        ) from error
    finally:
        checkpoints.close()
        if writer is not None:
            writer.close()


class _Loop:
    """Makes steps until ``config.steps``.

    Metrics stay on the devices until a report, so that the devices never wait for the host.
    """

    def __init__(
        self,
        config: ConfigDict,
        module: RestorationNetwork,
        datasets: Datasets,
        partitioner: Partitioner,
        checkpoints: checkpoints_lib.Checkpoints,
        writer: MetricWriter,
    ):
        self._config = config
        self._module = module
        self._datasets = datasets
        self._partitioner = partitioner
        self._checkpoints = checkpoints
        self._writer = writer
        self._eval_hook = EvalHook(config, module, datasets["eval"], writer)
        self._best: BestCheckpoint | None = None
        if config.best_metric:
            self._best = BestCheckpoint(config, checkpoints, writer)
        self._unread: list[PyTree] = []  # metrics of one call each, on the devices
        self._averages = AverageMeter()  # of metrics that were fetched but not reported
        self._skipped_in_a_row = 0
        self._warned_of: set[str] = set()  # metrics of the network
        self._compilations = CompilationCounter()
        self._compiled = 0  # programs that were reported
        self._slow_work = SlowWorkReporter(writer.print_line)

    def repeat_evaluation(self, state: TrainState) -> None:
        """Evaluates the first state if the process was killed in that: it may be the best one."""
        if self._best is None:
            return
        self._best.update()
        step = int(state.step)
        is_due = step > 0 and self._is_due(step, self._config.eval_every)
        if is_due and self._best.lacks_evaluation(step):
            self._evaluate(step, self._partitioner.to_program_sharding(state))

    def run(self, state: TrainState, profile: Profile, *, initialization: float) -> TrainState:
        """Makes the steps.

        Args:
            state: The first state.
            profile: Writes a trace of some steps.
            initialization: Seconds that it took to create or load the state, for the log.

        Returns:
            The final state.
        """
        config, calls = self._config, self._config.steps_per_call
        optimizer, start_step = make_optimizer(config), int(state.step)
        stage = None
        state = self._partitioner.to_program_sharding(state)
        progress = Progress(start_step, config.steps, config.batch_size)
        with contextlib.ExitStack() as stack:
            inputs = stack.enter_context(
                open_inputs(config, self._partitioner, self._datasets["train"], start_step)
            )
            preemption = stack.enter_context(handle_preemption(self._partitioner))
            stack.callback(profile.end)
            stack.callback(self._slow_work.end)
            for step in range(start_step + calls, config.steps + 1, calls):
                before, stage = stage, config_lib.stage_at(config, step - calls)
                is_new = stage != before
                if is_new:
                    program = compile_program(
                        self._module, optimizer, config, self._partitioner, state, stage=stage
                    )
                with progress.time_data(self._devices_are_idle):
                    batches = next(inputs)
                profile.start_before(step - calls + 1, step)
                if is_new:
                    self._slow_work.begin("compiling", "the training step")
                    with self._compilations.watch():
                        program.lower(state, batches).compile()
                    self._slow_work.end()
                    multihost.wait_for_all()  # a step exchanges arrays
                with self._compilations.watch():
                    state, metrics = program(state, batches)
                self._unread.append(metrics)
                if is_new:
                    jax.block_until_ready(state)
                    return_freed_memory()
                    parts = {"initialization": initialization} if before is None else {}
                    self._report_compilations(step, **parts)
                    # Leave out compilation.
                    progress.restart(step, batch_size=stage.batch_size)
                else:
                    self._warn_if_recompiled(step)
                    jax.block_until_ready(self._unread[-_MAX_IN_FLIGHT - 1 : -_MAX_IN_FLIGHT])
                if profile.ends_after(step):
                    jax.block_until_ready(state)
                    profile.end()
                self._finish_call(step, state, progress, preemption)
        self._writer.print_line(
            f"done: {format_count(config.steps, 'step')}, "
            f"{format_count(config_lib.count_images(config, config.steps), 'image')} seen, "
            f"checkpoint in {self._checkpoints.directory}"
        )
        return state

    def _is_due(self, step: int, every: int) -> bool:
        return step == self._config.steps or (every > 0 and step % every == 0)

    def _finish_call(
        self, step: int, state: TrainState, progress: Progress, preemption: PreemptionHandler
    ) -> None:
        """Reports, saves and evaluates if it is time. Raises Preempted after a signal."""
        config, is_last = self._config, step == self._config.steps
        log = self._is_due(step, config.log_every)
        evaluate = self._is_due(step, config.eval_every)
        save = self._is_due(step, config.checkpoint_every)
        save |= evaluate and self._best is not None
        signal = preemption.get_signal_after_call()
        if log or save or evaluate or signal or len(self._unread) == _MAX_UNREAD:
            self._read_metrics(step)
        if log:
            self._report(step, progress)
        if save:
            with progress.time_save():
                self._save(step, state)
        if evaluate and (not signal or is_last):
            with progress.pause():
                self._evaluate(step, state)
        if is_last:
            self._checkpoints.finish(step)
        elif signal := signal or preemption.get_signal_after_report():
            self._read_metrics(step)  # raises unless the state is finite
            self._save(step, state)
            self._checkpoints.finish(step)
            raise Preempted(
                f"stopped after step {step}; it is saved, and the same command continues there",
                signal,
            )

    def _devices_are_idle(self) -> bool:
        return all(x.is_ready() for metrics in self._unread[-1:] for x in metrics.values())

    def _report_compilations(self, step: int, **before: float) -> None:
        self._compiled = self._compilations.count
        tracing = self._compilations.other_seconds
        self._writer.print_line(self._compilations.describe(**before, tracing=tracing))
        self._writer.write_scalars(
            step,
            {"compilations": self._compiled, "compilation_seconds": self._compilations.seconds},
        )

    def _warn_if_recompiled(self, step: int) -> None:
        """Warns of a new compilation. Inputs whose shapes change make training slow."""
        if self._compilations.count > self._compiled:
            self._compiled = self._compilations.count
            logging.warning(
                "step %d was compiled again (programs so far: %d), because its input has another "
                "shape, type or placement than before; often, this makes training slow",
                step,
                self._compiled,
            )

    def _read_metrics(self, step: int) -> None:
        """Fetches the metrics of the steps up to ``step`` and checks that they are finite."""
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
            self._averages.update(row)

    def _check_finite(self, step: int, row: Mapping[str, float]) -> None:
        if math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]):
            self._skipped_in_a_row = 0
            return
        self._skipped_in_a_row += 1
        what = f"step {step}: loss {float(row['loss'])}, gradient norm {float(row['grad_norm'])}"
        look = f"look at its batch by adding --replay={step} to the same command"
        if self._skipped_in_a_row <= self._config.skip_nonfinite:
            self._writer.print_line(f"{what}; skipped, the parameters are unchanged ({look})")
            return
        raise NonFiniteLossError(
            f"{what}; {self._checkpoints.saved()}. Skip such steps (config.skip_nonfinite); "
            "start another run from there (config.init_from, another --workdir) with a lower "
            f"config.optimizer.learning_rate or a config.optimizer.clip_norm; or {look}"
        )

    def _report(self, step: int, progress: Progress) -> None:
        data = self._datasets["train"]
        averages = self._averages.pop()
        line, numbers = progress.report(step, averages)
        self._warn_of_metrics(step, averages)
        replaced = data.replaced if isinstance(data, CountsReplacements) else 0
        self._writer.print_line(
            line + (f"  {format_count(replaced, 'damaged image')} replaced" if replaced else "")
        )
        scalars = {f"train/{name}": value for name, value in averages.items()}
        scalars |= {"images_seen": config_lib.count_images(self._config, step), **numbers}
        self._writer.write_scalars(step, scalars | measure_device_memory())

    def _warn_of_metrics(self, step: int, averages: Mapping[str, float]) -> None:
        """Logs warnings of the network, once for each metric."""
        crop = config_lib.stage_at(self._config, step - 1).crop
        warnings = self._module.find_warnings(averages, crop=crop)
        for name, message in warnings.items():
            if name not in self._warned_of:
                self._warned_of.add(name)
                logging.warning("step %d: %s", step, message)

    def _save(self, step: int, state: TrainState) -> None:
        items = self._partitioner.to_checkpoint_sharding(state.items())
        bad = checkpoints_lib.list_nonfinite(items)
        if not multihost.all_succeeded(not bad):
            where = join_some(bad, 4) or "on another host"
            raise NonFiniteLossError(
                f"the state after step {step} is not finite ({where}) and is "
                f"not saved; {self._checkpoints.saved()}. Start another run from there "
                "(config.init_from, another --workdir) with a lower config.optimizer.learning_rate"
            )
        self._writer.flush()
        self._checkpoints.save(step, items)

    def _evaluate(self, step: int, state: TrainState) -> None:
        variables = self._partitioner.fetch(state.variables())
        failure: Exception | None = None
        try:
            self._eval_hook(step, variables)
            self._writer.flush()  # before the checkpoint that was the best is deleted
        except Exception as error:  # such as a damaged image; keep the steps made so far
            failure = error
        if multihost.all_succeeded(failure is None):
            if self._best is not None:
                self._best.update(step)
            return
        self._save(step, state)
        self._checkpoints.finish(step)
        raise failure or RuntimeError("another process could not evaluate, see its output")


def _describe_data(datasets: Datasets) -> list[str]:
    """A line for each data set that can describe itself."""
    return [
        f"{split}: {data.describe()}"
        for split, data in datasets.items()
        if isinstance(data, Describable)
    ]


def _describe_run(
    config: ConfigDict, asked_type: str, partitioner: Partitioner, start_step: int, origin: str
) -> str:
    """The network, the devices, and where the run starts."""
    devices = partitioner.mesh.devices.flatten().tolist()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    hosts = f" of {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    shards = config.parallel.state_shards
    divided = f", state divided among {shards}" if shards > 1 else ""
    batch_size = config_lib.stage_at(config, start_step).batch_size
    stages = "".join(
        f", {format_count(stage.batch_size, 'crop')} of {stage.crop} "
        f"from step {stage.first_step + 1}"
        for stage in config_lib.list_stages(config)[1:]
    )
    compute_type = config.network.dtype
    if compute_type != asked_type:
        compute_type += f" ({asked_type}, which the configuration asks for, is slower on a CPU)"
    spread = " on 1 device"
    if len(devices) > 1:
        each = batch_size // len(devices)
        spread = f", {each} on each of {format_count(len(devices), 'device')}{hosts}"
    return (
        f"{config.network.name} in {compute_type}, global batch {batch_size}{spread} "
        f"({kinds}; {config.parallel.strategy}{divided}){stages}; {origin}, "
        f"{format_count(config_lib.count_images(config, start_step), 'image')} seen"
    )
