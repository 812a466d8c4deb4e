"""Resident memory of the process, by an array of known size."""

import numpy as np
import pytest

from benchmarks import resident


def test_memory_is_that_of_the_process():
    now = resident.read("VmRSS")
    block = np.ones(300_000_000, np.uint8)
    with_block = resident.read("VmRSS")
    assert with_block - now == pytest.approx(block.nbytes / 1e9, abs=0.05)
    assert resident.read("VmHWM") >= with_block
    del block
    resident.reset_peak()
    assert resident.read("VmHWM") < with_block - 0.2


def test_an_unknown_field():
    with pytest.raises(SystemExit, match="has no VmNone; measure on Linux"):
        resident.read("VmNone")
