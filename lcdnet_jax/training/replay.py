"""Replay: repeats one step of a run, to find the cause of an error in it."""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, metrics, storage, visualization
from lcdnet_jax.messages import format_count, join_some
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training import objectives
from lcdnet_jax.training.local_copy import LocalCopy
from lcdnet_jax.training.metric_writer import convert_disk_errors
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.program import TrainingDatasets, compile_program, draw_batch, open_inputs
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.step import prepare
from lcdnet_jax.training.workdir import check_data, load_or_create_state, load_run_config
from lcdnet_jax.typing import Batch, Fields, PyTree

Arrays = dict[str, np.ndarray]

# Number of images in batch.png, and of parameters in a printed list.
_IMAGES_SHOWN, _NAMES_SHOWN = 4, 8


@dataclass(frozen=True)
class _ReplayedStep:
    """Inputs and results of a step, on the host.

    Attributes:
        inputs: The batch after :func:`prepare`.
        restored: Output of the network, ``[B, H, W, C]``.
        loss: The loss.
        grads: Its gradients.
    """

    inputs: Arrays
    restored: np.ndarray
    loss: float
    grads: PyTree


def replay(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    step: int,
    *,
    datasets: TrainingDatasets,
    accept_changed_data: bool = False,
) -> pathlib.Path:
    """Repeats one step of a run and writes its inputs and outputs.

    A batch is a pure function of (seed, step). The state before the step comes from the newest
    older checkpoint, and the steps in between are repeated, on this host's devices. The files of
    the run are not changed. Numbers may differ in the last digits if the run used other devices,
    "pmap" or several ``steps_per_call``.

    For each image of the batch, this prints the PSNR, and the range or the first value that is not
    finite. It also prints which parameters and gradients are not finite or have the largest norm.

    Args:
        config: The configuration of the run.
        workdir: Its working directory.
        step: Number of the step in the messages of the run, from 1.
        datasets: As for :func:`train_and_evaluate`. Only "train" is used.
        accept_changed_data: Use training images that are not those of the run.

    Returns:
        The directory ``workdir``/replay/<step>. batch.npz holds the inputs of the step (those of
        :func:`prepare`: "degraded" is the network's input, "clean" the target) and the network's
        output ("restored"). batch.png shows the first images.

    Raises:
        ConfigError: As :func:`train_and_evaluate`, or if the run did not make the step.
        CheckpointError: As :func:`train_and_evaluate`.
    """
    if jax.process_count() > 1:
        raise config_lib.ConfigError(
            f"a step is repeated by one process, but there are {jax.process_count()}; start one, "
            "with --distributed=off"
        )
    config_lib.validate_once(config)
    workdir = storage.to_path(workdir)
    stored = load_run_config(config, workdir)
    if not 1 <= step <= config.steps:
        raise config_lib.ConfigError(
            f"the run has no step {step}: config.steps is {config.steps}, and steps count from 1"
        )
    line = check_data(
        config,
        stored,
        workdir,
        datasets["train"],
        step=step - 1,
        accept_changed_data=accept_changed_data,
    )
    if line:
        print(line, flush=True)
    config, devices = _adapt_config(config, stored)
    partitioner = Partitioner.from_config(config, devices)
    config = config_lib.with_compute_type(config, partitioner.platform)
    module = config_lib.network(config)
    state, origin = _load_state(config, module, workdir, partitioner, step)
    start = int(state.step)
    with contextlib.closing(LocalCopy(workdir)) as files:
        folder = files.folder / "replay" / str(step)

        def make_error(reason: str) -> checkpoints_lib.CheckpointError:
            return checkpoints_lib.CheckpointError(
                f"cannot write to {workdir}: {reason}; free disk space or check permissions"
            )

        with convert_disk_errors(make_error):
            folder.mkdir(parents=True, exist_ok=True)
        print(f"{origin}; steps to make before step {step}: {step - 1 - start}", flush=True)

        optimizer, stage = make_optimizer(config), None
        with open_inputs(config, partitioner, datasets["train"], start) as inputs:
            for number in range(start + 1, step):
                before, stage = stage, config_lib.stage_at(config, number - 1)
                if stage != before:
                    program = compile_program(
                        module, optimizer, config, partitioner, state, stage=stage
                    )
                state, row = program(state, next(inputs))
                jax.block_until_ready(row)  # so that batches do not fill the devices
                if config.log_every and number % config.log_every == 0:
                    print(f"step {number}: loss {float(row['loss']):.5f}", flush=True)
            stage = config_lib.stage_at(config, step - 1)
            replayed = _replay_step(module, config, partitioner, state, next(inputs), stage=stage)
        state = jax.device_get(state)
        for line in _describe_step(step, config, state, replayed):
            print(line)
        with convert_disk_errors(make_error):
            arrays: Fields = {**replayed.inputs, "restored": replayed.restored}
            np.savez(folder / "batch.npz", **arrays)
            image_io.write(folder / "batch.png", _draw_images(replayed))
            files.flush()
    folder = workdir / "replay" / str(step)
    print(f"written to {folder}: batch.npz, batch.png", flush=True)
    return folder


def _adapt_config(config: ConfigDict, stored: ConfigDict) -> tuple[ConfigDict, list[jax.Device]]:
    """The configuration with which this host repeats a step of a run, and its devices for it."""
    config = config.copy_and_resolve_references()
    # These fields may differ from those of the run, see load_run_config.
    config.resume, config.init_from = stored.resume, stored.init_from
    config.skip_nonfinite = stored.skip_nonfinite
    # With these, each step can be reached, and a batch is one array over all devices.
    config.steps_per_call, config.parallel.strategy = 1, "jit"
    devices = jax.local_devices()
    batches = [stage.batch_size // config.accumulate for stage in config_lib.list_stages(config)]
    devices = devices[: math.gcd(len(devices), *batches)]
    config.parallel.state_shards = math.gcd(len(devices), config.parallel.state_shards)
    return config, devices


def _load_state(
    config: ConfigDict,
    module: RestorationNetwork,
    workdir: pathlib.Path,
    partitioner: Partitioner,
    step: int,
) -> tuple[TrainState, str]:
    """The newest state before a step, and where it comes from."""
    checkpoints = checkpoints_lib.Checkpoints(workdir)
    try:
        features = objectives.get(config).read_features(config)
        state, origin = load_or_create_state(config, module, checkpoints, partitioner, before=step)
    finally:
        checkpoints.close()
    if int(state.step) >= step:  # the directory has no checkpoint that is old enough
        raise config_lib.ConfigError(
            f"step {step} was not made in {workdir}, which continues after step "
            f"{int(state.step)} of {config.resume}; use --workdir={config.resume}"
        )
    return state.with_features(features, partitioner.get_state_sharding), origin


def _replay_step(
    module: RestorationNetwork,
    config: ConfigDict,
    partitioner: Partitioner,
    state: TrainState,
    batch: PyTree,
    *,
    stage: config_lib.Stage,
) -> _ReplayedStep:
    """Makes the inputs of a step, its loss and its gradients, without an update."""

    def make_inputs(batch: PyTree, step: jax.Array) -> Batch:
        if config.data.where == "device":
            batch = draw_batch(batch, step, config, partitioner, stage=stage)
        return dict(prepare(batch, config, step=step, axis_name=None))

    loss_function = objectives.get(config).make_loss(module, config)

    def compute_gradients(
        state: TrainState, batch: Batch
    ) -> tuple[jax.Array, jax.Array, PyTree, PyTree]:
        state = state.map_weights(partitioner.gather)
        value_and_grad = jax.value_and_grad(loss_function, has_aux=True)
        (loss, output), grads = value_and_grad(state.params, state, batch)
        return output.restored, loss, grads, output.batch_stats

    inputs = jax.device_get(jax.jit(make_inputs)(batch, state.step))
    # In config.accumulate parts, which fit into memory.
    compute_gradients, parts = jax.jit(compute_gradients), config.accumulate
    restored = np.empty_like(inputs["clean"])
    results = []
    for i in range(parts):
        part = partitioner.put_batches([{name: x[i::parts] for name, x in inputs.items()}])
        restored[i::parts], loss, grads, stats = compute_gradients(state, part)
        state = state.replace(batch_stats=stats)
        results.append(jax.device_get((loss, grads)))
    loss, grads = jax.tree.map(lambda *values: sum(values) / parts, *results)
    return _ReplayedStep(inputs, restored, float(loss), grads)


def _draw_images(replayed: _ReplayedStep) -> np.ndarray:
    """Panels of the first images, one below the other, ``[H, W, 3]`` uint8."""
    inputs, rows = replayed.inputs, []
    for clean, degraded, restored in zip(
        *(x[:_IMAGES_SHOWN] for x in (inputs["clean"], inputs["degraded"], replayed.restored)),
        strict=True,
    ):
        pictures = [
            (name, np.nan_to_num(image[..., : clean.shape[-1]], posinf=1.0, neginf=0.0))
            for name, image in (("input", degraded), ("output", restored), ("target", clean))
        ]
        rows.append(visualization.draw_panel(pictures, clean=pictures[-1][1], width=192))
    return np.concatenate(rows)


def _describe_step(
    step: int, config: ConfigDict, state: TrainState, replayed: _ReplayedStep
) -> Iterator[str]:
    """Lines about the images, the state and the gradients of a step."""
    inputs, restored, norms = replayed.inputs, replayed.restored, _compute_norms(replayed.grads)
    yield f"step {step}: loss {replayed.loss:.5g}, gradient norm {math.hypot(*norms.values()):.5g}"
    psnr = np.asarray(metrics.psnr(jnp.asarray(restored), jnp.asarray(inputs["clean"])))
    arrays = {"input": inputs["degraded"], "target": inputs["clean"], "output": restored}
    for i, value in enumerate(psnr):
        described = ", ".join(f"{name} {_describe_image(x[i])}" for name, x in arrays.items())
        yield f"  image {i}: psnr {value:.2f} dB, {described}"
    before = _compute_norms({"params": state.params, "batch_stats": state.batch_stats})
    before |= _compute_norms({"critic": state.critic})
    yield from _list_nonfinite("state before the step", before)
    yield from _list_nonfinite("gradients", norms)
    finite = {name: norm for name, norm in norms.items() if np.isfinite(norm)}
    for name in sorted(finite, key=lambda name: -finite[name])[:_NAMES_SHOWN]:
        yield f"  gradient norm {finite[name]:.3e}  {name}"
    arguments = jax.device_put((state, inputs, restored))
    extra = objectives.get(config).compute_extra_gradients(config, *arguments)
    for network, (loss, grads) in jax.device_get(extra).items():
        norms = _compute_norms(grads)
        yield f"  {network}: loss {loss:.5g}, gradient norm {math.hypot(*norms.values()):.5g}"
        yield from _list_nonfinite(f"gradients of the {network}", norms)


def _list_nonfinite(what: str, norms: Mapping[str, float]) -> Iterator[str]:
    """A line that lists the norms that are not finite, if there are any."""
    bad = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if bad:
        yield f"  {what} not finite: {join_some(bad, _NAMES_SHOWN)}"


def _describe_image(image: np.ndarray) -> str:
    """The range of the values, or how many are not finite."""
    bad = np.argwhere(~np.isfinite(image))
    if not bad.size:
        return f"{image.min():.3f} to {image.max():.3f}"
    if len(bad) == image.size:
        return "not finite"
    where = ", ".join(map(str, bad[0]))
    return (
        f"not finite in {len(bad)} of {format_count(image.size, 'value')} (the first at [{where}])"
    )


def _compute_norms(tree: PyTree) -> dict[str, float]:
    """Norms of the arrays by path, in float32, so that a norm that overflows is infinite."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(np.linalg.norm(leaf.ravel()))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
