"""Making one step of a run again, to look at what went wrong in it."""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, metrics, resident_images, visualization
from lcdnet_jax.training import objectives
from lcdnet_jax.training.objectives import gan
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.prepare import prepare
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Parallel
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.workdir import check_same_run, initial_state

Arrays = dict[str, np.ndarray]

# Images drawn, of a batch; names listed, of parameters.
_DRAWN, _LISTED = 4, 8


def replay(
    config: ConfigDict, workdir: str | pathlib.Path, step: int, *, datasets: Mapping[str, Any]
) -> pathlib.Path:
    """Makes step number ``step`` (from 1) of a run again, and writes what went into it.

    A batch is a pure function of (seed, step), and the state before it follows from the newest
    checkpoint below: the steps in between are made again, on this host's devices, and nothing of
    the run is changed. On other devices than the run's, or instead of its strategy "pmap" or
    several ``steps_per_call``, numbers may differ in the last digits.

    Prints, for each image of the batch, its PSNR and range or the first value that is not finite,
    and which parameters and gradients are not finite or have the largest norm.

    Args:
        config: The configuration of the run.
        workdir: Its working directory.
        step: As messages of the run name it.
        datasets: As for :func:`train_and_evaluate`; "train" alone is used.

    Returns:
        ``workdir``/replay/<step>: batch.npz with what the step saw (as :func:`prepare` gives it:
        "degraded" is the network's input, "clean" the target) and what the network gave
        ("restored"), and batch.png with the first images.

    Raises:
        ConfigError, CheckpointError: As :func:`train_and_evaluate`, or for a step that the run
            has not made by itself.
    """
    if jax.process_count() > 1:
        raise config_lib.ConfigError(
            f"a step is made again by one process, but there are {jax.process_count()}; start one, "
            "with --distributed=off"
        )
    config_lib.validate_once(config)
    workdir = pathlib.Path(workdir)
    check_same_run(config, workdir)
    if not 1 <= step <= config.steps:
        raise config_lib.ConfigError(
            f"the run has no step {step}: config.steps is {config.steps}, and steps count from 1"
        )
    stored = config_lib.load(workdir / "config.json", training=True)
    config = config.copy_and_resolve_references()
    # May differ, see above.
    config.resume, config.init_from = stored.resume, stored.init_from
    config.skip_nonfinite = stored.skip_nonfinite
    # So that each step can be reached, and a batch is one array of all devices.
    config.steps_per_call, config.parallel.strategy = 1, "jit"
    devices = jax.local_devices()
    devices = devices[: math.gcd(len(devices), config.batch_size // config.accumulate)]
    config.parallel.state_shards = math.gcd(len(devices), config.parallel.state_shards)
    parallel = Parallel.over(config, devices)
    module = config_lib.network(config)
    checkpoints = checkpoints_lib.Checkpoints(workdir)
    try:
        features = gan.read_features(config)
        state, origin = initial_state(
            config, module, checkpoints, parallel, features=features, before=step
        )
    finally:
        checkpoints.close()
    start = int(state.step)
    if start >= step:  # no checkpoint of its own is that old
        raise config_lib.ConfigError(
            f"step {step} was not made in {workdir}, which goes on after step {start} of "
            f"{config.resume}; use --workdir={config.resume}"
        )
    folder = workdir / "replay" / str(step)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"{origin}; steps to make before step {step}: {step - 1 - start}", flush=True)

    program = compile_program(module, make_optimizer(config), config, parallel, state)
    with _inputs(config, parallel, datasets["train"], start) as inputs:
        for number in range(start + 1, step):
            state, row = program(state, next(inputs))
            jax.block_until_ready(row)  # else batches would pile up on the devices
            if config.log_every and number % config.log_every == 0:
                print(f"step {number}: loss {float(row['loss']):.5f}", flush=True)
        seen, restored, loss, grads = _step_again(module, config, parallel, state, next(inputs))
    state = jax.device_get(state)
    for line in _findings(step, state, seen, restored, loss, grads):
        print(line)
    if state.critic is not None:
        for line in _findings_of_critic(config, state, seen, restored):
            print(line)
    with _writing(folder):
        arrays: dict[str, Any] = {**seen, "restored": restored}
        np.savez(folder / "batch.npz", **arrays)
        image_io.write(folder / "batch.png", _drawn(seen, restored))
    print(f"written to {folder}: batch.npz, batch.png", flush=True)
    return folder


@contextlib.contextmanager
def _inputs(
    config: ConfigDict, parallel: Parallel, data: Any, start: int
) -> Iterator[Iterator[Any]]:
    """What the program takes for the steps after ``start`` steps."""
    if config.data.where == "device":
        images = parallel.put_everywhere(data.resident)
        yield iter(lambda: images, None)
        return
    batches = data.batches(start)
    try:
        yield (parallel.put_batches([batch]) for batch in batches)
    finally:
        if hasattr(batches, "close"):  # what reads ahead must stop
            batches.close()


@contextlib.contextmanager
def _writing(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, image_io.ImageError) as error:
        raise checkpoints_lib.CheckpointError(
            f"cannot write to {folder}: {getattr(error, 'strerror', None) or error}; free disk "
            "space or check permissions"
        ) from error


def _step_again(
    module: Any, config: ConfigDict, parallel: Parallel, state: TrainState, given: Any
) -> tuple[Arrays, np.ndarray, float, Any]:
    """What the network saw and gave, and the loss and its gradients, on the host."""

    def see(given: Any, step: jax.Array) -> Any:
        if config.data.where == "device":
            given = resident_images.draw(
                given,
                step,
                seed=config.seed,
                crop=config.data.crop,
                augment=config.data.augment,
                batch_size=config.batch_size,
            )
            given = parallel.spread_batch(given)
        return dict(prepare(given, config, step=step, axis_name=None))

    loss_of = objectives.module_of(config).make_loss(module, config)
    # What the loss of adversarial training needs besides.
    others = () if state.critic is None else (state.critic, state.features)

    def compare(params: Any, stats: Any, batch: Any, *others: Any) -> Any:
        params, others = parallel.gathered((params, others))
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (_, stats, restored)), grads = grad(params, stats, batch, *others)
        return restored, loss, grads, stats

    seen = jax.device_get(jax.jit(see)(given, state.step))
    # In the parts of the step, which are what fits into memory.
    compare, stats, parts = jax.jit(compare), state.batch_stats, config.accumulate
    restored = np.empty_like(seen["clean"])
    results = []
    for i in range(parts):
        part = parallel.put_batches([{name: x[i::parts] for name, x in seen.items()}])
        restored[i::parts], *result, stats = compare(state.params, stats, part, *others)
        results.append(jax.device_get(result))
    loss, grads = jax.tree.map(lambda *values: sum(values) / parts, *results)
    return seen, restored, float(loss), grads


def _drawn(seen: Arrays, restored: np.ndarray) -> np.ndarray:
    rows = []
    for clean, degraded, image in zip(
        *(x[:_DRAWN] for x in (seen["clean"], seen["degraded"], restored)), strict=True
    ):
        shown = [
            (name, np.nan_to_num(picture[..., : clean.shape[-1]], posinf=1.0, neginf=0.0))
            for name, picture in (("input", degraded), ("output", image), ("target", clean))
        ]
        rows.append(visualization.draw_panel(shown, clean=shown[-1][1], width=192))
    return np.concatenate(rows)


def _findings(
    step: int, state: TrainState, seen: Arrays, restored: np.ndarray, loss: float, grads: Any
) -> Iterator[str]:
    """Lines that say what a step was like."""
    norms = _norms(grads)
    yield f"step {step}: loss {loss:.5g}, gradient norm {math.hypot(*norms.values()):.5g}"
    psnr = np.asarray(metrics.psnr(jnp.asarray(restored), jnp.asarray(seen["clean"])))
    arrays = {"input": seen["degraded"], "target": seen["clean"], "output": restored}
    for i, value in enumerate(psnr):
        described = ", ".join(f"{name} {_described(array[i])}" for name, array in arrays.items())
        yield f"  image {i}: psnr {value:.2f} dB, {described}"
    before = _norms({"params": state.params, "batch_stats": state.batch_stats})
    if state.critic is not None:
        before |= _norms({"critic": state.critic})
    yield from _not_finite("state before the step", before)
    yield from _not_finite("gradients", norms)
    finite = {name: norm for name, norm in norms.items() if np.isfinite(norm)}
    for name in sorted(finite, key=lambda name: -finite[name])[:_LISTED]:
        yield f"  gradient norm {finite[name]:.3e}  {name}"


def _findings_of_critic(
    config: ConfigDict, state: TrainState, seen: Arrays, restored: np.ndarray
) -> Iterator[str]:
    critic = state.critic
    assert critic is not None
    grad = jax.jit(jax.value_and_grad(gan.make_critic_loss(config), has_aux=True))
    (loss, _), grads = jax.device_get(grad(critic.params, critic.batch_stats, seen, restored))
    norms = _norms(grads)
    yield f"  critic: loss {float(loss):.5g}, gradient norm {math.hypot(*norms.values()):.5g}"
    yield from _not_finite("gradients of the critic", norms)


def _not_finite(what: str, norms: Mapping[str, float]) -> Iterator[str]:
    bad = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if bad:
        more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        yield f"  {what} not finite: {', '.join(bad[:_LISTED])}{more}"


def _described(image: np.ndarray) -> str:
    bad = np.argwhere(~np.isfinite(image))
    if not bad.size:
        return f"{image.min():.3f} to {image.max():.3f}"
    if len(bad) == image.size:
        return "not finite"
    where = ", ".join(map(str, bad[0]))
    return f"not finite in {len(bad)} of {image.size} values (the first at [{where}])"


def _norms(tree: Any) -> dict[str, float]:
    """Norms of the arrays by path, as float32 has them: what overflows counts as infinite."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(np.linalg.norm(leaf.ravel()))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
