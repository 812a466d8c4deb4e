"""The table of tests/mutation.py names files that exist, and there is something to change."""

import pytest

from tests import mutation


@pytest.mark.parametrize("name", mutation.TARGETS)
def test_targets_exist(name):
    target = mutation.TARGETS[name]
    files = [target.source, *(test.partition("::")[0] for test in target.tests)]
    assert [file for file in files if not (mutation.ROOT / file).is_file()] == []
    assert len(files) > 1
