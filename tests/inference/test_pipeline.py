"""Order, overlap, groups, errors and the end of a pipeline, with jobs that are numbers."""

import _thread
import signal
import threading
import time

import pytest

from lcdnet_jax.inference import pipeline
from lcdnet_jax.inference.pipeline import Pipeline


def make(**stages):
    """Doubles numbers and returns them as text; stages may be replaced."""
    defaults = {
        "size": lambda job: 1,
        "read": lambda job: job,
        "find_batch_key": lambda number: (1, None),
        "compute": lambda numbers: [2 * number for number in numbers],
        "write": lambda number, doubled: str(doubled),
    }
    return Pipeline(**{**defaults, **stages})


def run(jobs, **stages):
    made = make(**stages)
    try:
        return list(made.run(jobs))
    finally:
        made.stop()
        made.join()
        assert not [t for t in threading.enumerate() if t.name.startswith(("files", "compute"))]


def test_order():
    """Although later jobs are read and written sooner."""

    def slow_at_first(job, *_):
        time.sleep(0.002 * (10 - job))
        return job

    expected = [(i, i) for i in range(10)]
    assert run(range(10), read=slow_at_first, write=slow_at_first) == expected
    assert run([]) == []


def test_stages_overlap():
    """Each stage waits for the others, which would take forever one after the other."""
    reads, computes = threading.Event(), threading.Event()

    def read(job):
        if job == 1:
            reads.set()
        return job

    def compute(numbers):
        if numbers == [0]:
            assert reads.wait(20)  # 1 is read while 0 is computed
        if numbers == [1]:
            computes.set()
        return numbers

    def write(number, _):
        if number == 0:
            assert computes.wait(20)  # 1 is computed while 0 is written
        return number

    assert run(range(2), read=read, compute=compute, write=write) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("stage", ["read", "compute", "write", "find_batch_key"])
def test_errors_are_of_one_job(stage):
    def fail(number, *_):
        if number in (3, [3]):
            raise ValueError("three")
        return {"read": number, "write": number, "find_batch_key": (1, None)}.get(stage, number)

    outcomes = run(range(6), **{stage: fail})
    assert [job for job, _ in outcomes] == list(range(6))
    assert str(outcomes[3][1]) == "three"
    assert not any(isinstance(outcome, Exception) for job, outcome in outcomes if job != 3)


def test_outputs_may_be_errors():
    def compute(numbers):
        return [ValueError(n) if n % 2 else n for n in numbers]

    outcomes = run(range(4), compute=compute, find_batch_key=lambda number: (4, None))
    assert [isinstance(outcome, ValueError) for _, outcome in outcomes] == [False, True] * 2


def test_groups():
    """As many consecutive jobs of a key as are allowed; a failed one does not divide them."""
    groups = []

    def compute(numbers):
        groups.append(list(numbers))
        return numbers

    def read(job):
        if job == 5:
            raise ValueError
        return job

    def find_batch_key(number):
        return (4, "small") if number != 8 else (1, None)

    run(range(12), compute=compute, read=read, find_batch_key=find_batch_key)
    assert groups == [[0, 1, 2, 3], [4, 6, 7], [8], [9, 10, 11]]


def test_what_is_on_its_way_is_bounded(monkeypatch):
    monkeypatch.setattr(pipeline, "MOST_JOBS", 3)
    held, most, lock = 0, 0, threading.Lock()

    def read(job):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return job

    def count(made, jobs):
        nonlocal held
        results = made.run(jobs)
        for _ in results:
            with lock:
                held -= 1
        made.stop()
        return most

    assert 1 < count(make(read=read), range(30)) <= 3
    most = 0
    size = {5: pipeline.MOST_BYTES + 1}
    # Jobs of half of the bytes, and one that is too large: it runs alone.
    half = make(read=read, size=lambda job: size.get(job, pipeline.MOST_BYTES // 2))
    assert count(half, range(10)) == 2
    most = 0
    assert count(make(read=read, size=lambda job: pipeline.MOST_BYTES + 1), range(5)) == 1


def test_stop_finishes_what_is_written():
    """And drops the rest: also what is computed then. Further calls return nothing."""
    writing, computing = threading.Event(), threading.Event()

    def wait_for_stop():
        deadline = time.monotonic() + 20
        while not made.is_stopped:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def write(number, _):
        if number == 2:
            writing.set()
            wait_for_stop()
        return number

    def compute(numbers):
        if numbers == [3]:
            computing.set()
            wait_for_stop()
        return numbers

    made = make(write=write, compute=compute)
    results = made.run(range(10))
    assert [next(results), next(results)] == [(0, 0), (1, 1)]
    assert writing.wait(20)
    assert computing.wait(20)
    assert made.stop() == [(2, 2)]
    assert made.stop() == []


def test_stop_does_not_wait_for_the_computation():
    """Which may be a compilation of minutes; what is finished is known at once."""
    computing, end = threading.Event(), threading.Event()

    def compute(numbers):
        if numbers == [2]:
            computing.set()
            assert end.wait(20)
        return numbers

    made = make(compute=compute)
    results = made.run(range(3))
    assert next(results) == (0, "0")
    assert computing.wait(20)
    assert made.stop() == [(1, "1")]
    assert made._thread.is_alive()
    end.set()
    made.join()


class TestFailureOfTheThread:
    """Outside of a job: each job that has been started gets the error, then it is raised."""

    def test_no_thread_for_writing(self, monkeypatch):
        made = make()
        submit, error = made._pool.submit, RuntimeError("can't start new thread")

        def fail(function, *arguments):
            if function == made._write_output:
                raise error
            return submit(function, *arguments)

        monkeypatch.setattr(made._pool, "submit", fail)
        outcomes = []
        with pytest.raises(RuntimeError, match="can't start new thread"):
            outcomes.extend(made.run(range(1000)))
        made.stop()
        made.join()
        assert 0 < len(outcomes) < 1000
        assert all(outcome is error for _, outcome in outcomes)

    def test_too_few_outputs(self):
        made = make(compute=lambda numbers: [] if numbers == [200] else numbers)
        outcomes = []
        with pytest.raises(ValueError, match="shorter"):
            outcomes.extend(made.run(range(1000)))
        made.stop()
        made.join()
        assert [outcome for _, outcome in outcomes[:200]] == [str(i) for i in range(200)]
        assert all("shorter" in str(outcome) for _, outcome in outcomes[200:])


def test_interruption_of_a_thread():
    """As a KeyboardInterrupt that Python raises there, it reaches the caller."""

    def compute(numbers):
        if numbers == [1]:
            raise KeyboardInterrupt
        return numbers

    made = make(compute=compute)
    results = made.run(range(3))
    assert next(results) == (0, "0")
    with pytest.raises(KeyboardInterrupt):
        next(results)
    made.stop()
    made.join()


def test_a_signal_that_wakes_nobody():
    """One that arrives just before the caller blocks is handled, and not when a result comes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    handled, in_time = threading.Event(), []

    def compute(numbers):
        _thread.interrupt_main()  # sets the flag of SIGINT and interrupts no waiting
        in_time.append(handled.wait(10))
        return numbers

    made = make(compute=compute)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(made.run([0]))
    finally:
        handled.set()
        made.stop()
        made.join()
        signal.signal(signal.SIGINT, before)
    assert in_time == [True]
