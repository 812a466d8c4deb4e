"""Supervised training: the network restores degraded images, the target is the clean image.

Clean images are masked (``config.sfm``), then degraded (``config.degradation``). If the data set
provides pairs, the degraded images are masked.
"""

import functools
from collections.abc import Callable

from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import degradations, losses
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.objectives._base import (
    LossFunction,
    LossOutput,
    apply_network,
    make_gradient_objective,
    mean_psnr,
)
from lcdnet_jax.training.objectives._inputs import (
    DEGRADATION_STREAM,
    apply_protocols,
    fold_in_stream,
    mask_frequencies,
    masks_on_device,
    must_degrade,
    noise_options,
)
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, PyTree


def make_inputs(batch: Batch, config: ConfigDict, *, keys: Array, step: Array) -> Batch:
    """See :class:`MakeInputs`."""
    if must_degrade(batch, config):
        source, batch = mask_clean_images(batch, config, keys=keys)
        return {**batch, "degraded": degrade(keys, source, config)}
    if not masks_on_device(config):
        return batch
    if config.degradation.kind != "none":
        raise ValueError(
            "the training batches have 'degraded' images, but config.sfm (where 'device') masks "
            "before images are degraded; leave them out of the batches, or mask before that "
            "there and set config.sfm.where to 'host'"
        )
    return {**batch, "degraded": mask_frequencies(keys, batch["degraded"], config)}


def mask_clean_images(batch: Batch, config: ConfigDict, *, keys: Array) -> tuple[Array, Batch]:
    """The images to degrade, and the batch with the target that ``config.sfm.target`` names."""
    masking = config.sfm
    if masks_on_device(config):
        source = mask_frequencies(keys, batch["clean"], config)
        return source, {**batch, "clean": source} if masking.target == "masked" else batch
    if masking.rate > 0 and masking.target == "clean":
        if "to_degrade" not in batch:
            raise ValueError(
                "the training batches have no 'to_degrade' images, which config.sfm (where "
                "'host') leaves to the data; add the masked images to the batches, or set "
                "config.sfm.where to 'device'"
            )
        others = {name: array for name, array in batch.items() if name != "to_degrade"}
        return batch["to_degrade"], others
    return batch["clean"], batch


def degrade(keys: Array, images: Array, config: ConfigDict) -> Array:
    """Degrades images and applies the noise protocol."""
    degradation = config.degradation
    if degradation.kind == "awgn":
        degraded = degradations.blind_awgn(keys, images, **noise_options(config))
    else:
        function = degradations.from_kind(degradation.kind, degradation.options.to_dict())
        degraded = function(fold_in_stream(keys, DEGRADATION_STREAM), images)
    return apply_protocols(keys, degraded, degradation.protocol)


def make_loss(
    module: RestorationNetwork, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """``config.loss`` and the DCT loss. See :class:`MakeLoss`."""
    image_loss = make_image_loss(config)
    # A loss that compares several scales asks the network for them.
    has_scales = config.loss in losses.MULTI_SCALE and module.has_scales
    options = {"all_scales": True} if has_scales else {}

    def loss_function(params: PyTree, state: TrainState, batch: Batch) -> tuple[Array, LossOutput]:
        outputs, batch_stats, measured = apply_network(
            module, params, state.batch_stats, batch["degraded"], axis_name=axis_name, **options
        )
        restored = outputs[0] if has_scales else outputs
        loss = image_loss(outputs, restored, batch)
        measured = {"psnr": mean_psnr(restored, batch), **measured}
        return loss, LossOutput(measured, batch_stats, restored)

    return loss_function


def make_image_loss(config: ConfigDict) -> Callable[[PyTree, Array, Batch], Array]:
    """Makes ``(outputs, restored, batch) -> loss``: ``config.loss`` plus the weighted DCT loss.

    ``outputs`` is the restored image, or several scales of it, of which ``restored`` is the finest.
    """
    compare = losses.get(config.loss)
    if config.loss in losses.MULTI_SCALE:
        compare = functools.partial(compare, fft_weight=config.fft_weight)

    def image_loss(outputs: PyTree, restored: Array, batch: Batch) -> Array:
        loss = compare(outputs, batch["clean"], weights=batch["mask"])
        if config.dct_loss_weight:
            dct_loss = losses.dct_sse(restored, batch["clean"], weights=batch["mask"])
            loss = loss + config.dct_loss_weight * dct_loss
        return loss

    return image_loss


OBJECTIVE = make_gradient_objective(make_inputs, make_loss)
