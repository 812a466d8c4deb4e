"""The interface of objectives, and parts of a training step that several objectives share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import metrics
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.optimizer import make_schedule
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.typing import Batch, Metrics, PyTree


class LossOutput(NamedTuple):
    """Further results of a loss function.

    Attributes:
        metrics: Further metrics of the step, "psnr" among them.
        batch_stats: Running statistics of batch normalization after this batch.
        restored: Output of the network, ``[B, H, W, C]``.
    """

    metrics: Metrics
    batch_stats: PyTree
    restored: Array


# (params, state, batch) -> (loss, output). Gradients are taken with respect to ``params``, which
# replace those of the state. The batch is that of ``Objective.make_inputs``.
LossFunction = Callable[[PyTree, TrainState, Batch], tuple[Array, LossOutput]]

StepFunction = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class MakeInputs(Protocol):
    """Makes the network's inputs and targets from a batch of the data set.

    Args:
        batch: "clean" ``[B, H, W, C]``, "mask" ``[B]``, and "degraded" if the data provides it.
        config: The experiment.
        keys: ``[B]`` random keys, one for each image.
        step: Number of optimizer steps made before.

    Returns:
        The batch with "degraded", the network's input, and "clean", the target.

    Raises:
        ValueError: If the batch does not fit the configuration.
    """

    def __call__(self, batch: Batch, config: ConfigDict, *, keys: Array, step: Array) -> Batch:
        """See the class."""


class MakeLoss(Protocol):
    """Makes the loss function of a network. ``axis_name`` is the mapped axis under ``pmap``."""

    def __call__(
        self, module: RestorationNetwork, config: ConfigDict, *, axis_name: str | None = None
    ) -> LossFunction:
        """See the class."""


class MakeStep(Protocol):
    """Makes the step ``(state, inputs) -> (state, metrics)`` from the network and its optimizer."""

    def __call__(
        self,
        module: RestorationNetwork,
        tx: optax.GradientTransformation,
        config: ConfigDict,
        *,
        axis_name: str | None = None,
    ) -> StepFunction:
        """See the class."""


# From a random key to further fields of ``TrainState``, by name.
ExtraStateInit = Callable[[Array], Mapping[str, PyTree]]


def _no_extra_state(config: ConfigDict) -> None:
    return None


def _no_features(config: ConfigDict) -> None:
    return None


def _no_extra_gradients(
    config: ConfigDict, state: TrainState, batch: Batch, restored: Array
) -> dict[str, tuple[Array, PyTree]]:
    return {}


@dataclass(frozen=True)
class Objective:
    """A training objective. Each module of this package defines one or several.

    Attributes:
        make_inputs: See :class:`MakeInputs`.
        make_loss: See :class:`MakeLoss`.
        make_step: See :class:`MakeStep`.
        make_extra_state_init: From a configuration to an :data:`ExtraStateInit`, or to None if the
            objective trains the network alone.
        read_features: From a configuration to ``TrainState.features``, read from files. Raises
            ConfigError for files that cannot be read.
        compute_extra_gradients: ``(config, state, inputs, restored)`` to the loss and gradients of
            each further network by name; ``--replay`` prints them.
    """

    make_inputs: MakeInputs
    make_loss: MakeLoss
    make_step: MakeStep
    make_extra_state_init: Callable[[ConfigDict], ExtraStateInit | None] = _no_extra_state
    read_features: Callable[[ConfigDict], PyTree | None] = _no_features
    compute_extra_gradients: Callable[
        [ConfigDict, TrainState, Batch, Array], dict[str, tuple[Array, PyTree]]
    ] = _no_extra_gradients


def make_gradient_objective(make_inputs: MakeInputs, make_loss: MakeLoss) -> Objective:
    """Makes an objective that trains one network by one loss, see :func:`make_gradient_step`."""

    def make_step(
        module: RestorationNetwork,
        tx: optax.GradientTransformation,
        config: ConfigDict,
        *,
        axis_name: str | None = None,
    ) -> StepFunction:
        loss_function = make_loss(module, config, axis_name=axis_name)
        return make_gradient_step(loss_function, tx, config, axis_name=axis_name)

    return Objective(make_inputs=make_inputs, make_loss=make_loss, make_step=make_step)


def make_gradient_step(
    loss_function: LossFunction,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    *,
    axis_name: str | None = None,
) -> StepFunction:
    """Makes the step of an objective that trains one network by one loss.

    Metrics are those of the loss function, "loss", "grad_norm" (before clipping) and
    "learning_rate".
    """
    schedule = make_schedule(config)
    parts = config.accumulate

    def split(x: Array) -> Array:
        # Part i takes every parts-th image, so that each part is spread over all devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)

    def compute_gradients(state: TrainState, batch: Batch) -> tuple[PyTree, Metrics, PyTree]:
        value_and_grad = jax.value_and_grad(loss_function, has_aux=True)
        if parts == 1:
            (loss, output), grads = value_and_grad(state.params, state, batch)
            return grads, {"loss": loss, **output.metrics}, output.batch_stats

        def add_part(carry: tuple[PyTree, PyTree], part: Batch) -> tuple[PyTree, Metrics]:
            grads, stats = carry
            (loss, output), new = value_and_grad(
                state.params, state.replace(batch_stats=stats), part
            )
            grads = jax.tree.map(lambda total, g: total + g / parts, grads, new)
            return (grads, output.batch_stats), {"loss": loss, **output.metrics}

        start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
        (grads, stats), measured = jax.lax.scan(add_part, start, jax.tree.map(split, dict(batch)))
        return grads, jax.tree.map(jnp.mean, measured), stats

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, measured, stats = compute_gradients(state, batch)
        if axis_name is not None:
            grads, measured = jax.lax.pmean((grads, measured), axis_name)
        new_metrics = {
            **measured,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        new_state = apply_gradients(config, tx, state, grads, stats)
        return skip_if_nonfinite(config, state, new_state, new_metrics, stats)

    return step


class Applied(NamedTuple):
    """Results of a network in training mode.

    Attributes:
        output: The images; several with ``all_scales``.
        batch_stats: Running statistics of batch normalization after this batch.
        metrics: Those of the network itself, see ``RestorationNetwork.measure``.
    """

    output: PyTree
    batch_stats: PyTree
    metrics: Metrics


def apply_network(
    module: nn.Module,
    params: PyTree,
    batch_stats: PyTree,
    images: Array,
    *,
    axis_name: str | None = None,
    **options: Any,
) -> Applied:
    """Applies a network in training mode."""
    output, updates = module.apply(
        {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})},
        images,
        train=True,
        axis_name=axis_name,
        mutable=["batch_stats", "intermediates"],
        **options,
    )
    measured = {}
    if isinstance(module, RestorationNetwork):
        measured = dict(module.measure(updates.get("intermediates", {})))
    return Applied(output, updates.get("batch_stats", batch_stats), measured)


def apply_gradients(
    config: ConfigDict,
    tx: optax.GradientTransformation,
    state: TrainState,
    grads: PyTree,
    batch_stats: PyTree,
) -> TrainState:
    """The state after an optimizer step with these gradients."""
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        batch_stats=batch_stats,
        ema=_update_ema(config, state, params),
    )


def _update_ema(config: ConfigDict, state: TrainState, params: PyTree) -> PyTree | None:
    """The moving average after a step that gave ``params``, or None if none is kept."""
    if state.ema is None:
        return None
    # The decay is lower in the first steps, so that the random initialization soon has no weight.
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(config.ema_decay, (1 + count) / (10 + count))
    return jax.tree.map(lambda mean, p: decay * mean + (1 - decay) * p, state.ema, params)


def skip_if_nonfinite(
    config: ConfigDict,
    state: TrainState,
    new_state: TrainState,
    new_metrics: Metrics,
    batch_stats: PyTree,
) -> tuple[TrainState, Metrics]:
    """The new state, or the old one if ``config.skip_nonfinite`` is set and the step is not finite.

    Batch statistics may overflow even if loss and gradient are finite.
    """
    if not config.skip_nonfinite:
        return new_state, new_metrics
    finite = jnp.isfinite(new_metrics["loss"]) & jnp.isfinite(new_metrics["grad_norm"])
    for leaf in jax.tree.leaves(batch_stats):
        finite &= jnp.isfinite(leaf).all()
    grad_norm = jnp.where(finite, new_metrics["grad_norm"], jnp.nan)
    unchanged = state.replace(step=new_state.step)
    new_state = jax.tree.map(
        # Integers are counts. They continue, so that the learning rate matches the step.
        lambda new, old: jnp.where(finite | jnp.issubdtype(new.dtype, jnp.integer), new, old),
        new_state,
        unchanged,
    )
    return new_state, {**new_metrics, "grad_norm": grad_norm}


def mean_psnr(restored: Array, batch: Batch) -> Array:
    """Mean PSNR of a batch without its padding, dB. No gradient flows through it."""
    psnr = metrics.psnr(jax.lax.stop_gradient(restored), batch["clean"])
    # A perfect image has infinite PSNR, which would make the mean infinite.
    psnr = jnp.minimum(psnr, 100.0)
    return (psnr * batch["mask"]).sum() / jnp.maximum(batch["mask"].sum(), 1.0)
