"""How a run begins: its working directory, and the state that it starts from."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost
from lcdnet_jax.training.objectives import gan
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.sharding import Parallel
from lcdnet_jax.training.state import Critic, TrainState, abstract_state, create_state


def open_workdir(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Makes the directory, or checks that its run has the same configuration."""
    multihost.run_on_first_process(lambda: _open_workdir(config, workdir), config_lib.ConfigError)


def _open_workdir(config: ConfigDict, workdir: pathlib.Path) -> None:
    stored = workdir / "config.json"
    folder = workdir / "checkpoints"
    begun = folder.is_dir() and any(folder.iterdir())
    to_store = config
    if stored.exists():
        check_same_run(config, workdir, begun=begun)
        # Where the run came from, which a command that continues it need not say again.
        before = config_lib.load(stored, training=True)
        to_store = config.copy_and_resolve_references()
        to_store.resume, to_store.init_from = before.resume, before.init_from
    elif begun:
        raise config_lib.ConfigError(
            f"{workdir} holds checkpoints but no config.json; restore that file or use another "
            "--workdir"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        config_lib.save(to_store, stored)
    except OSError as error:
        raise config_lib.ConfigError(
            f"cannot write to the working directory {workdir}: {error.strerror or error}; choose a "
            "writable --workdir on a disk with free space"
        ) from error


def check_same_run(config: ConfigDict, workdir: pathlib.Path, *, begun: bool = True) -> None:
    """Refuses a working directory whose run has another configuration.

    Args:
        config: What is given.
        workdir: Its config.json is compared.
        begun: Whether the run has saved anything; else it must also start from the same.
    """
    stored = config_lib.load(workdir / "config.json", training=True)
    changed = config_lib.differences(stored, config)
    if not begun:
        changed += [
            f"config.{name}: {stored[name]!r} there, {config[name]!r} given"
            for name in ("resume", "init_from")
            if stored[name] != config[name]
        ]
    if changed:
        raise config_lib.ConfigError(
            f"{workdir} holds a run with another configuration:\n  "
            + "\n  ".join(changed)
            + "\nUse another working directory, or set these fields back to continue that run."
        )


def check_hosts_agree(config: ConfigDict, data: Any) -> None:
    """Refuses processes that were given other configurations or images than process 0."""
    mine = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    if config.data.where == "device":
        mine.update(np.asarray(data.resident.table).tobytes())
    first = multihost.run_on_first_process(mine.hexdigest)
    if not multihost.all_succeeded(first == mine.hexdigest()):
        raise config_lib.ConfigError(
            "the processes of this run have other configurations, or other training images, than "
            "process 0; start all with the same command, on the same files"
        )


def initial_state(
    config: ConfigDict,
    module: nn.Module,
    checkpoints: checkpoints_lib.Checkpoints,
    parallel: Parallel,
    *,
    features: Any = None,
    before: int | None = None,
) -> tuple[TrainState, str]:
    """The state to start from, on its devices, and where it came from, in words.

    Args:
        config: The experiment.
        module: Its network.
        checkpoints: Those of the working directory.
        parallel: Placement on devices.
        features: What ``adversarial.read_features`` gives.
        before: Look at checkpoints only that hold fewer steps.
    """
    state, origin = _initial_state(config, module, checkpoints, parallel, before=before)
    if features is not None:
        state = state.replace(features=jax.device_put(features, parallel.of_state(features)))
    return state, origin


def _initial_state(
    config: ConfigDict,
    module: nn.Module,
    checkpoints: checkpoints_lib.Checkpoints,
    parallel: Parallel,
    *,
    before: int | None,
) -> tuple[TrainState, str]:
    tx = make_optimizer(config)
    how: dict[str, Any] = {"ema": config.ema_decay > 0, "place": parallel.of_state}
    if config.objective == "gan":
        how["critic"] = gan.make_critic(config)
    abstract = abstract_state(module, tx, **how)
    if checkpoints.has_any(before=before):
        state = _restored(checkpoints, abstract, parallel, before=before)
        return state, f"continuing after step {int(state.step)} of {checkpoints.directory}"
    if config.resume:
        check_same_run(config, pathlib.Path(config.resume))
        source = checkpoints_lib.Checkpoints(config.resume)
        try:
            if not source.has_any():
                raise checkpoints_lib.CheckpointError(
                    f"config.resume: {source.directory} holds no complete checkpoint"
                )
            state = _restored(source, abstract, parallel)
        finally:
            source.close()
        return state, f"continuing after step {int(state.step)} of {config.resume}"
    variables, origin = None, f"starting afresh with seed {config.seed}"
    if config.init_from:
        wanted = {"params": abstract.params}
        if abstract.batch_stats:
            wanted["batch_stats"] = abstract.batch_stats
        variables, step = checkpoints_lib.restore_variables(config.init_from, wanted)
        origin = f"starting from the parameters of step {step} of {config.init_from}"
    key = jax.random.key(config.seed)
    return create_state(key, module, tx, variables=variables, **how), origin


def _restored(
    checkpoints: checkpoints_lib.Checkpoints,
    abstract: TrainState,
    parallel: Parallel,
    *,
    before: int | None = None,
) -> TrainState:
    step, items = checkpoints.restore_latest(abstract.items(), before=before)
    return TrainState(
        step=jax.device_put(np.int32(step), parallel.replicated),
        params=items["params"],
        opt_state=items.get("opt_state", abstract.opt_state),  # absent where it is empty
        batch_stats=items.get("batch_stats", {}),
        ema=items.get("ema"),
        critic=Critic(**items["critic"]) if "critic" in items else None,
    )
