"""The training loop. Read :func:`train_and_evaluate`, then what it calls, in order."""

import contextlib
import dataclasses
import math
import pathlib
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from clu import parameter_overview
from flax import linen as nn
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import panels, protocols
from lcdnet_jax.evaluation import Evaluator, Scored, summarise
from lcdnet_jax.inference import Restorer
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.reports import Progress, Reporter, ReportError
from lcdnet_jax.training.sharding import Sharding
from lcdnet_jax.training.state import TrainState, abstract_state, create_state
from lcdnet_jax.training.step import make_train_step


class TrainData(Protocol):
    """Training batches, each a pure function of its step."""

    def batches(
        self, start_step: int = 0, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches from ``start_step`` on, without end; of each, this host's slice.

        "clean" ``[b, H, W, C]`` float32 in [0, 1], "mask" ``[b]`` and, unless noise is added on
        the device, "degraded". Where the host masks frequencies before the device adds noise,
        "to_degrade" holds the masked images; for the target "masked" they are "clean" instead.
        """


# Metrics of so many steps are left on the devices at most.
_MOST_UNREAD = 1000


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    datasets: Mapping[str, Any],
) -> TrainState:
    """Trains a network, evaluating and saving as the configuration says.

    Running it again in the same directory continues exactly where the last checkpoint stands.
    Ctrl-C or SIGTERM ends the current step, saves and then raises ``KeyboardInterrupt``.

    Args:
        config: An experiment, see ``configs/default.py``.
        workdir: Directory for config.json, checkpoints, logs and pictures; made if missing.
        datasets: "train", a :class:`TrainData`, and "eval", an iterable of mappings with "name",
            "clean" and, for pairs, "degraded"; what ``input_pipeline.create_datasets`` returns.

    Returns:
        The final state.

    Raises:
        ConfigError: For a configuration that breaks a rule or is not the one of ``workdir``.
        CheckpointError: For checkpoints that do not fit, or cannot be read or written.
        NonFiniteLossError: Naming the first bad step; the last checkpoint is from before it.
    """
    config_lib.validate(config)
    sharding = Sharding.over_all_devices()
    _check_devices(config)
    workdir = _open_workdir(config, pathlib.Path(workdir))
    checkpoints = checkpoints_lib.Checkpoints(workdir, keep=config.keep_checkpoints)
    reporter = None
    try:
        module = config_lib.network(config)
        state, origin = _initial_state(config, module, checkpoints, sharding)
        start_step = int(state.step)
        reporter = Reporter(workdir, start_step=start_step, active=jax.process_index() == 0)
        _introduce(config, reporter, state, datasets, origin)
        if start_step >= config.steps:
            reporter.say(f"nothing to do: {start_step} of {config.steps} steps are made")
            return state
        evaluate = _Evaluation(config, module, datasets["eval"], reporter)
        return _loop(config, module, state, datasets["train"], sharding, checkpoints, reporter,
                     evaluate)  # fmt: skip
    except ReportError as error:
        raise checkpoints_lib.CheckpointError(
            f"cannot write to {workdir}: {error}; {checkpoints.saved()}. Free disk space or check "
            "permissions, then run the same command again"
        ) from error
    finally:
        checkpoints.close()
        if reporter is not None:
            reporter.close()


def _loop(
    config: ConfigDict,
    module: nn.Module,
    state: TrainState,
    data: TrainData,
    sharding: Sharding,
    checkpoints: checkpoints_lib.Checkpoints,
    reporter: Reporter,
    evaluate: "_Evaluation",
) -> TrainState:
    """Steps until ``config.steps``. Metrics are read now and then, so that devices never wait."""
    train_step = jax.jit(
        make_train_step(module, make_optimizer(config), config),
        in_shardings=(sharding.replicated, sharding.batch),
        out_shardings=sharding.replicated,
        donate_argnums=0,
    )
    start_step = int(state.step)
    batches = data.batches(
        start_step, process_index=jax.process_index(), process_count=jax.process_count()
    )
    progress = Progress(start_step, config.steps, config.batch_size)
    unread: list[Mapping[str, jax.Array]] = []  # on the devices
    rows: list[Mapping[str, Any]] = []  # read, not yet reported
    with contextlib.ExitStack() as stack:
        if hasattr(batches, "close"):  # what reads ahead must stop
            stack.callback(batches.close)
        stop = stack.enter_context(_stop_signals())
        for step in range(start_step + 1, config.steps + 1):
            state, metrics = train_step(state, sharding.put_batch(next(batches)))
            unread.append(metrics)
            if step == start_step + 1:
                jax.block_until_ready(state)
                progress.restart(step)  # compilation says nothing about the steps to come
            due = {
                name: step == config.steps or (every > 0 and step % every == 0)
                for name, every in (
                    ("log", config.log_every),
                    ("eval", config.eval_every),
                    ("checkpoint", config.checkpoint_every),
                )
            }
            if any(due.values()) or stop.is_set() or len(unread) == _MOST_UNREAD:
                rows += _read_metrics(unread, step, checkpoints)
                unread = []
            if due["log"]:
                means = _means(rows)
                rows = []
                line, speed = progress.line(step, means)
                replaced = getattr(data, "replaced", 0)
                reporter.say(line + (f"  {replaced} damaged images replaced" if replaced else ""))
                scalars = {f"train/{name}": value for name, value in means.items()}
                scalars["images_seen"] = step * config.batch_size
                if speed is not None:
                    scalars["images_per_second"] = speed
                reporter.scalars(step, scalars)
            with progress.paused():
                if due["checkpoint"]:
                    checkpoints.save(step, state.items())
                if due["eval"] and not stop.is_set():
                    try:
                        evaluate(step, state)
                    except Exception:  # a damaged image, say: the steps made are not lost
                        checkpoints.save(step, state.items())
                        checkpoints.finish(step)
                        raise
            if step == config.steps:
                checkpoints.finish(step)
            elif stop.is_set():  # whenever in this step the signal came
                if unread:
                    _read_metrics(unread, step, checkpoints)  # only a good state is saved
                checkpoints.save(step, state.items())
                checkpoints.finish(step)
                raise KeyboardInterrupt(
                    f"stopped after step {step}; it is saved, and the same command continues there"
                )
    reporter.say(f"done: {config.steps} steps, checkpoint in {checkpoints.directory}")
    return state


class _Evaluation:
    """Periodic evaluation on full images, with the averaged parameters where there are any."""

    def __init__(
        self, config: ConfigDict, module: nn.Module, examples: Iterable[Any], reporter: Reporter
    ):
        self._config = config
        self._examples = examples
        self._reporter = reporter
        self._restorer = Restorer(module, {}, bucket=config.eval.bucket)
        degradation = config.degradation
        self._sigmas: Sequence[float | None] = (None,)
        if degradation.kind == "none":
            protocol = _of_pairs(config.data.eval.source)
        else:
            protocol = protocols.get(degradation.protocol)
            if degradation.kind == "awgn":
                protocol = protocol.with_noise(spectrum=degradation.spectrum)
                self._sigmas = config.eval.sigmas
            else:
                protocol = protocol.with_degradation(degradation.kind)
        self._evaluator = Evaluator(
            protocol, degradation=config_lib.degradation(config), bucket=config.eval.bucket
        )

    def __call__(self, step: int, state: TrainState) -> None:
        if jax.process_index() != 0:
            return
        variables = jax.device_get(state.variables())
        restorer = self._restorer.with_variables(variables)
        for sigma in self._sigmas:
            begin = time.perf_counter()
            scored = self._evaluator.score_images(restorer, self._chosen(), sigma=sigma)
            summary = summarise(self._drawn(step, sigma, scored))
            prefix = "eval" if sigma is None else f"eval/sigma{sigma:g}"
            scores = {"psnr": summary.psnr, "ssim": summary.ssim, **summary.extra}
            self._reporter.scalars(step, {f"{prefix}/{k}": value for k, value in scores.items()})
            at = "" if sigma is None else f"sigma {sigma:g}: "
            self._reporter.say(
                f"evaluation after step {step}: {at}{summary.psnr:.2f} dB, SSIM {summary.ssim:.4f} "
                f"(input {summary.input_psnr:.2f} dB), {summary.n} images, "
                f"{time.perf_counter() - begin:.1f} s  [{self._evaluator.protocol.describe()}]"
            )

    def _chosen(self) -> Iterator[Any]:
        for i, example in enumerate(self._examples):
            if self._config.eval.max_images and i == self._config.eval.max_images:
                return
            yield example

    def _drawn(self, step: int, sigma: float | None, scored: Iterable[Scored]) -> Iterator[Scored]:
        for i, one in enumerate(scored):
            if i < self._config.eval.panels:
                name = one.name if sigma is None else f"{one.name}_sigma{sigma:g}"
                self._reporter.panel(step, name, _panel(one))
            yield one


def _of_pairs(source: str) -> protocols.Protocol:
    """The benchmark's protocol, but for what may fail and so end a training: LPIPS, alignment."""
    protocol = protocols.get(protocols.for_source(source))
    if protocol.aligned:
        return protocols.get("pairs")
    return dataclasses.replace(protocol, lpips=False)


def _panel(scored: Scored) -> np.ndarray:
    pictures = [
        (f"degraded {scored.input_psnr:.2f} dB", scored.degraded),
        (f"restored {scored.psnr:.2f} dB", scored.restored),
        ("clean", scored.clean),
    ]
    return panels.draw_panel(pictures, clean=scored.clean)


def _check_devices(config: ConfigDict) -> None:
    devices = jax.device_count()
    if (config.batch_size // config.accumulate) % devices:
        raise config_lib.ConfigError(
            f"config.batch_size / config.accumulate ({config.batch_size} / {config.accumulate}) is "
            f"not divisible by the {devices} devices; use a multiple of "
            f"{devices * config.accumulate} as batch_size"
        )


def _open_workdir(config: ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Makes the directory, or checks that its run has the same configuration."""
    stored = workdir / "config.json"
    if stored.exists():
        _check_same_run(config, workdir)
    elif (workdir / "checkpoints").is_dir() and any((workdir / "checkpoints").iterdir()):
        raise config_lib.ConfigError(
            f"{workdir} holds checkpoints but no config.json; restore that file or use another "
            "--workdir"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            config_lib.save(config, stored)
    except OSError as error:
        raise config_lib.ConfigError(
            f"cannot write to the working directory {workdir}: {error.strerror or error}; choose a "
            "writable --workdir on a disk with free space"
        ) from error
    return workdir


def _check_same_run(config: ConfigDict, workdir: pathlib.Path) -> None:
    stored = config_lib.load(workdir / "config.json", training=True)
    changed = config_lib.differences(stored, config)
    if changed:
        raise config_lib.ConfigError(
            f"{workdir} holds a run with another configuration:\n  "
            + "\n  ".join(changed)
            + "\nUse another working directory, or set these fields back to continue that run."
        )


def _initial_state(
    config: ConfigDict,
    module: nn.Module,
    checkpoints: checkpoints_lib.Checkpoints,
    sharding: Sharding,
) -> tuple[TrainState, str]:
    """The state to start from, and where it came from, in words."""
    tx = make_optimizer(config)
    how = {"ema": config.ema_decay > 0, "sharding": sharding.replicated}
    abstract = abstract_state(module, tx, **how)
    step = checkpoints.latest_step()
    if step is not None:
        state = _restored(checkpoints, step, abstract, sharding)
        return state, f"continuing after step {step} of {checkpoints.directory}"
    if config.resume:
        _check_same_run(config, pathlib.Path(config.resume))
        source = checkpoints_lib.Checkpoints(config.resume)
        try:
            step = source.latest_step()
            if step is None:
                raise checkpoints_lib.CheckpointError(
                    f"config.resume: {source.directory} holds no complete checkpoint"
                )
            state = _restored(source, step, abstract, sharding)
        finally:
            source.close()
        return state, f"continuing after step {step} of {config.resume}"
    state = create_state(jax.random.key(config.seed), module, tx, **how)
    if config.init_from:
        wanted = {"params": abstract.params}
        if abstract.batch_stats:
            wanted["batch_stats"] = abstract.batch_stats
        variables, step = checkpoints_lib.restore_variables(config.init_from, wanted)
        params = variables["params"]
        state = state.replace(
            params=params,
            batch_stats=variables.get("batch_stats", state.batch_stats),
            # A copy: two leaves of a donated state must not share a buffer.
            ema=None if state.ema is None else jax.tree.map(lambda x: x.copy(), params),
        )
        return state, f"starting from the parameters of step {step} of {config.init_from}"
    return state, f"starting afresh with seed {config.seed}"


def _restored(
    checkpoints: checkpoints_lib.Checkpoints, step: int, abstract: TrainState, sharding: Sharding
) -> TrainState:
    items = checkpoints.restore(step, abstract.items())
    return TrainState(
        step=jax.device_put(np.int32(step), sharding.replicated),
        params=items["params"],
        opt_state=items.get("opt_state", abstract.opt_state),  # absent where it is empty
        batch_stats=items.get("batch_stats", {}),
        ema=items.get("ema"),
    )


def _introduce(
    config: ConfigDict,
    reporter: Reporter,
    state: TrainState,
    datasets: Mapping[str, Any],
    origin: str,
) -> None:
    reporter.say(parameter_overview.get_parameter_overview(state.params, include_stats=False))
    for split in ("train", "eval"):
        describe = getattr(datasets[split], "describe", None)
        if describe is not None:
            reporter.say(f"{split}: {describe()}")
    kinds = ", ".join(sorted({d.device_kind for d in jax.devices()}))
    reporter.say(
        f"{config.network.name} in {config.network.dtype}, global batch {config.batch_size} on "
        f"{jax.device_count()} device(s) ({kinds}); {origin}"
    )


def _read_metrics(
    unread: Sequence[Mapping[str, jax.Array]], step: int, checkpoints: checkpoints_lib.Checkpoints
) -> list[Mapping[str, Any]]:
    """The metrics of the steps up to ``step``, one row each, after a check that all is finite."""
    rows = jax.device_get(unread)
    first = step - len(rows) + 1
    for i, row in enumerate(rows):
        if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
            raise NonFiniteLossError(
                f"step {first + i}: loss {float(row['loss'])}, gradient norm "
                f"{float(row['grad_norm'])}; {checkpoints.saved()}. Lower "
                "config.optimizer.learning_rate or set config.optimizer.clip_norm, and look at "
                "the data of that step"
            )
    return list(rows)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over some steps; of the learning rate the newest."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"learning_rate": float(rows[-1]["learning_rate"])}


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C or SIGTERM into a flag; the second acts as ever."""
    flag = threading.Event()
    # Signals reach the main thread only; and one host that stops alone leaves the others waiting
    # for it in the next step, so several hosts are better killed.
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield flag
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    # nohup and shells' "&" ask not to be stopped by Ctrl-C.
    previous = {s: handler for s, handler in previous.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        print("stopping after this step, then saving; once more to stop at once", flush=True)
        flag.set()
        restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        restore()
