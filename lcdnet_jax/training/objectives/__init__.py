"""Objectives by the name in ``config.objective``. Each module holds one, or one family."""

from ml_collections import ConfigDict

from lcdnet_jax.training.objectives import gan, ikc, noise2noise, noise2self, supervised
from lcdnet_jax.training.objectives._base import LossFunction, LossOutput, Objective, StepFunction

__all__ = ["LossFunction", "LossOutput", "Objective", "StepFunction", "get"]

_OBJECTIVES: dict[str, Objective] = {
    "supervised": supervised.OBJECTIVE,
    "noise2noise": noise2noise.OBJECTIVE,
    "noise2self": noise2self.OBJECTIVE,
    "gan": gan.OBJECTIVE,
    "ikc_sftmd": ikc.OBJECTIVE,
    "ikc_predictor": ikc.OBJECTIVE,
    "ikc_corrector": ikc.OBJECTIVE,
}


def get(config: ConfigDict) -> Objective:
    """The objective that a configuration names."""
    return _OBJECTIVES[config.objective]
