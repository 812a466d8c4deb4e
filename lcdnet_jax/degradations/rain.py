"""Rain streaks and the veil of distant rain."""

import dataclasses
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
    per_image,
    split_keys,
)
from lcdnet_jax.degradations.filtering import convolve


@dataclasses.dataclass(frozen=True)
class Rain:
    """Parameters of rain. Ranges (low, high) are drawn uniformly, per layer or per image.

    Attributes:
        layers: Number of rain layers. All streaks of a layer have one length, width and angle.
        coverage: Share of the pixels under the streaks of a layer if they did not overlap, in
            [0, 1]; per layer.
        length: Length of the streaks, pixels, at least 1; per layer.
        width: Full width of the streaks at half of their brightness, pixels, at least 0.5; per
            layer.
        brightness: Brightness of the brightest streaks, in [0, 1]; per layer. The other streaks
            have at least 30 % of it.
        angle: Angle from the vertical, degrees, -90 to 90; per image. Positive rain falls to the
            right.
        spread: Largest difference between the angles of a layer and of the image, degrees.
        transmission: Share of the light that passes through the veil, in [0, 1]; per image.
        airlight: Gray level of the veil, in [0, 1]; per image.
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
        """Raises ValueError if a value is outside its range."""
        if self.layers < 1:
            raise ValueError(f"rain of {self.layers} layers; use 1 or more")
        if not 0 <= self.spread <= 90:
            raise ValueError(f"spread is {self.spread!r}; use degrees from 0 to 90")
        check_range("length", self.length, lowest=1)
        check_range("width", self.width, lowest=0.5)
        check_range("angle", self.angle, lowest=-90, highest=90)
        for name in ("coverage", "brightness", "transmission", "airlight"):
            check_range(name, getattr(self, name), lowest=0, highest=1)


#: Kinds of rain by name. Chosen so that pairs resemble those of Rain100L and Rain100H, and have a
#: similar PSNR: 25 and 12 dB on average, where 10 pairs of Rain100L have 26 and 5 pairs of Rain100H
#: 12. The veil is our choice.
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

    The model is that of Yang et al., "Deep Joint Rain Detection and Removal from a Single Image"
    (CVPR 2017): layers of streaks are added to the scene, and distant rain is a veil of
    transmission T and gray level A. Streaks are gray. The way in which they are drawn is ours:
    points at random positions with random brightness are convolved with a soft line that fades
    towards its ends. Streaks may start outside the image, so their density does not depend on the
    size of the image or crop.

    Args:
        keys: Random keys ``[N]``, one for each image.
        images: Images ``[N, H, W, C]``, floating point in [0, 1].
        kind: "light" or "heavy" (see :data:`RAINS`), a :class:`Rain`, or a tuple of these, from
            which each image draws one.

    Returns:
        Rainy images in [0, 1], same shape and type.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If the kind is unknown, or if images and keys have another shape.
    """
    images = check_batch(keys, images)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not kinds:
        raise ValueError(f"kind is empty; use one of {', '.join(RAINS)}, or a Rain")
    rainy = [_add_rain(keys, images, _find_rain(one)) for one in kinds]
    if len(kinds) == 1:
        return rainy[0]
    choice_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _CHOICE)
    chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(kinds), jnp.int32))(
        choice_keys
    )
    return jnp.stack(rainy)[chosen, jnp.arange(len(images), dtype=jnp.int32)]


# Number that is folded into an image's key to choose one of several kinds. The other random numbers
# are then the same as for that kind alone.
_CHOICE = 2


def _find_rain(kind: Kind) -> Rain:
    if isinstance(kind, Rain):
        return kind
    if not isinstance(kind, str) or kind not in RAINS:
        raise ValueError(f"no rain {kind!r}; use one of {', '.join(RAINS)}, or a Rain")
    return RAINS[kind]


def _add_rain(keys: Array, images: Array, kind: Rain) -> Array:
    count, height, width, _ = images.shape
    streak_keys, option_keys = split_keys(keys, 2)
    angles, passed, air = draw_uniform(option_keys, kind.angle, kind.transmission, kind.airlight)
    layers = split_keys(streak_keys, kind.layers).T.reshape(-1)  # layers of one image are adjacent
    streaks = _streaks(layers, jnp.repeat(angles, kind.layers), kind, height, width)
    streaks = streaks.reshape(count, kind.layers, height, width, 1).sum(axis=1)
    passed, air = per_image(passed, count), per_image(air, count)
    rainy = passed * (images.astype(jnp.float32) + streaks) + (1 - passed) * air
    return jnp.clip(rainy, 0, 1).astype(images.dtype)


def _streaks(keys: Array, angles: Array, kind: Rain, height: int, width: int) -> Array:
    """Draws one layer of streaks for each key, ``[N, height, width, 1]``, not clipped."""
    place_keys, option_keys = split_keys(keys, 2)
    ranges = (kind.coverage, kind.length, kind.width, kind.brightness, (-kind.spread, kind.spread))
    options = draw_uniform(option_keys, *ranges)[:, :, None, None]
    coverage, length, thickness, brightness, turn = options
    radius = math.ceil(kind.length[1] / 2 + kind.width[1])
    angle = (angles[:, None, None] + turn) * (math.pi / 180)
    offsets = np.arange(-radius, radius + 1, dtype=np.float32)
    rows, columns = jnp.asarray(offsets[None, :, None]), jnp.asarray(offsets[None, None, :])
    along = rows * jnp.cos(angle) + columns * jnp.sin(angle)
    across = columns * jnp.cos(angle) - rows * jnp.sin(angle)
    fading = jnp.clip(1 - (2 * along / (length + 1)) ** 2, 0, 1)
    lines = fading * jnp.exp2(-((2 * across / thickness) ** 2))

    # Points lie outside the image, too, because their streaks reach into it.
    shape = (height + 2 * radius, width + 2 * radius)
    share = jnp.maximum(coverage / (length * thickness), 1e-30)

    draw = jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))
    drawn = draw(place_keys) / share  # uniform in [0, 1) where there is a point
    drops = jnp.where(drawn < 1, (0.3 + 0.7 * drawn) * brightness, 0.0)
    return jnp.maximum(convolve(drops[..., None], lines), 0.0)
