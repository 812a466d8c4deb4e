"""An image on its way: the upload, and the job that restores it."""

import dataclasses
import pathlib
import time

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header
from lcdnet_jax.inference import plan
from lcdnet_jax.serve.catalog import Weights

# States of a job that do not change.
FINAL = ("done", "failed", "canceled")

_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
}


@dataclasses.dataclass(eq=False)
class Upload:
    """An image that was received, in a folder of its own.

    Attributes:
        folder: The folder, which is deleted as a whole.
        source: The file in it, whose name is generated.
        name: The client's name of the file, without folders; only for messages and for the client.
        held: Bytes on the disk that it has reserved.
        is_deleted: Whether the folder was deleted.
    """

    folder: pathlib.Path
    source: pathlib.Path
    name: str = ""
    held: int = 0
    is_deleted: bool = False

    def set_name(self, name: str) -> None:
        """Sets the client's name of the file.

        Args:
            name: The name, with the suffix of an image.
        """
        # Of the client's name, only one of the known suffixes becomes part of a path.
        suffix = pathlib.PurePath(name).suffix.lower()
        (known,) = (each for each in image_io.IMAGE_SUFFIXES if each == suffix)
        self.name, self.source = name, self.source.with_suffix(known)


@dataclasses.dataclass(eq=False)
class Job:
    """An image and what becomes of it. :class:`Jobs` changes it and guards it by its lock.

    Attributes:
        id: The name that only its client knows.
        upload: The image.
        header: Its size.
        weights: The weights.
        strength: How much of the change is used.
        plan: The files of the restoration.
        state: "queued", "compiling", "restoring", "writing", or one of ``FINAL``.
        done, windows: Windows that are complete, and all of them once they are counted.
        error: The message of a failure.
        is_disk_full: Whether the disk is the cause.
        notes: Lines about the image that the user should know.
        left_out: Names of what the result does not hold.
        result_bytes: Size of the result.
        asked: When a client last asked.
        ended: When the final state was reached.
        started, first, last: When the windows were counted, and the first and the last one were
            complete.
        was_compiled: Whether the time of the first window includes a compilation.
    """

    id: str
    upload: Upload
    header: Header
    weights: Weights
    strength: float
    plan: plan.Job
    state: str = "queued"
    done: int = 0
    windows: int | None = None
    error: str | None = None
    is_disk_full: bool = False
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    result_bytes: int = 0
    asked: float = dataclasses.field(default_factory=time.monotonic)
    ended: float | None = None
    started: float | None = None
    first: float | None = None
    last: float | None = None
    was_compiled: bool = False

    @property
    def megapixels(self) -> float:
        """Millions of pixels of the image."""
        return self.header.height * self.header.width / 1e6

    @property
    def result_name(self) -> str:
        """The name of the result, as ``lcdnet-jax restore`` gives it."""
        name = pathlib.Path(self.upload.name)
        return str(image_io.name_result(name.with_name(f"{name.stem}.restored{name.suffix}")))

    @property
    def media_type(self) -> str:
        """The media type of the result."""
        return _MEDIA_TYPES[image_io.IMAGE_FORMATS[self.plan.target.suffix]]

    def measure_seconds(self) -> float | None:
        """Finds how long the network took for a finished job.

        Returns:
            Seconds; None if the time of the only window includes a compilation.
        """
        if self.started is None or self.first is None or self.last is None or not self.windows:
            return None
        if not self.was_compiled:
            return self.last - self.started
        if self.windows > 1:
            return (self.last - self.first) / (self.windows - 1) * self.windows
        return None

    def measure_speed(self) -> float | None:
        """Finds how fast the network is so far.

        Returns:
            Megapixels per second; None before a window whose time includes no compilation, unless
            there is no other.
        """
        if self.started is None or self.last is None or self.first is None or not self.windows:
            return None
        if self.was_compiled and self.windows > 1:
            if self.done == 1:
                return None
            share, seconds = (self.done - 1) / self.windows, self.last - self.first
        else:
            share, seconds = self.done / self.windows, self.last - self.started
        return self.megapixels * share / max(seconds, 1e-9)
