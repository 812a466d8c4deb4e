"""Resident memory of this process, as Linux tells it."""

import pathlib
import re
import sys


def read(field: str) -> float:
    """Reads resident memory.

    Args:
        field: "VmRSS" for that of now, "VmHWM" for the most so far.

    Returns:
        GB (10^9 bytes).
    """
    status = pathlib.Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        sys.exit(f"error: {status} has no {field}; measure on Linux")
    return int(found[1]) * 1024 / 1e9


def reset_peak() -> None:
    """Sets the peak (VmHWM) to the resident memory of now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
