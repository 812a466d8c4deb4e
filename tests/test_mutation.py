"""tests/mutation.py: its table, and a few mutants of each target."""

import subprocess
import sys

import pytest

from tests import mutation


@pytest.mark.parametrize("name", mutation.TARGETS)
def test_targets_exist(name):
    target = mutation.TARGETS[name]
    files = [target.source, *(test.partition("::")[0] for test in target.tests)]
    assert [file for file in files if not (mutation.ROOT / file).is_file()] == []
    assert len(files) > 1


@pytest.mark.extended
@pytest.mark.slow
def test_proofs_are_of_mutants_that_exist():
    proofs = mutation.equivalents()
    targets = {target for target, _, _ in proofs}
    made = {mutant.key for name in targets for mutant in mutation.mutants(name)}
    assert set(proofs) <= made


@pytest.mark.slow
@pytest.mark.parametrize("name", mutation.TARGETS)
def test_a_sample_is_killed(name):
    """The same each time, as long as the source stays. Those with a proof are left out."""
    command = [sys.executable, "-m", "tests.mutation", "--only", name, "--sample", "8", "--skip"]
    done = subprocess.run(command, cwd=mutation.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
