"""Noise2Self: the network predicts hidden pixels of a noisy image from the pixels around them.

Batson and Royer, "Noise2Self", ICML 2019 (arXiv 1901.11365). Random values replace one pixel of
each 3x3 cell of the input. The target is the noisy image, and only the hidden pixels are compared.
The inputs include "scored" ``[B, H, W, 1]`` bool, which is True at hidden pixels. With
``config.sfm`` the input is masked before pixels are hidden; the target is not masked.
"""

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.objectives._base import (
    LossFunction,
    LossOutput,
    apply_network,
    make_gradient_objective,
    mean_psnr,
)
from lcdnet_jax.training.objectives._inputs import (
    HIDDEN_PIXEL_STREAM,
    add_noise,
    fold_in_stream,
    mask_frequencies,
    masks_on_device,
    must_degrade,
)
from lcdnet_jax.training.objectives.supervised import make_image_loss
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, PyTree


def make_inputs(batch: Batch, config: ConfigDict, *, keys: Array, step: Array) -> Batch:
    """See :class:`MakeInputs`."""
    if "degraded" not in batch and config.degradation.kind == "none":
        noisy = batch["clean"]  # the data set has no clean images
    elif must_degrade(batch, config):
        (noisy,) = add_noise(keys, batch["clean"], config, copies=1)
    else:
        noisy = batch["degraded"]
    source = mask_frequencies(keys, noisy, config) if masks_on_device(config) else noisy
    hidden = select_hidden_pixels(*source.shape[1:3], step=step)
    return {
        **batch,
        "degraded": jnp.where(hidden, _draw_pixels(keys, source.shape[1:]), source),
        "clean": noisy,
        "scored": jnp.broadcast_to(hidden, (source.shape[0], *hidden.shape[1:])),
    }


def select_hidden_pixels(height: int, width: int, *, step: Array) -> Array:
    """One pixel of each 3x3 cell, ``[1, H, W, 1]`` bool. Nine steps hide each pixel once.

    This is the paper's partition of the pixels. The order and the random values that replace them
    are those of the SFM code.
    """
    row, column = step % 3, step // 3 % 3
    rows, columns = jnp.arange(height) % 3 == row, jnp.arange(width) % 3 == column
    return rows[None, :, None, None] & columns[None, None, :, None]


def _draw_pixels(keys: Array, shape: tuple[int, ...]) -> Array:
    """Uniform values in [0, 1), ``[B, *shape]``."""
    keys = fold_in_stream(keys, HIDDEN_PIXEL_STREAM)
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))(keys)


def make_loss(
    module: RestorationNetwork, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """The supervised loss of the hidden pixels. See :class:`MakeLoss`."""
    image_loss = make_image_loss(config)

    def loss_function(params: PyTree, state: TrainState, batch: Batch) -> tuple[Array, LossOutput]:
        restored, batch_stats, measured = apply_network(
            module, params, state.batch_stats, batch["degraded"], axis_name=axis_name
        )
        # All other pixels equal the target, so that they have no error and no gradient.
        compared = jnp.where(batch["scored"], restored, batch["clean"])
        loss = image_loss(compared, compared, batch)
        measured = {"psnr": mean_psnr(restored, batch), **measured}
        return loss, LossOutput(measured, batch_stats, restored)

    return loss_function


OBJECTIVE = make_gradient_objective(make_inputs, make_loss)
