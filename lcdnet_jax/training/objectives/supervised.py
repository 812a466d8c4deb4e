"""One optimiser step: prepare, restore, compare, update."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import losses, metrics
from lcdnet_jax.training.optimizer import make_schedule
from lcdnet_jax.training.prepare import Batch, prepare
from lcdnet_jax.training.state import TrainState

Metrics = dict[str, Array]
StepFunction = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# See make_loss.
LossFunction = Callable[..., tuple[Array, tuple[Metrics, Any, Array]]]


def make_train_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
    loss_and_aux: LossFunction | None = None,
) -> StepFunction:
    """Builds the step ``(state, batch) -> (state, metrics)``, to be jitted or pmapped.

    Under ``jax.jit`` the batch is the global one and may be sharded. Under ``jax.pmap`` each
    device gets its part, and gradients, metrics and batch statistics are averaged over
    ``axis_name``. Both give the same numbers (for a mask of ones).

    The batch holds "clean" ``[B, H, W, C]`` and "mask" ``[B]`` (0 for padding); "degraded" where
    the host has made it; and "to_degrade" where the host has masked frequencies of what noise is
    still to be added to, and the target is another image. Metrics are float32 scalars: "loss",
    "psnr" (dB, output unclipped, against the objective's target, which may be a noisy image),
    "grad_norm" (before clipping) and "learning_rate"; of another ``loss_and_aux`` than that of
    :func:`make_loss` what it measures. With ``config.skip_nonfinite`` a step whose
    loss, gradient or batch statistics are not finite changes nothing but the counts of steps.
    """
    if loss_and_aux is None:
        loss_and_aux = make_loss(module, config, axis_name=axis_name)
    schedule = make_schedule(config)
    parts = config.accumulate

    def gradients(state: TrainState, batch: Batch) -> tuple[Any, Metrics, Any]:
        grad = jax.value_and_grad(loss_and_aux, has_aux=True)
        if parts == 1:
            (loss, (measured, stats, _)), grads = grad(state.params, state.batch_stats, batch)
            return grads, {"loss": loss, **measured}, stats

        def one_part(carry: Any, part: Batch) -> tuple[Any, Metrics]:
            grads, stats = carry
            (loss, (measured, stats, _)), new = grad(state.params, stats, part)
            grads = jax.tree.map(lambda total, g: total + g / parts, grads, new)
            return (grads, stats), {"loss": loss, **measured}

        start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
        (grads, stats), measured = jax.lax.scan(
            one_part, start, jax.tree.map(_interleaved, dict(batch))
        )
        return grads, jax.tree.map(jnp.mean, measured), stats

    def _interleaved(x: Array) -> Array:
        # Part i takes every parts-th image, so that each part is spread over all devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        batch = prepare(batch, config, step=state.step, axis_name=axis_name)
        grads, measured, stats = gradients(state, batch)
        if axis_name is not None:
            grads, measured = jax.lax.pmean((grads, measured), axis_name)
        new_metrics = {
            **measured,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        new_state = updated(config, tx, state, grads, stats)
        return unless_nonfinite(config, state, new_state, new_metrics, stats)

    return train_step


def updated(
    config: ConfigDict,
    tx: optax.GradientTransformation,
    state: TrainState,
    grads: Any,
    batch_stats: Any,
) -> TrainState:
    """The state after a step with these gradients."""
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        batch_stats=batch_stats,
        ema=_averaged(config, state, params),
    )


def _averaged(config: ConfigDict, state: TrainState, params: Any) -> Any:
    """The moving average after a step that gave ``params``; None where none is kept."""
    if state.ema is None:
        return None
    # In the first steps a short memory, so that the random start is soon forgotten.
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(config.ema_decay, (1 + count) / (10 + count))
    return jax.tree.map(lambda mean, p: decay * mean + (1 - decay) * p, state.ema, params)


def unless_nonfinite(
    config: ConfigDict, state: TrainState, new_state: TrainState, new_metrics: Metrics, stats: Any
) -> tuple[TrainState, Metrics]:
    """What the step gives, or the state before it, as ``config.skip_nonfinite`` has it.

    ``stats`` may overflow where neither loss nor gradient does.
    """
    if not config.skip_nonfinite:
        return new_state, new_metrics
    finite = jnp.isfinite(new_metrics["loss"]) & jnp.isfinite(new_metrics["grad_norm"])
    for leaf in jax.tree.leaves(stats):
        finite &= jnp.isfinite(leaf).all()
    grad_norm = jnp.where(finite, new_metrics["grad_norm"], jnp.nan)
    unchanged = state.replace(step=new_state.step)
    new_state = jax.tree.map(
        # Counts go on, or the learning rate would fall behind the step.
        lambda new, old: jnp.where(finite | jnp.issubdtype(new.dtype, jnp.integer), new, old),
        new_state,
        unchanged,
    )
    return new_state, {**new_metrics, "grad_norm": grad_norm}


def make_loss(
    module: nn.Module, config: ConfigDict, *, axis_name: str | None = None
) -> LossFunction:
    """The loss of a prepared batch.

    ``(params, batch_stats, batch) -> (loss, (measured, stats, restored))``, of which ``measured``
    becomes metrics.
    """
    loss_function = losses.get(config.loss)
    options: dict[str, Any] = {}
    if config.loss == "l1_fft":
        loss_function = functools.partial(loss_function, fft_weight=config.fft_weight)
        if module.has_scales:
            options["all_scales"] = True

    def loss_and_aux(
        params: Any, batch_stats: Any, batch: Batch
    ) -> tuple[Array, tuple[Metrics, Any, Array]]:
        variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
        outputs, updates = module.apply(
            variables,
            batch["degraded"],
            train=True,
            axis_name=axis_name,
            mutable=["batch_stats"],
            **options,
        )
        compared = restored = outputs[0] if options else outputs
        if "scored" in batch:  # elsewhere nothing is wrong, and nothing to be learnt
            compared = outputs = jnp.where(batch["scored"], restored, batch["clean"])
        loss = loss_function(outputs, batch["clean"], weights=batch["mask"])
        if config.dct_loss_weight:
            dct_loss = losses.dct_sse(compared, batch["clean"], weights=batch["mask"])
            loss = loss + config.dct_loss_weight * dct_loss
        stats = updates.get("batch_stats", batch_stats)
        return loss, ({"psnr": mean_psnr(restored, batch)}, stats, restored)

    return loss_and_aux


def mean_psnr(restored: Array, batch: Batch) -> Array:
    """Mean PSNR of a batch, dB, but for padding; no gradient goes through it."""
    psnr = metrics.psnr(jax.lax.stop_gradient(restored), batch["clean"])
    # A perfect image has infinite PSNR, which would hide the others in the mean.
    psnr = jnp.minimum(psnr, 100.0)
    return (psnr * batch["mask"]).sum() / jnp.maximum(batch["mask"].sum(), 1.0)
