"""Blur kernels for super-resolution: drawn at random, or read from files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, split, uniform
from lcdnet_jax.degradations.defocus import disk_kernels
from lcdnet_jax.degradations.motion import camera_paths, path_kernels
from lcdnet_jax.ops import gaussian_kernels

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
    """One blur kernel for each key.

    ``isotropic``: Gaussians, ``width`` their standard deviation. ``anisotropic``: Gaussians with
    two such widths, drawn independently, and an angle. ``disk``: lenses out of focus, ``width``
    the radius. ``motion``: shaken cameras, ``width`` the length of the path, see
    :func:`camera_paths`. All of these are centered. ``pool``: a kernel of ``pool``, each equally
    often, such as :func:`read_kernels` gives.

    The defaults are those of IKC (Gu et al., CVPR 2019) for scale 4, where all are isotropic. Its
    widest kernels are cut off by the size; what is left has sum 1.

    Args:
        keys: ``[N]`` random keys.
        kind: One of ``KERNELS``.
        width: Lowest and highest, pixels of the image that is blurred, at least 0 (no blur).
        size: Rows and columns, odd. It must hold the widest disk, ``2 * ceil(radius) + 1``, and
            the longest path, ``length + 1``. A pool has a size of its own.
        pool: ``[K, S, S]``, S odd, for the kind "pool" only; scaled to sum 1.

    Returns:
        ``[N, size, size]`` (or ``[N, S, S]``) float32 of sum 1, as :func:`filter_images` and
        :func:`low_resolution` take them.

    Raises:
        ValueError: For an unknown kind, an option out of its range, a size that is even or too
            small, or a pool that is missing, not used or of another shape.
    """
    if kind not in KERNELS:
        raise ValueError(f"no kernels of kind {kind!r}; use one of {', '.join(KERNELS)}")
    if (kind == "pool") != (pool is not None):
        raise ValueError("give pool, an array of kernels, with kind='pool' and with no other")
    if pool is not None:
        return _pick(keys, pool)
    low, high = bounds("width", width, lowest=0)
    least = {"disk": 2 * int(np.ceil(high)) + 1, "motion": int(np.ceil(high)) + 1}.get(kind, 1)
    if size % 2 == 0 or size < least:
        raise ValueError(
            f"size is {size}; use an odd number, {least + 1 - least % 2} or more for the kind "
            f"{kind!r} and widths up to {high:g}"
        )
    if kind == "motion":
        path_keys, width_keys = split(keys, 2)
        (lengths,) = uniform(width_keys, (low, high))
        return path_kernels(camera_paths(path_keys) * lengths[:, None, None], size=size)
    first, second, angles = uniform(keys, (low, high), (low, high), (0, 180))
    if kind == "disk":
        return disk_kernels(first, size=size)
    if kind == "isotropic":
        second, angles = first, jnp.zeros_like(first)
    return gaussian_kernels(jnp.stack([first, second], axis=-1), angles, size=size)


def _pick(keys: Array, pool: ArrayLike) -> Array:
    if not isinstance(pool, jax.core.Tracer):
        known = np.asarray(pool)
        if known.ndim == 3 and not (
            np.isfinite(known).all() and (known >= 0).all() and known.any(axis=(1, 2)).all()
        ):
            raise ValueError(
                "a kernel of the pool is negative somewhere, not finite, or 0 everywhere; leave it "
                "out or mend it"
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
    """All kernels of a folder, measured or estimated, for ``random_kernels(..., kind="pool")``.

    A kernel is used as it is stored, by convolution: a bright point becomes a picture of it. (A
    program that correlates has it turned by half a turn.) Its center is the entry ``S // 2`` of
    ``S``, also for an even S; one whose mass lies elsewhere shifts the image. Smaller ones are
    padded by zeros around the center to the largest, and all to an odd size.

    Args:
        folder: Holds files ``.npy`` (a kernel, or several as ``[K, S, S]``), ``.mat`` (MATLAB up
            to version 7, one variable) and gray images ``.png``, ``.tif``. Others are ignored, and
            so are subfolders. Arrays must have a sum of 1, up to 1 %, which is then made exact;
            images are scaled to it.

    Returns:
        ``[K, S, S]`` float32 of sum 1, in the order of names.

    Raises:
        ValueError: For a folder that cannot be read or has no kernels, or a file that cannot be
            read or is no kernel: not square, negative, not finite, of another sum, or in color.
    """
    folder = pathlib.Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the one that holds the kernels")
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be read ({error.strerror}); give a folder that can"
        ) from error
    paths = [
        path
        for path in found
        if path.suffix.lower() in (*_ARRAYS, *_IMAGES) and not path.name.startswith(".")
    ]
    kernels = [kernel for path in paths for kernel in _kernels_of(path)]
    if not kernels:
        raise ValueError(f"{folder}: holds no kernel; put .npy, .mat, .png or .tif files into it")
    half = max(len(kernel) // 2 for kernel in kernels)
    padded = np.zeros((len(kernels), 2 * half + 1, 2 * half + 1), np.float32)
    for place, kernel in zip(padded, kernels, strict=True):
        start, size = half - len(kernel) // 2, len(kernel)
        place[start : start + size, start : start + size] = kernel
    return padded


def _kernels_of(path: pathlib.Path) -> list[np.ndarray]:
    """The kernels of one file, ``[S, S]`` float64 of sum 1."""
    is_image = path.suffix.lower() in _IMAGES
    stored = _image(path) if is_image else _array(path)
    if stored.dtype.kind not in "buif":
        raise ValueError(f"{path}: holds {stored.dtype}, not real numbers; store a numeric array")
    several = stored.ndim == 3 and path.suffix.lower() == ".npy"
    if stored.ndim != 2 + several or stored.shape[-1] != stored.shape[-2] or not stored.size:
        raise ValueError(
            f"{path}: a kernel must be square, [S, S] (in .npy also [K, S, S]), this has shape "
            f"{stored.shape}; pad it by zeros"
        )
    kernels = stored.astype(np.float64).reshape(-1, *stored.shape[-2:])
    return [_normalized(kernel, path, is_image=is_image) for kernel in kernels]


def _normalized(kernel: np.ndarray, path: pathlib.Path, *, is_image: bool) -> np.ndarray:
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


def _image(path: pathlib.Path) -> np.ndarray:
    from lcdnet_jax import image_io  # only here: networks do without OpenCV

    image, _ = image_io.read_with_metadata(path)
    if image.ndim != 2:
        raise ValueError(f"{path}: a kernel must be a gray image without alpha; convert it")
    return image


def _array(path: pathlib.Path) -> np.ndarray:
    """What a .npy or .mat file holds."""
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        variables = {
            name: value for name, value in scipy.io.loadmat(path).items() if name[:2] != "__"
        }
    except Exception as error:  # scipy's reader raises many kinds
        raise ValueError(
            f"{path}: cannot be read ({error}); store a plain array by np.save, or by MATLAB's "
            "save(..., '-v7')"
        ) from error
    if len(variables) != 1:
        raise ValueError(
            f"{path}: holds {len(variables)} variables ({', '.join(variables) or 'none'}); store "
            "the kernel alone"
        )
    return np.asarray(next(iter(variables.values())))
