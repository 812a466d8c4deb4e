"""Table of all configuration fields: one row each.

A row holds the valid values of a field, its value in stored configurations that are older than the
field, and whether the field may change when a run is continued. The checks
(:mod:`lcdnet_jax.config.checks`), the reading of older files and the comparison of a run with a
command (:mod:`lcdnet_jax.config.storage`) use the rows. ``configs/default.py`` explains
the fields and has their defaults. A new field needs a row here and a default there.

``config.json`` has no format number. The fields that a file lacks show its age.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from lcdnet_jax import degradations, losses, networks, sfm, value_rules
from lcdnet_jax.config import rules
from lcdnet_jax.config.objectives import OBJECTIVES
from lcdnet_jax.data_sets import SOURCES
from lcdnet_jax.ops import TWO_VIEW_CHANNELS
from lcdnet_jax.value_rules import Rule

# What reports are written to besides metrics.jsonl.
WRITERS = ("tensorboard", "wandb")

# Scores by which the best checkpoint can be chosen; larger is better.
BEST_METRICS = ("psnr", "ssim")


class ConfigError(ValueError):
    """An invalid configuration. The message names the field and the fix."""


class _Required:
    """Marks fields of the first format, which every stored configuration has."""

    def __repr__(self) -> str:
        return "REQUIRED"


#: Marks a field without a value for older files.
REQUIRED = _Required()


def _never(config: ConfigDict) -> bool:
    return False


def _always(config: ConfigDict) -> bool:
    return True


def _unless_cosine(config: ConfigDict) -> bool:
    """With the cosine schedule, the learning rate of every step depends on the number of steps."""
    return bool(config.optimizer.schedule != "cosine")


class Field(NamedTuple):
    """One field.

    Attributes:
        rule: Takes a value and returns None if it is valid, or else a description of valid values.
        absent: The value of this field in stored configurations that are older than the field.
            ``REQUIRED`` if the field is as old as the format.
        may_change: Takes the new configuration and returns whether a run may continue with another
            value than the stored one. True for fields that affect reports, files or the length of
            the run, but no completed step.
    """

    rule: Rule
    absent: Any = REQUIRED
    may_change: Callable[[ConfigDict], bool] = _never


def _source(may_change: Callable[[ConfigDict], bool]) -> dict[str, Field]:
    return {
        "source": Field(rules.names_with_commas(*SOURCES), may_change=may_change),
        # A run compares the images themselves, see training/data_record.py.
        "path": Field(value_rules.text, may_change=_always),
        "names": Field(value_rules.text, absent="", may_change=_always),
        "split": Field(value_rules.text, may_change=may_change),
        "feature": Field(value_rules.text, may_change=may_change),
    }


# Networks may be registered later.
def _network_name(value: object) -> str | None:
    return value_rules.choice(*networks.available())(value)


#: Name of a field, with dots -> its rule. ``configs/default.py`` explains the fields.
FIELDS: Mapping[str, Field] = {
    "seed": Field(value_rules.integer(0, high=2**32 - 1)),  # the range of a random key
    "network.name": Field(_network_name),
    "network.kwargs": Field(rules.network_kwargs),
    "network.dtype": Field(value_rules.choice("float32", "bfloat16")),
    **{f"data.train.{name}": field for name, field in _source(_never).items()},
    **{f"data.eval.{name}": field for name, field in _source(_always).items()},
    "data.channels": Field(value_rules.choice(1, 3, TWO_VIEW_CHANNELS)),
    "data.crop": Field(value_rules.integer(1)),
    "data.tile": Field(value_rules.integer(0), absent=0),
    "data.tile_stride": Field(value_rules.integer(0), absent=0),
    "data.scales": Field(rules.scales, absent=(1.0,)),
    "data.augment": Field(value_rules.boolean),
    "data.cache_gb": Field(value_rules.number(0), may_change=_always),
    "data.cache_dir": Field(value_rules.text, absent="", may_change=_always),
    "data.encoded_cache_gb": Field(value_rules.number(0), absent=0.0, may_change=_always),
    "data.on_bad_image": Field(value_rules.choice("stop", "replace"), may_change=_always),
    "data.where": Field(value_rules.choice("host", "device"), absent="host"),
    "degradation.kind": Field(rules.degradation_kind),
    "degradation.options": Field(rules.mapping, absent={}),
    "degradation.sigma_min": Field(value_rules.number(0)),
    "degradation.sigma_max": Field(value_rules.number(0)),
    "degradation.spectrum": Field(value_rules.choice(*degradations.SPECTRA), absent="white"),
    "degradation.protocol": Field(rules.protocols),
    "degradation.where": Field(value_rules.choice("device", "host")),
    "sfm.rate": Field(value_rules.number(0, high=1), absent=0.0),
    "sfm.mode": Field(value_rules.choice(*sfm.MODES), absent="targeted"),
    "sfm.center": Field(value_rules.number(0, high=1), absent=0.85),
    "sfm.sigma": Field(value_rules.number(0), absent=0.15),
    "sfm.where": Field(value_rules.choice("device", "host"), absent="device"),
    "sfm.unselected": Field(value_rules.choice(*sfm.UNSELECTED), absent="keep"),
    "sfm.target": Field(value_rules.choice("clean", "masked"), absent="clean"),
    "mixup.rate": Field(value_rules.number(0, high=1), absent=0.0),
    "mixup.beta": Field(value_rules.number(1e-3), absent=1.2),
    "mixup.groups": Field(value_rules.integer(1), absent=1),
    "steps": Field(value_rules.integer(1), may_change=_unless_cosine),
    "batch_size": Field(value_rules.integer(1)),
    "stages.steps": Field(rules.tuple_of(value_rules.integer(1)), absent=()),
    "stages.crops": Field(rules.tuple_of(value_rules.integer(1)), absent=()),
    "stages.batch_sizes": Field(rules.tuple_of(value_rules.integer(1)), absent=()),
    "accumulate": Field(value_rules.integer(1)),
    "objective": Field(value_rules.choice(*OBJECTIVES), absent="supervised"),
    "loss": Field(value_rules.choice(*losses.NAMES)),
    "fft_weight": Field(value_rules.number(0), absent=0.1),
    "dct_loss_weight": Field(value_rules.number(0), absent=0.0),
    "gan.pixel_weight": Field(value_rules.number(0), absent=0.01),
    "gan.perceptual_weight": Field(value_rules.number(0), absent=1.0),
    "gan.critic_weight": Field(value_rules.number(0), absent=0.005),
    "gan.critic_learning_rate": Field(value_rules.number(0), absent=1e-4),
    "gan.critic_features": Field(value_rules.integer(1), absent=64),
    "gan.vgg": Field(value_rules.text, absent=""),
    "optimizer.learning_rate": Field(value_rules.number(0)),
    "optimizer.beta2": Field(value_rules.number_below(0, 1), absent=0.999),
    "optimizer.weight_decay": Field(value_rules.number(0), absent=0.0),
    "optimizer.decay_vectors": Field(value_rules.boolean, absent=True),
    "optimizer.offset_rate": Field(value_rules.number(0, high=1), absent=1.0),
    "optimizer.schedule": Field(value_rules.choice("step", "cosine", "cosine_restarts")),
    "optimizer.decay_every": Field(value_rules.integer(1)),
    "optimizer.decay_factor": Field(value_rules.number(1e-6, high=1), absent=0.5),
    "optimizer.final_fraction": Field(value_rules.number(0, high=1)),
    "optimizer.cycle_steps": Field(rules.tuple_of(value_rules.integer(1)), absent=()),
    "optimizer.cycle_weights": Field(rules.tuple_of(value_rules.number(0)), absent=()),
    "optimizer.cycle_final_fractions": Field(
        rules.tuple_of(value_rules.number(0, high=1)), absent=()
    ),
    "optimizer.warmup_steps": Field(value_rules.integer(0)),
    "optimizer.resets": Field(rules.tuple_of(value_rules.integer(1)), absent=()),
    "optimizer.reset_warmup_steps": Field(value_rules.integer(0), absent=100),
    "optimizer.clip_norm": Field(value_rules.number(0)),
    "ema_decay": Field(value_rules.number(0, high=1)),
    "skip_nonfinite": Field(value_rules.integer(0), absent=0, may_change=_always),
    "parallel.strategy": Field(value_rules.choice("jit", "pmap"), absent="jit", may_change=_always),
    "parallel.state_shards": Field(value_rules.integer(1), absent=1, may_change=_always),
    "steps_per_call": Field(value_rules.integer(1), absent=1, may_change=_always),
    "resume": Field(value_rules.text, may_change=_always),
    "init_from": Field(value_rules.text, may_change=_always),
    "log_every": Field(value_rules.integer(0), may_change=_always),
    "eval_every": Field(value_rules.integer(0), may_change=_always),
    "checkpoint_every": Field(value_rules.integer(0), may_change=_always),
    "writers": Field(rules.names_or_none(*WRITERS), absent="tensorboard", may_change=_always),
    "keep_checkpoints": Field(value_rules.integer(1), may_change=_always),
    "best_metric": Field(value_rules.choice("", *BEST_METRICS), absent="", may_change=_always),
    "eval.sigmas": Field(rules.noise_levels, may_change=_always),
    "eval.max_images": Field(value_rules.integer(0), may_change=_always),
    "eval.panels": Field(value_rules.integer(0), may_change=_always),
    "eval.bucket": Field(value_rules.integer(8), may_change=_always),
}

# Fields that hold mappings whose keys are not in this table: fields of a network's class, and
# options of degradations.
MAPPINGS = ("network.kwargs", "degradation.options")


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Flattens a ConfigDict or nested dicts to values by dotted names, such as "data.crop"."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping | ConfigDict) and name not in MAPPINGS:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat
