"""Training of IKC, which estimates the blur kernel and corrects it, in three stages.

As in Gu et al., CVPR 2019 (arXiv 1904.03377); ``config.objective``:

- "ikc_sftmd": the network that enlarges, given the code of the true kernel; ``config.loss`` against
  the clean image.
- "ikc_predictor": the first guess of the code; mean squared error.
- "ikc_corrector": its corrections; mean squared error of the codes after each of them.

A stage changes its own network alone, and starts from the run of the stage before
(``config.init_from``). The corrector is updated once for a batch, by the mean over its corrections.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import losses
from lcdnet_jax.training.objectives import supervised
from lcdnet_jax.training.prepare import Batch


def make_train_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> supervised.StepFunction:
    """As ``step.make_train_step``, for the network and objectives of IKC.

    "psnr" is that of the image restored with the code that the stage has reached: the true
    kernel's, the guess, the last correction. The two latter stages have also "code_error", the root
    of the mean squared error of that code, mean over images.
    """
    return supervised.make_train_step(
        module,
        _alone(tx, _part(config)),
        config,
        axis_name=axis_name,
        loss_and_aux=make_loss(module, config),
    )


def make_loss(module: nn.Module, config: ConfigDict) -> supervised.LossFunction:
    """The loss of a prepared batch, which has "kernels"; see ``step.make_loss``."""
    pixel_loss = losses.get(config.loss)
    part = _part(config)

    def loss_and_aux(
        params: Any, batch_stats: Any, batch: Batch
    ) -> tuple[Array, tuple[supervised.Metrics, Any, Array]]:
        def ikc(method: str, *inputs: Array, **options: Any) -> Any:
            return module.apply({"params": params}, *inputs, method=method, **options)

        low, mask = batch["degraded"], batch["mask"]
        true_code = ikc("encode", batch["kernels"])
        if part == "sftmd":
            restored = ikc("with_code", low, true_code, train=True)
            loss = pixel_loss(restored, batch["clean"], weights=mask)
            return loss, ({"psnr": supervised.mean_psnr(restored, batch)}, batch_stats, restored)

        codes = ikc("guess", low)[None] if part == "predictor" else ikc("codes", low)[1:]
        difference = codes - true_code[None]
        # As images, [N, corrections, 1, code_length].
        difference = difference.swapaxes(0, 1)[:, :, None]
        loss = losses.l2(difference, jnp.zeros_like(difference), weights=mask)
        code, error = jax.lax.stop_gradient((codes[-1], difference[:, -1, 0]))
        restored = jax.lax.stop_gradient(ikc("with_code", low, code, train=True))
        error = jnp.sqrt(jnp.square(error).mean(axis=-1))
        measured = {
            "psnr": supervised.mean_psnr(restored, batch),
            "code_error": (error * mask).sum() / jnp.maximum(mask.sum(), 1.0),
        }
        return loss, (measured, batch_stats, restored)

    return loss_and_aux


def _part(config: ConfigDict) -> str:
    """The name of what a stage trains, in the parameters."""
    return str(config.objective.removeprefix("ikc_"))


def _alone(tx: optax.GradientTransformation, part: str) -> optax.GradientTransformation:
    """Updates one part of the parameters; whatever ``tx`` does, the others stay."""

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        updates, state = tx.update(grads, state, params)
        kept = {
            name: of if name == part else jax.tree.map(jnp.zeros_like, of)
            for name, of in updates.items()
        }
        return kept, state

    return optax.GradientTransformation(tx.init, update)
