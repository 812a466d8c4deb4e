"""One training step: make the inputs, then let the objective update the state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training import objectives
from lcdnet_jax.training.mixup import mix_images
from lcdnet_jax.training.objectives import StepFunction
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, Metrics

# Child of the step's key. Smaller numbers are the keys of the images.
_MIXUP_STREAM = np.uint32(2**32 - 1)


def make_train_step(
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> StepFunction:
    """Makes the step ``(state, batch) -> (state, metrics)`` of ``config.objective``.

    Under ``jax.jit`` the batch is the global one and may be sharded. Under ``jax.pmap`` each
    device gets its part; gradients, metrics and batch statistics are averaged over ``axis_name``.
    Both give the same numbers (for a mask of ones).

    The batch holds "clean" ``[B, H, W, C]`` in [0, 1] and "mask" ``[B]`` (0 for padding). It holds
    "degraded" if the host degraded the images. It holds "to_degrade", the masked images, if the
    host masked frequencies, the device adds the noise, and the target is not the masked image.

    Metrics are float32 scalars: "loss", "psnr" (dB, output unclipped, against the objective's
    target, which may be a noisy image), "grad_norm" (before clipping), "learning_rate", and those
    that the objective adds. With ``config.skip_nonfinite``, a step whose loss, gradient or batch
    statistics are not finite changes only the step counts.

    Args:
        module: The network.
        tx: The optimizer.
        config: The experiment.
        axis_name: The mapped axis under ``jax.pmap``, or None.

    Returns:
        The step.
    """
    objective_step = objectives.get(config).make_step(module, tx, config, axis_name=axis_name)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        inputs = prepare(batch, config, step=state.step, axis_name=axis_name)
        return objective_step(state, inputs)

    return train_step


def prepare(batch: Batch, config: ConfigDict, *, step: Array, axis_name: str | None) -> Batch:
    """Makes the network's inputs and targets: masks frequencies, degrades, hides pixels, mixes.

    The result is a pure function of (seed, step, position in the global batch). In it,
    "degraded" is the network's input and "clean" the target of ``config.objective``. The objective
    may add further arrays, see its module.

    Raises:
        ValueError: If the batch lacks images that the host should have added, or is degraded
            before it could be masked.
    """
    count = batch["clean"].shape[0]
    place = jnp.arange(count, dtype=jnp.int32)
    if axis_name is not None:
        place = place + jax.lax.axis_index(axis_name) * count
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
    inputs = objectives.get(config).make_inputs(batch, config, keys=keys, step=step)
    if not config.mixup.rate:
        return inputs
    mixup_key = jax.random.fold_in(key, _MIXUP_STREAM)
    return mix_images(mixup_key, inputs, **config.mixup.to_dict(), axis_name=axis_name)
