"""Motion blur by random camera trajectories.

A sensor integrates light, not stored values. Images are therefore blurred as ``values ** gamma``
and converted back. The GoPro data set has both forms: its folder ``blur_gamma`` uses a gamma of
2.2, and its folder ``blur``, which papers usually train and score on, averages stored values (gamma
1).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    check_batch,
    check_range,
    draw_uniform,
    split_keys,
)
from lcdnet_jax.degradations.filtering import convolve, filter_images, mirror_pad
from lcdnet_jax.degradations.tone import check_gamma, from_light, to_light

# Positions of a path. A path of 64 pixels has one every half pixel.
_POSITIONS = 128
# Largest strengths that are drawn for a path with anxiety 1: standard deviation of the turn by
# tremor during the exposure (radians), pull to the start, expected number of abrupt reversals.
_TREMOR, _PULL, _REVERSALS = 3.0, 15.0, 1.0


def motion_blur(
    keys: Array,
    images: ArrayLike,
    *,
    length: Range = (8.0, 32.0),
    anxiety: float = 1.0,
    rotation: float = 0.0,
    grid: int = 3,
    gamma: float = 2.2,
) -> Array:
    """Blurs each image along a random camera path, see :func:`camera_paths`.

    The center of mass of the kernel is its center, so the blurred image is not shifted against the
    sharp one. With ``rotation`` the camera also rolls about the center of the image during the
    exposure, and the kernel depends on the position. Kernels are then computed at ``grid`` x
    ``grid`` positions, and a pixel is the bilinear interpolation of the images that the kernels
    around it give. Where the motion differs by several pixels between two positions, interpolation
    shows two copies instead of an intermediate direction; use a finer grid there. The interpolation
    follows the filter flow of Hirsch et al. (CVPR 2010).

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        length: Range of the length of the path, pixels, at least 0.
        anxiety: Strength of the camera shake, at least 0. 0 gives straight paths.
        rotation: Largest roll during the exposure, degrees, 0 to 45. Each image draws a roll from 0
            to this value. With 0 one kernel serves the whole image.
        grid: Rows and columns of positions that have their own kernel, at least 2.
        gamma: Exponent that converts stored values to light, above 0. With 1 the stored values
            themselves are blurred.

    Returns:
        Images of the same shape and type. They stay in [0, 1] up to rounding if the input is.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If an option is outside its range, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    low, high = check_range("length", length, lowest=0)
    check_gamma(gamma)
    _check_anxiety(anxiety)
    if not 0 <= rotation <= 45:
        raise ValueError(f"rotation is {rotation!r}; use degrees from 0 to 45")
    if grid < 2:
        raise ValueError(f"grid is {grid!r}; use 2 or more places, or rotation=0 for one kernel")
    path_keys, option_keys = split_keys(keys, 2)
    lengths, rolled = draw_uniform(option_keys, (low, high), (0, math.radians(rotation)))
    draw = functools.partial(camera_paths, anxiety=anxiety)
    paths, *rolls = jax.vmap(draw)(split_keys(path_keys, 2 if rotation else 1))
    paths = paths * lengths[:, None, None]
    light = to_light(images.astype(jnp.float32), gamma)
    if rotation:
        corner = math.hypot(images.shape[1] - 1, images.shape[2] - 1) / 2
        radius = math.ceil((high + corner * math.radians(rotation)) / 2)
        # Each coordinate of a path lies within half of its length around 0.
        light = _blur_with_roll(light, paths, rolls[0][..., 0] * rolled[:, None], radius, grid)
    else:
        light = filter_images(light, path_kernels(paths, size=2 * math.ceil(high / 2) + 1))
    return from_light(light, gamma).astype(images.dtype)


def camera_paths(keys: Array, *, anxiety: float = 1.0) -> Array:
    """Draws random paths of length 1 of a hand-held camera during one exposure.

    A particle moves at constant speed. At each step its velocity is changed by Gaussian noise, by a
    pull towards the start and, with a small probability, by an abrupt reversal (as when the shutter
    button is pressed), and then normalized. This is a reconstruction of the model of Boracchi and
    Foi, "Modeling the Performance of Image Restoration From Motion Blur", IEEE TIP 2012, from the
    description that the authors give with their code. As in DeblurGAN's version, the pull is
    towards the start, and each path draws its own strengths of the three disturbances, from 0
    upwards. The largest strengths are our choice; they do not depend on the number of steps.

    Args:
        keys: Random keys ``[N]``.
        anxiety: Factor of all three disturbances, at least 0.

    Returns:
        ``[N, 128, 2]`` float32, (row, column) at equal time steps, with mean 0. No coordinate is
        larger than half the length.

    Raises:
        ValueError: If ``anxiety`` is negative.
    """
    _check_anxiety(anxiety)
    return jax.vmap(lambda key: _path(key, float(anxiety)))(keys)


def _check_anxiety(anxiety: float) -> None:
    if not anxiety >= 0:
        raise ValueError(f"anxiety is {anxiety!r}; use 0 (straight paths) or more, such as 1")


def _path(key: Array, anxiety: float) -> Array:
    count = _POSITIONS - 1
    steady_key, noise_key = jax.random.split(key)
    even = jax.random.uniform(steady_key, (4 + 2 * count,), jnp.float32)
    (start, *strength), chance, swing = even[:4], even[4 : 4 + count], even[4 + count :]
    tremor = anxiety * _TREMOR * strength[0] / math.sqrt(count)
    pull = (anxiety * _PULL * strength[1] / count).astype(jnp.complex64)
    reversals = anxiety * _REVERSALS * strength[2] / count
    shakes = jax.random.normal(noise_key, (count, 2), jnp.float32) * tremor
    turns = jnp.where(chance < reversals, math.pi + swing - 0.5, 0.0)

    # Positions and headings are complex numbers, so a factor of modulus 1 rotates them.
    def move(
        state: tuple[Array, Array], now: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        place, heading = state
        shake, turn = now
        place = place + heading / count
        heading = heading * turn + shake - pull * place
        size = jnp.sqrt(heading.real**2 + heading.imag**2)
        return (place, heading / jnp.maximum(size, 1e-6).astype(jnp.complex64)), place

    first = (jnp.zeros((), jnp.complex64), _direction(2 * math.pi * start))
    disturbances = (jax.lax.complex(shakes[:, 0], shakes[:, 1]), _direction(turns))
    _, places = jax.lax.scan(move, first, disturbances)
    path = jnp.pad(jnp.stack([places.real, places.imag], axis=-1), ((1, 0), (0, 0)))
    return path - path.mean(axis=0, keepdims=True)


def _direction(angle: Array) -> Array:
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def path_kernels(paths: Array, *, size: int) -> Array:
    """Computes the blur kernels of camera paths.

    A value is the share of the exposure time that the path spends in the pixel. A position between
    pixels is divided among its four neighbors by bilinear weights.

    Args:
        paths: ``[N, T, 2]``, (row, column) relative to the center of the kernel, pixels, within
            ``(size - 1) / 2``.
        size: Rows and columns, odd.

    Returns:
        ``[N, size, size]`` float32 of sum 1, or less if a path leaves the kernel.

    Raises:
        ValueError: If ``size`` is even.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(
            f"size is {size}; use an odd number, 2 * ceil(length / 2) + 1 holds a path"
        )
    pixels = jnp.arange(size, dtype=jnp.float32) - size // 2
    tents = jnp.maximum(0.0, 1 - jnp.abs(paths[..., None] - pixels[None, None, None]))
    passed = jnp.einsum("nti,ntj->nij", tents[:, :, 0], tents[:, :, 1], precision="highest")
    return passed / paths.shape[1]


def _blur_with_roll(light: Array, paths: Array, rolls: Array, radius: int, grid: int) -> Array:
    """Blurs along ``paths`` with a small roll of ``[N, T]`` radians about the image center."""
    _, height, width, _ = light.shape
    (down, down_shares), (across, across_shares) = _nodes(height, grid), _nodes(width, grid)
    padded = mirror_pad(light, radius, radius)

    def add(total: Array, node: tuple[Array, Array, Array]) -> tuple[Array, None]:
        place, row_share, column_share = node
        shift = jnp.stack([-place[1], place[0]])  # of this position by a small roll, per radian
        local_paths = paths + rolls[..., None] * shift[None, None]
        part = convolve(padded, path_kernels(local_paths, size=2 * radius + 1))
        share = row_share[:, None] * column_share[None, :]
        return total + part * share[None, :, :, None], None

    rows, columns = (i.ravel() for i in np.mgrid[:grid, :grid])
    nodes = (
        jnp.asarray(np.stack([down[rows], across[columns]], axis=-1)),
        jnp.asarray(down_shares[rows]),
        jnp.asarray(across_shares[columns]),
    )
    return jax.lax.scan(add, jnp.zeros_like(light), nodes)[0]


def _nodes(side: int, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid positions from the center, ``[grid]``, and bilinear weights, ``[grid, side]``."""
    places = np.linspace(-(side - 1) / 2, (side - 1) / 2, grid, dtype=np.float32)
    pixels = np.linspace(0, grid - 1, side) if side > 1 else np.zeros(1)
    shares = np.maximum(0, 1 - abs(pixels - np.arange(grid)[:, None]))
    return places, shares.astype(np.float32)
