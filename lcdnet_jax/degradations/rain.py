"""Rain streaks, and the veil of distant rain."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import (
    Range,
    bounds,
    checked_with,
    per_image,
    split,
    uniform,
)
from lcdnet_jax.degradations.filtering import convolve


@dataclasses.dataclass(frozen=True)
class Rain:
    """What rain looks like. Pairs are drawn uniformly: each layer's own, or one for the image.

    Attributes:
        layers: Sheets of rain, each with one length, width and angle of streaks.
        coverage: Share of the pixels under a layer's streaks, were they not to overlap; in [0, 1].
        length: Of a layer's streaks, pixels, at least 1.
        width: Of a layer's streaks where they are half as bright as in the middle, pixels, at
            least 0.5.
        brightness: Of the brightest streaks of a layer, in [0, 1]; others have 30 % or more of it.
        angle: Of the image's rain from the vertical, degrees, within -90 to 90; positive falls to
            the right.
        spread: Most degrees between a layer's angle and the image's.
        transmission: Share of the light that passes the veil, in [0, 1]; one for the image.
        airlight: Gray level of the veil, in [0, 1]; one for the image.
    """

    layers: int
    coverage: Range
    length: Range
    width: Range
    brightness: Range
    angle: Range = (-30.0, 30.0)
    spread: float = 3.0
    transmission: Range = (1.0, 1.0)
    airlight: Range = (0.7, 0.9)

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        if self.layers < 1:
            raise ValueError(f"rain of {self.layers} layers; use 1 or more")
        if not 0 <= self.spread <= 90:
            raise ValueError(f"spread is {self.spread!r}; use degrees from 0 to 90")
        bounds("length", self.length, lowest=1)
        bounds("width", self.width, lowest=0.5)
        bounds("angle", self.angle, lowest=-90, highest=90)
        for name in ("coverage", "brightness", "transmission", "airlight"):
            bounds(name, getattr(self, name), lowest=0, highest=1)


# Chosen so that pairs look like those of Rain100L and Rain100H and are about as far apart: 25 and
# 12 dB on average where 10 and 5 pairs of these have 26 and 12. The veil is our choice.
RAINS = {
    "light": Rain(
        layers=2,
        coverage=(0.01, 0.12),
        length=(12.0, 45.0),
        width=(1.0, 2.0),
        brightness=(0.1, 0.55),
    ),
    "heavy": Rain(
        layers=5,
        coverage=(0.1, 0.3),
        length=(15.0, 60.0),
        width=(1.0, 2.5),
        brightness=(0.2, 0.6),
        spread=12.0,
        transmission=(0.7, 1.0),
    ),
}


Kind = str | Rain


def rain(keys: Array, images: ArrayLike, *, kind: Kind | tuple[Kind, ...] = "light") -> Array:
    """Adds rain to each image: ``clip(T * (image + streaks) + (1 - T) * A, 0, 1)``.

    That is the model of Yang et al., "Deep Joint Rain Detection and Removal from a Single Image"
    (CVPR 2017): streaks in layers add to the scene, and rain too distant to be told apart lies
    over it as a veil of transmission T and gray level A. Streaks are gray. How they are drawn is
    ours: points at random places, of random brightness, convolved with a line that is soft across
    and fades at its ends. They are as many in a crop as in the image, and enter it from outside.

    Args:
        keys: ``[N]`` random keys, one for each image.
        images: ``[N, H, W, C]``, floating point in [0, 1].
        kind: A name of ``RAINS``, "light" or "heavy", or any other :class:`Rain`; of several, each
            image draws one.

    Returns:
        Shape and type of ``images``, in [0, 1].

    Raises:
        TypeError: For images that are not floating point.
        ValueError: For an unknown kind, other than four axes, empty images or another number of
            keys.
    """
    images = checked_with(keys, images)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not kinds:
        raise ValueError(f"kind is empty; use one of {', '.join(RAINS)}, or a Rain")
    rainy = [_rainy(keys, images, _look(one)) for one in kinds]
    if len(kinds) == 1:
        return rainy[0]
    choice_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _CHOICE)
    chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(kinds), jnp.int32))(
        choice_keys
    )
    return jnp.stack(rainy)[chosen, jnp.arange(len(images), dtype=jnp.int32)]


# The child of an image's key that draws one of several kinds, so that the rain of each stays what
# it is alone.
_CHOICE = 2


def _look(kind: Kind) -> Rain:
    if isinstance(kind, Rain):
        return kind
    if not isinstance(kind, str) or kind not in RAINS:
        raise ValueError(f"no rain {kind!r}; use one of {', '.join(RAINS)}, or a Rain")
    return RAINS[kind]


def _rainy(keys: Array, images: Array, kind: Rain) -> Array:
    count, height, width, _ = images.shape
    streak_keys, option_keys = split(keys, 2)
    angles, passed, air = uniform(option_keys, kind.angle, kind.transmission, kind.airlight)
    layers = split(streak_keys, kind.layers).T.reshape(-1)  # those of an image stay together
    streaks = _streaks(layers, jnp.repeat(angles, kind.layers), kind, height, width)
    streaks = streaks.reshape(count, kind.layers, height, width, 1).sum(axis=1)
    passed, air = per_image(passed, count), per_image(air, count)
    rainy = passed * (images.astype(jnp.float32) + streaks) + (1 - passed) * air
    return jnp.clip(rainy, 0, 1).astype(images.dtype)


def _streaks(keys: Array, angles: Array, kind: Rain, height: int, width: int) -> Array:
    """One layer for each key, ``[N, height, width, 1]``, not clipped."""
    place_keys, option_keys = split(keys, 2)
    ranges = (kind.coverage, kind.length, kind.width, kind.brightness, (-kind.spread, kind.spread))
    options = uniform(option_keys, *ranges)[:, :, None, None]
    coverage, length, thickness, brightness, turn = options
    radius = math.ceil(kind.length[1] / 2 + kind.width[1])
    angle = (angles[:, None, None] + turn) * (math.pi / 180)
    offsets = np.arange(-radius, radius + 1, dtype=np.float32)
    rows, columns = jnp.asarray(offsets[None, :, None]), jnp.asarray(offsets[None, None, :])
    along = rows * jnp.cos(angle) + columns * jnp.sin(angle)
    across = columns * jnp.cos(angle) - rows * jnp.sin(angle)
    fading = jnp.clip(1 - (2 * along / (length + 1)) ** 2, 0, 1)
    lines = fading * jnp.exp2(-((2 * across / thickness) ** 2))

    # Points also outside of the image, whose streaks reach into it.
    shape = (height + 2 * radius, width + 2 * radius)
    share = jnp.maximum(coverage / (length * thickness), 1e-30)

    draw = jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))
    drawn = draw(place_keys) / share  # uniform up to 1 where there is a point
    drops = jnp.where(drawn < 1, (0.3 + 0.7 * drawn) * brightness, 0.0)
    return jnp.maximum(convolve(drops[..., None], lines), 0.0)
