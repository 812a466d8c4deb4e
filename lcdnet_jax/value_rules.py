"""Rules for single values. A rule takes a value and returns None, or what the value must be.

Fields of configurations, fields of cards, attributes of networks and options of the restorer use
them.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# The largest number of float32, in which training computes.
_LARGEST = float(np.finfo(np.float32).max)

Rule = Callable[[Any], str | None]


def integer(low: int, *, high: float = math.inf) -> Rule:
    """Makes the rule of integers. A boolean does not count as one.

    Args:
        low: The least integer.
        high: The largest one.

    Returns:
        The rule.
    """

    def rule(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"an integer {_bounds(low, high)}"

    return rule


def finite_number(value: Any) -> str | None:
    """The rule of finite numbers. Integers of JSON may exceed the range of floats.

    Args:
        value: Any value.

    Returns:
        None, or what the value must be.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return None if good and abs(value) <= sys.float_info.max else "a finite number"


def number(low: float, *, high: float = math.inf) -> Rule:
    """Makes the rule of numbers that float32 can hold.

    Args:
        low: The least number.
        high: The largest one.

    Returns:
        The rule.
    """

    def rule(value: Any) -> str | None:
        good = finite_number(value) is None and abs(value) <= _LARGEST and low <= value <= high
        return None if good else f"a number {_bounds(low, high)}, in float32"

    return rule


def number_below(low: float, high: float) -> Rule:
    """Makes the rule of numbers below a bound, also when they are rounded to float32.

    Args:
        low: The least number.
        high: The bound, itself not included.

    Returns:
        The rule.
    """

    def rule(value: Any) -> str | None:
        good = number(low, high=high)(value) is None and np.float32(value) < high
        return None if good else f"a number of at least {low} and below {high}"

    return rule


def _bounds(low: float, high: float) -> str:
    return f"of at least {low}" if high == math.inf else f"from {low} up to {high}"


def value_range(kind: type[list[Any]] | type[tuple[Any, ...]]) -> Rule:
    """Makes the rule of two finite numbers, the lower one first.

    Args:
        kind: ``list`` or ``tuple``, the type that holds them.

    Returns:
        The rule.
    """

    def rule(value: Any) -> str | None:
        good = isinstance(value, kind) and len(value) == 2
        good = good and all(finite_number(end) is None for end in value) and value[0] < value[1]
        return None if good else f"a {kind.__name__} of two numbers, the lower one first"

    return rule


def choice(*values: object) -> Rule:
    """Makes the rule of one value among several.

    Args:
        *values: The values. A value of another type does not equal any of them.

    Returns:
        The rule.
    """

    def rule(value: Any) -> str | None:
        good = any(type(value) is type(known) and value == known for known in values)
        return None if good else "one of " + ", ".join(map(repr, values))

    return rule


def text(value: Any) -> str | None:
    """The rule of strings.

    Args:
        value: Any value.

    Returns:
        None, or what the value must be.
    """
    return None if isinstance(value, str) else "a string"


def boolean(value: Any) -> str | None:
    """The rule of booleans.

    Args:
        value: Any value.

    Returns:
        None, or what the value must be.
    """
    return None if isinstance(value, bool) else "True or False"
