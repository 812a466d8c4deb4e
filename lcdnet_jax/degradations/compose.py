"""Composition of degradations."""

from collections.abc import Callable

import jax
from jax import Array

Step = Callable[[Array, Array], Array]


def compose(*steps: Step) -> Step:
    """Makes a degradation that applies ``steps`` in order.

    ``functools.partial`` turns functions of this package into steps::

        shaken = compose(
            functools.partial(motion_blur, length=(5.0, 20.0)),
            functools.partial(camera_noise, shot=(1e-4, 1e-3)),
        )
        degraded = shaken(keys, clean)

    Args:
        *steps: Functions of keys ``[N]`` and images ``[N, H, W, C]`` that return images.

    Returns:
        A function of keys and images. Step i gets ``fold_in(key, i)`` of each image's key, so that
        adding a step at the end does not change the random numbers of the steps before it.
    """

    def degrade(keys: Array, images: Array) -> Array:
        for number, step in enumerate(steps):
            images = step(jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number), images)
        return images

    return degrade
