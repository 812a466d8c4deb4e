"""Experiment configurations: fields, checks, files, networks and degradations.

A configuration is a ``ConfigDict`` of the fields in ``configs/default.py``. To follow one field,
read these files in order:

* ``schema``: the table of all fields, one row each: values, older files, changes on resume.
* ``objectives``: the table of objectives: which other fields suit each.
* ``checks``, with ``objective_checks`` and ``degradation_checks``: :func:`validate`.
* ``storage``: ``config.json`` (:func:`save`, :func:`load`, :func:`upgrade`), and what may differ
  between a run and a command that continues it (:func:`differences`).
* ``network_fields``: fields of networks as files store them, without presets.
* ``build``: the network, the degradation and the evaluations that a configuration describes.
* ``description``: degradation and masking in words.
* ``stages``: crop and batch by step.
* ``flags``: ``--config`` on the command line, of this process or another (:func:`read_config`).

An entry point calls :func:`parse_flags`, which validates. Library functions call
:func:`validate_once`, which does not check the same content again.
"""

from lcdnet_jax.config.build import (
    check_kernels,
    create_degradation,
    find_scale,
    list_evaluations,
    network,
    with_compute_type,
)
from lcdnet_jax.config.checks import validate, validate_once
from lcdnet_jax.config.description import (
    describe_degradation,
    describe_masking,
    describe_mixup,
)
from lcdnet_jax.config.flags import define_config, parse_flags, read_config
from lcdnet_jax.config.network_fields import as_json, fields_of, resolve_stored, summarize
from lcdnet_jax.config.objectives import NO_VGG, OBJECTIVES, ObjectiveRules
from lcdnet_jax.config.schema import FIELDS, ConfigError, Field
from lcdnet_jax.config.stages import Stage, count_images, list_stages, stage_at, with_stage
from lcdnet_jax.config.storage import describes_network_alone, differences, load, save, upgrade

__all__ = [
    "FIELDS",
    "NO_VGG",
    "OBJECTIVES",
    "ConfigError",
    "Field",
    "ObjectiveRules",
    "Stage",
    "as_json",
    "check_kernels",
    "count_images",
    "create_degradation",
    "define_config",
    "describe_degradation",
    "describe_masking",
    "describe_mixup",
    "describes_network_alone",
    "differences",
    "fields_of",
    "find_scale",
    "list_evaluations",
    "list_stages",
    "load",
    "network",
    "parse_flags",
    "read_config",
    "resolve_stored",
    "save",
    "stage_at",
    "summarize",
    "upgrade",
    "validate",
    "validate_once",
    "with_compute_type",
    "with_stage",
]
