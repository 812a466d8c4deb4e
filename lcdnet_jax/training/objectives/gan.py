"""Adversarial training: a critic learns to tell restored images, the network to please it.

As ESRGAN does (Wang et al., ECCV workshops 2018, arXiv 1809.00219): a relativistic average loss, a
perceptual one by features of VGG19, and one of pixels. ``config.objective`` "gan".
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, losses
from lcdnet_jax.networks import Discriminator, vgg
from lcdnet_jax.training.objectives.supervised import (
    LossFunction,
    Metrics,
    StepFunction,
    mean_psnr,
    unless_nonfinite,
    updated,
)
from lcdnet_jax.training.optimizer import make_optimizer, make_schedule
from lcdnet_jax.training.prepare import Batch, prepare
from lcdnet_jax.training.state import Critic, CriticMaker, TrainState


def make_critic(config: ConfigDict) -> CriticMaker:
    """The critic of a configuration, for its training crops, and Adam with a rate of its own."""
    return CriticMaker(
        Discriminator(
            channels=config.data.channels,
            size=config.data.crop,
            features=config.gan.critic_features,
            dtype=jnp.dtype(config.network.dtype),
        ),
        make_optimizer(config, peak=config.gan.critic_learning_rate),
    )


def read_features(config: ConfigDict) -> tuple[tuple[np.ndarray, np.ndarray], ...] | None:
    """VGG19's weights, ``vgg.Weights``, or None for a training that does not compare by them.

    Raises:
        ConfigError: Where the file does not give them.
    """
    if config.objective != "gan" or not config.gan.perceptual_weight:
        return None
    try:
        return convert.read_vgg19(config.gan.vgg)
    except (ImportError, OSError, ValueError) as error:
        raise config_lib.ConfigError(f"config.gan.vgg: {error}; {config_lib.NO_VGG}") from error


def make_train_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> StepFunction:
    """As ``step.make_train_step``, for states with a critic; each step updates both networks.

    The network first; the critic then learns from the images that the network gave before, so that
    it is applied once. The critic's batch normalisation sees clean and restored images apart, as in
    ESRGAN's code.

    Metrics are those there, "loss" being the sum of "pixel_loss", "perceptual_loss" (where it has
    a weight) and "adversarial_loss", each times its weight; and "critic_loss". "grad_norm" is the
    network's, NaN where the critic's is not finite.
    """
    loss_and_aux = make_loss(module, config, axis_name=axis_name)
    critic_loss = make_critic_loss(config, axis_name=axis_name)
    critic_tx = make_critic(config).tx
    schedule = make_schedule(config)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        batch = prepare(batch, config, step=state.step, axis_name=axis_name)
        critic = state.critic
        assert critic is not None
        grad = jax.value_and_grad(loss_and_aux, has_aux=True)
        (loss, (measured, stats, restored)), grads = grad(
            state.params, state.batch_stats, batch, critic, state.features
        )
        measured = {"loss": loss, **measured}
        grad = jax.value_and_grad(critic_loss, has_aux=True)
        (measured["critic_loss"], critic_stats), critic_grads = grad(
            critic.params, critic.batch_stats, batch, restored
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
        new_state = updated(config, tx, state, grads, stats).replace(critic=new_critic)
        return unless_nonfinite(config, state, new_state, new_metrics, (stats, critic_stats))

    return train_step


def make_loss(
    module: nn.Module, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """The network's loss of a prepared batch, as ``step.make_loss``.

    ``(params, batch_stats, batch, critic, features) -> (loss, (measured, stats, restored))``
    """
    pixel_loss = losses.get(config.loss)
    critic_module = make_critic(config).module
    weights = {
        "pixel_loss": config.gan.pixel_weight,
        "perceptual_loss": config.gan.perceptual_weight,
        "adversarial_loss": config.gan.critic_weight,
    }

    def loss_and_aux(
        params: Any, batch_stats: Any, batch: Batch, critic: Critic, features: Any
    ) -> tuple[Array, tuple[Metrics, Any, Array]]:
        clean, mask = batch["clean"], batch["mask"]
        restored, updates = module.apply(
            {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})},
            batch["degraded"],
            train=True,
            axis_name=axis_name,
            mutable=["batch_stats"],
        )
        terms = {"pixel_loss": pixel_loss(restored, clean, weights=mask)}
        if features is not None:
            terms["perceptual_loss"] = losses.l1(
                vgg.vgg19(features, restored),
                vgg.vgg19(features, clean),
                weights=mask,
            )
        of_clean, of_restored = (
            _judged(critic_module, critic.params, critic.batch_stats, images, axis_name)[0]
            for images in (clean, restored)
        )
        terms["adversarial_loss"] = losses.relativistic(
            of_restored, of_clean, weights=mask, axis_name=axis_name
        )
        loss = sum((weights[name] * term for name, term in terms.items()), jnp.zeros(()))
        stats = updates.get("batch_stats", batch_stats)
        return loss, ({"psnr": mean_psnr(restored, batch), **terms}, stats, restored)

    return loss_and_aux


def make_critic_loss(
    config: ConfigDict, *, axis_name: str | None = None
) -> Callable[[Any, Any, Batch, Array], tuple[Array, Any]]:
    """The critic's loss of a prepared batch and what the network made of it.

    ``(params, batch_stats, batch, restored) -> (loss, batch_stats)``
    """
    module = make_critic(config).module

    def loss_and_stats(
        params: Any, batch_stats: Any, batch: Batch, restored: Array
    ) -> tuple[Array, Any]:
        of_clean, stats = _judged(module, params, batch_stats, batch["clean"], axis_name)
        of_restored, stats = _judged(module, params, stats, restored, axis_name)
        loss = losses.relativistic(
            of_clean, of_restored, weights=batch["mask"], axis_name=axis_name
        )
        return loss, stats

    return loss_and_stats


def _judged(
    module: nn.Module, params: Any, batch_stats: Any, images: Array, axis_name: str | None
) -> tuple[Array, Any]:
    """Logits of images, and batch statistics."""
    logits, updates = module.apply(
        {"params": params, "batch_stats": batch_stats},
        images,
        train=True,
        axis_name=axis_name,
        mutable=["batch_stats"],
    )
    return logits, updates["batch_stats"]
