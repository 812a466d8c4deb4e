"""Exports that several tests read."""

import pytest

from lcdnet_jax import export

pytest.importorskip("flatbuffers")
from tests.export.cases import Doubling, drawn, tiny


@pytest.fixture(scope="module")
def dncnn():
    module, variables = tiny("dncnn")
    return module, variables, export.export_program(module, variables)


@pytest.fixture(scope="module")
def doubling():
    return Doubling(), drawn(Doubling())
