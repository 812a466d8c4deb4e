"""Rules of single values: which values pass, and what the others must be."""

import numpy as np
import pytest

from lcdnet_jax import value_rules

FLOAT32_MAX = 3.4028234663852886e38


@pytest.mark.parametrize(
    ("rule", "good", "bad", "wanted"),
    [
        (
            value_rules.integer(1),
            (1, 10**30),
            (0, 1.0, True, "1", None),
            "an integer of at least 1",
        ),
        (value_rules.integer(0, high=3), (0, 3), (-1, 4), "an integer from 0 up to 3"),
        (
            value_rules.finite_number,
            (0, -1.5, 1e308),
            (True, "0", float("nan"), float("inf"), 10**400),
            "a finite number",
        ),
        (
            value_rules.number(0),
            (0, 0.5, FLOAT32_MAX),
            (-0.1, 1e39, float("nan"), float("inf"), True, "1"),
            "a number of at least 0, in float32",
        ),
        (value_rules.number(0, high=1), (0, 1), (1.01,), "a number from 0 up to 1, in float32"),
        (
            value_rules.number_below(0, 1),
            (0, 0.999),
            (1, 1 - 1e-9, -1),  # 1 - 1e-9 is 1 in float32
            "a number of at least 0 and below 1",
        ),
        (
            value_rules.value_range(tuple),
            ((0, 1), (-0.5, 0.5)),
            ([0, 1], (1, 0), (0, 0), (0,), (0, float("nan")), (0, "1"), 3, "ab"),
            "a tuple of two numbers, the lower one first",
        ),
        (
            value_rules.value_range(list),
            ([0, 1],),
            ((0, 1), [0, 1, 2]),
            "a list of two numbers, the lower one first",
        ),
        (value_rules.choice("a", 1), ("a", 1), (True, 1.0, "b"), "one of 'a', 1"),
        (value_rules.text, ("", "a"), (b"a", None), "a string"),
        (value_rules.boolean, (True, False), (0, 1, "True", np.True_), "True or False"),
    ],
)
def test_rules(rule, good, bad, wanted):
    assert [value for value in good if rule(value) is not None] == []
    assert [value for value in bad if rule(value) != wanted] == []
