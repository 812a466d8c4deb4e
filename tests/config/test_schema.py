"""The table of fields, and what follows from it."""

import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs import default, tiny
from lcdnet_jax.config.schema import FIELDS, MAPPINGS, REQUIRED, flatten


def test_rows_are_the_fields_of_the_default():
    """In its order as well, so that a reader finds them."""
    text = (pathlib.Path(default.__file__)).read_text()
    assigned = re.findall(r"^    config\.([\w.]+) = (?!ConfigDict\(\)|ConfigDict\(\n)", text, re.M)
    assert set(flatten(default.get_config())) == set(FIELDS)
    listed = [name for name in FIELDS if name in assigned]
    assert listed == [name for name in assigned if name in FIELDS]
    assert len(listed) > 60


@pytest.mark.parametrize("name", [name for name in FIELDS if FIELDS[name].absent is not REQUIRED])
def test_values_of_older_files_keep_the_rules(name):
    assert FIELDS[name].rule(FIELDS[name].absent) is None


def test_fields_of_the_first_format():
    """Their number never grows: files without a new field exist, so it needs a value for them."""
    assert sum(field.absent is REQUIRED for field in FIELDS.values()) == 43


def test_what_may_change_on_resume():
    """Nothing that a step which was already made depends on."""
    config = tiny.get_config()
    assert {name for name, field in FIELDS.items() if field.may_change(config)} == {
        *("steps", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints"),
        *("skip_nonfinite", "steps_per_call", "resume", "init_from", "writers", "best_metric"),
        *("eval.sigmas", "eval.max_images", "eval.panels", "eval.bucket"),
        *("data.train.path", "data.train.names"),  # the images are compared instead
        *("data.eval.source", "data.eval.path", "data.eval.split", "data.eval.feature"),
        "data.eval.names",
        *(
            "data.cache_gb",
            "data.cache_dir",
            "data.encoded_cache_gb",
            "data.on_bad_image",
            "parallel.strategy",
            "parallel.state_shards",
        ),
    }
    config.optimizer.schedule = "cosine"
    assert not FIELDS["steps"].may_change(config)


def test_flatten():
    nested = {"a": 1, "b": {"c": {"d": 2}}, "network": {"kwargs": {"width": 3}}}
    expected = {"a": 1, "b.c.d": 2, "network.kwargs": {"width": 3}}
    assert flatten(nested) == expected
    assert flatten(ConfigDict(nested)) == expected | {"network.kwargs": ConfigDict({"width": 3})}
    assert set(MAPPINGS) <= set(FIELDS)
