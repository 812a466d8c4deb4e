"""The working directory of a run, and the state that the run starts from."""

import dataclasses
import hashlib
import pathlib

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import messages, multihost, storage, strict_json
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training import data_record, objectives
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.program import DeviceData, HostData
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import StateCreator, TrainState
from lcdnet_jax.typing import PyTree


def open_workdir(
    config: ConfigDict,
    workdir: pathlib.Path,
    checkpoints: checkpoints_lib.Checkpoints,
    data: HostData | DeviceData,
    *,
    accept_changed_data: bool,
) -> str | None:
    """Starts a run in a working directory, or checks that a command may continue its run.

    Args:
        config: Configuration of the command.
        workdir: The directory.
        checkpoints: Its checkpoints, which hold the lock. Nothing is written without it.
        data: Training data of the command.
        accept_changed_data: Continue with training images that are not those of the run.

    Returns:
        A line for the log about the training images, if there is something to say.

    Raises:
        ConfigError: If the configuration or the training images are not those of the run, or if
            the directory cannot be written to.
    """
    return multihost.run_on_first_process(
        lambda: _open_workdir(config, workdir, checkpoints, data, accept_changed_data),
        config_lib.ConfigError,
    )


def _open_workdir(
    config: ConfigDict,
    workdir: pathlib.Path,
    checkpoints: checkpoints_lib.Checkpoints,
    data: HostData | DeviceData,
    accept_changed_data: bool,
) -> str | None:
    stored = workdir / "config.json"
    # Damaged ones that were moved aside count: a run never restarts over the remains of another.
    has_checkpoints = bool(checkpoints.steps()) or checkpoints.has_damaged()
    to_store, line = config, None
    if config.resume and not has_checkpoints:
        other = storage.to_path(config.resume)
        line = check_data(
            config,
            load_run_config(config, other),
            other,
            data,
            step=None,
            accept_changed_data=accept_changed_data,
        )
    if storage.exists(stored):
        before = load_run_config(config, workdir, has_checkpoints=has_checkpoints)
        if has_checkpoints:
            line = check_data(
                config,
                before,
                workdir,
                data,
                step=checkpoints.latest_step(),
                accept_changed_data=accept_changed_data,
            )
        # Keep the origin of the run. A command that continues it need not repeat the origin.
        to_store = config.copy_and_resolve_references()
        to_store.resume, to_store.init_from = before.resume, before.init_from
    elif has_checkpoints:
        raise config_lib.ConfigError(
            f"{workdir} holds checkpoints but no config.json; restore that file or use another "
            "--workdir"
        )
    elif config.init_from:
        _find_weights(config.init_from)  # before config.json binds the run to a wrong name
    try:
        config_lib.save(to_store, stored)
    except OSError as error:
        raise config_lib.ConfigError(
            f"cannot write to the working directory {workdir}: {error.strerror or error}; choose a "
            "writable --workdir on a disk with free space"
        ) from error
    return line


def check_data(
    config: ConfigDict,
    before: ConfigDict,
    workdir: pathlib.Path,
    data: HostData | DeviceData,
    *,
    step: int | None,
    accept_changed_data: bool,
) -> str | None:
    """Checks that training images are those of a run, wherever they are now.

    Args:
        config: Configuration of the command.
        before: Configuration of the run.
        workdir: Directory of the run.
        data: Training data of the command.
        step: Number of steps after which the images are used. None: the newest.
        accept_changed_data: Accept other images.

    Returns:
        A line for the log, if there is something to say.

    Raises:
        ConfigError: If the images differ, or if they are at another path and the run has no record
            of its images.
    """
    try:
        line = data_record.check(workdir, data, step=step)
    except data_record.ChangedImagesError as error:
        if not accept_changed_data:
            # This type is raised in all processes alike, see multihost.
            raise config_lib.ConfigError(str(error)) from error
        return f"{error.summary}; they are accepted"
    old, new = before.data.train.path, config.data.train.path
    if line is not None and old != new and not accept_changed_data:
        raise config_lib.ConfigError(
            f"{line}; config.data.train.path is {old!r} there and {new!r} here. If the images are "
            "the same, continue with --accept_changed_data"
        )
    return line


def record_data(workdir: pathlib.Path, data: HostData | DeviceData, *, step: int) -> None:
    """Records the training images of the steps after ``step``, on process 0.

    Raises:
        ConfigError: If the directory cannot be written to.
    """

    def write() -> None:
        try:
            data_record.write(workdir, data, step=step)
        except OSError as error:
            raise config_lib.ConfigError(str(error)) from error

    multihost.run_on_first_process(write, config_lib.ConfigError)


def load_run_config(
    config: ConfigDict, workdir: pathlib.Path, *, has_checkpoints: bool = True
) -> ConfigDict:
    """Loads the configuration of a run, and checks that a command may continue the run.

    Args:
        config: Configuration of the command.
        workdir: Directory of the run.
        has_checkpoints: Whether the run has saved a checkpoint. If not, ``resume`` and
            ``init_from`` must be the same in both.

    Returns:
        The configuration of the run.

    Raises:
        ConfigError: If config.json cannot be read, or if the configurations differ in fields that
            must not change.
    """
    stored = config_lib.load(workdir / "config.json", training=True)
    changed = config_lib.differences(stored, config)
    if not has_checkpoints:
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
    return stored


def check_hosts_agree(config: ConfigDict, data: HostData | DeviceData) -> None:
    """Refuses processes whose configuration or images differ from those of process 0."""
    mine = hashlib.sha256(strict_json.compute_sha256(config.to_dict()).encode())
    mine.update(data_record.compute_fingerprint(data).encode())
    if config.data.where == "device":
        assert isinstance(data, DeviceData)
        mine.update(np.asarray(data.resident.table).tobytes())
    first = multihost.run_on_first_process(mine.hexdigest)
    if not multihost.all_succeeded(first == mine.hexdigest()):
        raise config_lib.ConfigError(
            "the processes of this run have other configurations, or other training images, than "
            "process 0; start all with the same command, on the same files"
        )


def load_or_create_state(
    config: ConfigDict,
    module: RestorationNetwork,
    checkpoints: checkpoints_lib.Checkpoints,
    partitioner: Partitioner,
    *,
    before: int | None = None,
) -> tuple[TrainState, str]:
    """Loads or creates the first state of a run, on its devices, and describes its origin.

    Args:
        config: The experiment.
        module: Its network.
        checkpoints: Checkpoints of the working directory.
        partitioner: Placement on devices.
        before: Use only checkpoints of smaller steps. None uses all.
    """
    tx = make_optimizer(config)
    init_extra_state = objectives.get(config).make_extra_state_init(config)
    creator = StateCreator(
        module,
        tx,
        ema=config.ema_decay > 0,
        init_extra_state=init_extra_state,
        get_sharding=partitioner.get_state_sharding,
    )
    abstract = creator.abstract()
    if checkpoints.has_any(before=before):
        state = _restore_latest(checkpoints, abstract, partitioner, before=before)
        return state, f"continuing after step {int(state.step)} of {checkpoints.directory}"
    if config.resume:
        state = _restore_other_run(config, abstract, partitioner)
        return state, f"continuing after step {int(state.step)} of {config.resume}"
    variables, origin = None, f"starting from scratch with seed {config.seed}"
    if config.init_from:
        wanted = {"params": abstract.params}
        if abstract.batch_stats:
            wanted["batch_stats"] = abstract.batch_stats
        variables, step, source = _load_initial_variables(config.init_from, wanted)
        origin = f"starting from the parameters of step {step} of {config.init_from}"
        if source is not None and (different := _describe_differences(source, module)):
            logging.warning(
                "the network of %s differs from this one: %s", config.init_from, different
            )
    with messages.SlowWorkReporter(_print).watch("compiling", "the initialization"):
        state = creator.create(jax.random.key(config.seed), variables)
    return state, origin


def _print(line: str) -> None:
    """Prints a line on process 0. The run has no metric writer yet."""
    if jax.process_index() == 0:
        print(line, flush=True)


def _find_weights(name: str) -> pathlib.Path:
    """The path of ``config.init_from``, a path or the name of pretrained weights."""
    try:
        return weights_lib.pretrained.find(name)
    except (weights_lib.pretrained.PretrainedError, weights_lib.hub.HubError) as error:
        raise config_lib.ConfigError(f"config.init_from: {error}") from None


def _load_initial_variables(
    name: str, wanted: dict[str, PyTree]
) -> tuple[dict[str, PyTree], int, RestorationNetwork | None]:
    """The variables of ``config.init_from``, their step and their network if it is known."""
    path = _find_weights(name)
    if storage.is_dir(path):
        variables, step = checkpoints_lib.restore_variables(path, wanted)
        try:
            source = config_lib.network(config_lib.load(path / "config.json"))
        except (OSError, config_lib.ConfigError) as error:
            logging.warning("the fields of the network of %s are unknown (%s)", name, error)
            return variables, step, None
        return variables, step, source
    loaded = weights_lib.load(path)
    found, needed = (
        {"/".join(key): leaf.shape for key, leaf in traverse_util.flatten_dict(tree).items()}
        for tree in (loaded.variables, wanted)
    )
    different = sorted(dict(found.items() ^ needed.items()))
    if different:
        raise config_lib.ConfigError(
            f"config.init_from: {name} holds another network ("
            f"{messages.format_count(len(different), 'array')} missing or of another shape, such "
            f"as {different[0]}); set config.network and config.data.channels as "
            f"`lcdnet-jax info {name}` shows"
        )
    return jax.device_get(loaded.variables), loaded.card["step"], loaded.module


def _describe_differences(source: RestorationNetwork, module: RestorationNetwork) -> str:
    """Fields that may change the result, though the parameters have the same shapes."""
    names = [field.name for field in dataclasses.fields(module)]
    return ", ".join(
        f"{name} is {getattr(source, name, None)} there and {getattr(module, name)} here"
        for name in names
        if name not in ("dtype", "name", "parent")
        and getattr(source, name, None) != getattr(module, name)
    )


def _restore_other_run(
    config: ConfigDict, abstract: TrainState, partitioner: Partitioner
) -> TrainState:
    """The newest state of the run in ``config.resume``, see :func:`open_workdir`."""
    source = checkpoints_lib.Checkpoints(config.resume)
    try:
        if not source.has_any():
            raise checkpoints_lib.CheckpointError(
                f"config.resume: {source.directory} contains no complete checkpoint"
            )
        return _restore_latest(source, abstract, partitioner)
    finally:
        source.close()


def _restore_latest(
    checkpoints: checkpoints_lib.Checkpoints,
    abstract: TrainState,
    partitioner: Partitioner,
    *,
    before: int | None = None,
) -> TrainState:
    step, items = checkpoints.restore_latest(abstract.items(), before=before)
    return TrainState(
        step=jax.device_put(np.int32(step), partitioner.replicated),
        params=items["params"],
        opt_state=items.get("opt_state", abstract.opt_state),  # absent if it is empty
        batch_stats=items.get("batch_stats", {}),
        ema=items.get("ema"),
        critic=abstract.critic and abstract.critic.replace(**items["critic"]),
    )
