"""Restoration of image files; an error in one file does not stop the others.

Files are read and written while the network computes (:mod:`lcdnet_jax.inference.pipeline`).
``lcdnet-jax restore`` runs it on the jobs of :mod:`lcdnet_jax.inference.plan`.
"""

import dataclasses
import errno
import os
import pathlib
import stat
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from lcdnet_jax import atomic_io, image_io, metrics, storage
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.image_io import BucketError, Header, ImageError, Metadata
from lcdnet_jax.inference import Restorer, limits
from lcdnet_jax.inference.pipeline import Pipeline, Stopped
from lcdnet_jax.inference.pixel_range import describe_range
from lcdnet_jax.inference.plan import Job
from lcdnet_jax.messages import format_count, is_out_of_memory
from lcdnet_jax.weights import pretrained

# Errors of the disk, not of one file: all further files would fail too.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class DiskError(ImageError):
    """An error of the disk, such as no space, which affects all further images, too."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a job.

    Attributes:
        height: Height of the written image in pixels.
        width: Width of the written image in pixels.
        psnr: PSNR in dB of the written file against the reference; None without a reference.
        ssim: SSIM in [-1, 1] of the same; NaN for images smaller than its window.
        warning: A line about the image that the user should know, or None.
        left_out: Names of the metadata of the image that the written file does not hold.
    """

    height: int
    width: int
    psnr: float | None = None
    ssim: float | None = None
    left_out: tuple[str, ...] = ()
    warning: str | None = None


@dataclasses.dataclass
class _Image:
    """An image that has been read."""

    job: Job
    pixels: np.ndarray
    metadata: Metadata
    reference: np.ndarray | None
    mode: int  # permissions of the file


def create_restorer(
    checkpoint: str | os.PathLike[str] | None,
    *,
    on_network: Callable[[str], None] | None = None,
    **options: Any,
) -> Restorer:
    """Creates the restorer of image files.

    Args:
        checkpoint: A path or a name as for :func:`lcdnet_jax.weights.pretrained.find`; None means
            the default weights.
        on_network: As for :func:`lcdnet_jax.weights.load`.
        **options: Options of :class:`~lcdnet_jax.inference.Restorer`.

    Returns:
        The restorer.

    Raises:
        CheckpointError, ConfigError, CardError, ValueError: If there are no usable weights, an
            option has a wrong value, or the network takes two views.
    """
    path = pretrained.find(pretrained.DEFAULT if checkpoint is None else checkpoint)
    weights = weights_lib.load(path, on_network=on_network)
    restorer = Restorer(weights.module, weights.variables, **options)
    if restorer.module.takes_two_views:
        raise ValueError(
            f"{path} takes two views of a dual-pixel camera at once, which files "
            "do not hold; join them in Python and call Restorer"
        )
    return restorer


def restore(
    restorer: Restorer,
    jobs: Sequence[Job],
    *,
    force: bool = False,
    quality: int = 95,
    progress: Callable[[float, float], None] | None = None,
    on_compile: Callable[[int, int], None] | None = None,
    on_windows: Callable[[int, int], None] | None = None,
) -> Generator[tuple[Job, Result | Exception], None, None]:
    """Restores images; each file is written whole or not at all.

    Images are read and written by threads while the network computes. At most
    ``pipeline.MOST_JOBS`` images are on their way. They, their references and their results have
    ``pipeline.MOST_BYTES`` of pixels together, or are one image that has more. In addition, the
    images that the network computes at the moment are held in float32.

    Args:
        restorer: The restorer.
        jobs: The jobs, as from :func:`~lcdnet_jax.inference.plan.plan_jobs`.
        force: Whether existing files are replaced. They keep their permissions; new files have no
            more than their input and the umask allow.
        quality: Quality of JPEG files, 1 to 100.
        progress: Called after each window, with the number of images (a fraction) and of input
            pixels that it adds. It is called in more than one thread. The fractions of all images
            add up to their number, also if some fail.
        on_compile: As for :class:`~lcdnet_jax.inference.Restorer`.
        on_windows: Called as ``on_windows(done, total)`` before the first window of the images that
            are computed together and after each: the number of windows that are complete, and that
            of all windows of these images. An exception that it raises is their result.

    Yields:
        Each job with its result, or with an exception whose message is one line and names the file,
        in the order of the jobs. A :class:`DiskError`, or a bucket that does not answer, ends the
        run. After KeyboardInterrupt or SystemExit, files that are being written are finished, and
        the results of finished ones come before the exception is raised.
    """
    run = _Run(restorer, force, quality, progress, on_compile, on_windows)
    pipeline = run.pipeline
    try:
        for job, outcome in pipeline.run(jobs):
            yield job, run.describe(job, outcome)
            if isinstance(outcome, DiskError | BucketError):
                break
        for job, outcome in pipeline.stop():
            if not isinstance(outcome, DiskError | BucketError):
                yield job, run.describe(job, outcome)
    except (KeyboardInterrupt, SystemExit):
        for job, outcome in pipeline.stop():
            yield job, run.describe(job, outcome)
        raise
    finally:
        pipeline.stop()
        pipeline.join()  # a second interruption ends this


def score_pair(restored: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Computes PSNR and SSIM of two images as :mod:`~lcdnet_jax.image_io` reads them.

    Both images are converted to floats in [0, 1] without alpha; see
    :func:`lcdnet_jax.metrics.psnr_and_ssim`.

    Args:
        restored: ``[H, W]`` or ``[H, W, C]``, uint8, uint16 or floating point.
        reference: An image of the same size and number of colors. Its dtype and alpha may differ.

    Returns:
        PSNR in dB, and SSIM in [-1, 1].

    Raises:
        ImageError: If the sizes or the numbers of colors differ.
    """
    a, b = (_remove_alpha(image_io.to_float(image)) for image in (restored, reference))
    _check_same_shape(a.shape, b.shape, "the reference")
    return metrics.psnr_and_ssim(a, b)


class _Run:
    """The stages of a run over files.

    Args:
        restorer, force, quality, progress, on_compile, on_windows: As for :func:`restore`.
    """

    def __init__(
        self,
        restorer: Restorer,
        force: bool,
        quality: int,
        progress: Callable[[float, float], None] | None,
        on_compile: Callable[[int, int], None] | None,
        on_windows: Callable[[int, int], None] | None = None,
    ):
        self._restorer = restorer.with_progress(self._report, on_compile=on_compile)
        self._force = force
        self._quality = quality
        self._progress = progress
        self._on_windows = on_windows
        self._computed: Sequence[_Image] = []  # at this moment
        self._headers: dict[Job, Header] = {}  # of jobs that are not read yet
        self._fractions: dict[Job, float] = {}
        self.pipeline = Pipeline(
            size=self._estimate_bytes,
            read=self._read,
            find_batch_key=lambda image: self._restorer.find_batch_key(image.pixels),
            compute=self._compute,
            write=self._write,
        )

    def describe(self, job: Job, outcome: Result | Exception) -> Result | Exception:
        """Completes the progress of a job; makes an error one line that names the file."""
        self._advance(job, 1.0, 0)
        del self._fractions[job]
        return outcome if isinstance(outcome, Result) else _make_image_error(job, outcome)

    def _estimate_bytes(self, job: Job) -> int:
        """Bytes of an image, its result and its reference, by their headers."""
        header = _read_header(job.source)
        if header is not None:
            self._headers[job] = header
        size = _count_bytes(job.source, header) * (1 + self._restorer.module.scale**2)
        if job.reference is not None:
            size += _count_bytes(job.reference, _read_header(job.reference))
        return size

    def _read(self, job: Job) -> _Image:
        scale = self._restorer.module.scale
        _check_target(job, self._force)
        if (header := self._headers.pop(job, None)) is not None:
            limits.check_memory(job.source, header, scale)
        pixels, metadata = image_io.read_with_metadata(job.source)
        image_io.check_format(job.target, pixels)
        height, width, *channels = pixels.shape
        enlarged = (height * scale, width * scale, *channels)
        image_io.check_size(job.target, enlarged, dtype=pixels.dtype)
        limits.check_disk(job.target, pixels, metadata, scale)
        reference = None
        if job.reference is not None:
            reference, _ = image_io.read_with_metadata(job.reference)
            expected = _compute_written_shape(pixels, job.target, scale)
            _check_same_shape(expected, _remove_alpha(reference).shape, str(job.reference))
        try:
            atomic_io.make_folder(job.target)
        except OSError as error:
            raise _make_write_error(error) from error
        return _Image(job, pixels, metadata, reference, storage.read_permissions(job.source))

    def _compute(self, images: Sequence[_Image]) -> list[np.ndarray | Exception]:
        self._computed = images
        try:
            self._report_windows(
                0, sum(self._restorer.count_windows(image.pixels) for image in images)
            )
            if len(images) == 1:
                return [self._restorer(images[0].pixels)]
            return [*self._restorer([image.pixels for image in images])]
        except Exception as error:
            if isinstance(error, Stopped):
                raise
            if len(images) > 1:  # one image may be the cause
                return [outcome for image in images for outcome in self._compute([image])]
            return [error]
        finally:
            self._computed = []

    def _report(self, done: int, total: int) -> None:
        """Follows the windows of the images that are computed."""
        if self.pipeline.is_stopped:
            raise Stopped
        for image in self._computed:
            height, width = image.pixels.shape[:2]
            self._advance(image.job, done / total, height * width)
        self._report_windows(done, total)

    def _report_windows(self, done: int, total: int) -> None:
        if self._on_windows is not None:
            self._on_windows(done, total)

    def _advance(self, job: Job, fraction: float, pixels: int) -> None:
        """Reports that a fraction of an image of so many pixels is complete."""
        before = self._fractions.get(job, 0.0)
        self._fractions[job] = max(before, fraction)  # it restarts after a lack of memory
        step = self._fractions[job] - before
        if step and self._progress is not None:
            self._progress(step, step * pixels)

    def _write(self, image: _Image, restored: np.ndarray) -> Result:
        job = image.job
        try:
            left_out = image_io.write(
                job.target,
                restored,
                quality=self._quality,
                metadata=image_io.enlarge_metadata(image.metadata, self._restorer.module.scale),
                force=self._force,
                # Nobody else may see more than of the input, which this process has read.
                mode=image.mode & 0o666 | stat.S_IRUSR,
            )
        except ImageError as error:
            if isinstance(error.__cause__, OSError):
                raise _make_write_error(error.__cause__) from error
            raise
        message = describe_range(image.pixels, channels=self._restorer.module.channels)
        warning = f"{job.source}: {message}" if message else None
        result = Result(restored.shape[0], restored.shape[1], left_out=left_out, warning=warning)
        if image.reference is None:
            return result
        written, _ = image_io.read_with_metadata(job.target)
        psnr, ssim = score_pair(written, image.reference)
        return dataclasses.replace(result, psnr=psnr, ssim=ssim)


def _read_header(path: pathlib.Path) -> Header | None:
    """Reads the header of a file; None if that fails, which is reported when the file is read."""
    if storage.is_bucket(path) and storage.is_down():  # each attempt takes half a minute
        return None
    try:
        return image_io.read_header(path, floats=True)
    except Exception:
        return None


def _count_bytes(path: pathlib.Path, header: Header | None) -> int:
    """Bytes of the pixels of a file. The header of a damaged file says nothing."""
    if header is not None:
        return limits.count_bytes(header)
    return storage.find_size(path) or 0


def _compute_written_shape(image: np.ndarray, target: pathlib.Path, scale: int) -> tuple[int, ...]:
    """Computes height, width and colors of the written result when it is read back."""
    height, width, colors = _remove_alpha(image).shape
    webp = target.suffix.lower() == ".webp"  # WebP cannot store gray
    return height * scale, width * scale, 3 if webp else colors


def _check_same_shape(restored: tuple[int, ...], reference: tuple[int, ...], name: str) -> None:
    """Raises ImageError unless a result and its reference have the same shape ``[H, W, C]``."""
    if restored != reference:
        a, b = (
            f"{width}x{height} with {format_count(channels, 'channel')}"
            for height, width, channels in (reference, restored)
        )
        raise ImageError(f"{name}: it is {a}, the restored image {b}; give an image that matches")


def _check_target(job: Job, force: bool) -> None:
    """Raises ImageError if the result may not be written, before anything is read."""
    if not force and _is_input(job):
        raise ImageError(
            f"{job.target} is the input itself; choose another output, or --force to replace it"
        )
    try:
        atomic_io.check_file(job.target, force=force)
    except atomic_io.TargetError as error:
        hint = "" if storage.is_dir(job.target) else ", or --skip-existing to keep it"
        raise ImageError(f"{error}{hint}") from error
    except OSError as error:
        raise _make_write_error(error) from error


def _is_input(job: Job) -> bool:
    """Whether the result of a job would replace its input."""
    if storage.is_bucket(job.source) or storage.is_bucket(job.target):
        return storage.is_same_file(job.source, job.target)
    exists = job.target.exists() and job.source.exists()
    return exists and job.target.samefile(job.source)


def _make_write_error(error: OSError) -> ImageError:
    if isinstance(error, storage.UnreachableError):
        return BucketError(str(error))
    kind = DiskError if error.errno in _DISK_ERRORS else ImageError
    return kind(str(error))


def _make_image_error(job: Job, error: Exception) -> ImageError:
    """Makes an error of one line that names the file."""
    if is_out_of_memory(error):
        return ImageError(
            f"{job.source}: does not fit into memory, not even in small tiles; close other "
            "programs, or use a machine with more memory"
        )
    text = " ".join(str(error).split())
    if isinstance(error, ImageError):
        names = [str(path) for path in (job.source, job.target, job.reference) if path is not None]
        if any(name in text for name in names):
            return error
        return type(error)(f"{job.source}: {text}")
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return ImageError(f"{job.source}: {text}")


def _remove_alpha(image: np.ndarray) -> np.ndarray:
    """Removes alpha; returns ``[H, W, 1]`` or ``[H, W, 3]``."""
    if image.ndim == 2:
        return image[..., None]
    return image[..., :-1] if image.shape[2] in (2, 4) else image
