"""Mixup of pairs of training images.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (arXiv 1710.09412), as
Restormer's training code applies it: one weight for all images of a batch, and the same weights for
inputs and targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lcdnet_jax.typing import Batch

# Arrays of a batch that are mixed: the network's input and its target.
_MIXED = ("degraded", "clean")


class Mixture(NamedTuple):
    """How images of a batch are mixed: ``weight * image + (1 - weight) * images[partner]``.

    Attributes:
        weight: ``[B]`` float32, 1 for an image that is not mixed.
        partner: ``[B]`` int32, a permutation of the images.
    """

    weight: Array
    partner: Array


def draw_mixture(key: Array, mask: Array, *, rate: float, beta: float, groups: int) -> Mixture:
    """Draws weights and partners.

    The images without the padding are cut into ``groups`` groups of neighbors. Each group is mixed
    with probability ``rate``. A mixed group has one weight, of the distribution Beta(beta, beta),
    and its partners are a random permutation of its images.

    Args:
        key: Random key.
        mask: ``[B]``, 0 for padding. The other images are a multiple of ``groups``.
        rate: Probability that a group is mixed.
        beta: Both parameters of the distribution of weights, above 0.
        groups: Number of groups.

    Returns:
        Weights and partners. Padding is not mixed with other images.
    """
    rate_key, weight_key, partner_key = jax.random.split(key, 3)
    is_mixed = jax.random.bernoulli(rate_key, rate, (groups,))
    weights = jnp.where(is_mixed, jax.random.beta(weight_key, beta, beta, (groups,)), 1.0)
    weights = jnp.append(weights, 1.0)  # of padding

    is_image = mask > 0
    rank = jnp.cumsum(is_image) - 1
    group = jnp.where(is_image, rank * groups // jnp.maximum(is_image.sum(), 1), groups)
    # The images of a group, in order and in random order.
    ordered = jnp.argsort(group, stable=True)
    shuffled = jnp.lexsort((jax.random.uniform(partner_key, mask.shape), group))
    partner = jnp.zeros_like(shuffled).at[ordered].set(shuffled)
    return Mixture(weights[group], partner)


def mix_images(
    key: Array,
    batch: Batch,
    *,
    rate: float,
    beta: float,
    groups: int,
    axis_name: str | None = None,
) -> Batch:
    """Mixes the inputs and the targets of a batch. See :func:`draw_mixture`.

    Args:
        key: Random key, the same on all devices.
        batch: "clean" and "degraded" ``[B, ...]``, and "mask" ``[B]``.
        rate: Probability that a group is mixed.
        beta: Both parameters of the distribution of weights, above 0.
        groups: Number of groups in the global batch.
        axis_name: The mapped axis under ``jax.pmap``, or None.

    Returns:
        The batch with mixed "clean" and "degraded".
    """

    def gather(array: Array) -> Array:
        """The global batch."""
        if axis_name is None:
            return array
        return jax.lax.all_gather(array, axis_name, tiled=True)

    mixture = draw_mixture(key, gather(batch["mask"]), rate=rate, beta=beta, groups=groups)
    if axis_name is not None:  # the images of this device
        count = batch["mask"].shape[0]
        first = jax.lax.axis_index(axis_name) * count
        mixture = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, first, count), mixture
        )

    def mix(images: Array) -> Array:
        weight = jnp.expand_dims(mixture.weight, range(1, images.ndim))
        return weight * images + (1 - weight) * gather(images)[mixture.partner]

    return {**batch, **{name: mix(batch[name]) for name in _MIXED}}
