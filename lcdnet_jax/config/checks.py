"""Checks of a whole configuration, before anything is compiled.

Rows in :mod:`lcdnet_jax.config.schema` check single fields. If all are valid, fields are checked
against each other.
"""

from ml_collections import ConfigDict

from lcdnet_jax.config import build, degradation_checks, objective_checks, suggestions
from lcdnet_jax.config.schema import FIELDS, ConfigError, flatten
from lcdnet_jax.config.stages import list_stages, with_stage

# Content of the last valid configuration.
_valid: str | None = None


def validate(config: ConfigDict) -> None:
    """Checks every field.

    Args:
        config: A configuration with all fields of ``configs/default.py``.

    Raises:
        ConfigError: If it is invalid. The message lists unknown, missing and wrong fields, one line
            each.
    """
    global _valid
    if found := find_problems(config):
        raise ConfigError("\n".join(found))
    _valid = _content(config)


def validate_once(config: ConfigDict) -> None:
    """Validates a configuration, unless it equals the last valid one of this process.

    Library functions call this. An entry point has validated its configuration already; a direct
    caller may not have.

    Args:
        config: As for :func:`validate`.

    Raises:
        ConfigError: As :func:`validate`.
    """
    if _content(config) != _valid:
        validate(config)


def _content(config: ConfigDict) -> str:
    return repr(config.to_dict())


def find_problems(config: ConfigDict) -> list[str]:
    """Finds the problems of a configuration, one line each."""
    flat = flatten(config)
    found = [suggestions.unknown_field(name) for name in sorted(set(flat) - set(FIELDS))]
    for name in sorted(set(FIELDS) - set(flat)):
        found.append(f"missing field config.{name}; start from configs/default.py")
    for name in sorted(set(FIELDS) & set(flat)):
        wanted = FIELDS[name].rule(flat[name])
        if wanted:
            found.append(f"config.{name} must be {wanted}, got {flat[name]!r}")
    return found or _check_tuples(config) or [*_check_mixup(config), *_check_all_stages(config)]


def _check_tuples(config: ConfigDict) -> list[str]:
    """Checks fields that hold a tuple with an entry for each stage or cycle."""
    found = []
    for section, names, what in (
        ("stages", ("steps", "crops", "batch_sizes"), "stage"),
        ("optimizer", ("cycle_steps", "cycle_weights", "cycle_final_fractions"), "cycle"),
    ):
        lengths = {f"config.{section}.{name}": len(config[section][name]) for name in names}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} ({length})" for name, length in lengths.items())
            found.append(f"{listed} differ in length; give each an entry for every {what}")
    has_cycles = bool(config.optimizer.cycle_steps)
    if has_cycles != (config.optimizer.schedule == "cosine_restarts"):
        found.append(
            f"config.optimizer.schedule {config.optimizer.schedule!r} and "
            f"config.optimizer.cycle_steps {tuple(config.optimizer.cycle_steps)} do not fit; the "
            "schedule 'cosine_restarts' needs cycles, and the others use none: set them to ()"
        )
    return found


def _check_mixup(config: ConfigDict) -> list[str]:
    if not config.mixup.rate:
        return []
    groups, sizes = config.mixup.groups, [stage.batch_size for stage in list_stages(config)]
    if bad := [size for size in sizes if size % groups]:
        return [
            f"config.mixup.groups ({groups}) does not divide batches of "
            f"{', '.join(map(str, bad))}; choose a divisor"
        ]
    if max(sizes) == groups:
        return [
            f"config.mixup.groups ({groups}) leaves one image in each group of a batch of "
            f"{groups}, and none to mix it with; choose fewer groups or a larger batch, or set "
            "config.mixup.rate to 0"
        ]
    return []


def _check_all_stages(config: ConfigDict) -> list[str]:
    """Checks fields against each other, in every stage."""
    if not config.stages.steps:
        return _check_between_fields(config)
    found = _check_stages(config)
    for stage in list_stages(config):
        where = f"in the stage of config.stages with crops of {stage.crop}: "
        of_stage = _check_between_fields(with_stage(config, stage))
        found += [where + line if "crop" in line else line for line in of_stage]
    return list(dict.fromkeys(found))


def _check_stages(config: ConfigDict) -> list[str]:
    found = []
    for field, value, name in (
        ("data.crop", config.data.crop, "crops"),
        ("batch_size", config.batch_size, "batch_sizes"),
    ):
        largest = max(config.stages[name])
        if value != largest:
            found.append(
                f"config.{field} ({value}) is not the largest of config.stages.{name} "
                f"{tuple(config.stages[name])}; set it to {largest}, or change the stages"
            )
    calls = config.steps_per_call
    borders = [stage.first_step for stage in list_stages(config)]
    if bad := [border for border in borders if border % calls]:
        found.append(
            f"config.stages.steps: a stage begins after step {', '.join(map(str, bad))}, which is "
            f"not a multiple of config.steps_per_call ({calls}); the batches of one call have one "
            "shape, so let stages begin after multiples"
        )
    if config.objective == "gan":
        found.append(
            "config.objective 'gan' has a critic for crops of one size; set config.stages to ()"
        )
    return found


def _check_between_fields(config: ConfigDict) -> list[str]:
    wrong_network, scale = [], 1
    try:
        scale = build.network(config).scale
    except ValueError as error:
        wrong_network.append(f"config.network.kwargs: {error}")
    return [
        *_check_crops(config),
        *_check_noise(config),
        *degradation_checks.find_problems(config, scale),
        *objective_checks.find_problems(config, scale),
        *_check_steps(config),
        *_check_device_data(config),
        *_check_start(config),
        *wrong_network,
    ]


def _check_crops(config: ConfigDict) -> list[str]:
    data, found = config.data, []
    if data.tile and not data.crop <= data.tile:
        found.append(
            f"config.data.tile ({data.tile}) is smaller than config.data.crop ({data.crop}), which "
            "is taken inside it; enlarge the tile, or 0 for none"
        )
    if bool(data.tile) != bool(data.tile_stride):
        found.append(
            f"config.data.tile ({data.tile}) and config.data.tile_stride ({data.tile_stride}) "
            "belong together; set both, or both to 0"
        )
    if config.degradation.kind == "none" and tuple(data.scales) != (1.0,):
        found.append(
            f"config.data.scales {tuple(data.scales)} would smooth the noise of degraded images "
            "that come from disk (config.degradation.kind 'none'); set it to (1.0,)"
        )
    return found


def _check_noise(config: ConfigDict) -> list[str]:
    noise, found = config.degradation, []
    if noise.sigma_min > noise.sigma_max:
        found.append(
            f"config.degradation.sigma_min ({noise.sigma_min}) is above sigma_max "
            f"({noise.sigma_max}); swap them"
        )
    if noise.spectrum != "white" and noise.kind != "awgn":
        found.append(
            f"config.degradation.spectrum {noise.spectrum!r} is for added noise, but "
            f"config.degradation.kind {noise.kind!r} adds none; set it to 'white'"
        )
    elif noise.spectrum != "white" and noise.where == "host":
        found.append(
            f"config.degradation.spectrum {noise.spectrum!r} is made on the device only; set "
            "config.degradation.where to 'device'"
        )
    if "," in noise.protocol and noise.where == "host":
        found.append(
            f"config.degradation.protocol {noise.protocol!r} is drawn for each image, on the "
            "device only; set config.degradation.where to 'device', or name one protocol"
        )
    return found


def _check_steps(config: ConfigDict) -> list[str]:
    calls, found = config.steps_per_call, []
    if config.batch_size % config.accumulate:
        found.append(
            f"config.batch_size ({config.batch_size}) is not divisible by config.accumulate "
            f"({config.accumulate}); choose a divisor"
        )
    found += [
        f"config.{name} ({config[name]}) is not a multiple of config.steps_per_call ({calls}), "
        "between which nothing is reported or saved; choose multiples"
        for name in ("steps", "log_every", "eval_every", "checkpoint_every")
        if config[name] % calls
    ]
    if config.parallel.strategy == "pmap" and config.parallel.state_shards > 1:
        found.append(
            "config.parallel.strategy 'pmap' keeps the whole state on each device; set "
            f"config.parallel.state_shards ({config.parallel.state_shards}) to 1, or the strategy "
            "to 'jit'"
        )
    return found


def _check_device_data(config: ConfigDict) -> list[str]:
    if config.data.where != "device":
        return []
    degraded_by_host = config.degradation.kind != "none" and config.degradation.where == "host"
    masked_by_host = config.sfm.rate > 0 and config.sfm.where == "host"
    found = [
        f"config.data.where is 'device' and config.{name}.where 'host', but batches that "
        f"are drawn on the device never see the host; set config.{name}.where to 'device'"
        for name, on_host in (("degradation", degraded_by_host), ("sfm", masked_by_host))
        if on_host
    ]
    if config.data.cache_dir:
        found.append(
            f"config.data.cache_dir ({config.data.cache_dir}) is for batches of the host, but "
            "config.data.where is 'device'; set config.data.cache_dir to ''"
        )
    if config.data.encoded_cache_gb:
        found.append(
            f"config.data.encoded_cache_gb ({config.data.encoded_cache_gb}) is for batches of the "
            "host, but config.data.where is 'device', where all images are decoded; set "
            "config.data.encoded_cache_gb to 0"
        )
    if config.steps * config.batch_size >= 2**31:
        found.append(
            f"config.steps * config.batch_size ({config.steps * config.batch_size}) reaches 2^31, "
            "the most examples that are counted on a device; set config.data.where to 'host'"
        )
    return found


def _check_start(config: ConfigDict) -> list[str]:
    if not (config.resume and config.init_from):
        return []
    return [
        "config.resume and config.init_from are both set; resume continues a run, init_from "
        "starts a new one from its parameters: keep one"
    ]
