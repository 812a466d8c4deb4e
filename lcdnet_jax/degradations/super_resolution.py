"""Low-resolution images for super-resolution: blur, downsampling, noise and JPEG."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, check_batch, check_range, split_keys
from lcdnet_jax.degradations.filtering import filter_images
from lcdnet_jax.degradations.jpeg import random_jpeg
from lcdnet_jax.degradations.kernels import KERNELS, random_kernels
from lcdnet_jax.degradations.noise import apply_protocol, blind_awgn
from lcdnet_jax.degradations.resize import BICUBIC, bicubic

#: Ways to make an image smaller: :data:`BICUBIC`, or every scale-th pixel ("direct").
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
    """Makes the input of blind super-resolution: blurred, downsampled, noisy, compressed images.

    The steps are applied in this order, on stored values. All but the downsampling are optional.
    The caller draws the kernels and so knows the true ones::

        kernels = random_kernels(kernel_keys, kind="isotropic", width=(0.2, 4.0))
        low = low_resolution(keys, images, scale=4, kernels=kernels)

    The downsampling "pillow" or "matlab" is :func:`bicubic`: an output pixel lies at the center of
    its block of ``scale`` x ``scale`` pixels. "direct" keeps the upper left pixel of each block
    (the s-fold downsampler of the literature). Its output is shifted by ``(scale - 1) / 2`` pixels
    of ``images`` against bicubic output, so a network must be tested with the downsampling that it
    was trained with. (:func:`gaussian_downsample` keeps the center of the block instead.)

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1], or slightly outside after
            frequency masking. H and W must be multiples of ``scale``.
        scale: Downsampling factor, an integer, at least 2.
        kernels: Blur kernels ``[N, K, L]``, one for each image, K and L odd and not larger than the
            image, of sum 1 to keep the brightness, such as :func:`random_kernels` draws. Borders
            are reflected, as by :func:`filter_images`. None does not blur.
        downsampling: One of :data:`DOWNSAMPLINGS`.
        noise: Range of the standard deviation of Gaussian noise, 8-bit units; one per image.
        quality: Range of JPEG qualities, one per image, see :func:`random_jpeg`. None does not
            compress.
        protocol: Noise protocol before JPEG, see :func:`apply_protocol`. JPEG itself always clips
            and rounds.

    Returns:
        ``[N, H / scale, W / scale, C]`` in the type of ``images``.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If ``scale`` does not divide a side, kernels are larger than the images, of even
            size or of another number, an option is outside its range, images and keys have another
            shape, or images for JPEG do not have 1 or 3 channels.
    """
    images = check_batch(keys, images)
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
    sigma_min, sigma_max = check_range("noise", noise, lowest=0)
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
    noise_keys, jpeg_keys = split_keys(keys, 2)
    if sigma_max:
        low = blind_awgn(noise_keys, low, sigma_min=sigma_min, sigma_max=sigma_max)
    low = apply_protocol(low, protocol)
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
    """Applies :func:`low_resolution` with kernels that :func:`random_kernels` draws.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1]. H and W must be multiples of
            ``scale``.
        scale: Downsampling factor, an integer, at least 2.
        kernel: Kind of the kernels, one of :data:`KERNELS`. None does not blur.
        width: Range of the width of the kernels, see :func:`random_kernels`.
        size: Rows and columns of the kernels, odd.
        pool: Kernels ``[K, S, S]`` for the kind "pool".
        downsampling: One of :data:`DOWNSAMPLINGS`.
        noise: Range of the standard deviation of Gaussian noise, 8-bit units.
        quality: Range of JPEG qualities. None does not compress.
        protocol: Noise protocol before JPEG, see :func:`apply_protocol`.
        enlarge: Whether to resize the result to the size of ``images`` by Pillow's bicubic
            interpolation, for networks that do not enlarge.
        return_kernels: Whether to return the kernels, too, for networks that estimate them.

    Returns:
        ``[N, H / scale, W / scale, C]``, or ``[N, H, W, C]`` with ``enlarge``, in the type of
        ``images``. With ``return_kernels``, these images and the kernels ``[N, size, size]``.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: As :func:`random_kernels` and :func:`low_resolution`. Also if a pool is given
            without the kind "pool", or if ``return_kernels`` is set without a kernel.
    """
    kernel_keys, rest = split_keys(keys, 2)
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
