"""Ending a run in good order when Ctrl-C or SIGTERM comes, on one host or on several."""

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from lcdnet_jax.training.sharding import Parallel

# Calls of the program after which hosts learn of a signal. They ask after every call, and must
# not wait for a step that the devices are still to make.
_LAG = 2


class Stopped(KeyboardInterrupt):
    """A signal ended the run, after a step whose state is saved.

    Attributes:
        number: The signal, ``signal.SIGINT`` or ``signal.SIGTERM``.
        exit_code: What the program should end with, as shells count: 130 after SIGINT, 143 after
            SIGTERM.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


class Stop:
    """Whether to stop. On several hosts all get the same answer after the same step.

    Args:
        parallel: The devices of the run.
    """

    def __init__(self, parallel: Parallel):
        self.received = 0  # the signal that this host has got
        self._several = jax.process_count() > 1
        self._answers: deque[Array] = deque()
        if self._several:
            mesh = parallel.mesh
            self._placement = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
            self._local_devices = mesh.local_mesh.size
            self._largest = jax.jit(lambda x: x.max(), out_shardings=parallel.replicated)

    def after_call(self) -> int:
        """The signal to stop for, or 0; every host must ask once after every call.

        A host that stopped alone would leave the others waiting for it in the next step. So the
        devices compare what the hosts have got, and all read the answer to the question before
        last, which is there without waiting.
        """
        if not self._several:
            return self.received
        mine = np.full(self._local_devices, self.received, np.int32)
        asked = jax.make_array_from_process_local_data(self._placement, mine)
        self._answers.append(self._largest(asked))
        if len(self._answers) <= _LAG:
            return 0
        return int(self._answers.popleft())

    def after_report(self) -> int:
        """The same later in the same step, after evaluating, say: on several hosts 0."""
        return 0 if self._several else self.received


@contextlib.contextmanager
def listening(parallel: Parallel) -> Iterator[Stop]:
    """Takes note of the first Ctrl-C or SIGTERM; the second acts as ever."""
    stop = Stop(parallel)
    if threading.current_thread() is not threading.main_thread():  # signals reach that one only
        yield stop
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    # nohup and shells' "&" ask not to be stopped by Ctrl-C.
    previous = {s: handler for s, handler in previous.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in previous.items():
            # None is one that was not set in Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, frame: Any) -> None:
        stop.received = number
        restore()
        _say("stopping after this step, then saving; once more to stop at once")

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


def _say(text: str) -> None:
    """Prints a line in the middle of anything, a print too, which must not be entered twice."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # nobody may be there to read it
        try:
            descriptor = sys.stdout.fileno()
        except (AttributeError, OSError, ValueError):  # no file: a notebook's, say
            print(text, flush=True)
        else:
            os.write(descriptor, f"{text}\n".encode())
