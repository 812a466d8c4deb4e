"""Rules for values of configurations, besides the general ones of :mod:`lcdnet_jax.value_rules`.

:mod:`lcdnet_jax.config.schema` gives each field a rule.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from lcdnet_jax import degradations
from lcdnet_jax.config.network_fields import STORED_APART
from lcdnet_jax.typing import Json
from lcdnet_jax.value_rules import Rule, number


def mapping(value: object) -> str | None:
    """A mapping of any content."""
    return None if isinstance(value, Mapping | ConfigDict) else "a ConfigDict"


def noise_levels(value: Json) -> str | None:
    """Noise levels, at least one."""
    good = isinstance(value, (tuple, list)) and len(value) > 0
    good = good and all(number(0)(v) is None for v in value)
    return None if good else "a tuple of one or more noise levels, each at least 0"


def scales(value: Json) -> str | None:
    """Scales of training images, at least one."""
    good = isinstance(value, (tuple, list)) and len(value) > 0
    good = good and all(number(0, high=1)(v) is None and v > 0 for v in value)
    good = good and len(set(value)) == len(value)
    return None if good else "a tuple of one or more scales, all different, above 0 and up to 1"


def tuple_of(entry: Rule) -> Rule:
    """A tuple, possibly empty, whose entries follow a rule."""

    def rule(value: Json) -> str | None:
        if isinstance(value, (tuple, list)) and all(entry(one) is None for one in value):
            return None
        return f"a tuple, () for none, with entries that are each {entry(None)}"

    return rule


def names_with_commas(*names: str) -> Rule:
    """One name, or several joined by commas."""

    def rule(value: object) -> str | None:
        good = isinstance(value, str) and all(part.strip() in names for part in value.split(","))
        wanted = f"one of {', '.join(map(repr, names))}, or several of these joined by commas"
        return None if good else wanted

    return rule


def names_or_none(*names: str) -> Rule:
    """Names joined by commas, each once, or none."""

    def rule(value: object) -> str | None:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [None]
        good = value == "" or (set(parts) <= set(names) and len(set(parts)) == len(parts))
        wanted = f"'', one of {', '.join(map(repr, names))}, or several of these joined by commas"
        return None if good else wanted

    return rule


def degradation_kind(value: object) -> str | None:
    """Noise, nothing, or degradations joined by "+"."""
    kinds = value.split("+") if isinstance(value, str) else []
    if value in ("awgn", "none") or (kinds and all(kind in degradations.KINDS for kind in kinds)):
        return None
    return (
        f"'awgn', 'none', or one or several of {', '.join(map(repr, degradations.KINDS))} joined "
        "by '+'"
    )


def protocols(value: object) -> str | None:
    """Noise protocols joined by commas, each once."""
    names = value.split(",") if isinstance(value, str) else []
    good = (
        names and len(set(names)) == len(names) and set(names) <= set(degradations.NOISE_PROTOCOLS)
    )
    known = ", ".join(map(repr, degradations.NOISE_PROTOCOLS))
    return None if good else f"one of {known}, or several of these, each once, as in 'float,8bit'"


def network_kwargs(value: Json) -> str | None:
    """Fields of a network, without those that configurations and cards store apart."""
    good = isinstance(value, Mapping | ConfigDict) and not set(STORED_APART) & set(value)
    return None if good else "a mapping without name, channels and dtype, which are stored apart"
