"""Gaussian noise on stored values: one level or drawn ones, white or filtered, stored or not."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax import sfm
from lcdnet_jax.degradations._inputs import checked_with, normal, per_image

NOISE_PROTOCOLS = ("float", "clipped", "8bit")
SPECTRA = ("white", "low", "high", "brownian")


def awgn(
    keys: Array,
    clean: ArrayLike,
    *,
    sigma: ArrayLike,
    protocol: str = "float",
    spectrum: str = "white",
) -> Array:
    """Adds Gaussian noise, drawn for each pixel and channel by itself and then filtered, if asked.

    Args:
        keys: ``[N]`` random keys, one for each image.
        clean: ``[N, H, W, C]``, floating point in [0, 1].
        sigma: Standard deviation in 8-bit units (50 means 50/255): a number, ``[N]``, or
            ``[N, H, W, C]`` with any of these 1, such as :func:`varying_sigma` gives.
        protocol: What a noisy file would hold, see :func:`as_stored`.
        spectrum: How white noise is filtered, see :func:`shape_noise`.

    Returns:
        Noisy images, shape and type of ``clean``.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an unknown protocol or spectrum, other than four axes, empty images or
            another number of keys.
    """
    clean = checked_with(keys, clean)
    noise = shape_noise(normal(keys, clean.shape[1:]), spectrum=spectrum)
    scale = jnp.asarray(sigma, jnp.float32) / 255
    if scale.ndim < 4:
        scale = per_image(scale, clean.shape[0])
    noisy = clean.astype(jnp.float32) + noise * scale
    return as_stored(noisy, protocol).astype(clean.dtype)


def shape_noise(noise: Array, *, spectrum: str) -> Array:
    """Filters white noise ``[N, H, W, C]`` as the SFM code does (arXiv 2003.07119).

    ``white``: nothing. ``low`` and ``high``: only DCT coefficients whose frequency (see ``sfm``)
    is below, or above, half of ``sfm.max_radius``. ``brownian``: a Gaussian blur with a standard
    deviation of 3 pixels. What is left is not scaled up again: for 64x64 pixels 0.40, 0.60 and
    about 0.01 of the variance.

    Raises:
        ValueError: For any other spectrum.
    """
    height, width = noise.shape[1:3]
    if spectrum == "white":
        return noise
    if spectrum in ("low", "high"):
        radius, limit = sfm.radii(height, width), sfm.max_radius(height, width) / 2
        kept = radius < limit if spectrum == "low" else radius > limit
        return sfm.apply_mask(noise, kept.astype(np.float32))
    if spectrum == "brownian":
        rows, columns = (jnp.asarray(_blur_matrix(side)) for side in (height, width))
        return jnp.einsum("ij,njkc,lk->nilc", rows, noise, columns, precision="highest")
    raise ValueError(f"no noise spectrum {spectrum!r}; use one of {', '.join(SPECTRA)}")


def _blur_matrix(side: int) -> np.ndarray:
    """The Gaussian filter of scipy along one axis, mirrored at borders, ``[side, side]``."""
    return scipy.ndimage.gaussian_filter1d(np.eye(side), 3.0, axis=0).astype(np.float32)


def varying_sigma(width: int, *, sigma: float, spread: float) -> np.ndarray:
    """Noise level that rises with the column, linearly from sigma - spread to sigma + spread.

    The spatially varying test noise of the SFM code, whose ``spread`` is 10.

    Args:
        width: Columns of the image.
        sigma: Level in the middle, 8-bit units.
        spread: At most ``sigma``.

    Returns:
        ``[1, 1, width, 1]`` float32, for :func:`awgn`.

    Raises:
        ValueError: For a negative level.
    """
    if not 0 <= spread <= sigma:
        raise ValueError(
            f"a noise level cannot vary by {spread:g} around {sigma:g}; use a spread from 0 to "
            "sigma"
        )
    levels = np.linspace(sigma - spread, sigma + spread, width, dtype=np.float32)
    return levels[None, None, :, None]


def blind_awgn(
    keys: Array,
    clean: ArrayLike,
    *,
    sigma_min: float,
    sigma_max: float,
    protocol: str = "float",
    spectrum: str = "white",
) -> Array:
    """:func:`awgn` with one level for each image, uniform in [sigma_min, sigma_max]."""
    return noisy_copies(
        keys,
        clean,
        count=1,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        protocol=protocol,
        spectrum=spectrum,
    )[0]


def noisy_copies(
    keys: Array,
    clean: ArrayLike,
    *,
    count: int,
    sigma_min: float,
    sigma_max: float,
    protocol: str = "float",
    spectrum: str = "white",
) -> tuple[Array, ...]:
    """Several copies of equal level and independent noise; the first is :func:`blind_awgn`'s.

    What Noise2Noise trains on (Lehtinen et al., ICML 2018).

    Args:
        keys: ``[N]`` random keys, one for each image.
        clean: ``[N, H, W, C]``, floating point in [0, 1].
        count: Number of copies.
        sigma_min: Lowest level, 8-bit units.
        sigma_max: Highest; each image has one, drawn uniformly.
        protocol: What a noisy file would hold, see :func:`as_stored`.
        spectrum: See :func:`shape_noise`.

    Returns:
        ``count`` arrays of noisy images.

    Raises:
        TypeError: As :func:`awgn`.
        ValueError: As :func:`awgn`.
    """

    def level(key: Array) -> Array:
        return jax.random.uniform(key, (), jnp.float32, sigma_min, sigma_max)

    level_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    levels = jax.vmap(level)(level_keys)
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    return tuple(
        awgn(
            fold(noise_keys, i) if i else noise_keys,
            clean,
            sigma=levels,
            protocol=protocol,
            spectrum=spectrum,
        )
        for i in range(count)
    )


def as_stored(noisy: Array, protocol: str) -> Array:
    """What is left of noisy values in a file.

    ``float``: everything. ``clipped``: values in [0, 1]. ``8bit``: those, rounded to 256 levels.

    Raises:
        ValueError: For any other protocol.
    """
    if protocol == "float":
        return noisy
    if protocol == "clipped":
        return jnp.clip(noisy, 0, 1)
    if protocol == "8bit":
        return jnp.round(jnp.clip(noisy, 0, 1) * 255) / 255
    raise ValueError(f"no noise protocol {protocol!r}; use one of {', '.join(NOISE_PROTOCOLS)}")
