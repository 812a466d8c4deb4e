"""Training: loop, compiled step, objectives, optimizer, state, sharding and reports."""

from lcdnet_jax.training.loop import NonFiniteLossError, train_and_evaluate
from lcdnet_jax.training.optimizer import make_optimizer, make_schedule
from lcdnet_jax.training.preemption import Preempted
from lcdnet_jax.training.replay import replay
from lcdnet_jax.training.state import TrainState, create_state
from lcdnet_jax.training.step import make_train_step

__all__ = [
    "NonFiniteLossError",
    "Preempted",
    "TrainState",
    "create_state",
    "make_optimizer",
    "make_schedule",
    "make_train_step",
    "replay",
    "train_and_evaluate",
]
