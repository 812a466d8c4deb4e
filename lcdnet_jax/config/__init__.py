"""Experiment configurations: fields, rules and storage."""

from lcdnet_jax.config.schema import (
    COMPARED_WITH_CLEAN,
    KERNEL_CORRECTION,
    NO_VGG,
    RULES,
    ConfigError,
    Rule,
    check_kernels,
    degradation,
    differences,
    load,
    network,
    parse_flags,
    save,
    scale,
    validate,
    with_later_fields,
)

__all__ = [
    "COMPARED_WITH_CLEAN",
    "KERNEL_CORRECTION",
    "NO_VGG",
    "RULES",
    "ConfigError",
    "Rule",
    "check_kernels",
    "degradation",
    "differences",
    "load",
    "network",
    "parse_flags",
    "save",
    "scale",
    "validate",
    "with_later_fields",
]
