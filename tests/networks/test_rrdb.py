"""RRDB in color at every scale."""

import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    drawn,
    image,
    quick_jit,
)
from tests.networks.every_network import TINY


@pytest.mark.extended
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_color_at_every_scale(scale):
    module = networks.create("rrdb", **TINY["rrdb"] | {"channels": 3, "scale": scale})
    x = image(1, 3, 4, 3)
    y = np.asarray(quick_jit(module.apply)(drawn(module, x), x))
    assert y.shape == (1, 3 * scale, 4 * scale, 3)
    assert np.ptp(y.mean((0, 1, 2))) > 1e-3 * np.abs(y).max()
