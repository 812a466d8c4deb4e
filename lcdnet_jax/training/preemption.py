"""Preemption: Ctrl-C or SIGTERM saves and ends a run after the current step, on all hosts."""

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import FrameType

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from lcdnet_jax.training.sharding import Partitioner

# Number of calls after which hosts learn of a signal. They ask after every call, and must not wait
# for a step that the devices have not finished.
_LAG = 2


class Preempted(KeyboardInterrupt):
    """A signal ended the run, after its state was saved.

    Attributes:
        number: The signal, ``signal.SIGINT`` or ``signal.SIGTERM``.
        exit_code: Exit code for the program, in the shells' convention: 130 after SIGINT, 143
            after SIGTERM.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


class PreemptionHandler:
    """Tells the loop when to stop. On several hosts all get the same answer after the same step.

    Attributes:
        received: The signal that this host has received, or 0.

    Args:
        partitioner: The devices of the run.
    """

    def __init__(self, partitioner: Partitioner):
        self.received = 0
        self._is_multihost = jax.process_count() > 1
        self._answers: deque[Array] = deque()
        if self._is_multihost:
            mesh = partitioner.mesh
            self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
            self._local_devices = mesh.local_mesh.size
            self._max = jax.jit(lambda x: x.max(), out_shardings=partitioner.replicated)

    def get_signal_after_call(self) -> int:
        """The signal to stop for, or 0. Every host must ask once after every call.

        If one host stopped alone, the others would wait for it in the next step. So the devices
        exchange the signals that the hosts received. All hosts read an earlier answer, two calls
        old, which is available without waiting.
        """
        if not self._is_multihost:
            return self.received
        received = np.full(self._local_devices, self.received, np.int32)
        question = jax.make_array_from_process_local_data(self._sharding, received)
        self._answers.append(self._max(question))
        if len(self._answers) <= _LAG:
            return 0
        return int(self._answers.popleft())

    def get_signal_after_report(self) -> int:
        """The same later in the same step, after an evaluation for example. 0 on several hosts."""
        return 0 if self._is_multihost else self.received


@contextlib.contextmanager
def handle_preemption(partitioner: Partitioner) -> Iterator[PreemptionHandler]:
    """Catches the first Ctrl-C or SIGTERM. The second has its usual effect."""
    handler = PreemptionHandler(partitioner)
    if threading.current_thread() is not threading.main_thread():  # which gets the signals
        yield handler
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    # nohup and the "&" of shells disable Ctrl-C. Keep it disabled.
    previous = {s: function for s, function in previous.items() if function != signal.SIG_IGN}

    def restore() -> None:
        for number, function in previous.items():
            # None: the handler was not set in Python, so Python cannot restore it.
            signal.signal(number, signal.SIG_DFL if function is None else function)

    def handle(number: int, frame: FrameType | None) -> None:
        handler.received = number
        restore()
        _print_from_handler("stopping after this step, then saving; once more to stop at once")

    for number in previous:
        signal.signal(number, handle)
    try:
        yield handler
    finally:
        restore()


def _print_from_handler(text: str) -> None:
    """Prints a line from a signal handler. ``print`` may be interrupted and cannot nest."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # the output may be closed
        try:
            descriptor = sys.stdout.fileno()
        except (AttributeError, OSError, ValueError):  # not a file, a notebook's for example
            print(text, flush=True)
        else:
            os.write(descriptor, f"{text}\n".encode())
