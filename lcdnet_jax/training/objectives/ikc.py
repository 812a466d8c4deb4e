"""Training of IKC, which estimates the blur kernel and corrects the estimate, in three stages.

Gu et al., CVPR 2019 (arXiv 1904.03377). ``config.objective`` names the stage:

- "ikc_sftmd" trains the network that enlarges images, given the code of the true kernel, by
  ``config.loss`` against the clean image.
- "ikc_predictor" trains the first estimate of the code, by its mean squared error.
- "ikc_corrector" trains the corrections, by the mean squared error of the codes after each.

A stage changes the parameters of its own network alone. It starts from the run of the stage before
(``config.init_from``). The corrector is updated once for a batch, by the mean over its corrections.

The inputs include "kernels" ``[B, S, S]``, the blur kernels of the images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, losses
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.objectives._base import (
    LossFunction,
    LossOutput,
    Objective,
    StepFunction,
    make_gradient_step,
    mean_psnr,
)
from lcdnet_jax.training.objectives._inputs import (
    DEGRADATION_STREAM,
    apply_protocols,
    fold_in_stream,
    must_degrade,
)
from lcdnet_jax.training.objectives.supervised import mask_clean_images
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, PyTree


def make_inputs(batch: Batch, config: ConfigDict, *, keys: Array, step: Array) -> Batch:
    """See :class:`MakeInputs`."""
    if not must_degrade(batch, config):
        raise ValueError(
            "the training batches have 'degraded' images, but config.objective "
            f"{config.objective!r} needs the kernels that they were blurred by; leave them out of "
            "the batches"
        )
    source, batch = mask_clean_images(batch, config, keys=keys)
    options = config.degradation.options.to_dict()
    options["low_resolution"]["return_kernels"] = True
    degrade = degradations.from_kind(config.degradation.kind, options)
    degraded, kernels = degrade(fold_in_stream(keys, DEGRADATION_STREAM), source)
    degraded = apply_protocols(keys, degraded, config.degradation.protocol)
    return {**batch, "degraded": degraded, "kernels": kernels}


def make_loss(
    module: RestorationNetwork, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """The loss of the stage. See :class:`MakeLoss`.

    "psnr" is that of the image restored with the stage's code: of the true kernel, the first
    estimate, or the last correction. The two latter stages also have "code_error", the root of the
    mean squared error of that code, mean over images.
    """
    pixel_loss = losses.get(config.loss)
    part = _get_part(config)

    def loss_function(params: PyTree, state: TrainState, batch: Batch) -> tuple[Array, LossOutput]:
        def apply(method: str, *inputs: Array, **options: Any) -> Any:
            return module.apply({"params": params}, *inputs, method=method, **options)

        low, mask = batch["degraded"], batch["mask"]
        true_code = apply("encode", batch["kernels"])
        if part == "sftmd":
            restored = apply("with_code", low, true_code, train=True)
            loss = pixel_loss(restored, batch["clean"], weights=mask)
            psnr = mean_psnr(restored, batch)
            return loss, LossOutput({"psnr": psnr}, state.batch_stats, restored)

        codes = apply("guess", low)[None] if part == "predictor" else apply("codes", low)[1:]
        difference = codes - true_code[None]
        # As images, [N, corrections, 1, code_length].
        difference = difference.swapaxes(0, 1)[:, :, None]
        loss = losses.l2(difference, jnp.zeros_like(difference), weights=mask)
        code, error = jax.lax.stop_gradient((codes[-1], difference[:, -1, 0]))
        restored = jax.lax.stop_gradient(apply("with_code", low, code, train=True))
        error = jnp.sqrt(jnp.square(error).mean(axis=-1))
        measured = {
            "psnr": mean_psnr(restored, batch),
            "code_error": (error * mask).sum() / jnp.maximum(mask.sum(), 1.0),
        }
        return loss, LossOutput(measured, state.batch_stats, restored)

    return loss_function


def make_step(
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> StepFunction:
    """See :class:`MakeStep`."""
    loss_function = make_loss(module, config)
    return make_gradient_step(
        loss_function, _freeze_other_parts(tx, _get_part(config)), config, axis_name=axis_name
    )


def _get_part(config: ConfigDict) -> str:
    """The name of the parameters that a stage trains."""
    part = config_lib.OBJECTIVES[config.objective].trains_part
    assert part is not None
    return part


def _freeze_other_parts(
    tx: optax.GradientTransformation, part: str
) -> optax.GradientTransformation:
    """Lets an optimizer update one part of the parameters alone."""

    def update(
        grads: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[dict[str, PyTree], PyTree]:
        updates, state = tx.update(grads, state, params)
        frozen = {
            name: tree if name == part else jax.tree.map(jnp.zeros_like, tree)
            for name, tree in updates.items()
        }
        return frozen, state

    return optax.GradientTransformation(tx.init, update)


OBJECTIVE = Objective(make_inputs=make_inputs, make_loss=make_loss, make_step=make_step)
