"""Which module has the step and the loss of each ``config.objective``."""

from types import ModuleType

from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax.training.objectives import gan, ikc, supervised


def module_of(config: ConfigDict) -> ModuleType:
    """The one whose ``make_train_step`` and ``make_loss`` a configuration trains by."""
    if config.objective == "gan":
        return gan
    if config.objective in config_lib.KERNEL_CORRECTION:
        return ikc
    return supervised
