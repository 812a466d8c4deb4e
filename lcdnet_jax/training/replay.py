"""Making one step of a run again, to look at what went wrong in it."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, metrics, panels
from lcdnet_jax.training import device_data
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.parallel import Parallel
from lcdnet_jax.training.prepare import prepare
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.start import check_same_run, initial_state
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.step import make_loss

# Images drawn, of a batch.
_DRAWN = 4


def replay(
    config: ConfigDict, workdir: str | pathlib.Path, step: int, *, datasets: Mapping[str, Any]
) -> pathlib.Path:
    """Makes step number ``step`` (from 1) of a run again, and writes what went into it.

    A batch is a pure function of (seed, step), and the state before it follows from the newest
    checkpoint below: the steps in between are made again, on one device, and nothing of the run is
    changed. Prints for each image of the batch what is not finite and its PSNR, and the
    largest and all non-finite gradients.

    Args:
        config: The configuration of the run.
        workdir: Its working directory.
        step: As messages of the run name it.
        datasets: As for :func:`train_and_evaluate`; "train" alone is used.

    Returns:
        ``workdir``/replay/<step>: batch.npz with what the step saw ("clean", "degraded", "mask")
        and gave ("restored"), and a picture of the first images.

    Raises:
        ConfigError, CheckpointError: As :func:`train_and_evaluate`, or for a step that the run
            has not.
    """
    config_lib.validate(config)
    workdir = pathlib.Path(workdir)
    check_same_run(config, workdir)
    if not 1 <= step <= config.steps:
        raise config_lib.ConfigError(
            f"step {step} is none of the run, which has {config.steps}; steps count from 1"
        )
    # The same maths on one device; the strategy must not ask for more.
    config = config.copy_and_resolve_references()
    config.steps_per_call = config.parallel.state_shards = 1
    config.parallel.strategy = "jit"
    parallel = Parallel.over(config, jax.local_devices()[:1])
    module = config_lib.network(config)
    checkpoints = checkpoints_lib.Checkpoints(workdir)
    try:
        state, origin = initial_state(config, module, checkpoints, parallel, before=step)
    finally:
        checkpoints.close()
    print(f"{origin}; making {step - 1 - int(state.step)} steps before step {step}", flush=True)

    tx = make_optimizer(config)
    data, start = datasets["train"], int(state.step)
    if config.data.where == "device":
        images = parallel.put_everywhere(data.resident)
        given = iter(lambda: images, None)
    else:
        batches = data.batches(start)
        given = (parallel.put_batches([batch]) for batch in batches)
    program = compile_program(module, tx, config, parallel, state)
    for _ in range(start, step - 1):
        state, _ = program(state, next(given))
    batch = next(given)
    if config.data.where == "device":
        batch = device_data.draw(
            batch,
            step - 1,
            seed=config.seed,
            crop=config.data.crop,
            augment=config.data.augment,
            batch_size=config.batch_size,
        )
    prepared, restored, loss, grads = _step_again(module, config, state, batch)
    folder = workdir / "replay" / str(step)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: prepared[name] for name in ("clean", "degraded", "mask")}
        np.savez(folder / "batch.npz", **arrays, restored=restored)
        image_io.write(folder / "batch.png", _drawn(prepared, restored))
    except OSError as error:
        raise checkpoints_lib.CheckpointError(
            f"cannot write to {folder}: {error.strerror or error}; free disk space or check "
            "permissions"
        ) from error
    _print(step, prepared, restored, loss, grads)
    print(f"written: {folder}/batch.npz, batch.png", flush=True)
    return folder


def _step_again(
    module: Any, config: ConfigDict, state: TrainState, batch: Mapping[str, jax.Array]
) -> tuple[dict[str, np.ndarray], np.ndarray, float, Any]:
    """What the network saw and gave, and the loss and its gradients, on the host."""

    def run(state: TrainState, batch: Mapping[str, jax.Array]) -> Any:
        prepared = prepare(batch, config, step=state.step, axis_name=None)
        variables = {"params": state.params}
        if state.batch_stats:
            variables["batch_stats"] = state.batch_stats
        restored, _ = module.apply(
            variables, prepared["degraded"], train=True, mutable=["batch_stats"]
        )
        grad = jax.value_and_grad(make_loss(module, config), has_aux=True)
        (loss, _), grads = grad(state.params, state.batch_stats, prepared)
        return dict(prepared), restored, loss, grads

    return jax.device_get(jax.jit(run)(state, batch))


def _drawn(batch: Mapping[str, np.ndarray], restored: np.ndarray) -> np.ndarray:
    rows = []
    for clean, degraded, image in zip(batch["clean"], batch["degraded"], restored, strict=True):
        pictures = [("degraded", degraded), ("restored", image), ("clean", clean)]
        shown = [
            (name, np.nan_to_num(picture[..., : clean.shape[-1]], posinf=1.0, neginf=0.0))
            for name, picture in pictures
        ]
        rows.append(panels.draw_panel(shown, clean=shown[-1][1], width=192))
    return np.concatenate(rows[:_DRAWN])


def _print(
    step: int, batch: Mapping[str, np.ndarray], restored: np.ndarray, loss: float, grads: Any
) -> None:
    print(f"step {step}: loss {float(loss)}")
    psnr = np.asarray(metrics.psnr(jnp.asarray(restored), jnp.asarray(batch["clean"])))
    arrays = {"clean": batch["clean"], "degraded": batch["degraded"], "restored": restored}
    for i, value in enumerate(psnr):
        notes = [
            f"{name} {'not finite' if not np.isfinite(array[i]).all() else _range(array[i])}"
            for name, array in arrays.items()
        ]
        print(f"  image {i}: psnr {value:.2f} dB, {', '.join(notes)}")
    norms = {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(np.linalg.norm(leaf.ravel()))
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    }
    bad = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if bad:
        print(f"  gradients that are not finite ({len(bad)} of {len(norms)}): {', '.join(bad[:8])}")
    for name in sorted(set(norms) - set(bad), key=lambda name: -norms[name])[:5]:
        print(f"  gradient norm {norms[name]:.3e}  {name}")


def _range(array: np.ndarray) -> str:
    return f"{array.min():.3f} to {array.max():.3f}"
