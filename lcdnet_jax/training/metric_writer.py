"""Writes the reports of a run: lines on the screen, metrics.jsonl, panels, and other writers.

``config.writers`` names the others: TensorBoard events and a run of Weights & Biases.
"""

import contextlib
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from lcdnet_jax import atomic_io, file_names, image_io, storage
from lcdnet_jax.config import schema
from lcdnet_jax.config.network_fields import as_json
from lcdnet_jax.messages import escape
from lcdnet_jax.training import wandb_run
from lcdnet_jax.training.local_copy import LocalCopy
from lcdnet_jax.training.wandb_run import WandbRun
from lcdnet_jax.typing import Json
from lcdnet_jax.weights import scores

# Bytes of events after which a new file begins, if files are copied into a bucket: whole each time.
_LARGEST_EVENTS = 16 * 2**20

# Seconds after which reports are copied into a bucket, if no checkpoint was saved meanwhile.
_FLUSH_EVERY = 60.0


class MetricWriterError(RuntimeError):
    """A log or a picture could not be written."""


@contextlib.contextmanager
def convert_disk_errors(
    make_error: Callable[[str], Exception] = MetricWriterError,
) -> Iterator[None]:
    """Converts an ``OSError`` or ``ImageError`` of the block.

    Args:
        make_error: Maps the reason, such as "No space left on device", to the error to raise.
    """
    try:
        yield
    except OSError as error:
        raise make_error(error.strerror or str(error)) from error
    except image_io.ImageError as error:
        raise make_error(str(error)) from error


def list_writers(names: str) -> list[str]:
    """Lists the writers that ``config.writers`` names.

    Args:
        names: Its value.

    Returns:
        The names.
    """
    return [name.strip() for name in names.split(",") if name.strip()]


def check_packages(config: ConfigDict) -> None:
    """Checks that the packages of ``config.writers`` are installed, before a run starts.

    Args:
        config: The configuration.

    Raises:
        ImportError: With the fix, if one is missing. Not for TensorBoard, without which a run
            goes on.
    """
    if "wandb" in list_writers(config.writers):
        wandb_run.check_package()


def _make_hparams(config: ConfigDict) -> dict[str, bool | int | float | str]:
    """Hyperparameters as TensorBoard's HParams tab takes them."""
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(as_json(value))
        for name, value in schema.flatten(config.to_dict()).items()
    }


class MetricWriter:
    """Writes metrics.jsonl, scores.jsonl and PNG panels, feeds other writers, and prints lines.

    clu writes the TensorBoard events. It needs TensorFlow and tensorboard. Without them there are
    no events, and a printed line says so. Disk errors are raised as :class:`MetricWriterError`. If
    the working directory is in a bucket, files reach it by :meth:`flush`.

    Args:
        workdir: Working directory of the run.
        start_step: Step at which this process starts. Lines of later steps in metrics.jsonl and
            scores.jsonl come from a process that was killed after its last checkpoint. They are
            removed.
        active: Whether to write and print. False on all hosts except the first.
        config: The configuration. ``writers`` names other writers, which get all of it. None:
            TensorBoard alone.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        start_step: int,
        active: bool,
        config: ConfigDict | None = None,
    ):
        self._active = active
        self._files = LocalCopy(workdir)
        self._folder = self._files.folder
        self._flushed = time.monotonic()
        self._wandb: WandbRun | None = None
        self._events: Any = None  # clu's SummaryWriter
        self._events_written = 0  # bytes in files that are not written to any longer
        if not active:
            return
        names = ("metrics.jsonl", scores.FILE)
        self._jsonl = self._folder / names[0]
        with convert_disk_errors():
            self._files.fetch(names)
            for name in names:
                aside = atomic_io.find_free_path(workdir / f"damaged-{name}").name
                if _remove_lines_after(self._folder / name, start_step, aside):
                    self.print_line(f"{name} is damaged; it is kept as {aside}")
        writers = list_writers(config.writers) if config else ["tensorboard"]
        if "tensorboard" in writers:
            self._open_events(config)
        if config and "wandb" in writers:
            with _convert_writer_errors():
                self._wandb = WandbRun(workdir, self._folder, config.to_dict())
            try:
                self._wandb.repeat(self._jsonl)
            except Exception as error:  # wandb has types of its own
                self._give_up_wandb(error)

    def _open_events(self, config: ConfigDict | None) -> None:
        try:
            import tensorflow as tf
            from clu.metric_writers import SummaryWriter
        except ImportError as error:
            self.print_line(f"no TensorBoard events, metrics go to metrics.jsonl only ({error})")
            return
        with contextlib.suppress(RuntimeError):  # TensorFlow is already in use
            tf.config.set_visible_devices([], "GPU")  # TensorFlow would reserve all GPU memory
        self._make_events = functools.partial(SummaryWriter, str(self._folder))
        with convert_disk_errors():
            self._events = self._make_events()
        if config:
            with _convert_writer_errors():
                self._events.write_hparams(_make_hparams(config))

    def _give_up_wandb(self, error: Exception) -> None:
        """Goes on without it. SLURM sends SIGTERM to its process, too, which then ends first."""
        logging.warning(
            "wandb has stopped (%s); metrics.jsonl goes on, and the next start writes its lines to "
            "wandb",
            error,
        )
        assert self._wandb is not None
        self._wandb.abandon()
        self._wandb = None

    @property
    def folder(self) -> pathlib.Path:
        """The local folder of the files, for others that belong to the run."""
        return self._folder

    def print_line(self, text: str) -> None:
        """Prints a line, escaped, at once. Does nothing if the output is closed."""
        if self._active:
            with contextlib.suppress(OSError):
                print(escape(text), flush=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds finite numbers to all logs. JSON cannot hold other numbers."""
        if not self._active:
            return
        scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
        with convert_disk_errors(), self._jsonl.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        if self._events is not None:
            with _convert_writer_errors():
                self._events.write_scalars(step, scalars)
        if self._wandb is not None:
            try:
                self._wandb.write_scalars(step, scalars)
            except Exception as error:  # wandb has types of its own
                self._give_up_wandb(error)
        if time.monotonic() - self._flushed > _FLUSH_EVERY:
            self.flush()

    def write_text(self, step: int, name: str, text: str) -> None:
        """Adds text (Markdown) to TensorBoard."""
        if self._active and self._events is not None:
            with _convert_writer_errors():
                self._events.write_texts(step, {name: text})

    def write_scores(self, rows: Sequence[Mapping[str, Json]]) -> None:
        """Adds the rows of one evaluation to scores.jsonl, see :mod:`lcdnet_jax.weights.scores`."""
        if self._active:
            with convert_disk_errors():
                scores.append(self._folder, rows)

    def remove_scores(self, step: int) -> None:
        """Removes the rows of a step from scores.jsonl."""
        if self._active:
            with convert_disk_errors():
                scores.remove(self._folder, step)

    def write_panel(self, step: int, image: str, ending: str, panel: np.ndarray) -> None:
        """Writes a picture ``[H, W, 3]`` uint8 as panels/<step>_<image><ending>.png.

        Also writes it to TensorBoard. The name of the image is shortened for the file if it is too
        long. TensorBoard's names are UTF-8, so other bytes are escaped there.
        """
        if not self._active:
            return
        folder = self._folder / "panels"
        with convert_disk_errors():
            folder.mkdir(exist_ok=True)
            name = file_names.shorten_name(f"{step:07d}_{image}", f"{ending}.png")
            image_io.write(folder / name, panel)
        if self._events is not None:
            with _convert_writer_errors():
                self._events.write_images(step, {escape(f"{image}{ending}"): panel[None]})

    def flush(self) -> None:
        """Copies what was written into a working directory in a bucket.

        Must be called before a checkpoint is saved: after a restart, lines of the steps before it
        are not written again.
        """
        if not self._active or not self._files.is_separate:
            return
        if self._events is not None:
            with _convert_writer_errors():
                self._events.flush()
        with convert_disk_errors():
            self._files.flush()
            sizes = [file.stat().st_size for file in self._folder.glob("events.out.tfevents.*")]
        if self._events is not None and sum(sizes) > self._events_written + _LARGEST_EVENTS:
            self._events_written = sum(sizes)
            with _convert_writer_errors():
                self._events.close()
                self._events = self._make_events()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes the logs. A log that cannot be written only gives a warning here."""
        if self._events is not None:
            try:
                self._events.close()
            except Exception as error:  # TensorFlow raises types of its own on a full disk
                logging.warning("TensorBoard events are incomplete: %s", error)
        if self._wandb is not None:
            try:
                self._wandb.close()
            except Exception as error:  # wandb has types of its own
                self._give_up_wandb(error)
        try:
            if not storage.is_down():
                self._files.flush()
        except OSError as error:
            logging.warning("logs are incomplete: %s", error)
        self._files.close()


def _remove_lines_after(path: pathlib.Path, step: int, aside: str) -> bool:
    """Removes lines of later steps. Keeps a damaged file under the name ``aside``.

    The last line may be incomplete without damage, because a process was killed.

    Returns:
        Whether the file was damaged.
    """
    if not path.exists():
        return False
    old = path.read_bytes()
    lines = old.split(b"\n")
    kept, damaged = [], False
    for number, line in enumerate(lines, 1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged |= number < len(lines)
    new = b"".join(line + b"\n" for line in kept)
    if damaged:
        atomic_io.write(path.with_name(aside), old, force=True)
    if new != old:
        atomic_io.write(path, new, force=True)
    return damaged


@contextlib.contextmanager
def _convert_writer_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TensorFlow and wandb raise types of their own on a full disk
        raise MetricWriterError(str(error)) from error
