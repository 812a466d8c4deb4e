"""Freed memory stays with the process or goes back to the system, where the C library can."""

import platform
import subprocess
import sys
import types

import pytest

from lcdnet_jax import freed_memory

# Prints the result and the pages that a thread maps when it allocates 80 MB again.
ALLOCATE = """
import resource, threading
import numpy as np
from lcdnet_jax import freed_memory

def allocate():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(10**7).fill(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

kept, faults = freed_memory.keep_freed_memory(environment={}), []
for _ in range(2):
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
print(kept, faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library alone can")
def test_large_blocks_are_mapped_once():
    run = [sys.executable, "-c", ALLOCATE]
    kept, faults = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    assert kept == "True"
    assert int(faults) < 100  # 19,532 pages of 4 KiB otherwise


@pytest.mark.parametrize(
    "environment",
    [
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
    ],
)
def test_what_the_user_has_chosen_stays(environment, monkeypatch):
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)
    assert not freed_memory.keep_freed_memory(environment=environment)


def test_other_systems(monkeypatch):
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())  # as musl
    monkeypatch.setattr(freed_memory.sys, "platform", "linux")
    assert not freed_memory.keep_freed_memory(environment={})
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)
    assert not freed_memory.keep_freed_memory(environment={})


def test_return_freed_memory(monkeypatch):
    library, sizes = types.SimpleNamespace(), []
    library.malloc_trim = sizes.append
    monkeypatch.setattr(freed_memory.sys, "platform", "linux")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: library)
    freed_memory.return_freed_memory()
    assert sizes == [0]


def test_return_freed_memory_without_gnu(monkeypatch):
    monkeypatch.setattr(freed_memory.sys, "platform", "linux")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    freed_memory.return_freed_memory()
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)
    freed_memory.return_freed_memory()
