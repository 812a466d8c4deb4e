"""Speed, parts of the time, compilations and memory of a run."""

import contextlib
import threading
import time
import types

import jax
import numpy as np
import pytest

from lcdnet_jax.training import progress as progress_lib
from lcdnet_jax.training.progress import CompilationCounter, Progress, measure_device_memory

MEANS = {"loss": 0.5, "psnr": 20.0, "learning_rate": 1e-4}


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        clock = types.SimpleNamespace(now=100.0)
        monkeypatch.setattr(progress_lib.time, "perf_counter", lambda: clock.now)
        return clock

    def test_parts_of_the_time(self, clock):
        progress = Progress(10, 100, 4)

        def wait(context, seconds):
            with context:
                clock.now += seconds

        wait(progress.time_data(lambda: True), 2)
        wait(progress.time_data(lambda: False), 1)  # the devices were busy: no loss of time
        wait(progress.time_save(), 3)
        wait(progress.pause(), 50)
        wait(contextlib.nullcontext(), 4)
        line, numbers = progress.report(20, MEANS)
        assert numbers == pytest.approx(
            {
                "images_per_second": 4.0,
                "time/step": 1.0,
                "time/data": 0.2,
                "time/save": 0.3,
                "time/compute": 0.5,
            }
        )
        assert line == (
            "step 20/100  loss 0.50000  psnr 20.00 dB  lr 1.00e-04  4.0 images/s  ETA 1:20  "
            "(waiting: data 20 %, save 30 %)"
        )
        clock.now += 0.5
        line, numbers = progress.report(21, MEANS)  # since the last line
        assert numbers["time/step"] == numbers["time/compute"] == pytest.approx(0.5)
        assert line.endswith("8.0 images/s  ETA 0:40")

    def test_nothing_was_timed(self, clock):
        progress = Progress(0, 10_000, 4)
        clock.now += 30  # compiling
        progress.restart(1)
        line, numbers = progress.report(1, MEANS)
        assert numbers == {}
        assert line.endswith("lr 1.00e-04")
        clock.now += 1
        assert progress.report(2, MEANS)[0].endswith("ETA 2:46:38")


class TestCompilations:
    def test_are_those_of_this_thread_inside(self):
        compilations = CompilationCounter()
        program = jax.jit(lambda x: x * 2 + 1)
        numbers = np.ones(3, np.float32), np.ones(4, np.float32), np.ones(5, np.float32)
        other = threading.Thread(target=program, args=numbers[1:2])
        with compilations.watch():
            program(numbers[0])
            program(numbers[0])
            other.start()
            other.join()
        assert compilations.count == 1
        assert 0 < compilations.seconds < 60
        program(numbers[2])
        with compilations.watch():
            program(numbers[1])
            program(numbers[2])
        assert compilations.count == 1

    def test_line(self):
        compilations = CompilationCounter()
        compilations.count, compilations.seconds = 1, 30.04
        assert compilations.describe() == "1 program compiled in 30.0 s"
        compilations.cached = 1
        assert compilations.describe(initialization=5.0, tracing=7.25) == (
            "1 program loaded from the cache in 30.0 s, after 5.0 s of initialization, "
            "7.2 s of tracing"
        )

    def test_other_seconds_are_those_of_tracing(self):
        compilations = CompilationCounter()

        def slow(x):
            time.sleep(0.05)
            return x * 3

        with compilations.watch():
            jax.jit(slow)(np.ones(3, np.float32))
        assert 0.05 < compilations.other_seconds < 60

    def test_end_with_an_error(self):
        compilations = CompilationCounter()
        with pytest.raises(ZeroDivisionError), compilations.watch():
            _ = 1 / 0
        jax.jit(lambda x: x - 3)(np.ones(3, np.float32))
        assert compilations.count == 0


def test_device_memory(monkeypatch):
    stats = [None, {}, {"peak_bytes_in_use": 2e9, "bytes_in_use": 9e9}, {"peak_bytes_in_use": 1e9}]
    devices = [types.SimpleNamespace(memory_stats=lambda one=one: one) for one in stats]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert measure_device_memory() == {"device_memory_gb": 2.0}
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:2])
    assert measure_device_memory() == {}
