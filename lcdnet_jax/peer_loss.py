"""How a process of a run ends when another one has died.

JAX's coordination service notices it: at once if process 0 died, after a timeout without signs of
life if it was another one. By default it then ends the process by SIGABRT, with a dump.
"""

import contextlib
import ctypes
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

EXIT_CODE = 75
"""Exit code after the loss of another process: "try again" in the convention of sysexits.h."""

# Seconds that processes which fail alike wait for each other.
_GRACE = 10.0

# Seconds after its timeout at which JAX has noticed a loss.
_MARGIN = 5.0

# How errors begin that may come from a connection. Others, such as RESOURCE_EXHAUSTED, do not.
_CONNECTION = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|FAILED_PRECONDITION): "
)

_timeout = 0.0  # that of JAX, 0 without other processes
_kept: list[object] = []  # C++ holds a pointer to it


@contextlib.contextmanager
def watch(timeout: int) -> Iterator[None]:
    """Runs ``jax.distributed.initialize`` so that the loss of a process ends this one clearly.

    From then on a loss prints one line and ends this process with :data:`EXIT_CODE`, whatever it
    does, without cleaning up.

    Args:
        timeout: Seconds without signs of life after which a process counts as lost. It must be
            that of JAX, ``heartbeat_timeout_seconds``.

    Yields:
        Nothing.
    """
    global _timeout
    # JAX has no public way to set this callback. Only runs of several processes depend on it.
    from jax._src.lib import _jax
    from jaxlib import utils

    connect = _jax.get_distributed_runtime_client

    def connect_with_callback(*args: object, **options: object) -> object:
        return connect(*args, missed_heartbeat_callback=_end, **options)

    _jax.get_distributed_runtime_client = connect_with_callback
    try:
        yield
    finally:
        _jax.get_distributed_runtime_client = connect
    _timeout = float(timeout)
    _end_where_callbacks_fail()
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":
        utils.absl_set_min_log_level(3)  # fatal ones only; the line says it more clearly


def _end(status: object = None) -> None:
    """Ends this process from any thread."""
    del status  # what JAX reports
    line = (
        f"error: another process of this run has ended, or has sent no sign of life for "
        f"{_timeout:.0f} s; look at its output. What is saved stays; run the same command again in "
        "all processes"
    )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be closed, or in use by another thread
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
    os._exit(EXIT_CODE)


def _end_where_callbacks_fail() -> None:
    """Handles callbacks that jaxlib cannot make.

    jaxlib 0.10 cannot convert the argument of the callback to Python. std::bad_cast, which nothing
    catches, is the sign of the loss.
    """
    try:
        library = ctypes.CDLL("libstdc++.so.6")
        set_terminate = library["_ZSt13set_terminatePFvvE"]
        get_type = library["__cxa_current_exception_type"]
    except (OSError, AttributeError):  # another C++ library: JAX ends the process its own way
        return
    handler_type = ctypes.CFUNCTYPE(None)
    set_terminate.restype, get_type.restype = handler_type, ctypes.c_void_p
    previous: Callable[[], None]

    @handler_type
    def terminate() -> None:
        kind = get_type()  # std::type_info: a virtual table, then the name
        name = ctypes.cast(kind, ctypes.POINTER(ctypes.c_char_p))[1] if kind else b""
        if name == b"St8bad_cast":
            _end()
        previous()

    previous = set_terminate(terminate)
    _kept.append(terminate)


def wait_if_lost(error: BaseException) -> None:
    """Waits until JAX has noticed the loss that an error may come from.

    An interrupted connection is noticed before the loss of a process. Returns if no process is
    lost, and at once for an error that cannot come from a connection.

    Args:
        error: What ended the work of this process.
    """
    found: BaseException | None = error
    while _timeout and found is not None:
        if _CONNECTION.search(str(found)):
            time.sleep(_timeout + _MARGIN)
            return
        found = found.__cause__ or found.__context__


def leave_after_error() -> bool:
    """Ends the contact with the other processes, which may fail alike, or may go on computing.

    Returns:
        Whether they end, too. Otherwise this process must end at once, so that they notice it.
    """
    if not _timeout:
        return True

    def shut_down() -> None:
        with contextlib.suppress(RuntimeError):  # others are lost
            jax.distributed.shutdown()

    thread = threading.Thread(target=shut_down, daemon=True)
    thread.start()
    thread.join(_GRACE)
    return not thread.is_alive()
