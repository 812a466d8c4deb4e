"""The measurement of receptive fields, by a network whose field is known."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import receptive_field
from lcdnet_jax import networks


def test_a_network_of_three_layers():
    """It sees three pixels to each side."""
    module = networks.create("dncnn", depth=3, features=4)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    differences = receptive_field.measure(module, variables, side=2 * 128 + 48)
    assert differences.shape == (24,)
    assert differences[2] > 1e-5
    assert differences[3:].max() < 1e-6


def test_fields_by_hand():
    """A pixel counts by its weight: a 32nd next to the overlap."""
    differences = np.zeros(40)
    differences[:10] = 1
    assert receptive_field.find_field(differences, 1 / 4) == 6
    assert receptive_field.find_field(differences, 1e-6) == 10
    assert receptive_field.find_field(differences, 1) == 0
    assert receptive_field.find_field(np.ones(40), 0.5) is None
