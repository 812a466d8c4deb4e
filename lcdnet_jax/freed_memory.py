"""Freed memory: the C library keeps it for the next step, or returns it to the system."""

import ctypes
import os
import sys
from collections.abc import Mapping

# Numbers of options in malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory(*, environment: Mapping[str, str] = os.environ) -> bool:
    """Lets the GNU C library keep freed memory instead of returning it to the system.

    On a CPU, XLA allocates the memory of a training step anew for each step. The C library returns
    such large blocks when they are freed, and the system maps and clears each page again in the
    next step, which takes longer than the arithmetic of a small step. The memory of the process
    stays at its peak.

    Args:
        environment: The environment variables.

    Returns:
        False where the C library is another, or where the user has chosen how it allocates
        (``GLIBC_TUNABLES`` with ``glibc.malloc``, or ``MALLOC_...``). Nothing changes then.
    """
    chosen = "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in environment
    )
    if chosen or not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    # One heap for all threads, whose end never goes back. Heaps of other threads are too small for
    # large blocks.
    options = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1}
    return all(set_option(option, value) == 1 for option, value in options.items())


def return_freed_memory() -> None:
    """Returns memory that the compiler has freed to the system, where the C library is GNU's.

    Otherwise the library keeps up to 350 MB after the compilation of a window and 560 MB after that
    of a training step, and the memory of the window or step comes on top.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
