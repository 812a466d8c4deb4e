"""Learning-rate schedule and optimizer of a configuration."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from lcdnet_jax.config import ConfigError
from lcdnet_jax.typing import PyTree


def make_schedule(config: ConfigDict, *, peak: float | None = None) -> optax.Schedule:
    """Makes the learning rate as a function of the step (0 is the first step).

    The schedule "step" multiplies it by ``decay_factor`` every ``decay_every`` steps. The schedule
    "cosine" reduces it from the peak to ``final_fraction`` of the peak at the last step. The
    schedule "cosine_restarts" has cycles of ``cycle_steps``. A cycle begins at the peak times its
    entry in ``cycle_weights`` and ends at its entry in ``cycle_final_fractions``, as a fraction of
    the peak. It is that of Restormer's code (``CosineAnnealingRestartCyclicLR``): with peak p,
    weight w and final rate f, step s of a cycle of n steps has the rate
    ``f + w (p - f) (1 + cos(pi s / n)) / 2``. A cycle includes the step after its last one, whose
    rate is f. Later steps keep the last rate. All are multiplied by a linear warm-up that reaches 1
    at step ``warmup_steps``. After each step of ``resets`` a linear warm-up of
    ``reset_warmup_steps`` steps follows, and the schedule goes on beneath it.

    Args:
        config: The experiment.
        peak: Learning rate that replaces ``config.optimizer.learning_rate``.

    Returns:
        A function from the step to the rate, a float32 scalar.
    """
    optimizer = config.optimizer
    warmup, final = optimizer.warmup_steps, optimizer.final_fraction
    highest = optimizer.learning_rate if peak is None else peak
    span = max(1, config.steps - 1 - warmup)
    lengths = jnp.asarray(optimizer.cycle_steps, jnp.float32)
    ends = jnp.cumsum(lengths)

    def schedule(step: ArrayLike) -> jnp.ndarray:
        now = jnp.asarray(step, jnp.float32)
        if optimizer.schedule == "step":
            factor = optimizer.decay_factor ** jnp.floor(now / optimizer.decay_every)
        elif optimizer.schedule == "cosine_restarts":
            cycle = jnp.minimum(jnp.searchsorted(ends, now, side="left"), len(ends) - 1)
            least = jnp.asarray(optimizer.cycle_final_fractions, jnp.float32)[cycle]
            weight = jnp.asarray(optimizer.cycle_weights, jnp.float32)[cycle]
            progress = jnp.minimum(1.0, (now - (ends - lengths)[cycle]) / lengths[cycle])
            factor = least + weight * (1 - least) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        else:
            progress = jnp.clip((now - warmup) / span, 0, 1)
            factor = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        # With a rate of exactly 0 the first step would have no effect.
        ramp = jnp.minimum(1.0, (now + 1) / (warmup + 1))
        for reset in optimizer.resets:
            since = (now - reset + 1) / (optimizer.reset_warmup_steps + 1)
            ramp *= jnp.where(now < reset, 1.0, jnp.minimum(1.0, since))
        return highest * factor * ramp

    return schedule


def make_optimizer(
    config: ConfigDict, *, peak: float | None = None
) -> optax.GradientTransformation:
    """Makes Adam, or AdamW if ``weight_decay`` is set.

    Gradients are clipped by their global norm first, if ``clip_norm`` is set. The decay is
    decoupled (Loshchilov and Hutter, ICLR 2019) and multiplied by the learning rate, as in
    PyTorch's AdamW. It applies to all parameters, or with ``decay_vectors`` False to those with two
    axes or more. ``offset_rate`` multiplies the learning rate of parameters with "offset" in their
    path.

    Args:
        config: The experiment.
        peak: Learning rate that replaces ``config.optimizer.learning_rate``, for the second network
            of an objective, to which ``offset_rate`` does not apply.

    Returns:
        The optimizer. Its ``init`` raises ConfigError if ``offset_rate`` is not 1 and there are no
        such parameters.
    """
    schedule, optimizer = make_schedule(config, peak=peak), config.optimizer
    if optimizer.weight_decay > 0:
        mask = None if optimizer.decay_vectors else _are_matrices
        tx = optax.adamw(
            schedule, b2=optimizer.beta2, weight_decay=optimizer.weight_decay, mask=mask
        )
    else:
        tx = optax.adam(schedule, b2=optimizer.beta2)
    if optimizer.offset_rate != 1 and peak is None:
        tx = optax.chain(tx, optax.masked(optax.scale(optimizer.offset_rate), _predict_offsets))
    adam = allow_type_promotion(tx)
    clip_norm = optimizer.clip_norm
    if clip_norm == 0:
        return adam
    return optax.chain(optax.clip_by_global_norm(clip_norm), adam)


def _are_matrices(params: PyTree) -> PyTree:
    """For each parameter, whether it has two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _predict_offsets(params: PyTree) -> PyTree:
    """For each parameter, whether its layer predicts offsets of deformable convolutions."""
    found = jax.tree.map_with_path(
        lambda path, _: any("offset" in str(entry) for entry in path), params
    )
    if not any(jax.tree.leaves(found)):
        raise ConfigError(
            "config.optimizer.offset_rate is for networks with deformable convolutions, such as "
            "sadnet, and this one has none; set it to 1"
        )
    return found


def reset_optimizer(tx: optax.GradientTransformation, params: PyTree, step: int) -> PyTree:
    """Makes a new state of an optimizer of :func:`make_optimizer` for a run that goes on.

    Args:
        tx: The optimizer.
        params: Parameters after the step.
        step: Number of steps made. The learning rate continues there; the moments start at zero,
            and so does the count for their bias.

    Returns:
        The state.
    """

    def set_count(state: PyTree) -> PyTree:
        if not isinstance(state, optax.ScaleByScheduleState):
            return state
        return state._replace(count=jnp.full_like(state.count, step))

    return jax.tree.map(
        set_count, tx.init(params), is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )


def allow_type_promotion(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets an optimizer mix types, as Adam does, even if the program forbids type promotion."""

    def update(grads: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(grads, state, params)

    return optax.GradientTransformation(tx.init, update)
