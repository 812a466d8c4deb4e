"""Learning-rate schedules and the optimiser, from a configuration."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, *, peak: float | None = None) -> optax.Schedule:
    """Learning rate as a function of the step (0 for the first one).

    ``step`` multiplies by ``decay_factor`` every ``decay_every`` steps. ``cosine`` falls from the
    peak to ``final_fraction`` of it at the last step. Either is multiplied by a linear warm-up
    that reaches 1 at step ``warmup_steps``. ``peak`` takes the place of the learning rate.
    """
    optimizer = config.optimizer
    warmup, final = optimizer.warmup_steps, optimizer.final_fraction
    highest = optimizer.learning_rate if peak is None else peak
    span = max(1, config.steps - 1 - warmup)

    def schedule(step: ArrayLike) -> jnp.ndarray:
        now = jnp.asarray(step, jnp.float32)
        if optimizer.schedule == "step":
            factor = optimizer.decay_factor ** jnp.floor(now / optimizer.decay_every)
        else:
            progress = jnp.clip((now - warmup) / span, 0, 1)
            factor = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        # The first step would be lost with a rate of exactly 0.
        ramp = jnp.minimum(1.0, (now + 1) / (warmup + 1))
        return highest * factor * ramp

    return schedule


def make_optimizer(
    config: ConfigDict, *, peak: float | None = None
) -> optax.GradientTransformation:
    """Adam, after clipping by global norm where the configuration asks for it.

    ``peak`` takes the place of the learning rate.
    """
    adam = _tolerant(optax.adam(make_schedule(config, peak=peak), b2=config.optimizer.beta2))
    clip_norm = config.optimizer.clip_norm
    if clip_norm == 0:
        return adam
    return optax.chain(optax.clip_by_global_norm(clip_norm), adam)


def _tolerant(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets Adam mix types, as its code does, where the program has forbidden it."""

    def update(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(*args, **kwargs)

    return optax.GradientTransformation(tx.init, update)
