"""Stochastic frequency masking (SFM) of training images.

Source: El Helou, Zhou, Süsstrunk, "Stochastic Frequency Masking to Improve Super-Resolution and
Denoising Networks", ECCV 2020 (arXiv 2003.07119). An orthonormal DCT-II transforms the image, a
mask sets coefficients to 0, the same for all channels, and the inverse DCT transforms back. Masked
images are not clipped and may leave [0, 1].

The frequency of the coefficient in row u and column v is its distance ``sqrt(u^2 + v^2)`` from the
mean (the coefficient 0, 0), also for images that are not square. Masks are drawn relative to
``max_radius``, ``sqrt(H^2 + W^2)``, which is slightly above the highest frequency. The modes are:

* ``targeted`` (for denoising): a band from ``center - sigma * |n1|`` to ``center + sigma * |n2|``,
  where n1 and n2 are standard normal. If the lower end is negative, the mean is masked, too.
* ``uniform`` (for super-resolution): a band between two numbers that are uniform in [0, 1]. The
  mean is never masked. The paper calls it central mode, and ``central`` is another name of it.
* ``random``: each coefficient, the mean included, is masked with probability 1/2.

Each image has its own key, as in ``degradations``.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.ops import dct_2d, idct_2d
from lcdnet_jax.ops.precision import at_least_float32

#: Which frequencies are masked: see :func:`stochastic_frequency_mask`.
MODES = ("targeted", "uniform", "random", "central")

#: What becomes of images that are not masked: they stay, or are zero.
UNSELECTED = ("keep", "zero")


def stochastic_frequency_mask(
    key: Array,
    images: ArrayLike,
    *,
    rate: float = 0.5,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
) -> Array:
    """Masks each image with probability ``rate`` by its own random mask.

    The result for image i depends on ``key`` and i only, not on the size of the batch.

    Args:
        key: One random key.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        rate: Probability that an image is masked, in [0, 1].
        mode: How masks are drawn: "targeted", "uniform" (or "central") or "random"; see the
            module.
        center: Center of targeted bands, as a share of ``max_radius``, in [0, 1].
        sigma: Spread of targeted bands, as a share of ``max_radius``, at least 0. 0 masks nothing.

    Returns:
        Images of the same shape and type, not clipped. Images that are not selected are unchanged.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if the images are empty or have another
            number of axes.
    """
    images = _check_images(images)
    place = jnp.arange(images.shape[0], dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
    return mask_images(keys, images, rate=rate, mode=mode, center=center, sigma=sigma)[0]


def mask_images(
    keys: Array,
    images: ArrayLike,
    *,
    rate: float = 0.5,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
    unselected: str = "keep",
) -> tuple[Array, Array]:
    """Masks images as :func:`stochastic_frequency_mask`, with one key for each image.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        rate: Probability that an image is masked, in [0, 1].
        mode: How masks are drawn: "targeted", "uniform" (or "central") or "random"; see the
            module.
        center: Center of targeted bands, as a share of ``max_radius``, in [0, 1].
        sigma: Spread of targeted bands, as a share of ``max_radius``, at least 0. 0 masks nothing.
        unselected: What happens to images that are not selected: "keep" leaves them unchanged,
            "zero" makes them black, as the authors' released denoising code does.

    Returns:
        The images, same shape and type, not clipped; and ``[N]`` bool, True for masked images.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape.
    """
    images = _check_images(images)
    check_options(rate=rate, mode=mode, center=center, sigma=sigma, unselected=unselected)
    count, height, width, _ = images.shape
    if keys.shape[:1] != (count,):
        raise ValueError(
            f"keys have shape {keys.shape}, expected ({count},); give one for each image, as "
            "jax.random.split makes them, or use stochastic_frequency_mask, which takes one key"
        )

    def draw(key: Array) -> tuple[Array, Array]:
        select_key, mask_key = jax.random.split(key)
        selected = jax.random.uniform(select_key, (), jnp.float32) < float(rate)
        return selected, draw_mask(mask_key, height, width, mode=mode, center=center, sigma=sigma)

    selected, masks = jax.vmap(draw)(keys)
    others = images if unselected == "keep" else jnp.zeros_like(images)
    chosen = selected[:, None, None, None]
    return jnp.where(chosen, apply_mask(images, masks), others), selected


def draw_mask(
    key: Array,
    height: int,
    width: int,
    *,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
) -> Array:
    """Draws the mask of one image.

    Args:
        key: One random key.
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        mode: How masks are drawn: "targeted", "uniform" (or "central") or "random"; see the
            module.
        center: Center of targeted bands, as a share of ``max_radius``, in [0, 1].
        sigma: Spread of targeted bands, as a share of ``max_radius``, at least 0.

    Returns:
        ``[H, W]`` float32: 0 for masked coefficients, 1 for the others.

    Raises:
        ValueError: If an option is outside its range or the image is empty.
    """
    check_options(mode=mode, center=center, sigma=sigma)
    if mode == "random":
        _check_size(height, width)
        kept = jax.random.uniform(key, (height, width), jnp.float32) < 0.5
        return kept.astype(jnp.float32)
    return band_mask(
        height, width, *draw_band(key, height, width, mode=mode, center=center, sigma=sigma)
    )


def draw_band(
    key: Array,
    height: int,
    width: int,
    *,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
) -> tuple[Array, Array]:
    """Draws the ends of the band that is masked in one image.

    Args:
        key: One random key.
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        mode: How masks are drawn: "targeted" or "uniform" (or "central"); see the module.
        center: Center of targeted bands, as a share of ``max_radius``, in [0, 1].
        sigma: Spread of targeted bands, as a share of ``max_radius``, at least 0.

    Returns:
        Inner and outer radius of the band, float32, in coefficients.

    Raises:
        ValueError: If an option is outside its range, the image is empty, or the mode is "random",
            which has no band.
    """
    check_options(mode=mode, center=center, sigma=sigma)
    center, sigma, limit = float(center), float(sigma), max_radius(height, width)
    if mode == "targeted":
        below, above = jnp.abs(jax.random.normal(key, (2,), jnp.float32))
        return limit * (center - sigma * below), limit * (center + sigma * above)
    if mode in ("uniform", "central"):
        one, other = limit * jax.random.uniform(key, (2,), jnp.float32)
        return jnp.minimum(one, other), jnp.maximum(one, other)
    raise ValueError("mode 'random' has no band; use draw_mask")


def band_mask(height: int, width: int, inner: ArrayLike, outer: ArrayLike) -> Array:
    """Makes the mask of a band: 0 where ``inner < sqrt(row^2 + col^2) < outer``, else 1.

    Both comparisons are strict. The mean, at radius 0, is masked only if ``inner`` is negative.
    Nothing is masked if ``inner >= outer``.

    Args:
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        inner: Lower end of the band in coefficients, a number. Use ``jax.vmap`` for several bands.
        outer: Upper end of the band in coefficients, a number.

    Returns:
        ``[H, W]`` float32.

    Raises:
        ValueError: If the image is empty or an end is not a single number.
    """
    inner, outer = jnp.asarray(inner, jnp.float32), jnp.asarray(outer, jnp.float32)
    if inner.ndim or outer.ndim:
        raise ValueError(
            f"a band has two numbers as ends, got arrays of shape {inner.shape} and "
            f"{outer.shape}; use jax.vmap for several bands"
        )
    radius = jnp.asarray(radii(height, width))
    return jnp.where((inner < radius) & (radius < outer), 0.0, 1.0).astype(jnp.float32)


def apply_mask(images: ArrayLike, mask: ArrayLike) -> Array:
    """Multiplies the DCT coefficients of all channels by ``mask`` and transforms back.

    Args:
        images: Images ``[..., H, W, C]``, floating point.
        mask: Factors ``[..., H, W]``. Its leading axes broadcast against those of ``images``.

    Returns:
        ``[..., H, W, C]`` in the type of ``images``, not clipped. The computation is in float32, or
        in float64 for float64 images.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the mask does not fit, or if the images are empty or have fewer than three
            axes.
    """
    images, mask = jnp.asarray(images), jnp.asarray(mask)
    _check_floating(images)
    coefficients = dct_2d(images.astype(at_least_float32(images.dtype)))
    height, width, channels = images.shape[-3:]
    try:
        if mask.shape[-2:] != (height, width):
            raise ValueError
        lead = jnp.broadcast_shapes(mask.shape[:-2], images.shape[:-3])
    except ValueError:
        raise ValueError(
            f"a mask of shape {mask.shape} does not fit images of shape {images.shape}; give "
            f"[..., {height}, {width}] with leading axes that broadcast"
        ) from None
    factors = jnp.broadcast_to(mask.astype(coefficients.dtype), (*lead, height, width))
    coefficients = jnp.broadcast_to(coefficients, (*lead, height, width, channels))
    return idct_2d(coefficients * factors[..., None]).astype(images.dtype)


def radii(height: int, width: int) -> np.ndarray:
    """Computes the frequency ``sqrt(row^2 + col^2)`` of each DCT coefficient.

    Args:
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.

    Returns:
        ``[H, W]`` float32, in coefficients.

    Raises:
        ValueError: If the image is empty.
    """
    _check_size(height, width)
    rows, columns = np.ogrid[:height, :width]
    return np.sqrt(rows**2 + columns**2).astype(np.float32)


def max_radius(height: int, width: int) -> float:
    """Computes ``sqrt(H^2 + W^2)``, the radius to which masks are relative.

    Args:
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.

    Returns:
        The radius in coefficients.

    Raises:
        ValueError: If the image is empty.
    """
    _check_size(height, width)
    return math.hypot(height, width)


def check_options(
    *,
    rate: float = 0.5,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
    unselected: str = "keep",
) -> None:
    """Checks the options of masking. They must be Python numbers, not traced arrays.

    Args:
        rate: Probability that an image is masked, in [0, 1].
        mode: One of :data:`MODES`.
        center: Center of targeted bands, in [0, 1].
        sigma: Spread of targeted bands, finite, at least 0.
        unselected: One of :data:`UNSELECTED`.

    Raises:
        ValueError: If an option is outside its range.
    """
    for name, value, allowed in (("mode", mode, MODES), ("unselected", unselected, UNSELECTED)):
        if value not in allowed:
            raise ValueError(f"no {name} {value!r}; use one of {', '.join(allowed)}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate {rate} is not a probability; use 0 to 1")
    if not 0 <= center <= 1:
        raise ValueError(f"center {center} is not a share of the largest radius; use 0 to 1")
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma {sigma} is not a spread; use a finite number of at least 0")


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height}x{width} pixels is empty; drop it")


def _check_floating(images: Array) -> None:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point images, got {images.dtype}; convert with image_io.to_float"
        )


def _check_images(images: ArrayLike) -> Array:
    images = jnp.asarray(images)
    _check_floating(images)
    if images.ndim != 4:
        raise ValueError(
            f"expected images [N, H, W, C], got shape {images.shape}; add the missing axes, "
            "x[None] for a single image"
        )
    _check_size(*images.shape[1:3])
    return images
