"""Profiler traces of some steps of a run, to look at with TensorBoard's profile plugin or xprof."""

import pathlib
import re

import jax
from absl import logging

from lcdnet_jax.config import ConfigError


def parse_range(text: str | None) -> tuple[int, int] | None:
    """First and last step from "START:STOP"; None from None.

    Raises:
        ConfigError: For another text.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(
            f"--profile={text} is no range of steps; use START:STOP with 1 <= START <= STOP, such "
            "as --profile=11:15"
        )
    return int(match[1]), int(match[2])


class Profile:
    """A profiler trace of some steps; does nothing without a range.

    A trace that cannot be made is worth a warning, but not the end of a training.
    """

    def __init__(self, directory: pathlib.Path, steps: tuple[int, int] | None):
        self._directory = directory
        self._range = steps
        self._running = False

    def before(self, first: int, last: int) -> None:
        """Before a call that makes the steps ``first`` to ``last``."""
        if self._range and first <= self._range[1] and last >= self._range[0] and not self._running:
            try:
                jax.profiler.start_trace(self._directory)
                self._running = True
            except RuntimeError as error:
                self._range = None
                logging.warning("no profiler trace: %s", error)

    def ends_after(self, step: int) -> bool:
        """Whether ``step`` is the last one, or beyond it."""
        return self._running and self._range is not None and step >= self._range[1]

    def end(self) -> None:
        """Writes the trace, once; at the end of a run that has made no such step, says so."""
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
