"""Low-resolution images: blur, downsampling, noise, JPEG."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, checked_with, split
from lcdnet_jax.degradations.filtering import filter_images
from lcdnet_jax.degradations.jpeg import random_jpeg
from lcdnet_jax.degradations.kernels import KERNELS, random_kernels
from lcdnet_jax.degradations.noise import as_stored, blind_awgn
from lcdnet_jax.degradations.resize import BICUBIC, bicubic

DOWNSAMPLINGS = (*BICUBIC, "direct")


def low_resolution(
    keys: Array,
    images: ArrayLike,
    *,
    scale: int,
    kernels: ArrayLike | None = None,
    downsampling: str = "pillow",
    noise: Range = (0.0, 0.0),
    quality: Range | None = None,
    protocol: str = "float",
) -> Array:
    """What blind super-resolution starts from: blurred, downsampled, noisy, compressed images.

    In that order, each of it optional but the downsampling, and all on stored values::

        kernels = random_kernels(kernel_keys, kind="isotropic", width=(0.2, 4.0))
        low = low_resolution(keys, images, scale=4, kernels=kernels)

    So whoever needs the true kernels has them.

    Downsampling "pillow" and "matlab" is :func:`bicubic`; a pixel of the result lies in the middle
    of its block of ``scale`` x ``scale`` pixels. "direct" keeps the upper left pixel of each
    block, which is what the field calls an s-fold downsampler. Its results lie
    ``(scale - 1) / 2`` pixels of ``images`` further up and left than bicubic ones do, which for
    each ``scale`` is another shift: a network must be tested on the downsampling that it was
    trained on. (:func:`gaussian_downsample` keeps the middle instead.)

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1], or beyond after frequency masking. H
            and W are multiples of ``scale``.
        scale: A whole number, at least 2.
        kernels: ``[N, K, L]``, one for each image, of odd size, not larger than the images, and of
            sum 1, or brightness changes; such as :func:`random_kernels` draws. Borders are
            mirrored, as by :func:`filter_images`. None: no blur.
        downsampling: One of ``DOWNSAMPLINGS``.
        noise: Standard deviation of Gaussian noise, 8-bit units, drawn for each image.
        quality: Of JPEG, drawn for each image, see :func:`random_jpeg`. None: no JPEG.
        protocol: What a file of the noisy image would hold, see :func:`as_stored`. JPEG clips and
            rounds in any case.

    Returns:
        ``[N, H / scale, W / scale, C]`` in the type of ``images``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For sizes that ``scale`` does not divide, kernels that are larger than the
            images, of an even size or of another number, an option outside its range, other than
            four axes, empty images, another number of keys, or JPEG of other than 1 or 3 channels.
    """
    images = checked_with(keys, images)
    if not isinstance(scale, int) or scale < 2:
        raise ValueError(f"scale is {scale!r}; use a whole number, 2 or more")
    if downsampling not in DOWNSAMPLINGS:
        raise ValueError(f"no downsampling {downsampling!r}; use one of {', '.join(DOWNSAMPLINGS)}")
    _, height, width, _ = images.shape
    if height % scale or width % scale:
        raise ValueError(
            f"images of {height}x{width} pixels cannot be reduced to 1/{scale}; crop or pad them "
            f"to multiples of {scale}"
        )
    sigma_min, sigma_max = bounds("noise", noise, lowest=0)
    low = images.astype(jnp.float32)
    if kernels is not None:
        kernels = jnp.asarray(kernels)
        if kernels.ndim == 3 and (kernels.shape[1] > height or kernels.shape[2] > width):
            raise ValueError(
                f"kernels of {kernels.shape[1]}x{kernels.shape[2]} pixels are larger than images "
                f"of {height}x{width}; use larger images or patches, or smaller kernels"
            )
        low = filter_images(low, kernels)
    if downsampling == "direct":
        low = low[:, ::scale, ::scale]
    else:
        low = bicubic(low, height=height // scale, width=width // scale, like=downsampling)
    noise_keys, jpeg_keys = split(keys, 2)
    if sigma_max:
        low = blind_awgn(noise_keys, low, sigma_min=sigma_min, sigma_max=sigma_max)
    low = as_stored(low, protocol)
    if quality is not None:
        low = random_jpeg(jpeg_keys, low, quality=quality)
    return low.astype(images.dtype)


def random_low_resolution(
    keys: Array,
    images: ArrayLike,
    *,
    scale: int,
    kernel: str | None = None,
    width: Range = (0.2, 4.0),
    size: int = 21,
    pool: ArrayLike | None = None,
    downsampling: str = "pillow",
    noise: Range = (0.0, 0.0),
    quality: Range | None = None,
    protocol: str = "float",
    enlarge: bool = False,
    return_kernels: bool = False,
) -> Array | tuple[Array, Array]:
    """:func:`low_resolution` by kernels that :func:`random_kernels` draws, one for each image.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]`` as there.
        scale: A whole number, at least 2.
        kernel: Kind of kernels, one of ``KERNELS``. None: no blur.
        width: Of the kernels.
        size: Of the kernels.
        pool: Kernels ``[K, S, S]`` of the kind "pool".
        downsampling: One of ``DOWNSAMPLINGS``.
        noise: Standard deviation of Gaussian noise, 8-bit units.
        quality: Of JPEG. None: no JPEG.
        protocol: What a file of the small image would hold, see :func:`as_stored`.
        enlarge: Bring the small images back to the size of ``images``, by :func:`bicubic` as
            Pillow has it, for networks that do not enlarge.
        return_kernels: Return the kernels as well, for networks that estimate them.

    Returns:
        ``[N, H / scale, W / scale, C]``, or ``[N, H, W, C]`` if enlarged, in the type of
        ``images``; with ``return_kernels`` this and the kernels ``[N, size, size]``.

    Raises:
        TypeError, ValueError: As the two functions; ValueError also where there are no kernels to
            return.
    """
    kernel_keys, rest = split(keys, 2)
    kernels = None
    if kernel is not None:
        kernels = random_kernels(kernel_keys, kind=kernel, width=width, size=size, pool=pool)
    elif pool is not None:
        raise ValueError("there is a pool of kernels, but kernel is None; set it to 'pool'")
    elif return_kernels:
        raise ValueError(
            f"there are no kernels to return, as kernel is None; use one of {', '.join(KERNELS)}"
        )
    low = low_resolution(
        rest,
        images,
        scale=scale,
        kernels=kernels,
        downsampling=downsampling,
        noise=noise,
        quality=quality,
        protocol=protocol,
    )
    if enlarge:
        low = bicubic(low, height=low.shape[1] * scale, width=low.shape[2] * scale)
    return low if kernels is None or not return_kernels else (low, kernels)
