"""A pipeline: threads read and write files while one thread computes.

Results come in the order of the jobs. The number of jobs in progress and the bytes of their images
are bounded. An error in one job does not stop the others.
"""

import collections
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from typing import Generic, TypeAlias, TypeVar

Job = TypeVar("Job")
Input = TypeVar("Input")
Output = TypeVar("Output")
Result = TypeVar("Result")

# Jobs between the start of reading and the end of writing. Several devices compute a hundred small
# images at once.
MOST_JOBS = 128

# Bytes of their images and results. A job that needs more runs alone.
MOST_BYTES = 2**28

# Most seconds until a signal such as Ctrl-C is handled.
_SECONDS_TO_SIGNAL = 0.1

# Most threads that read and write.
_MOST_THREADS = 8


class Stopped(Exception):
    """The pipeline was stopped while a job was computed."""


class _AllStarted:
    """An entry of the queue: no further job starts until a result has been taken."""


class _End:
    """An entry of the queue: the computing thread ends."""


@dataclasses.dataclass
class _Flight(Generic[Job, Input, Result]):
    """A job in progress."""

    job: Job
    size: int
    input: "Future[Input] | None"
    result: "Future[Result]" = dataclasses.field(default_factory=Future)


_Entry: TypeAlias = _Flight[Job, Input, Result] | _AllStarted | _End  # of the queue


class Pipeline(Generic[Job, Input, Output, Result]):
    """Reads, computes and writes at the same time.

    The caller iterates over :meth:`run` and always calls :meth:`stop` and :meth:`join` at the end.

    Args:
        size: Estimates the bytes that a job holds between reading and the end of writing. It is
            called in the caller's thread and must not raise.
        read: Reads the input of a job. It runs in several threads.
        find_batch_key: Returns how many inputs may be computed together with an input, and a key.
            Only consecutive inputs with the same key are.
        compute: Computes the outputs of inputs in their order. It runs in one thread. An output
            that cannot be computed is an exception. It should end early, with any exception, when
            :attr:`is_stopped` is true.
        write: Writes an output and returns the result of the job. It runs in several threads.
    """

    def __init__(
        self,
        *,
        size: Callable[[Job], int],
        read: Callable[[Job], Input],
        find_batch_key: Callable[[Input], tuple[int, object]],
        compute: Callable[[Sequence[Input]], Sequence[Output | Exception]],
        write: Callable[[Input, Output], Result],
    ):
        self._size = size
        self._read = read
        self._find_batch_key = find_batch_key
        self._compute = compute
        self._write = write
        self._stopped = threading.Event()
        self._failure: BaseException | None = None  # of the computing thread
        self._flights: collections.deque[_Flight[Job, Input, Result]] = collections.deque()
        self._queue: queue.SimpleQueue[_Entry[Job, Input, Result]] = queue.SimpleQueue()
        threads = min(_MOST_THREADS, max(2, os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="files")
        # A daemon: what it computes is lost anyway if the process ends. Files are whole, because
        # Python waits for the threads of the pool.
        self._thread = threading.Thread(target=self._compute_all, name="compute", daemon=True)
        self._thread.start()

    @property
    def is_stopped(self) -> bool:
        """Whether :meth:`stop` has been called."""
        return self._stopped.is_set()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result | Exception]]:
        """Runs jobs.

        Args:
            jobs: The jobs.

        Yields:
            Each job with its result, or with the exception of its reading, computation or writing,
            in the order of the jobs.

        Raises:
            BaseException: If the computing thread fails outside of a job, for example because no
                thread can be started. The jobs that have been started come before, with this error.
        """
        waiting = iter(jobs)
        job: Job | None = next(waiting, None)
        held = 0
        while job is not None or self._flights:
            failure = self._failure
            if failure is not None and not self._flights:
                raise failure
            while job is not None and len(self._flights) < MOST_JOBS and failure is None:
                size = self._size(job)
                if self._flights and held + size > MOST_BYTES:
                    break
                held += size
                flight = _Flight[Job, Input, Result](job, size, self._pool.submit(self._read, job))
                self._flights.append(flight)
                self._queue.put(flight)
                job = next(waiting, None)
            self._queue.put(_AllStarted())
            if self._failure is not None:  # the thread may have failed before a job started
                self._fail_all(self._failure)
            first = self._flights[0]
            outcome = _wait(first.result)
            self._flights.popleft()
            held -= first.size
            yield first.job, outcome

    def stop(self) -> list[tuple[Job, Result | Exception]]:
        """Stops: files that are being read or written are finished, all other work is dropped.

        It does not wait for the computation, which may take minutes; see :meth:`join`.

        Returns:
            The jobs that are finished and that :meth:`run` has not given, with their results, in
            order.
        """
        self._stopped.set()
        for flight in self._flights:
            if (reading := flight.input) is not None:
                reading.cancel()
        self._queue.put(_End())
        self._pool.shutdown(cancel_futures=True)
        finished: list[tuple[Job, Result | Exception]] = []
        for flight in self._flights:
            if flight.result.done():
                error = flight.result.exception()
                if error is None:
                    finished.append((flight.job, flight.result.result()))
                elif isinstance(error, Exception) and not isinstance(
                    error, Stopped | CancelledError
                ):
                    finished.append((flight.job, error))
        self._flights.clear()
        return finished

    def join(self) -> None:
        """Waits, after :meth:`stop`, until the computation has ended. It may be interrupted."""
        self._thread.join()

    def _compute_all(self) -> None:
        """Computes what comes from the queue; runs in its own thread."""
        try:
            entry = self._queue.get()
            while not isinstance(entry, _End):
                if isinstance(entry, _Flight):
                    entry = self._compute_group(entry)
                else:
                    entry = self._queue.get()
        except BaseException as error:  # of any type: the caller must not wait forever
            self._failure = error
            self._fail_all(error)

    def _fail_all(self, error: BaseException) -> None:
        """Gives an error to all jobs that are neither finished nor written at the moment."""
        for flight in list(self._flights):
            if flight.input is not None:
                with contextlib.suppress(InvalidStateError):  # it has failed before
                    flight.result.set_exception(Stopped() if self.is_stopped else error)

    def _compute_group(self, first: _Flight[Job, Input, Result]) -> _Entry[Job, Input, Result]:
        """Computes a job and those after it with the same key; returns the next entry."""
        flights: list[_Flight[Job, Input, Result]] = []
        inputs: list[Input] = []
        most, key = 1, None
        entry: _Entry[Job, Input, Result] | None = first
        while isinstance(entry, _Flight):
            found = self._wait_for_input(entry)
            if found is not None:
                input_, limit, input_key = found
                if flights and input_key != key:
                    break
                most, key = limit, input_key
                flights.append(entry)
                inputs.append(input_)
            if len(flights) == most or not flights:
                entry = None
                break
            entry = self._queue.get()
            while isinstance(entry, _AllStarted) and not self._queue.empty():
                entry = self._queue.get()  # an old one; after a new one, no job comes
        if flights:
            self._compute_and_write(flights, inputs)
        return self._queue.get() if entry is None else entry

    def _wait_for_input(
        self, flight: _Flight[Job, Input, Result]
    ) -> tuple[Input, int, object] | None:
        """Waits until a job is read, and finds its key; an error becomes its result."""
        assert flight.input is not None
        try:
            input_ = flight.input.result()
            return input_, *self._find_batch_key(input_)
        except BaseException as error:
            flight.result.set_exception(error)
            return None

    def _compute_and_write(
        self, flights: Sequence[_Flight[Job, Input, Result]], inputs: Sequence[Input]
    ) -> None:
        outputs: Sequence[Output | BaseException]
        try:
            outputs = [Stopped()] * len(inputs) if self.is_stopped else self._compute(inputs)
        except BaseException as error:  # of any type: the caller waits for the results
            outputs = [error] * len(inputs)
        for flight, input_, output in zip(flights, inputs, outputs, strict=True):
            if self.is_stopped:
                flight.result.set_exception(Stopped())
            elif isinstance(output, BaseException):
                flight.result.set_exception(output)
            else:
                self._pool.submit(self._write_output, flight, input_, output)
            flight.input = None  # the pool holds the image until it is written

    def _write_output(
        self, flight: _Flight[Job, Input, Result], input_: Input, output: Output
    ) -> None:
        if flight.result.done():  # the pool took the output, and then no thread could start
            return
        try:
            flight.result.set_result(self._write(input_, output))
        except BaseException as error:
            flight.result.set_exception(error)


def _wait(future: "Future[Result]") -> Result | Exception:
    """Waits for a result; returns an exception, and raises an interruption."""
    # A signal that arrives just before a thread blocks is handled only when the thread runs again.
    while not future.done():
        futures.wait([future], timeout=_SECONDS_TO_SIGNAL)
    try:
        return future.result()
    except Exception as error:
        return error
