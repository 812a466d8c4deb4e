"""Memory and disk space that a run over image files needs, and what there is."""

import os
import pathlib
import shutil
from collections.abc import Sequence

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference.plan import Job

# The decoded image, the result, and for each what a decoder or encoder holds besides.
_COPIES = 2

# The least size of a written file in parts of its pixels, where it is not known from the input.
_LEAST = {"BMP": 1.0, "TIFF": 0.3, "PNG": 0.2, "WEBP": 0.1}
_LEAST_LOSSY = 0.01

_CGROUP = pathlib.Path("/sys/fs/cgroup")


class DiskError(ImageError):
    """An error of the disk, such as no space, which affects all further images, too."""


def check_memory(source: pathlib.Path, scale: int) -> None:
    """Checks that an image and its result fit into memory, before the image is decoded.

    Args:
        source: The image file.
        scale: How many times larger the result is.

    Raises:
        ImageError: If they need more memory than the machine has left. The message says how much.
    """
    try:
        header = image_io.read_header(source)
    except ImageError:  # its error is reported when the file is decoded
        return
    pixels = header.height * header.width
    needed = _COPIES * pixels * header.channels * header.bits // 8 * (1 + scale**2)
    available = available_memory()
    if available is not None and needed > available:
        raise ImageError(
            f"{source}: {header.width}x{header.height} pixels"
            f"{f', enlarged by {scale},' if scale > 1 else ''} need about {_format(needed)} of "
            f"memory, and {_format(available)} are left; close other programs, or cut the picture "
            "into parts and restore each"
        )


def available_memory() -> int | None:
    """Finds how much memory this process may still use.

    Returns:
        Bytes, or None where the system does not tell. Limits of a container (version 2 of control
        groups) count.
    """
    found = []
    try:
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError, IndexError):
        pass
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" without a limit
        used = int((_CGROUP / "memory.current").read_text())
        cache = [
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith(("inactive_file ", "active_file "))
        ]
        found.append(max(limit - used + sum(cache), 0))
    except (OSError, ValueError, IndexError):
        pass
    return min(found, default=None)


def check_disk(job: Job, pixel_bytes: int) -> None:
    """Checks that the result of a job fits onto the disk, before it is computed.

    The size of a compressed file is not known before. The check assumes less than is likely, so
    that it refuses only what can hardly fit.

    Args:
        job: The job.
        pixel_bytes: Bytes of the result's pixels.

    Raises:
        DiskError: If there is too little space. The message says how much is needed.
    """
    kind, free = _kind(job.target), _free_space(job.target)
    least = _LEAST.get(kind, _LEAST_LOSSY) * pixel_bytes
    if free is not None and least > free:
        raise DiskError(
            f"cannot write {job.target}: it needs about {_format(least)}, and {_format(free)} are "
            "free; delete files, or choose a directory on another disk"
        )


def describe_disk(jobs: Sequence[Job], scale: int) -> str | None:
    """Describes a lack of disk space for a run, if one is likely.

    A result in the format of its input is as large as the input, times the square of the scale;
    most are smaller.

    Args:
        jobs: The jobs, all into one folder.
        scale: How many times larger the results are.

    Returns:
        A message that names the space that is needed and that is free, or None.
    """
    free = _free_space(jobs[0].target) if jobs else None
    needed = sum(
        scale**2 * os.path.getsize(job.source)
        for job in jobs
        if job.source.is_file() and _kind(job.source) == _kind(job.target)
    )
    if free is None or needed <= free:
        return None
    return (
        f"the results need about {_format(needed)} and {_format(free)} are free for "
        f"{jobs[0].target.parent}; the run ends where the disk is full, and the same command with "
        "--skip-existing continues it"
    )


def _kind(path: pathlib.Path) -> str:
    return image_io.IMAGE_FORMATS.get(path.suffix.lower(), "")


def _free_space(path: pathlib.Path) -> int | None:
    """Free bytes for a file that need not exist, nor its folder; None if unknown."""
    for folder in path.absolute().parents:
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _format(size: float) -> str:
    for unit, least in (("GB", 1e9), ("MB", 1e6)):
        if size >= least / 10:
            return f"{size / least:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
