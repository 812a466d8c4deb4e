"""Times of calls, beside those of peers."""

import os
import pathlib
import time

import jax
import numpy as np
import pytest

from benchmarks import timing

pytestmark = pytest.mark.usefixtures("short_trials")


def sleeping(milliseconds):
    return timing.Call(lambda: time.sleep(milliseconds / 1e3), wait=lambda _: None)


class TestTiming:
    @pytest.mark.parametrize("may_have", [False, True])
    def test_begin_keeps_to_one_core(self, monkeypatch, may_have):
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        monkeypatch.setattr(timing, "_may_have_accelerator", lambda: may_have)
        before = os.sched_getaffinity(0)
        try:
            timing.use_one_core()
            assert timing.describe_device()["cores"] == len(os.sched_getaffinity(0)) == 1
            if may_have:  # threads that JAX had started
                threads = map(int, os.listdir("/proc/self/task"))
                assert all(len(os.sched_getaffinity(thread)) == 1 for thread in threads)
        finally:
            for thread in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(thread), before)

    def test_begin_leaves_cores_to_an_accelerators_host(self, monkeypatch):
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        monkeypatch.setattr(timing, "_may_have_accelerator", lambda: True)
        monkeypatch.setattr(timing, "on_cpu", lambda: False)
        before = os.sched_getaffinity(0)
        timing.use_one_core()
        assert os.sched_getaffinity(0) == before

    def test_processor_time_is_what_counts_on_a_cpu(self):
        (times,) = timing.measure_medians([sleeping(10)], seconds=0.0)
        assert times.wall >= 10
        assert times.value == times.processor < 5
        assert times.rounds == 3

    def test_of_several_steps_a_call_each(self):
        call = timing.Call(lambda: time.sleep(0.02), wait=lambda _: None, steps=4)
        (times,) = timing.measure_medians([call], seconds=0.0)
        assert 5 <= times.wall < 20

    def test_accelerators_are_waited_for_once_a_round(self, monkeypatch):
        monkeypatch.setattr(timing, "on_cpu", lambda: False)
        waits = []
        call = timing.Call(lambda: time.sleep(1e-3), waits.append)
        (times,) = timing.measure_medians([call], seconds=0.0)
        assert times.value == times.wall >= 1
        assert len(waits) == 1 + 1 + 3  # warm up, one alone, three rounds

    def test_the_fastest_peer_counts(self, monkeypatch):
        def call(milliseconds):
            return timing.Call(lambda: milliseconds, wait=lambda _: None)

        monkeypatch.setattr(timing, "_time_round", lambda call, count: (9 * call.run(), call.run()))
        agreed = []
        peers = {
            "slow": lambda: timing.Peer(call(9.0), "of slow"),
            "fast": lambda: timing.Peer(call(3.0), "of fast", memory=2**20),
        }
        fields = timing.compare(call(6.0), peers, agreed.append, seconds=0.0)
        assert fields["ratio"] == 2
        assert (fields["value"], fields["wall_ms"], fields["clock"]) == (6, 54, "processor")
        assert (fields["peer"], fields["peer_value"]) == ("fast", 3)
        assert fields["peer_memory_mib"] == 1
        assert fields["peer_trials_ms"] == {"slow": 9, "fast": 3}
        assert agreed == ["of slow", "of fast"]
        assert "ratio" not in timing.compare(call(1.0), {}, agreed.append, seconds=0.0)

    def test_agreement(self, rng):
        start, change = rng.normal(size=(2, 4, 5))
        almost = change * (1 + 1e-3)
        timing.check_close("it", start + almost, start + change, 2e-3, start=start)
        for wrong in (start + change * 1.01, start, np.nan * start):
            with pytest.raises(ValueError, match="it differs from the peer's by"):
                timing.check_close("it", wrong, start + change, 2e-3, start=start)

    def test_compilations_are_counted(self):
        double = jax.jit(lambda x: x * 2.5)
        arguments = jax.device_put(np.ones(3, "f")), jax.device_put(np.ones(4, "f"))
        for argument, count in zip((*arguments, *arguments), (1, 1, 0, 0), strict=True):
            with timing.record_compilations() as found:
                double(argument).block_until_ready()
            assert len(found) == count

    def test_a_cache_of_its_own(self):
        before = jax.config.jax_compilation_cache_dir
        with timing.fresh_compilation_cache():
            folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
            jax.jit(lambda x: x * 3.5)(np.ones(3, "f")).block_until_ready()
            assert any(folder.iterdir())
        assert jax.config.jax_compilation_cache_dir == before != str(folder)
        assert not folder.exists()
