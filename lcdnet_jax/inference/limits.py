"""Memory and disk space: what a run over image files needs, and what is free."""

import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import Header, ImageError, Metadata
from lcdnet_jax.inference.plan import Job

# The decoded image, the result, and as much again for what the decoder and encoder hold.
_COPIES = 2

# Bytes per pixel to fill colors that alpha hides, which any image with alpha may have.
_FILL = 13

_CGROUP = pathlib.Path("/sys/fs/cgroup")


def check_memory(source: pathlib.Path, header: Header, scale: int) -> None:
    """Checks that an image and its result fit into memory, before the image is decoded.

    Args:
        source: The image file.
        header: Its header.
        scale: How many times larger the result is.

    Raises:
        ImageError: If they need more memory than the machine has left. The message says how much.
    """
    needed = _COPIES * count_bytes(header) * (1 + scale**2)
    if header.channels in (2, 4):
        needed += _FILL * header.height * header.width
    available = find_available_memory()
    if available is not None and needed > available:
        raise ImageError(
            f"{source}: {header.width}x{header.height} pixels"
            f"{f', enlarged by {scale},' if scale > 1 else ''} need about {_format(needed)} of "
            f"memory, and {_format(available)} are left; close other programs, or cut the picture "
            "into parts and restore each"
        )


def count_bytes(header: Header) -> int:
    """Counts the bytes of the pixels of an image.

    Args:
        header: The header of its file.

    Returns:
        Bytes of the decoded array.
    """
    return header.height * header.width * header.channels * header.bits // 8


def find_available_memory() -> int | None:
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


def check_disk(target: pathlib.Path, image: np.ndarray, metadata: Metadata, scale: int) -> None:
    """Checks that a result without compression fits onto the disk, before it is computed.

    The size of a compressed file is not known before: a blank picture needs almost nothing.

    Args:
        target: The file that will be written.
        image: The image that is restored.
        metadata: The metadata of the result.
        scale: How many times larger the result is.

    Raises:
        ImageError: If there is too little space. The message says how much is needed.
    """
    kind, free = _get_format(target), _find_free_space(target)
    # As image_io writes TIFF.
    is_plain = image.dtype == np.uint8 and metadata.tiff_compression is None
    if free is None or not (kind == "BMP" or (kind == "TIFF" and is_plain)):
        return
    needed = image.nbytes * scale**2
    if needed > free:
        raise ImageError(
            f"cannot write {target}: it needs about {_format(needed)}, and {_format(free)} are "
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
    free = _find_free_space(jobs[0].target) if jobs else None
    needed = sum(
        scale**2 * (storage.find_size(job.source) or 0)
        for job in jobs
        if _get_format(job.source) == _get_format(job.target)
    )
    if free is None or needed <= free:
        return None
    return (
        f"the results need about {_format(needed)} and {_format(free)} are free for "
        f"{jobs[0].target.parent}; the run ends where the disk is full, and the same command with "
        "--skip-existing continues it"
    )


def _get_format(path: pathlib.Path) -> str:
    return image_io.IMAGE_FORMATS.get(path.suffix.lower(), "")


def _find_free_space(path: pathlib.Path) -> int | None:
    """Free bytes for a file that need not exist, nor its folder; None if unknown or unlimited."""
    if storage.is_bucket(path):
        return None
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
