"""What messages of several commands share: durations, and errors for lack of memory."""

import math


def format_duration(seconds: float) -> str:
    """Seconds as "0:07" or "1:02:03", rounded up, so that only what is done takes "0:00"."""
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or JAX says that memory of the host or a device is used up."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
