"""Training: state, step, optimiser, devices, reports and the loop that joins them."""

from lcdnet_jax.training.loop import NonFiniteLossError, train_and_evaluate
from lcdnet_jax.training.objectives.supervised import make_train_step
from lcdnet_jax.training.optimizer import make_optimizer, make_schedule
from lcdnet_jax.training.preemption import Stopped
from lcdnet_jax.training.replay import replay
from lcdnet_jax.training.state import TrainState, create_state

__all__ = [
    "NonFiniteLossError",
    "Stopped",
    "TrainState",
    "create_state",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "replay",
    "train_and_evaluate",
]
