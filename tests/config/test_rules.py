"""Rules for values of configurations: which pass, and what the others must be."""

import pytest
from ml_collections import ConfigDict

from lcdnet_jax.config import rules


@pytest.mark.parametrize(
    ("rule", "good", "bad", "wanted"),
    [
        (rules.mapping, ({}, ConfigDict()), ([], None), "a ConfigDict"),
        (rules.noise_levels, ([25], (0, 50.0)), ([], [-1], 25, [True]), "one or more noise levels"),
        (rules.scales, ((1,), [0.5, 1]), ((), (0,), (2,), (1, 1), 1), "all different, above 0"),
        (
            rules.names_with_commas("a", "b"),
            ("a", "a,b", "b , a"),
            ("", "c", "a,,b", 3),
            "one of 'a', 'b', or several of these joined by commas",
        ),
        (
            rules.names_or_none("a", "b"),
            ("", "a", "a,b", "b , a"),
            ("c", "a,a", "a,,b", " ", 3, None, ("a",)),
            "'', one of 'a', 'b', or several of these joined by commas",
        ),
        (
            rules.degradation_kind,
            ("awgn", "none", "jpeg", "motion+jpeg"),
            ("", "awgn+jpeg", "jpeg+", 3, None),
            "'awgn', 'none', or one or several of",
        ),
        (
            rules.protocols,
            ("float", "8bit,clipped"),
            ("", "float,float", "16bit", "float, 8bit", None),
            "each once, as in 'float,8bit'",
        ),
        (
            rules.network_kwargs,
            ({}, ConfigDict({"width": 3})),
            ({"name": "a"}, ConfigDict({"dtype": "float32"}), {"channels": 1}, 3),
            "a mapping without name, channels and dtype, which are stored apart",
        ),
    ],
)
def test_rules(rule, good, bad, wanted):
    assert [value for value in good if rule(value) is not None] == []
    assert [value for value in bad if wanted not in (rule(value) or "")] == []
