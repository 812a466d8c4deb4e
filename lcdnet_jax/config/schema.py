"""Experiment configurations: the rules they keep, and how they are stored and compared.

``configs/default.py`` explains each field; this module refuses a configuration that breaks a
rule, before anything is compiled, with a message that names the field and the fix.
"""

import difflib
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict

from lcdnet_jax import atomic_io, degradations, losses, networks, sfm
from lcdnet_jax.data_sets import SOURCES
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels

# A rule takes a value and returns what it should have been, or None if it is fine.
Rule = Callable[[Any], str | None]


def _integer(low: int, high: float = math.inf) -> Rule:
    def rule(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"an integer {_bounds(low, high)}"

    return rule


def _number(low: float, high: float = math.inf) -> Rule:
    def rule(value: Any) -> str | None:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = good and abs(value) <= sys.float_info.max and low <= value <= high
        return None if good else f"a number {_bounds(low, high)}"

    return rule


def _inside(low: float, high: float) -> Rule:
    """Like ``_number`` without ``high``."""

    def rule(value: Any) -> str | None:
        good = _number(low, high)(value) is None and value < high
        return None if good else f"a number of at least {low} and below {high}"

    return rule


def _bounds(low: float, high: float) -> str:
    return f"of at least {low}" if high == math.inf else f"from {low} up to {high}"


def _choice(*values: Any) -> Rule:
    def rule(value: Any) -> str | None:
        good = any(type(value) is type(known) and value == known for known in values)
        return None if good else "one of " + ", ".join(map(repr, values))

    return rule


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a string"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def _levels(value: Any) -> str | None:
    good = isinstance(value, (tuple, list)) and len(value) > 0
    good = good and all(_number(0)(v) is None for v in value)
    return None if good else "a tuple of one or more noise levels, each at least 0"


def _scales(value: Any) -> str | None:
    good = isinstance(value, (tuple, list)) and len(value) > 0
    good = good and all(_number(0, 1)(v) is None and v > 0 for v in value)
    good = good and len(set(value)) == len(value)
    return None if good else "a tuple of one or more scales, all different, above 0 and up to 1"


def _sources(value: Any) -> str | None:
    good = isinstance(value, str) and all(kind.strip() in SOURCES for kind in value.split(","))
    wanted = f"one of {', '.join(map(repr, SOURCES))}, or several of these joined by commas"
    return None if good else wanted


def _degradation(value: Any) -> str | None:
    kinds = value.split("+") if isinstance(value, str) else []
    if value in ("awgn", "none") or (kinds and all(kind in degradations.KINDS for kind in kinds)):
        return None
    return (
        f"'awgn', 'none', or one or several of {', '.join(map(repr, degradations.KINDS))} joined "
        "by '+'"
    )


def _protocols(value: Any) -> str | None:
    names = value.split(",") if isinstance(value, str) else []
    good = (
        names and len(set(names)) == len(names) and set(names) <= set(degradations.NOISE_PROTOCOLS)
    )
    known = ", ".join(map(repr, degradations.NOISE_PROTOCOLS))
    return None if good else f"one of {known}, or several of these, each once, as in 'float,8bit'"


def _kwargs(value: Any) -> str | None:
    good = isinstance(value, Mapping | ConfigDict)
    good = good and not {"name", "channels", "dtype"} & set(value)
    return None if good else "a ConfigDict without name, channels and dtype, which have their own"


# Objectives that train a part each of the network "ikc".
KERNEL_CORRECTION = ("ikc_sftmd", "ikc_predictor", "ikc_corrector")

# Objectives whose target, where it is an image, is the clean one.
COMPARED_WITH_CLEAN = ("supervised", "gan", *KERNEL_CORRECTION)

# How to go on without weights of VGG19.
NO_VGG = (
    "give a state dict of torchvision's vgg19, such as "
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, or set config.gan.perceptual_weight "
    "to 0 to train without the perceptual loss"
)

_SOURCE: dict[str, Rule] = {
    "source": _sources,
    "path": _text,
    "split": _text,
    "feature": _text,
}

RULES: dict[str, Rule] = {
    "seed": _integer(0, 2**32 - 1),  # what a random key holds
    "network.name": lambda value: _choice(*networks.available())(value),
    "network.kwargs": _kwargs,
    "network.dtype": _choice("float32", "bfloat16"),
    **{f"data.{split}.{key}": rule for split in ("train", "eval") for key, rule in _SOURCE.items()},
    "data.channels": _choice(1, 3, TWO_VIEW_CHANNELS),
    "data.crop": _integer(1),
    "data.tile": _integer(0),
    "data.tile_stride": _integer(0),
    "data.scales": _scales,
    "data.augment": _boolean,
    "data.cache_gb": _number(0),
    "data.on_bad_image": _choice("stop", "replace"),
    "data.where": _choice("host", "device"),
    "degradation.kind": _degradation,
    "degradation.options": lambda v: (
        None if isinstance(v, Mapping | ConfigDict) else "a ConfigDict"
    ),
    "degradation.sigma_min": _number(0),
    "degradation.sigma_max": _number(0),
    "degradation.protocol": _protocols,
    "degradation.spectrum": _choice(*degradations.SPECTRA),
    "degradation.where": _choice("device", "host"),
    "sfm.rate": _number(0, 1),
    "sfm.mode": _choice(*sfm.MODES),
    "sfm.center": _number(0, 1),
    "sfm.sigma": _number(0),
    "sfm.where": _choice("device", "host"),
    "sfm.unselected": _choice(*sfm.UNSELECTED),
    "sfm.target": _choice("clean", "masked"),
    "steps": _integer(1),
    "batch_size": _integer(1),
    "accumulate": _integer(1),
    "objective": _choice("supervised", "noise2noise", "noise2self", "gan", *KERNEL_CORRECTION),
    "loss": _choice(*losses.NAMES),
    "fft_weight": _number(0),
    "dct_loss_weight": _number(0),
    "gan.pixel_weight": _number(0),
    "gan.perceptual_weight": _number(0),
    "gan.critic_weight": _number(0),
    "gan.critic_learning_rate": _number(0),
    "gan.critic_features": _integer(1),
    "gan.vgg": _text,
    "optimizer.learning_rate": _number(0),
    "optimizer.beta2": _inside(0, 1),
    "optimizer.schedule": _choice("step", "cosine"),
    "optimizer.decay_every": _integer(1),
    "optimizer.decay_factor": _number(1e-6, 1),
    "optimizer.final_fraction": _number(0, 1),
    "optimizer.warmup_steps": _integer(0),
    "optimizer.clip_norm": _number(0),
    "ema_decay": _number(0, 1),
    "skip_nonfinite": _integer(0),
    "parallel.strategy": _choice("jit", "pmap"),
    "parallel.state_shards": _integer(1),
    "steps_per_call": _integer(1),
    "resume": _text,
    "init_from": _text,
    "log_every": _integer(0),
    "eval_every": _integer(0),
    "checkpoint_every": _integer(0),
    "keep_checkpoints": _integer(1),
    "eval.sigmas": _levels,
    "eval.max_images": _integer(0),
    "eval.panels": _integer(0),
    "eval.bucket": _integer(8),
}

# Fields that may change between two runs in one working directory: they alter what is reported
# or kept, or how long the run is, but no step that was already made.
_FREE = (
    *("steps", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints"),
    *("skip_nonfinite", "steps_per_call"),
)
_FREE_PREFIXES = (
    "eval.",
    "data.eval.",
    "data.cache_gb",
    "data.on_bad_image",
    "parallel.",
    "resume",
    "init_from",
)

# What stored configurations mean that are older than a field: they lack it.
_BEFORE: dict[str, Any] = {
    "data.tile": 0,
    "data.tile_stride": 0,
    "data.scales": (1.0,),
    "data.where": "host",
    "sfm.rate": 0.0,
    "sfm.mode": "targeted",
    "sfm.center": 0.85,
    "sfm.sigma": 0.15,
    "sfm.where": "device",
    "sfm.unselected": "keep",
    "sfm.target": "clean",
    "degradation.spectrum": "white",
    "degradation.options": {},
    "objective": "supervised",
    "fft_weight": 0.1,
    "dct_loss_weight": 0.0,
    "gan.pixel_weight": 0.01,
    "gan.perceptual_weight": 1.0,
    "gan.critic_weight": 0.005,
    "gan.critic_learning_rate": 1e-4,
    "gan.critic_features": 64,
    "gan.vgg": "",
    "optimizer.beta2": 0.999,
    "optimizer.decay_factor": 0.5,
    "skip_nonfinite": 0,
    "parallel.strategy": "jit",
    "parallel.state_shards": 1,
    "steps_per_call": 1,
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field and the fix."""


def validate(config: ConfigDict) -> None:
    """Checks every field.

    Raises:
        ConfigError: Listing every unknown, missing or wrong field.
    """
    flat = _flatten(config)
    problems = [_unknown(name) for name in sorted(set(flat) - set(RULES))]
    for name in sorted(set(RULES) - set(flat)):
        problems.append(f"missing field config.{name}; start from configs/default.py")
    for name in sorted(set(RULES) & set(flat)):
        wanted = RULES[name](flat[name])
        if wanted:
            problems.append(f"config.{name} must be {wanted}, got {flat[name]!r}")
    if not problems:
        problems = _problems_between_fields(config)
    if problems:
        raise ConfigError("\n".join(problems))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, RULES, n=1)
    hint = f"did you mean {close[0]}?" if close else "see configs/default.py"
    return f"unknown field config.{name}; {hint}"


def _problems_between_fields(config: ConfigDict) -> list[str]:
    problems = []
    if config.degradation.sigma_min > config.degradation.sigma_max:
        problems.append(
            f"config.degradation.sigma_min ({config.degradation.sigma_min}) is above sigma_max "
            f"({config.degradation.sigma_max}); swap them"
        )
    if config.data.tile and not config.data.crop <= config.data.tile:
        problems.append(
            f"config.data.tile ({config.data.tile}) is smaller than config.data.crop "
            f"({config.data.crop}), which is taken inside it; enlarge the tile, or 0 for none"
        )
    if bool(config.data.tile) != bool(config.data.tile_stride):
        problems.append(
            f"config.data.tile ({config.data.tile}) and config.data.tile_stride "
            f"({config.data.tile_stride}) belong together; set both, or both to 0"
        )
    if config.degradation.kind == "none" and tuple(config.data.scales) != (1.0,):
        problems.append(
            f"config.data.scales {tuple(config.data.scales)} would smooth the noise of degraded "
            "images that come from disk (config.degradation.kind 'none'); set it to (1.0,)"
        )
    if config.batch_size % config.accumulate:
        problems.append(
            f"config.batch_size ({config.batch_size}) is not divisible by config.accumulate "
            f"({config.accumulate}); choose a divisor"
        )
    if config.degradation.spectrum != "white" and config.degradation.kind != "awgn":
        problems.append(
            f"config.degradation.spectrum {config.degradation.spectrum!r} is of noise that is "
            f"added, but config.degradation.kind {config.degradation.kind!r} adds none; set it to "
            "'white'"
        )
    elif config.degradation.spectrum != "white" and config.degradation.where == "host":
        problems.append(
            f"config.degradation.spectrum {config.degradation.spectrum!r} is made on the device "
            "only; set config.degradation.where to 'device'"
        )
    if "," in config.degradation.protocol and config.degradation.where == "host":
        problems.append(
            f"config.degradation.protocol {config.degradation.protocol!r} is drawn for each image, "
            "on the device only; set config.degradation.where to 'device', or name one protocol"
        )
    wrong_network, enlarges = [], 1
    try:
        enlarges = network(config).scale
    except ValueError as error:
        wrong_network.append(f"config.network.kwargs: {error}")
    problems += _problems_of_degradation(config, enlarges)
    problems += _problems_of_objective(config)
    if enlarges > 1 and config.degradation.kind == "none":
        problems += _problems_of_small_inputs(config, enlarges)
    if config.data.channels == TWO_VIEW_CHANNELS:
        problems += _problems_of_two_views(config)
    if config.sfm.rate > 0:
        problems += _problems_of_masking(config)
    problems += _problems_of_calls(config)
    if config.data.where == "device":
        problems += _problems_of_device_data(config)
    if config.parallel.strategy == "pmap" and config.parallel.state_shards > 1:
        problems.append(
            "config.parallel.strategy 'pmap' keeps the whole state on each device; set "
            f"config.parallel.state_shards ({config.parallel.state_shards}) to 1, or the strategy "
            "to 'jit'"
        )
    if config.resume and config.init_from:
        problems.append(
            "config.resume and config.init_from are both set; resume continues a run, init_from "
            "starts a new one from its parameters: keep one"
        )
    return problems + wrong_network


def _problems_of_calls(config: ConfigDict) -> list[str]:
    calls = config.steps_per_call
    return [
        f"config.{name} ({config[name]}) is not a multiple of config.steps_per_call ({calls}), "
        "between which nothing is reported or saved; choose multiples"
        for name in ("steps", "log_every", "eval_every", "checkpoint_every")
        if config[name] % calls
    ]


def _problems_of_device_data(config: ConfigDict) -> list[str]:
    problems = []
    degraded_by_host = config.degradation.kind != "none" and config.degradation.where == "host"
    masked_by_host = config.sfm.rate > 0 and config.sfm.where == "host"
    for name, on_host in (("degradation", degraded_by_host), ("sfm", masked_by_host)):
        if on_host:
            problems.append(
                f"config.data.where is 'device' and config.{name}.where 'host', but batches that "
                f"are drawn on the device never see the host; set config.{name}.where to 'device'"
            )
    if config.steps * config.batch_size >= 2**31:
        problems.append(
            f"config.steps * config.batch_size ({config.steps * config.batch_size}) reaches 2^31, "
            "the most examples that are counted on a device; set config.data.where to 'host'"
        )
    return problems


def _problems_of_degradation(config: ConfigDict, enlarges: int) -> list[str]:
    """Of what neither is noise nor comes from disk; found by tracing it on a training crop.

    ``enlarges`` is the factor of the network.
    """
    kind, options = config.degradation.kind, config.degradation.options
    problems = []
    if kind in ("awgn", "none"):
        if options and kind == "awgn":
            problems.append(
                f"config.degradation.options {options.to_dict()} are of other kinds than {kind!r}; "
                "remove them"
            )
        if kind == "awgn" and enlarges > 1:
            problems.append(
                f"config.network.name {config.network.name!r} enlarges {enlarges} times, but "
                "config.degradation.kind 'awgn' leaves images their size; set it to "
                "'low_resolution', or to 'none' for pairs"
            )
        return problems
    if config.degradation.where == "host":
        problems.append(
            f"config.degradation.kind {kind!r} is made on the device only; set "
            "config.degradation.where to 'device'"
        )
    if config.objective not in COMPARED_WITH_CLEAN:
        problems.append(
            f"config.objective {config.objective!r} is for noise, but config.degradation.kind is "
            f"{kind!r}; set it to 'supervised'"
        )
    channels = config.data.channels
    crop, low = config.data.crop, options.to_dict().get("low_resolution")
    if isinstance(low, Mapping) and "return_kernels" in low:
        return [
            *problems,
            "config.degradation.options.low_resolution.return_kernels follows from "
            "config.objective; remove it",
        ]
    factor = low.get("scale") if isinstance(low, Mapping) else None
    if isinstance(factor, int) and factor > 1 and crop % factor:
        return [*problems, _not_divided("data.crop", crop, factor)]
    image = jax.ShapeDtypeStruct((1, crop, crop, clean_channels(channels)), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    try:
        degrade = degradations.from_kind(kind, _without_folder(options.to_dict()))
        _, side, _, given = jax.eval_shape(degrade, keys, image).shape
        json.dumps(options.to_dict())
    except (ValueError, TypeError) as error:
        return [*problems, f"config.degradation.options: {error}"]
    if side * enlarges != crop:
        problems.append(
            f"config.network.name {config.network.name!r} makes {side * enlarges} pixels of the "
            f"{side} that config.degradation.kind {kind!r} leaves of a side of {crop}; "
            + (
                "give config.network.kwargs and the options of low_resolution, which must be in "
                "the kind, one scale"
                if enlarges > 1
                else "set config.degradation.options.low_resolution.enlarge to True, or "
                "config.network to one that enlarges, such as 'rcan'"
            )
        )
    if given != channels:
        problems.append(
            f"config.degradation.kind {kind!r} gives images of {given} channels, but "
            f"config.data.channels is {channels}; "
            + (
                "add dual_pixel to the kind, or set the channels to 3"
                if channels == TWO_VIEW_CHANNELS
                else f"set the channels to {TWO_VIEW_CHANNELS}"
            )
        )
    return problems


def _without_folder(options: dict[str, Any]) -> dict[str, Any]:
    """Options with a kernel in place of a folder of kernels, which is read when it is needed."""
    low = options.get("low_resolution")
    if not isinstance(low, Mapping) or not isinstance(low.get("pool"), str):
        return options
    return {**options, "low_resolution": {**low, "pool": [[[1.0]]]}}


def _problems_of_small_inputs(config: ConfigDict, enlarges: int) -> list[str]:
    """Of pairs whose degraded halves are smaller."""
    name, data = config.network.name, config.data
    problems = [
        _not_divided(f"data.{field}", data[field], enlarges)
        for field in ("crop", "tile", "tile_stride")
        if data[field] % enlarges
    ]
    if config.objective == "noise2self":
        problems.append(
            "config.objective 'noise2self' compares the output with the input, but "
            f"config.network.name {name!r} enlarges {enlarges} times; set it to 'supervised'"
        )
    if data.where == "device":
        problems.append(
            f"config.data.where 'device' draws from pairs of equal size, but config.network.name "
            f"{name!r} enlarges {enlarges} times; set it to 'host'"
        )
    return problems


def _not_divided(field: str, value: int, scale: int) -> str:
    return (
        f"config.{field} ({value}), pixels of the large images, is not a multiple of the scale "
        f"{scale}; use {value - value % scale or scale}"
    )


def _problems_of_objective(config: ConfigDict) -> list[str]:
    if config.objective in KERNEL_CORRECTION or config.network.name == "ikc":
        return _problems_of_kernel_correction(config)
    if config.objective == "gan":
        return _problems_of_gan(config)
    if config.objective == "noise2self" and config.loss == "l1_fft":
        return [
            "config.loss 'l1_fft' compares whole spectra, but config.objective 'noise2self' some "
            "pixels only; set config.loss to 'sse'"
        ]
    if config.objective != "noise2noise":
        return []
    if config.degradation.kind != "awgn":
        return [
            "config.objective 'noise2noise' makes the second noisy copy itself, for "
            "config.degradation.kind 'awgn'; pairs of two captures are trained on by 'supervised'"
        ]
    if config.degradation.where == "host":
        return [
            "config.objective 'noise2noise' makes both noisy copies on the device; set "
            "config.degradation.where to 'device'"
        ]
    return []


def _problems_of_gan(config: ConfigDict) -> list[str]:
    problems = []
    crop = config.data.crop
    if crop % 32:
        problems.append(
            f"config.data.crop ({crop}) is not a multiple of 32, as the critic of config.objective "
            f"'gan' needs it; use {crop - crop % 32 or 32}"
        )
    if config.batch_size == 1 and crop == 32:
        problems.append(
            "config.batch_size (1) and config.data.crop (32) leave the critic one value a channel "
            "to normalise, which says nothing of the image; set either to more"
        )
    if config.accumulate > 1:
        problems.append(
            f"config.accumulate ({config.accumulate}) cuts the batch, over all of which "
            "config.objective 'gan' averages; set it to 1"
        )
    problems += _problems_of_pixel_loss(config)
    if config.gan.perceptual_weight and not config.gan.vgg:
        problems.append(
            f"config.gan.perceptual_weight ({config.gan.perceptual_weight}) needs weights of "
            f"VGG19, but config.gan.vgg names no file; {NO_VGG}"
        )
    return problems


def _problems_of_pixel_loss(config: ConfigDict) -> list[str]:
    problems = []
    if config.loss not in ("l1", "l2", "charbonnier"):
        problems.append(
            f"config.loss {config.loss!r} is none of the pixel losses of config.objective "
            f"{config.objective!r}; set it to 'l1', 'l2' or 'charbonnier'"
        )
    if config.dct_loss_weight:
        problems.append(
            f"config.dct_loss_weight ({config.dct_loss_weight}) is not used by config.objective "
            f"{config.objective!r}; set it to 0"
        )
    return problems


def _problems_of_kernel_correction(config: ConfigDict) -> list[str]:
    """Of the network "ikc" and the objectives that train it; the scale is checked elsewhere."""
    name, objective, kind = config.network.name, config.objective, config.degradation.kind
    if name != "ikc" or objective not in KERNEL_CORRECTION:
        return [
            f"config.objective {objective!r} and config.network.name {name!r} do not go together: "
            f"{', '.join(map(repr, KERNEL_CORRECTION))} train the network 'ikc', in turn, and no "
            "other; change one"
        ]
    problems = _problems_of_pixel_loss(config)
    if kind != "low_resolution":
        problems.append(
            f"config.objective {objective!r} needs the kernels that images are blurred by, which "
            f"config.degradation.kind {kind!r} does not give; set it to 'low_resolution' alone"
        )
        return problems
    low = config.degradation.options.to_dict().get("low_resolution")
    if not isinstance(low, Mapping) or low.get("kernel") is None:
        problems.append(
            f"config.objective {objective!r} needs kernels to estimate; set "
            "config.degradation.options.low_resolution.kernel to one of "
            f"{', '.join(map(repr, degradations.KERNELS))}"
        )
        return problems
    if isinstance(low.get("pool"), str):
        return problems  # a folder, which is read when it is needed
    options = {option: low[option] for option in ("width", "size", "pool") if option in low}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    draw = functools.partial(degradations.random_kernels, kind=low["kernel"], **options)
    try:
        size = jax.eval_shape(draw, keys).shape[-1]
        return [*problems, *_problems_of_kernel_size(config, size)]
    except (ValueError, TypeError):
        return problems  # which say so elsewhere


def _problems_of_kernel_size(config: ConfigDict, size: int) -> list[str]:
    expected = network(config).kernel_size
    if size == expected:
        return []
    return [
        f"config.degradation.options.low_resolution gives kernels of {size}x{size} pixels, but "
        f"config.network.name 'ikc' encodes those of {expected}x{expected}; set its size, or "
        "config.network.kwargs.kernel_size"
    ]


def _problems_of_two_views(config: ConfigDict) -> list[str]:
    field = (
        f"config.data.channels {TWO_VIEW_CHANNELS} (the two views of a dual-pixel camera, restored "
        "to 3 channels)"
    )
    problems = []
    suitable = [name for name in networks.available() if networks.get(name).two_views]
    if config.network.name not in suitable:
        problems.append(
            f"{field} needs another network than {config.network.name!r}; set config.network.name "
            f"to {' or '.join(map(repr, suitable))}, or the channels to 3"
        )
    if config.degradation.kind == "awgn":
        problems.append(
            f"{field} is for pairs, or for clean images of which two views are made; set "
            "config.degradation.kind, which is 'awgn', to 'none' or 'dual_pixel'"
        )
    if config.objective != "supervised":
        problems.append(
            f"{field} has no clean image of the input's channels, as config.objective "
            f"{config.objective!r} needs it; set that to 'supervised'"
        )
    return problems


def _problems_of_masking(config: ConfigDict) -> list[str]:
    problems = []
    if config.objective not in COMPARED_WITH_CLEAN:
        if config.sfm.where == "host":
            problems.append(
                f"config.objective {config.objective!r} masks the noisy image and compares with "
                "an unmasked one, on the device; set config.sfm.where to 'device'"
            )
        if config.sfm.target == "masked":
            problems.append(
                f"config.objective {config.objective!r} compares with noisy images, which are not "
                "masked; set config.sfm.target to 'clean'"
            )
        return problems
    if config.degradation.kind != "none":
        if config.sfm.where == "device" and config.degradation.where == "host":
            problems.append(
                "config.sfm.where is 'device' and config.degradation.where 'host', but masking "
                "comes before noise and the host before the device; set config.sfm.where to "
                "'host', or config.degradation.where to 'device'"
            )
        return problems
    if config.sfm.target == "masked":
        problems.append(
            "config.sfm.target 'masked' would make the network's input its target where degraded "
            "images come from disk (config.degradation.kind 'none'); set it to 'clean'"
        )
    return problems


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses a command line and checks its ``--config``; for ``app.run(flags_parser=...)``.

    absl and ml_collections show some mistakes as tracebacks; here all end in "error: ...".
    """
    names = [argument.lstrip("-").partition("=")[0] for argument in argv[1:]]
    fields = [name.removeprefix("config.") for name in names if name.startswith("config.")]
    problems = [
        _unknown(name)
        for name in fields
        if name not in RULES and not name.startswith(tuple(f"{leaf}." for leaf in _LEAVES))
    ]
    if problems:
        sys.exit("error: " + "\n".join(problems))
    try:
        rest = flags.FLAGS(argv)
        if (config := flags.FLAGS["config"].value) is not None:
            validate(config)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except (flags.Error, OSError) as error:  # with the cause in the last line
        sys.exit(f"error: {str(error).strip().splitlines()[-1].strip()} (--help lists the flags)")
    except (AttributeError, KeyError) as error:  # of a field, or of a mapping on the way to one
        sys.exit(
            f"error: no such field: {error.args[0]}; of config.network.kwargs and "
            "config.degradation.options the command line changes only what the config file sets"
        )
    return rest


def network(config: ConfigDict) -> nn.Module:
    """The network that a configuration describes; ValueError if there is none such."""
    try:
        return networks.create(
            config.network.name,
            channels=config.data.channels,
            dtype=jnp.dtype(config.network.dtype),
            **config.network.kwargs,
        )
    except TypeError as error:  # for a value of a kind that the network does not look for
        kwargs = config.network.kwargs.to_dict()
        raise ConfigError(f"{config.network.name} with {kwargs}: {error}") from error


def degradation(config: ConfigDict) -> degradations.Step | None:
    """How clean images are degraded; None where that is noise, or comes from disk."""
    kind = config.degradation.kind
    if kind in ("awgn", "none"):
        return None
    return degradations.from_kind(kind, config.degradation.options.to_dict())


def check_kernels(config: ConfigDict) -> None:
    """Reads the folder of kernels, where the degradation has one, and tries them on a crop.

    :func:`validate` reads no files: configurations are also made where there are none.

    Raises:
        ConfigError: Where they cannot be read, do not fit into the crop, or into the codes of IKC.
    """
    low = config.degradation.options.to_dict().get("low_resolution")
    if config.degradation.kind == "none" or not isinstance(low, Mapping):
        return
    if not isinstance(low.get("pool"), str):
        return
    degrade, crop = degradation(config), config.data.crop
    assert degrade is not None
    image = jax.ShapeDtypeStruct((1, crop, crop, config.data.channels), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    try:
        kernels = degradations.read_kernels(low["pool"])
        jax.eval_shape(degrade, keys, image)
    except ValueError as error:
        raise ConfigError(f"config.degradation.options.low_resolution.pool: {error}") from error
    if config.network.name == "ikc":
        problems = _problems_of_kernel_size(config, kernels.shape[-1])
        if problems:
            raise ConfigError(problems[0])


def scale(config: ConfigDict) -> int:
    """How many times larger a side of a clean image is than what super-resolution starts from.

    That of the degradation "low_resolution", also where its images are enlarged again; without it
    the factor of the network, 1 for most.
    """
    if "low_resolution" in config.degradation.kind.split("+"):
        return int(config.degradation.options.low_resolution.scale)
    return int(network(config).scale)


def save(config: ConfigDict, path: pathlib.Path) -> None:
    """Writes a configuration as JSON, all or nothing."""
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    atomic_io.write(path, text.encode(), force=True)


# All that a configuration of converted weights holds.
_NETWORK_ALONE = ("network.name", "network.kwargs", "network.dtype", "data.channels")


def load(path: pathlib.Path, *, training: bool = False) -> ConfigDict:
    """Reads what :func:`save` wrote.

    Args:
        path: The ``config.json`` of a training, or of converted weights, which holds the network
            alone: ``network`` and ``data.channels``.
        training: Refuse the latter.

    Raises:
        ConfigError: If there is no such file, or it is not a configuration.
    """
    try:
        stored = _with_tuples(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{path} does not exist; give a working directory of train.py (it holds config.json "
            "and checkpoints/)"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise ConfigError(f"{path} is not valid JSON ({error}); restore it from a copy") from None
    alone = isinstance(stored, dict) and set(_flatten(stored)) == set(_NETWORK_ALONE)
    if isinstance(stored, dict) and not alone:
        stored = with_later_fields(stored)
    sections = {"network", "data"} if alone else {n.partition(".")[0] for n in RULES if "." in n}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(s), dict) for s in sections):
        raise ConfigError(f"{path} is no configuration of train.py; restore it from a copy")
    flat = _flatten(stored)
    for name in _NETWORK_ALONE:
        if wanted := RULES[name](flat.get(name)):
            raise ConfigError(f"{path}: {name} must be {wanted}, got {flat.get(name)!r}")
    if alone and training:
        raise ConfigError(
            f"{path.parent} holds converted weights, which have no optimiser state to continue "
            "from; set config.init_from to it and train in another working directory"
        )
    return ConfigDict(stored)


def with_later_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration, which may be older than some fields, with what it means for these.

    Args:
        stored: As JSON has it; it is left as it is.

    Returns:
        The same with those fields, and with tuples where JSON has lists.
    """
    completed: dict[str, Any] = _with_tuples(dict(stored))
    optimizer = completed.get("optimizer")
    if isinstance(optimizer, dict) and "halve_every" in optimizer:  # its name before
        optimizer["decay_every"] = optimizer.pop("halve_every")
        if optimizer.get("schedule") == "halving":
            optimizer["schedule"] = "step"
    for name, value in _BEFORE.items():
        section, _, field = name.rpartition(".")
        if section in ("sfm", "gan", "parallel"):  # the sections that they may lack
            completed.setdefault(section, {})
        holder = completed.get(section) if section else completed
        if isinstance(holder, dict):
            holder.setdefault(field, value)
    return completed


def differences(stored: ConfigDict, given: ConfigDict) -> list[str]:
    """Fields of two configurations that differ and may not, one line each."""
    old, new = _flatten(stored), _flatten(given)
    free = set(_FREE)
    if given.optimizer.schedule == "cosine":
        free.discard("steps")  # the learning rate of every step depends on the last one
    return [
        f"config.{name}: {_plain(old.get(name))!r} there, {_plain(new.get(name))!r} given"
        for name in sorted(set(old) | set(new))
        if name not in free
        and not name.startswith(_FREE_PREFIXES)
        and _plain(old.get(name)) != _plain(new.get(name))
    ]


# Fields whose own fields are not known here.
_LEAVES = ("network.kwargs", "degradation.options")


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping | ConfigDict) and name not in _LEAVES:
            flat.update(_flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _with_tuples(value: Any) -> Any:
    """Value with tuples again where JSON has lists: a network's fields must be hashable."""
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Value as JSON gives it back: tuples as lists, ConfigDicts as dicts."""
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
