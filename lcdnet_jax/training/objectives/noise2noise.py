"""Noise2Noise: the network's input and its target are two noisy copies of one image.

Lehtinen et al., "Noise2Noise", ICML 2018 (arXiv 1803.04189). With ``config.sfm`` the input is
masked after noise is added; the target is not masked. Loss and step are those of supervised
training.
"""

from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax.training.objectives import supervised
from lcdnet_jax.training.objectives._base import make_gradient_objective
from lcdnet_jax.training.objectives._inputs import (
    add_noise,
    mask_frequencies,
    masks_on_device,
    must_degrade,
)
from lcdnet_jax.typing import Batch


def make_inputs(batch: Batch, config: ConfigDict, *, keys: Array, step: Array) -> Batch:
    """See :class:`MakeInputs`."""
    if not must_degrade(batch, config):
        raise ValueError(
            "the training batches have 'degraded' images, but config.objective 'noise2noise' makes "
            "both noisy copies itself; leave them out of the batches"
        )
    source, target = add_noise(keys, batch["clean"], config, copies=2)
    if masks_on_device(config):
        source = mask_frequencies(keys, source, config)
    return {**batch, "degraded": source, "clean": target}


OBJECTIVE = make_gradient_objective(make_inputs, supervised.make_loss)
