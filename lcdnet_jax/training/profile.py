"""Profiler traces of some steps of a run, for TensorBoard's profile plugin or xprof."""

import pathlib
import re

import jax
from absl import logging

from lcdnet_jax.config import ConfigError


def parse_range(text: str | None) -> tuple[int, int] | None:
    """Parses "START:STOP" as the first and last step. None gives None.

    Raises:
        ConfigError: If the text is not a range of steps.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(
            f"--profile={text} is not a range of steps; use START:STOP with 1 <= START <= STOP, "
            "such as --profile=11:15"
        )
    return int(match[1]), int(match[2])


class Profile:
    """Profiler trace of a range of steps. Does nothing without a range.

    A trace that fails gives a warning and does not end the training.

    Args:
        directory: Where the trace is written.
        steps: First and last step, or None.
    """

    def __init__(self, directory: pathlib.Path, steps: tuple[int, int] | None):
        self._directory = directory
        self._range = steps
        self._running = False

    def start_before(self, first: int, last: int) -> None:
        """Starts the trace if the next call, of steps ``first`` to ``last``, is in the range."""
        if self._range and first <= self._range[1] and last >= self._range[0] and not self._running:
            try:
                jax.profiler.start_trace(self._directory)
                self._running = True
            except RuntimeError as error:
                self._range = None
                logging.warning("no profiler trace: %s", error)

    def ends_after(self, step: int) -> bool:
        """Whether a trace is running and ``step`` is its last step or beyond it."""
        return self._running and self._range is not None and step >= self._range[1]

    def end(self) -> None:
        """Writes the trace, once. Warns if the run has made none of its steps."""
        if self._range is None:
            return
        (start, stop), self._range = self._range, None
        if not self._running:
            logging.warning("no profiler trace: this run has made none of steps %d:%d", start, stop)
            return
        self._running = False
        try:
            jax.profiler.stop_trace()
        except RuntimeError as error:
            logging.warning(
                "no profiler trace, as %s cannot be written: %s; free disk space or check "
                "permissions",
                self._directory,
                error,
            )
