"""What several tests of the trainer share."""

import jax
import pytest

from lcdnet_jax.networks import registered
from lcdnet_jax.training import loop
from tests.training.conv_net import ConvNet


@pytest.fixture(scope="module")
def quick_trainer():
    """A network by name, "conv"; no evaluation; programs compiled without LLVM's optimization."""
    with pytest.MonkeyPatch.context() as patch, registered("conv", ConvNet):
        patch.setattr(loop, "EvalHook", lambda *args: lambda step, variables: None)
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)
