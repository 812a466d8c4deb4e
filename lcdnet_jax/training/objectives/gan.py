"""Adversarial training: a critic learns to tell restored images from clean ones.

As in ESRGAN (Wang et al., ECCV workshops 2018, arXiv 1809.00219), the network minimizes a
relativistic average loss, a perceptual loss by features of VGG19, and a pixel loss.
``config.objective`` is "gan". Inputs are those of supervised training.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, losses
from lcdnet_jax.networks import Discriminator, RestorationNetwork, vgg
from lcdnet_jax.training.objectives import supervised
from lcdnet_jax.training.objectives._base import (
    ExtraStateInit,
    LossFunction,
    LossOutput,
    Objective,
    StepFunction,
    apply_gradients,
    apply_network,
    mean_psnr,
    skip_if_nonfinite,
)
from lcdnet_jax.training.optimizer import make_optimizer, make_schedule
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, Metrics, PyTree


class Critic(struct.PyTreeNode):
    """``TrainState.critic``: the state of the critic.

    Attributes:
        params: Trainable parameters, float32.
        opt_state: State of its optimizer.
        batch_stats: Running statistics of batch normalization.
    """

    params: PyTree
    opt_state: PyTree
    batch_stats: PyTree


def make_critic(config: ConfigDict) -> nn.Module:
    """The critic's network, for crops ``[N, size, size, channels]``."""
    return Discriminator(
        channels=config.data.channels,
        size=config.data.crop,
        features=config.gan.critic_features,
        dtype=jnp.dtype(config.network.dtype),
    )


def make_critic_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam with the critic's own learning rate."""
    return make_optimizer(config, peak=config.gan.critic_learning_rate)


def make_extra_state_init(config: ConfigDict) -> ExtraStateInit:
    """Makes the function that creates the state of the critic from a random key."""
    module, tx = make_critic(config), make_critic_optimizer(config)
    shape = (1, config.data.crop, config.data.crop, config.data.channels)

    def init_extra_state(key: Array) -> dict[str, Critic]:
        variables = module.init(key, jnp.zeros(shape, jnp.float32))
        params = variables["params"]
        return {"critic": Critic(params, tx.init(params), variables["batch_stats"])}

    return init_extra_state


def read_features(config: ConfigDict) -> tuple[tuple[np.ndarray, np.ndarray], ...] | None:
    """Weights of VGG19 (``vgg.Weights``), or None if the perceptual loss has no weight.

    Raises:
        ConfigError: If the file cannot be read or holds other weights.
    """
    if not config.gan.perceptual_weight:
        return None
    try:
        return convert.read_vgg19(config.gan.vgg)
    except (ImportError, OSError, ValueError) as error:
        raise config_lib.ConfigError(f"config.gan.vgg: {error}; {config_lib.NO_VGG}") from error


def make_step(
    module: RestorationNetwork,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> StepFunction:
    """Makes a step that updates the network, then the critic. See :class:`MakeStep`.

    The critic learns from the output of the network before its update, so that the network is
    applied once. The critic normalizes batches of clean and of restored images separately, as in
    ESRGAN's code.

    "loss" is the sum of "pixel_loss", "perceptual_loss" (if it has a weight) and
    "adversarial_loss", each times its weight. "critic_loss" is a further metric. "grad_norm" is
    that of the network, NaN if the critic's loss or gradient is not finite.
    """
    loss_function = make_loss(module, config, axis_name=axis_name)
    critic_loss = make_critic_loss(config, axis_name=axis_name)
    critic_tx = make_critic_optimizer(config)
    schedule = make_schedule(config)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        critic: Critic = state.critic
        grad = jax.value_and_grad(loss_function, has_aux=True)
        (loss, output), grads = grad(state.params, state, batch)
        measured = {"loss": loss, **output.metrics}
        grad = jax.value_and_grad(critic_loss, has_aux=True)
        (measured["critic_loss"], critic_stats), critic_grads = grad(
            critic.params, critic.batch_stats, batch, output.restored
        )
        if axis_name is not None:
            grads, critic_grads, measured = jax.lax.pmean(
                (grads, critic_grads, measured), axis_name
            )
        updates, critic_opt_state = critic_tx.update(critic_grads, critic.opt_state, critic.params)
        new_critic = Critic(
            optax.apply_updates(critic.params, updates), critic_opt_state, critic_stats
        )
        finite = jnp.isfinite(measured["critic_loss"]) & jnp.isfinite(optax.tree.norm(critic_grads))
        new_metrics = {
            **measured,
            "grad_norm": jnp.where(finite, optax.tree.norm(grads), jnp.nan),
            "learning_rate": schedule(state.step),
        }
        stats = output.batch_stats
        new_state = apply_gradients(config, tx, state, grads, stats).replace(critic=new_critic)
        return skip_if_nonfinite(config, state, new_state, new_metrics, (stats, critic_stats))

    return step


def make_loss(
    module: RestorationNetwork, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """The network's loss. See :class:`MakeLoss`."""
    pixel_loss = losses.get(config.loss)
    critic_module = make_critic(config)
    weights = {
        "pixel_loss": config.gan.pixel_weight,
        "perceptual_loss": config.gan.perceptual_weight,
        "adversarial_loss": config.gan.critic_weight,
    }

    def loss_function(params: PyTree, state: TrainState, batch: Batch) -> tuple[Array, LossOutput]:
        clean, mask, critic = batch["clean"], batch["mask"], state.critic
        restored, batch_stats, measured = apply_network(
            module, params, state.batch_stats, batch["degraded"], axis_name=axis_name
        )
        terms = {"pixel_loss": pixel_loss(restored, clean, weights=mask)}
        if state.features is not None:
            terms["perceptual_loss"] = losses.l1(
                vgg.vgg19(state.features, restored),
                vgg.vgg19(state.features, clean),
                weights=mask,
            )
        clean_logits, restored_logits = (
            apply_network(
                critic_module, critic.params, critic.batch_stats, images, axis_name=axis_name
            ).output
            for images in (clean, restored)
        )
        terms["adversarial_loss"] = losses.relativistic(
            restored_logits, clean_logits, weights=mask, axis_name=axis_name
        )
        loss = sum((weights[name] * term for name, term in terms.items()), jnp.zeros(()))
        psnr = mean_psnr(restored, batch)
        return loss, LossOutput({"psnr": psnr, **terms, **measured}, batch_stats, restored)

    return loss_function


def make_critic_loss(
    config: ConfigDict, *, axis_name: str | None = None
) -> Callable[[PyTree, PyTree, Batch, Array], tuple[Array, PyTree]]:
    """Makes ``(params, batch_stats, inputs, restored) -> (loss, batch_stats)`` of the critic."""
    module = make_critic(config)

    def loss_function(
        params: PyTree, batch_stats: PyTree, batch: Batch, restored: Array
    ) -> tuple[Array, PyTree]:
        clean_logits, batch_stats, _ = apply_network(
            module, params, batch_stats, batch["clean"], axis_name=axis_name
        )
        restored_logits, batch_stats, _ = apply_network(
            module, params, batch_stats, restored, axis_name=axis_name
        )
        loss = losses.relativistic(
            clean_logits, restored_logits, weights=batch["mask"], axis_name=axis_name
        )
        return loss, batch_stats

    return loss_function


def compute_extra_gradients(
    config: ConfigDict, state: TrainState, batch: Batch, restored: Array
) -> dict[str, tuple[Array, PyTree]]:
    """Loss and gradients of the critic, under its name."""
    critic: Critic = state.critic
    grad = jax.jit(jax.value_and_grad(make_critic_loss(config), has_aux=True))
    (loss, _), grads = grad(critic.params, critic.batch_stats, batch, restored)
    return {"critic": (loss, grads)}


OBJECTIVE = Objective(
    make_inputs=supervised.make_inputs,
    make_loss=make_loss,
    make_step=make_step,
    make_extra_state_init=make_extra_state_init,
    read_features=read_features,
    compute_extra_gradients=compute_extra_gradients,
)
