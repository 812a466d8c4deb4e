"""Progress of a command over images: a bar on a terminal, and lines.

The bar is drawn by rich, on standard error. Without a terminal there are only lines, and no control
characters.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from lcdnet_jax.cli._console import print_line
from lcdnet_jax.messages import escape, format_duration

if TYPE_CHECKING:  # rich is imported only for a terminal, JAX only when a command runs
    from rich.progress import Progress

    from lcdnet_jax.typing import Fields

# Each drawing takes about a millisecond of the processor.
_DRAWINGS_PER_SECOND = 4

_WORK = "restoring"


class ProgressBar:
    """Shows the progress of images, and prints lines above it. Its methods may run in any thread.

    Args:
        count: Number of images.
    """

    def __init__(self, count: int):
        self._count = count
        self._start = time.perf_counter()
        self._images = self._pixels = 0.0
        self._lock = threading.Lock()
        self._bar = _make_bar() if sys.stderr is not None and sys.stderr.isatty() else None

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._task = self._bar.add_task(_WORK, total=self._count, **self._describe())
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def advance(self, images: float, pixels: float) -> None:
        """Moves the bar.

        Args:
            images: The images that are added, such as a fraction of one.
            pixels: Their pixels.
        """
        with self._lock:
            self._images += images
            self._pixels += pixels
            if self._bar is not None:
                self._bar.update(
                    self._task, completed=self._images, description=_WORK, **self._describe()
                )

    def show_compilation(self, height: int, width: int) -> None:
        """Shows that the network is compiled, until the bar moves."""
        if self._bar is not None:
            text = f"compiling for {width}x{height} ..."
            self._bar.update(self._task, description=text)

    def print_line(self, line: str) -> None:
        """Prints a line to standard output, above the bar."""
        if self._bar is not None and sys.stdout is not None and sys.stdout.isatty():
            self._print_above(line)
        else:
            print_line(line)

    def print_warning(self, message: str) -> None:
        """Prints a warning to standard error, above the bar."""
        line = f"warning: {message}"
        if self._bar is not None:
            self._print_above(line)
        else:
            print(escape(line), file=sys.stderr)

    def summarize(self) -> str:
        """Time and speed."""
        seconds = time.perf_counter() - self._start
        return f"{format_duration(seconds)}, {self._speed():.2g} megapixels/s"

    def _describe(self) -> Fields:
        """The texts beside the bar."""
        whole = int(self._images + 1e-6)  # fractions do not quite add up to 1
        return {"images": f"{whole}/{self._count}", "speed": f"{self._speed():.2g} MP/s"}

    def _speed(self) -> float:
        """Megapixels per second since the start."""
        return self._pixels / 1e6 / max(time.perf_counter() - self._start, 1e-9)

    def _print_above(self, line: str) -> None:
        from rich.text import Text

        assert self._bar is not None
        self._bar.console.print(Text(escape(line)), soft_wrap=True)


def _make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[images]}", markup=False),
        TextColumn("{task.percentage:.0f}%", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("ETA", markup=False),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        refresh_per_second=_DRAWINGS_PER_SECOND,
    )
