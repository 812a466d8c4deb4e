"""Gaussian noise, and the noise protocols: float, clipped and 8bit."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax import sfm
from lcdnet_jax.degradations._inputs import check_batch, draw_normal, per_image

#: What happens to noisy values: nothing, clipping to [0, 1], or also rounding to 8 bits.
NOISE_PROTOCOLS = ("float", "clipped", "8bit")

#: Spectra of noise that :func:`shape_noise` makes.
SPECTRA = ("white", "low", "high", "brownian")


def awgn(
    keys: Array,
    clean: ArrayLike,
    *,
    sigma: ArrayLike,
    protocol: str = "float",
    spectrum: str = "white",
) -> Array:
    """Adds Gaussian noise to images.

    The noise is independent for each pixel and channel before ``spectrum`` filters it.

    Args:
        keys: Random keys ``[N]``, one for each image.
        clean: Images ``[N, H, W, C]``, floating point in [0, 1].
        sigma: Standard deviation in 8-bit units (50 means 50/255): a number, ``[N]``, or an array
            that broadcasts to ``[N, H, W, C]``, such as :func:`varying_sigma` returns.
        protocol: Noise protocol, see :func:`apply_protocol`.
        spectrum: Filter of the white noise, see :func:`shape_noise`.

    Returns:
        Noisy images, same shape and type as ``clean``.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the protocol or spectrum is unknown, or if images and keys have another
            shape.
    """
    clean = check_batch(keys, clean)
    noise = shape_noise(draw_normal(keys, clean.shape[1:]), spectrum=spectrum)
    scale = jnp.asarray(sigma, jnp.float32) / 255
    if scale.ndim < 4:
        scale = per_image(scale, clean.shape[0])
    noisy = clean.astype(jnp.float32) + noise * scale
    return apply_protocol(noisy, protocol).astype(clean.dtype)


def shape_noise(noise: Array, *, spectrum: str) -> Array:
    """Filters white noise as the SFM code does (arXiv 2003.07119).

    The spectra are:

    * ``white``: no filter.
    * ``low`` and ``high``: only the DCT coefficients whose frequency (see ``sfm``) is below or
      above half of ``sfm.max_radius``.
    * ``brownian``: a Gaussian blur with a standard deviation of 3 pixels.

    The result is not scaled up again. For 64x64 pixels, 0.40 (low), 0.60 (high) and about 0.01
    (brownian) of the variance remain.

    Args:
        noise: White noise ``[N, H, W, C]``, floating point.
        spectrum: One of :data:`SPECTRA`.

    Returns:
        Filtered noise, same shape and type.

    Raises:
        ValueError: If the spectrum is unknown.
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
    """Builds SciPy's Gaussian filter along one axis as a matrix ``[side, side]``."""
    import scipy.ndimage  # takes as long to import as JAX

    return scipy.ndimage.gaussian_filter1d(np.eye(side), 3.0, axis=0).astype(np.float32)


def varying_sigma(width: int, *, sigma: float, spread: float) -> np.ndarray:
    """Computes a noise level that rises linearly with the column.

    It goes from ``sigma - spread`` at the left to ``sigma + spread`` at the right. This is the
    spatially varying test noise of the SFM code, which uses a spread of 10.

    Args:
        width: Columns of the image.
        sigma: Level at the center, 8-bit units.
        spread: Difference between the center and the ends, 8-bit units, 0 to ``sigma``.

    Returns:
        Noise level ``[1, 1, width, 1]`` float32, 8-bit units, for :func:`awgn`.

    Raises:
        ValueError: If ``spread`` is negative or above ``sigma``.
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
    """Adds Gaussian noise of a random level to each image, as for blind denoising.

    Args:
        keys: Random keys ``[N]``, one for each image.
        clean: Images ``[N, H, W, C]``, floating point in [0, 1].
        sigma_min: Lowest level, 8-bit units.
        sigma_max: Highest level, 8-bit units. Levels are uniform between the two.
        protocol: Noise protocol, see :func:`apply_protocol`.
        spectrum: Filter of the white noise, see :func:`shape_noise`.

    Returns:
        Noisy images, same shape and type as ``clean``.

    Raises:
        TypeError: As :func:`awgn`.
        ValueError: As :func:`awgn`.
    """
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
    """Makes several noisy copies of each image with equal level and independent noise.

    Noise2Noise trains on two of them (Lehtinen et al., ICML 2018). The first copy equals that of
    :func:`blind_awgn` for the same keys.

    Args:
        keys: Random keys ``[N]``, one for each image.
        clean: Images ``[N, H, W, C]``, floating point in [0, 1].
        count: Number of copies.
        sigma_min: Lowest level, 8-bit units.
        sigma_max: Highest level, 8-bit units. Each image draws one level uniformly.
        protocol: Noise protocol, see :func:`apply_protocol`.
        spectrum: Filter of the white noise, see :func:`shape_noise`.

    Returns:
        ``count`` arrays of noisy images, each with the shape and type of ``clean``.

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


def apply_protocol(noisy: Array, protocol: str) -> Array:
    """Clips and rounds noisy images as the noise protocol says.

    * ``float``: no change. Values may lie outside [0, 1].
    * ``clipped``: clipped to [0, 1].
    * ``8bit``: clipped to [0, 1] and rounded to 256 levels, as in an image file.

    Args:
        noisy: Noisy images of any shape, floating point.
        protocol: One of :data:`NOISE_PROTOCOLS`.

    Returns:
        Images of the same shape and type.

    Raises:
        ValueError: If the protocol is unknown.
    """
    if protocol == "float":
        return noisy
    if protocol == "clipped":
        return jnp.clip(noisy, 0, 1)
    if protocol == "8bit":
        return jnp.round(jnp.clip(noisy, 0, 1) * 255) / 255
    raise ValueError(f"no noise protocol {protocol!r}; use one of {', '.join(NOISE_PROTOCOLS)}")
