"""Restoration of image files, one by one; an error in one file does not stop the others.

``lcdnet-jax restore`` runs it on the jobs of :mod:`lcdnet_jax.inference.plan`.
"""

import dataclasses
import errno
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from lcdnet_jax import atomic_io, image_io, metrics
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import Restorer, limits
from lcdnet_jax.inference.limits import DiskError
from lcdnet_jax.inference.pixel_range import describe_range
from lcdnet_jax.inference.plan import Job
from lcdnet_jax.messages import is_out_of_memory

# Errors of the disk, not of one file: all further files would fail too.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


def restore(
    restorer: Restorer,
    jobs: Sequence[Job],
    *,
    force: bool = False,
    quality: int = 95,
) -> Iterator[tuple[Job, Result | Exception]]:
    """Restores images one by one; each file is written whole or not at all.

    Args:
        restorer: The restorer.
        jobs: The jobs, as from :func:`~lcdnet_jax.inference.plan.plan_jobs`.
        force: Whether existing files are replaced.
        quality: Quality of JPEG files, 1 to 100.

    Yields:
        Each job with its result, or with an exception whose message is one line and names the file.
        A :class:`DiskError` ends the run.
    """
    for job in jobs:
        try:
            outcome: Result | Exception = _restore_file(restorer, job, force, quality)
        except Exception as error:  # a library may fail in any way on a strange file
            outcome = _image_error(job, error)
        yield job, outcome
        if isinstance(outcome, DiskError):
            return


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
    a, b = (_without_alpha(image_io.to_float(image)) for image in (restored, reference))
    _check_same_shape(a.shape, b.shape, "the reference")
    return metrics.psnr_and_ssim(a, b)


def _restore_file(restorer: Restorer, job: Job, force: bool, quality: int) -> Result:
    scale = restorer.module.scale
    _check_target(job, force)
    limits.check_memory(job.source, scale)
    image, metadata = image_io.read_with_metadata(job.source)
    image_io.check_format(job.target, image)
    height, width, *channels = image.shape
    image_io.check_size(job.target, (height * scale, width * scale, *channels))
    limits.check_disk(job, image.nbytes * scale**2)
    reference = None
    if job.reference is not None:
        reference, _ = image_io.read_with_metadata(job.reference)
        expected = _written_shape(image, job.target, scale)
        _check_same_shape(expected, _without_alpha(reference).shape, str(job.reference))
    try:
        atomic_io.make_folder(job.target)
    except OSError as error:
        raise _write_error(error) from error
    restored = restorer(image)
    metadata = image_io.enlarge_metadata(metadata, restorer.module.scale)
    try:
        left_out = image_io.write(
            job.target, restored, quality=quality, metadata=metadata, force=force
        )
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            raise _write_error(error.__cause__) from error
        raise
    message = describe_range(image)
    warning = f"{job.source}: {message}" if message else None
    result = Result(restored.shape[0], restored.shape[1], left_out=left_out, warning=warning)
    if reference is None:
        return result
    written, _ = image_io.read_with_metadata(job.target)
    psnr, ssim = score_pair(written, reference)
    return dataclasses.replace(result, psnr=psnr, ssim=ssim)


def _written_shape(image: np.ndarray, target: pathlib.Path, scale: int) -> tuple[int, ...]:
    """Computes height, width and colors of the written result when it is read back."""
    height, width, colors = _without_alpha(image).shape
    webp = target.suffix.lower() == ".webp"  # WebP cannot store gray
    return height * scale, width * scale, 3 if webp else colors


def _check_same_shape(restored: tuple[int, ...], reference: tuple[int, ...], name: str) -> None:
    """Raises ImageError unless a result and its reference have the same shape ``[H, W, C]``."""
    if restored != reference:
        a, b = ("{1}x{0} with {2} channels".format(*shape) for shape in (reference, restored))
        raise ImageError(f"{name}: it is {a}, the restored image {b}; give an image that matches")


def _check_target(job: Job, force: bool) -> None:
    """Raises ImageError if the result may not be written, before anything is read."""
    exists = job.target.exists() and job.source.exists()
    if exists and not force and job.target.samefile(job.source):
        raise ImageError(
            f"{job.target} is the input itself; choose another output, or --force to replace it"
        )
    try:
        atomic_io.check_file(job.target, force=force)
    except atomic_io.TargetError as error:
        hint = "" if job.target.is_dir() else ", or --skip-existing to keep it"
        raise ImageError(f"{error}{hint}") from error
    except OSError as error:
        raise _write_error(error) from error


def _write_error(error: OSError) -> ImageError:
    kind = DiskError if error.errno in _DISK_ERRORS else ImageError
    return kind(str(error))


def _image_error(job: Job, error: Exception) -> ImageError:
    """Makes an error of one line that names the file."""
    if is_out_of_memory(error):
        return ImageError(f"{job.source}: does not fit into memory; use --tile 512 or less")
    text = " ".join(str(error).split())
    if isinstance(error, ImageError):
        names = [str(path) for path in (job.source, job.target, job.reference) if path is not None]
        if any(name in text for name in names):
            return error
        return type(error)(f"{job.source}: {text}")
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return ImageError(f"{job.source}: {text}")


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """Removes alpha; returns ``[H, W, 1]`` or ``[H, W, 3]``."""
    if image.ndim == 2:
        return image[..., None]
    return image[..., :-1] if image.shape[2] in (2, 4) else image
