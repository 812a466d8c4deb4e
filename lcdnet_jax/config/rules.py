"""Rules for single values. A rule takes a value and returns None, or what the value must be.

:mod:`lcdnet_jax.config.schema` gives each field a rule.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import degradations
from lcdnet_jax.typing import Json

# The largest number of float32, in which training computes.
_LARGEST = float(np.finfo(np.float32).max)

Rule = Callable[[object], str | None]


def integer(low: int, high: float = math.inf) -> Rule:
    """An integer from ``low`` to ``high``, both included."""

    def rule(value: object) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"an integer {_bounds(low, high)}"

    return rule


def number(low: float, high: float = math.inf) -> Rule:
    """A number from ``low`` to ``high``, both included, that float32 can hold."""

    def rule(value: Json) -> str | None:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = good and abs(value) <= _LARGEST and low <= value <= high
        return None if good else f"a number {_bounds(low, high)}, in float32"

    return rule


def number_below(low: float, high: float) -> Rule:
    """A number from ``low`` up to, but not including, ``high``."""

    def rule(value: Json) -> str | None:
        good = number(low, high)(value) is None and np.float32(value) < high
        return None if good else f"a number of at least {low} and below {high}"

    return rule


def _bounds(low: float, high: float) -> str:
    return f"of at least {low}" if high == math.inf else f"from {low} up to {high}"


def choice(*values: object) -> Rule:
    """One of several values. A value of another type does not equal any of them."""

    def rule(value: object) -> str | None:
        good = any(type(value) is type(known) and value == known for known in values)
        return None if good else "one of " + ", ".join(map(repr, values))

    return rule


def text(value: object) -> str | None:
    """A string."""
    return None if isinstance(value, str) else "a string"


def boolean(value: object) -> str | None:
    """True or False."""
    return None if isinstance(value, bool) else "True or False"


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
    good = good and all(number(0, 1)(v) is None and v > 0 for v in value)
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
    """Fields of a network, without those that other fields of the configuration set."""
    good = isinstance(value, Mapping | ConfigDict)
    good = good and not {"name", "channels", "dtype"} & set(value)
    return None if good else "a ConfigDict without name, channels and dtype, which have their own"
