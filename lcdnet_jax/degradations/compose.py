"""Degradations one after another."""

from collections.abc import Callable

import jax
from jax import Array

Step = Callable[[Array, Array], Array]


def compose(*steps: Step) -> Step:
    """A degradation that applies ``steps`` in order, each with a key of its own for each image.

    Functions of this package become steps by ``functools.partial``::

        shaken = compose(
            functools.partial(motion_blur, length=(5.0, 20.0)),
            functools.partial(camera_noise, shot=(1e-4, 1e-3)),
        )
        degraded = shaken(keys, clean)

    Args:
        steps: Functions of ``[N]`` keys and ``[N, H, W, C]`` images.

    Returns:
        A function of the same kind. Step i is given ``fold_in(key, i)`` of each image's key, so a
        step that is added at the end leaves the random numbers of the others as they are.
    """

    def degrade(keys: Array, images: Array) -> Array:
        for number, step in enumerate(steps):
            images = step(jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number), images)
        return images

    return degrade
