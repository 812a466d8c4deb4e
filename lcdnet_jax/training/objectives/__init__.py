"""Which module has the step and the loss of each ``config.objective``."""

from types import ModuleType

from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax.training import adversarial, kernel_correction, step


def module_of(config: ConfigDict) -> ModuleType:
    """The one whose ``make_train_step`` and ``make_loss`` a configuration trains by."""
    if config.objective == "gan":
        return adversarial
    if config.objective in config_lib.KERNEL_CORRECTION:
        return kernel_correction
    return step
