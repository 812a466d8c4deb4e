"""Blur kernels for super-resolution, drawn at random or read from files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax import storage
from lcdnet_jax.degradations._inputs import Range, check_range, draw_uniform, split_keys
from lcdnet_jax.degradations.defocus import disk_kernels
from lcdnet_jax.degradations.motion import camera_paths, path_kernels
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import gaussian_kernels

#: Kinds of blur kernels that :func:`random_kernels` draws.
KERNELS = ("isotropic", "anisotropic", "disk", "motion", "pool")

_ARRAYS, _IMAGES = (".npy", ".mat"), (".png", ".tif", ".tiff")


def random_kernels(
    keys: Array,
    *,
    kind: str,
    width: Range = (0.2, 4.0),
    size: int = 21,
    pool: ArrayLike | None = None,
) -> Array:
    """Draws one blur kernel for each key.

    The kinds are:

    * ``isotropic``: Gaussian kernels; ``width`` is the standard deviation.
    * ``anisotropic``: Gaussian kernels with two widths and an angle, drawn independently.
    * ``disk``: defocus; ``width`` is the radius.
    * ``motion``: camera shake; ``width`` is the length of the path, see :func:`camera_paths`.
    * ``pool``: one of the kernels in ``pool``, all equally likely. :func:`read_kernels` reads some.

    All kinds but ``pool`` are centered. The default width and size are those of IKC (Gu et al.,
    CVPR 2019) for scale 4, which uses isotropic kernels. The size truncates the widest of them;
    truncated kernels are scaled to sum 1.

    Args:
        keys: Random keys ``[N]``.
        kind: One of :data:`KERNELS`.
        width: Range of the width, pixels of the image that is blurred, at least 0 (no blur).
        size: Rows and columns, odd. It must hold the widest disk, ``2 * ceil(radius) + 1``, or the
            longest path, ``length + 1``. Ignored for the kind "pool".
        pool: Kernels ``[K, S, S]``, S odd, for the kind "pool" only. They are scaled to sum 1.

    Returns:
        Kernels ``[N, size, size]``, or ``[N, S, S]`` for the kind "pool", float32 of sum 1. They
        fit :func:`filter_images` and :func:`low_resolution`.

    Raises:
        ValueError: If the kind is unknown, an option is outside its range, the size is even or too
            small, or the pool is missing, unused or of another shape.
    """
    if kind not in KERNELS:
        raise ValueError(f"no kernels of kind {kind!r}; use one of {', '.join(KERNELS)}")
    if (kind == "pool") != (pool is not None):
        raise ValueError("give pool, an array of kernels, with kind='pool' and with no other kind")
    if pool is not None:
        return _draw_from_pool(keys, pool)
    low, high = check_range("width", width, lowest=0)
    least = {"disk": 2 * int(np.ceil(high)) + 1, "motion": int(np.ceil(high)) + 1}.get(kind, 1)
    if size % 2 == 0 or size < least:
        raise ValueError(
            f"size is {size}; use an odd number, {least + 1 - least % 2} or more for the kind "
            f"{kind!r} and widths up to {high:g}"
        )
    if kind == "motion":
        path_keys, width_keys = split_keys(keys, 2)
        (lengths,) = draw_uniform(width_keys, (low, high))
        return path_kernels(camera_paths(path_keys) * lengths[:, None, None], size=size)
    first, second, angles = draw_uniform(keys, (low, high), (low, high), (0, 180))
    if kind == "disk":
        return disk_kernels(first, size=size)
    if kind == "isotropic":
        second, angles = first, jnp.zeros_like(first)
    return gaussian_kernels(jnp.stack([first, second], axis=-1), angles, size=size)


def _draw_from_pool(keys: Array, pool: ArrayLike) -> Array:
    if not isinstance(pool, jax.core.Tracer):
        known = np.asarray(pool)
        if known.ndim == 3 and not (
            np.isfinite(known).all() and (known >= 0).all() and known.any(axis=(1, 2)).all()
        ):
            raise ValueError(
                "a kernel of the pool is negative somewhere, not finite, or 0 everywhere; remove "
                "or correct it"
            )
    pool = jnp.asarray(pool)
    if pool.ndim != 3 or pool.shape[1] != pool.shape[2] or not pool.shape[1] % 2 or not len(pool):
        raise ValueError(
            f"expected a pool of kernels [K, S, S] with S odd, got shape {pool.shape}; "
            "read_kernels pads what it reads"
        )
    pool = pool.astype(jnp.float32)
    chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(pool)))(keys)
    return (pool / pool.sum(axis=(1, 2), keepdims=True))[chosen]


def read_kernels(folder: str | os.PathLike[str]) -> np.ndarray:
    """Reads all blur kernels of a folder, for ``random_kernels(..., kind="pool")``.

    Images are convolved with the stored kernel: a single bright pixel becomes a copy of it.
    Programs that correlate instead use the kernel rotated by 180 degrees. The center is the entry
    ``S // 2``, also for an even S. A kernel whose mass is not centered there shifts the image.
    Smaller kernels are padded with zeros around the center to the largest size, and all of them to
    an odd size.

    Args:
        folder: Folder with files ``.npy`` (a kernel, or several as ``[K, S, S]``), ``.mat`` (MATLAB
            up to version 7, one variable) and gray images ``.png``, ``.tif``. Other files and
            subfolders are ignored. The sum of an array must be 1 within 1 %, and is then made
            exactly 1. Images are scaled to sum 1.

    Returns:
        ``[K, S, S]`` float32 of sum 1, sorted by file name.

    Raises:
        ValueError: If the folder cannot be read or contains no kernels, or if a file cannot be read
            or is not a kernel: not square, negative, not finite, of another sum, or in color.
    """
    folder = storage.to_path(folder).expanduser()
    try:
        folder = storage.list_once(folder)
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give the one that holds the kernels")
        found = sorted(folder.iterdir())
    except storage.StorageError:
        raise
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be read ({error.strerror}); give a folder that can"
        ) from error
    paths = [
        path
        for path in found
        if path.suffix.lower() in (*_ARRAYS, *_IMAGES) and not path.name.startswith(".")
    ]
    kernels = [kernel for path in paths for kernel in _read_file(path)]
    if not kernels:
        raise ValueError(
            f"{folder}: contains no kernel; put .npy, .mat, .png or .tif files into it"
        )
    half = max(len(kernel) // 2 for kernel in kernels)
    padded = np.zeros((len(kernels), 2 * half + 1, 2 * half + 1), np.float32)
    for place, kernel in zip(padded, kernels, strict=True):
        start, size = half - len(kernel) // 2, len(kernel)
        place[start : start + size, start : start + size] = kernel
    return padded


def _read_file(path: pathlib.Path) -> list[np.ndarray]:
    """Reads the kernels of one file, ``[S, S]`` float64 of sum 1."""
    is_image = path.suffix.lower() in _IMAGES
    stored = _read_image(path) if is_image else _read_array(path)
    if stored.dtype.kind not in "buif":
        raise ValueError(f"{path}: holds {stored.dtype}, not real numbers; store a numeric array")
    several = stored.ndim == 3 and path.suffix.lower() == ".npy"
    if stored.ndim != 2 + several or stored.shape[-1] != stored.shape[-2] or not stored.size:
        raise ValueError(
            f"{path}: a kernel must be square, [S, S] (in .npy also [K, S, S]), this has shape "
            f"{stored.shape}; pad it by zeros"
        )
    kernels = stored.astype(np.float64).reshape(-1, *stored.shape[-2:])
    return [_normalize(kernel, path, is_image=is_image) for kernel in kernels]


def _normalize(kernel: np.ndarray, path: pathlib.Path, *, is_image: bool) -> np.ndarray:
    if not np.isfinite(kernel).all():
        raise ValueError(f"{path}: the kernel holds NaN or infinity; store it again")
    if kernel.min() < 0:
        raise ValueError(
            f"{path}: the kernel has negative values, down to {kernel.min():.2g}; set them to 0 "
            "and divide by the sum"
        )
    total = kernel.sum()
    if total == 0:
        raise ValueError(f"{path}: the kernel is 0 everywhere; remove the file")
    if not is_image and abs(total - 1) > 0.01:
        raise ValueError(f"{path}: the kernel's sum is {total:.4g}, not 1; divide it by its sum")
    return kernel / total


def _read_image(path: pathlib.Path) -> np.ndarray:
    from lcdnet_jax import image_io  # imported here, because networks do not need OpenCV

    image, _ = image_io.read_with_metadata(path)
    if image.ndim != 2:
        raise ValueError(f"{path}: a kernel must be a gray image without alpha; convert it")
    return image


def _read_array(path: pathlib.Path) -> np.ndarray:
    """Reads a .npy or .mat file."""
    try:
        if path.suffix.lower() == ".npy":
            with storage.open_file(path) as file:
                return np.asarray(np.load(file, allow_pickle=False))
        import scipy.io  # slow to import, and seldom needed

        with storage.open_file(path) as file:
            loaded = scipy.io.loadmat(file)
        variables = {name: value for name, value in loaded.items() if name[:2] != "__"}
    except Exception as error:  # scipy's reader raises many types
        raise ValueError(
            f"{path}: cannot be read ({error}); store a plain array by np.save, or by MATLAB's "
            "save(..., '-v7')"
        ) from error
    if len(variables) != 1:
        raise ValueError(
            f"{path}: holds {format_count(len(variables), 'variable')} "
            f"({', '.join(variables) or 'none'}); store the kernel alone"
        )
    return np.asarray(next(iter(variables.values())))
