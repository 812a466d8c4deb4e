"""Stochastic frequency masking: training images lose a random band of frequencies.

El Helou, Zhou, Süsstrunk, "Stochastic Frequency Masking to Improve Super-Resolution and
Denoising Networks", ECCV 2020 (arXiv 2003.07119). An image is transformed by an orthonormal
DCT-II, coefficients are set to 0 by a mask that its channels share, and the result is
transformed back. It is not clipped: masked images may leave [0, 1].

The frequency of the coefficient in row u and column v is its distance ``sqrt(u^2 + v^2)`` from
the mean, in coefficients, also where images are not square. Masks are drawn relative to
``max_radius``, ``sqrt(H^2 + W^2)``, which lies just beyond the highest frequency:

* ``targeted`` (denoising): from ``center - sigma * |n1|`` to ``center + sigma * |n2|``, with two
  standard normal numbers. The mean is masked, too, where the lower end is negative.
* ``uniform`` (super-resolution): between two numbers uniform in [0, 1]. The mean stays.
* ``random``: no band; each coefficient is set to 0 with probability 1/2, the mean too.

Each image has a key of its own, as in ``degradations``.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.ops import dct_2d, idct_2d
from lcdnet_jax.ops.precision import at_least_float32

MODES = ("targeted", "uniform", "random")
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
    """Masks each image with probability ``rate``, by a mask of its own, and keeps the others.

    What happens to image i is a function of ``key`` and i, whatever the size of the batch.

    Args:
        key: One random key.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        rate: Probability that an image is masked, in [0, 1].
        mode: How masks are drawn: "targeted", "uniform" or "random"; see the module.
        center: Center of targeted bands as a share of ``max_radius``, in [0, 1].
        sigma: Spread of targeted bands as a share of ``max_radius``, at least 0; 0 masks nothing.

    Returns:
        Images, shape and type of ``images``, not clipped.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes or empty images.
    """
    images = _checked(images)
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
    """:func:`stochastic_frequency_mask` with a key for each image.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        rate: See :func:`stochastic_frequency_mask`, as for ``mode``, ``center`` and ``sigma``.
        mode: How masks are drawn.
        center: Center of targeted bands.
        sigma: Spread of targeted bands.
        unselected: "keep" leaves images that are not selected as they are, "zero" makes them
            black, as the authors' released denoising code does.

    Returns:
        Images, shape and type of ``images``, not clipped; and ``[N]`` bool, True where an image
        was masked.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images or
            another number of keys.
    """
    images = _checked(images)
    check_options(rate=rate, mode=mode, center=center, sigma=sigma, unselected=unselected)
    count, height, width, _ = images.shape
    if keys.shape[:1] != (count,):
        raise ValueError(
            f"{count} images need {count} keys, got keys of shape {keys.shape}; "
            "use jax.random.split, or stochastic_frequency_mask for a single key"
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
    """The random mask of one selected image, ``[H, W]`` float32 of 0 and 1.

    Options and errors as in :func:`stochastic_frequency_mask`.
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
    """Ends of the random band of one image, ``(inner, outer)`` float32, in coefficients.

    Options and errors as in :func:`stochastic_frequency_mask`; mode "random" has no band.
    """
    check_options(mode=mode, center=center, sigma=sigma)
    center, sigma, limit = float(center), float(sigma), max_radius(height, width)
    if mode == "targeted":
        below, above = jnp.abs(jax.random.normal(key, (2,), jnp.float32))
        return limit * (center - sigma * below), limit * (center + sigma * above)
    if mode == "uniform":
        one, other = limit * jax.random.uniform(key, (2,), jnp.float32)
        return jnp.minimum(one, other), jnp.maximum(one, other)
    raise ValueError("mode 'random' has no band; use draw_mask")


def band_mask(height: int, width: int, inner: ArrayLike, outer: ArrayLike) -> Array:
    """Mask of a band: 0 where ``inner < sqrt(row^2 + col^2) < outer``, else 1.

    Both comparisons are strict. The mean, at radius 0, is masked only for a negative ``inner``;
    nothing is masked where ``inner >= outer``.

    Args:
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        inner: Lower end in coefficients, a number; map with ``jax.vmap`` over several.
        outer: Upper end, likewise.

    Returns:
        ``[H, W]`` float32.

    Raises:
        ValueError: For an empty image, or ends that are not single numbers.
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
        images: ``[..., H, W, C]``, floating point.
        mask: ``[..., H, W]``, any factors; leading axes broadcast against those of ``images``.

    Returns:
        ``[..., H, W, C]`` in the images' type, not clipped; computed in float32, or in float64
        for float64 images.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For a mask that does not fit, fewer than three axes or empty images.
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
    """Frequency ``sqrt(row^2 + col^2)`` of each DCT coefficient, ``[H, W]`` float32."""
    _check_size(height, width)
    rows, columns = np.ogrid[:height, :width]
    return np.sqrt(rows**2 + columns**2).astype(np.float32)


def max_radius(height: int, width: int) -> float:
    """``sqrt(H^2 + W^2)``, the radius that centers, spreads and uniform ends are shares of."""
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
    """Raises ValueError for an option outside its range; numbers must not be traced."""
    for name, value, allowed in (("mode", mode, MODES), ("unselected", unselected, UNSELECTED)):
        if value not in allowed:
            raise ValueError(f"no {name} {value!r}; use one of {', '.join(allowed)}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate {rate} is no probability; use 0 to 1")
    if not 0 <= center <= 1:
        raise ValueError(f"center {center} is no share of the largest radius; use 0 to 1")
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma {sigma} is no spread; use a finite number of at least 0")


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height}x{width} pixels is empty; drop it")


def _check_floating(images: Array) -> None:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point images, got {images.dtype}; convert with image_io.to_float"
        )


def _checked(images: ArrayLike) -> Array:
    images = jnp.asarray(images)
    _check_floating(images)
    if images.ndim != 4:
        raise ValueError(
            f"expected images [N, H, W, C], got shape {images.shape}; add the missing axes, "
            "x[None] for a single image"
        )
    _check_size(*images.shape[1:3])
    return images
