"""Fixtures: a saved run, and checkpoints that are closed after a test."""

import shutil

import pytest

from lcdnet_jax.checkpoints import Checkpoints
from tests.checkpoints.saved_runs import save


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 4, 8)
    return workdir


@pytest.fixture
def workdir(saved_once, tmp_path):
    """A directory with the steps 4 and 8."""
    return shutil.copytree(saved_once, tmp_path / "run")


@pytest.fixture
def opened():
    """Opens, and closes at the end of the test."""
    made = []

    def open_(*args, **kwargs):
        made.append(Checkpoints(*args, **kwargs))
        return made[-1]

    yield open_
    for one in made:
        one.close()
