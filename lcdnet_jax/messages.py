"""Helpers for messages: durations, counts, safe and short text, the processor, system errors."""

import contextlib
import errno
import math
import os
import pathlib
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence

_PERMISSIONS = "check the permissions of the file and of its folders"
_SPACE = "free some space, or use another disk"
_SYSTEM_ADVICE = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path, a part of which is a file",
    errno.EISDIR: "give a file instead of a directory",
    errno.ELOOP: "correct its links, which lead back to themselves",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EROFS: "use another disk, this one is read-only",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EIO: "use another disk or a backup, this one fails",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def describe_processor() -> str:
    """Names the processor.

    Returns:
        Its name as the system has it, such as "AMD EPYC", or its kind, such as "arm64".
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()


def format_duration(seconds: float) -> str:
    """Formats a duration as "0:07" or "1:02:03".

    Args:
        seconds: The duration, at least 0. It is rounded up, so that only 0 gives "0:00".

    Returns:
        Minutes and seconds, or hours, minutes and seconds.
    """
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def format_count(count: int, noun: str) -> str:
    """Formats a number of things as "1 image" or "2,000 images".

    Args:
        count: The number, at least 0.
        noun: The singular of a noun whose plural ends in -s.

    Returns:
        Number and noun.
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class SlowWorkReporter:
    """Reports work that takes more than a few seconds, and its time when it ends.

    Args:
        report: Called with a line, from another thread if the work is still under way.
        after: Seconds before the work is reported. Shorter work has no line.
    """

    def __init__(self, report: Callable[[str], None], *, after: float = 2.0):
        self._report = report
        self._after = after
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._name, self._began, self._is_reported = "", 0.0, False

    def begin(self, verb: str, name: str) -> None:
        """Begins a piece of work, after which "VERB NAME ..." may be reported.

        Args:
            verb: Such as "compiling".
            name: Such as "the training step".
        """
        self.end()
        self._name, self._began, self._is_reported = name, time.perf_counter(), False

        def show() -> None:
            with self._lock:
                if self._timer is timer:
                    self._is_reported = True
                    self._report(f"{verb} {name} ...")

        timer = threading.Timer(self._after, show)
        timer.daemon = True
        self._timer = timer
        timer.start()

    def end(self) -> None:
        """Ends the work, if there is any. If it was reported, so are the seconds that it took."""
        with self._lock:
            if self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
            if self._is_reported:
                seconds = time.perf_counter() - self._began
                self._report(f"{self._name}: ready after {seconds:.1f} s")

    @contextlib.contextmanager
    def watch(self, verb: str, name: str) -> Iterator[None]:
        """Reports the work of the block; without its end if the block fails.

        Args:
            verb: As for :meth:`begin`.
            name: As for :meth:`begin`.

        Yields:
            Nothing.
        """
        self.begin(verb, name)
        try:
            yield
        except BaseException:
            self._is_reported = False
            raise
        finally:
            self.end()


def escape(text: str) -> str:
    """Makes text from files safe to print.

    Names, cards and error messages may hold control characters, with which a terminal can be
    made to hide or forge lines.

    Args:
        text: Any text, of one line or several.

    Returns:
        The same text, where each character that is not printable, such as an escape, a direction
        mark or a byte of a name that is not UTF-8, is a backslash sequence. Line breaks stay.
    """
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def escape_line(text: str) -> str:
    """Makes text of one line safe to print, such as the name of a file.

    Args:
        text: Any text.

    Returns:
        The same text as by :func:`escape`, where line breaks are backslash sequences, too.
    """
    return escape(text).replace("\n", "\\n")


def describe_system_error(error: OSError) -> str:
    """Describes an error of the operating system.

    Args:
        error: The error.

    Returns:
        The file, the cause and the fix. The message of the error if it names no file, or if its
        cause is not a common one.
    """
    advice = _SYSTEM_ADVICE.get(error.errno or 0)
    if type(error).__module__ != "builtins" or error.filename is None or advice is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}; {advice}"


def shorten(value: object) -> str:
    """Shows a value from a file or a caller in at most 60 characters.

    Args:
        value: Any value.

    Returns:
        Its ``repr``, cut if it is longer.
    """
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."


def join_some(entries: Sequence[str], most: int, *, separator: str = ", ") -> str:
    """Joins the first entries of a list, and counts the others.

    Args:
        entries: Names or lines.
        most: Number of entries to show, at least 1.
        separator: Text between two entries.

    Returns:
        Text such as "a, b and 3 more". With line breaks as separators, "and 3 more" is a line too.
    """
    text = separator.join(entries[:most])
    if len(entries) <= most:
        return text
    between = separator if "\n" in separator else " "
    return f"{text}{between}and {len(entries) - most} more"


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error of Python or JAX reports that memory is exhausted.

    Args:
        error: Any exception.

    Returns:
        True if the host or a device has no memory left.
    """
    return isinstance(error, MemoryError) or is_device_out_of_memory(error)


def is_device_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error of JAX reports that the memory of a device is exhausted.

    Args:
        error: Any exception.

    Returns:
        True if a device has no memory left. Python's MemoryError is of the host.
    """
    return not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" in str(error)
