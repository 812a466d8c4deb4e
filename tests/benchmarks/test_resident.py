"""Resident memory of the process, by an array of known size."""

import json
import subprocess
import sys

import pytest

from benchmarks import resident

# In a new process, because scripts that the tests import let the C library keep freed memory.
MEASURE = """
import json
import numpy as np
from benchmarks import resident
now = resident.read("VmRSS")
block = np.ones(300_000_000, np.uint8)
with_block, peak = resident.read("VmRSS"), resident.read("VmHWM")
del block
resident.reset_peak()
print(json.dumps([now, with_block, peak, resident.read("VmHWM")]))
"""


def test_memory_is_that_of_the_process():
    run = [sys.executable, "-c", MEASURE]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    now, with_block, peak, reset = json.loads(done.stdout)
    assert with_block - now == pytest.approx(0.3, abs=0.05)
    assert peak >= with_block
    assert reset < with_block - 0.2


def test_an_unknown_field():
    with pytest.raises(SystemExit, match="has no VmNone; measure on Linux"):
        resident.read("VmNone")
