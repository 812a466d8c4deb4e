"""What one call of the compiled program does: one or several steps, on batches given or drawn."""

from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from lcdnet_jax import resident_images
from lcdnet_jax.training import objectives
from lcdnet_jax.training.objectives.supervised import Metrics
from lcdnet_jax.training.sharding import Parallel
from lcdnet_jax.training.state import TrainState


def compile_program(
    module: nn.Module,
    tx: optax.GradientTransformation,
    config: ConfigDict,
    parallel: Parallel,
    state: TrainState,
) -> Any:
    """Compiles ``(state, input) -> (state, metrics)`` of ``config.steps_per_call`` steps.

    Args:
        module: The network.
        tx: The optimiser.
        config: The experiment.
        parallel: Placement on devices.
        state: The state or its shapes.

    Returns:
        A function whose input is, for ``config.data.where`` "host", what
        :meth:`Parallel.put_batches` made of as many batches, and for "device" what
        :meth:`Parallel.put_everywhere` made of a :class:`device_data.ResidentImages`. Metrics are
        those of the step; of several steps, arrays with one value for each. The state that it is
        given must not be used afterwards.
    """
    on_device = config.data.where == "device"
    axis = parallel.axis_name
    train_step = objectives.module_of(config).make_train_step(module, tx, config, axis_name=axis)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        state = state.replace(params=parallel.gathered(state.params))
        if state.critic is not None:
            critic = state.critic.replace(params=parallel.gathered(state.critic.params))
            state = state.replace(critic=critic, features=parallel.gathered(state.features))
        state, metrics = train_step(state, batch)
        return parallel.divided(state), metrics

    def step_on_drawn(state: TrainState, images: Any) -> tuple[TrainState, Metrics]:
        count = config.batch_size if axis is None else config.batch_size // parallel.device_count
        batch = resident_images.draw(
            images,
            state.step,
            seed=config.seed,
            crop=config.data.crop,
            augment=config.data.augment,
            batch_size=config.batch_size,
            first=0 if axis is None else jax.lax.axis_index(axis) * count,
            count=count,
        )
        return step(state, parallel.spread_batch(batch))

    def program(state: TrainState, given: Any) -> tuple[TrainState, Metrics]:
        if config.steps_per_call == 1:
            return step_on_drawn(state, given) if on_device else step(state, given)
        if on_device:
            return jax.lax.scan(
                lambda state, _: step_on_drawn(state, given),
                state,
                length=config.steps_per_call,
            )
        return jax.lax.scan(step, state, given)

    return parallel.compile(program, state, shared=on_device)
