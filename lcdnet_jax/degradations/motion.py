"""Motion blur by random camera trajectories.

Light adds up, stored values do not: images are blurred as ``values ** gamma`` and stored by the
inverse. The GoPro data set has both forms: its folder ``blur_gamma`` uses 2.2, and ``blur``, which
networks are usually trained and scored on, averages stored values (gamma 1).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import Range, bounds, checked_with, split, uniform
from lcdnet_jax.degradations.filtering import convolve, filter_images, mirrored
from lcdnet_jax.degradations.tone import check_gamma, from_light, to_light

# Positions of a path. A path of 64 pixels has one each half a pixel.
_POSITIONS = 128
# Of a path with anxiety 1, the most that is drawn: radians (standard deviation) that tremor turns
# the heading by during the exposure, strength of the pull to the start, expected abrupt reversals.
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
    """Blurs each image along a random path of the camera, see :func:`camera_paths`.

    The kernel's center of mass is its center, so the blurred image is not shifted against the
    sharp one. With ``rotation`` the camera also rolls about the middle of the image while it
    moves, and each place has another kernel. They are computed at ``grid`` x ``grid`` places, and
    a pixel is a bilinear mixture of what the kernels around it give. Between two places that
    differ by several pixels of motion, such a mixture is doubled rather than turned; use a finer
    grid there. The mixture is in the spirit of the filter flow of Hirsch et al. (CVPR 2010).

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        length: Length of the path, pixels, at least 0.
        anxiety: How unsteady the hand is, at least 0; 0 gives straight paths.
        rotation: Most degrees of roll during the exposure, at least 0; drawn from 0 on for each
            image, and small: 45 at most. 0 gives one kernel for the whole image.
        grid: Rows and columns of places with kernels of their own, at least 2.
        gamma: Exponent from stored values to light; 1 blurs the stored values.

    Returns:
        Shape and type of ``images``; in [0, 1], up to rounding, where these are.

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an option outside its range, other than four axes, empty images or another
            number of keys.
    """
    images = checked_with(keys, images)
    low, high = bounds("length", length, lowest=0)
    check_gamma(gamma)
    _check_anxiety(anxiety)
    if not 0 <= rotation <= 45:
        raise ValueError(f"rotation is {rotation!r}; use degrees from 0 to 45")
    if grid < 2:
        raise ValueError(f"grid is {grid!r}; use 2 or more places, or rotation=0 for one kernel")
    path_keys, option_keys = split(keys, 2)
    lengths, rolled = uniform(option_keys, (low, high), (0, math.radians(rotation)))
    draw = functools.partial(camera_paths, anxiety=anxiety)
    paths, *rolls = jax.vmap(draw)(split(path_keys, 2 if rotation else 1))
    paths = paths * lengths[:, None, None]
    light = to_light(images.astype(jnp.float32), gamma)
    if rotation:
        corner = math.hypot(images.shape[1] - 1, images.shape[2] - 1) / 2
        radius = math.ceil((high + corner * math.radians(rotation)) / 2)
        # One coordinate of a path lies within half of its length around 0.
        light = _rolled(light, paths, rolls[0][..., 0] * rolled[:, None], radius, grid)
    else:
        light = filter_images(light, path_kernels(paths, size=2 * math.ceil(high / 2) + 1))
    return from_light(light, gamma).astype(images.dtype)


def camera_paths(keys: Array, *, anxiety: float = 1.0) -> Array:
    """Random paths of a hand-held camera during one exposure, of length 1.

    A particle moves at constant speed; at each step its velocity is disturbed by Gaussian noise,
    is pulled back, may with a small probability be reversed (as when the button is pressed), and
    is then normalized. That is the model of Boracchi and Foi, "Modeling the Performance of Image
    Restoration From Motion Blur", IEEE TIP 2012, as the authors describe it beside their code. As
    in DeblurGAN's version of it, the pull is towards the start and each path draws strengths of
    its own, from 0 on; how large they get is our choice, made so that it does not depend on the
    number of steps. So this is a reconstruction.

    Args:
        keys: ``[N]`` random keys.
        anxiety: Factor of all three disturbances, at least 0.

    Returns:
        ``[N, 128, 2]`` float32, (row, column) at equal times, with mean 0, so that no position is
        further than half the length from it.

    Raises:
        ValueError: For a negative anxiety.
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

    # Places and headings are complex numbers, which a factor of modulus 1 turns.
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
    """Kernels of paths: the share of the exposure that each pixel is passed, bilinear.

    Args:
        paths: ``[N, T, 2]``, (row, column) from the kernel's center, pixels, within
            ``(size - 1) / 2`` of it.
        size: Rows and columns, odd.

    Returns:
        ``[N, size, size]`` float32 of sum 1 (less where a path leaves the kernel).

    Raises:
        ValueError: For an even size.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(
            f"size is {size}; use an odd number, 2 * ceil(length / 2) + 1 holds a path"
        )
    pixels = jnp.arange(size, dtype=jnp.float32) - size // 2
    tents = jnp.maximum(0.0, 1 - jnp.abs(paths[..., None] - pixels[None, None, None]))
    passed = jnp.einsum("nti,ntj->nij", tents[:, :, 0], tents[:, :, 1], precision="highest")
    return passed / paths.shape[1]


def _rolled(light: Array, paths: Array, rolls: Array, radius: int, grid: int) -> Array:
    """Motion along ``paths`` together with a small roll of ``[N, T]`` radians about the middle."""
    _, height, width, _ = light.shape
    (down, down_shares), (across, across_shares) = _nodes(height, grid), _nodes(width, grid)
    padded = mirrored(light, radius, radius)

    def add(total: Array, node: tuple[Array, Array, Array]) -> tuple[Array, None]:
        place, row_share, column_share = node
        aside = jnp.stack([-place[1], place[0]])  # where a small roll takes the place, per radian
        moved = paths + rolls[..., None] * aside[None, None]
        part = convolve(padded, path_kernels(moved, size=2 * radius + 1))
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
    """Places from the middle, ``[grid]`` pixels, and their shares of ``[grid, side]`` pixels."""
    places = np.linspace(-(side - 1) / 2, (side - 1) / 2, grid, dtype=np.float32)
    pixels = np.linspace(0, grid - 1, side) if side > 1 else np.zeros(1)
    shares = np.maximum(0, 1 - abs(pixels - np.arange(grid)[:, None]))
    return places, shares.astype(np.float32)
