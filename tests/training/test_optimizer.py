"""Learning-rate schedules and Adam."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from lcdnet_jax.training import make_optimizer, make_schedule


@pytest.fixture
def config():
    return tiny.get_config()


def test_steps(config):
    config.optimizer.learning_rate = 1e-4
    config.optimizer.decay_every = 10
    schedule = make_schedule(config)
    values = [float(schedule(s)) for s in (0, 9, 10, 19, 20, 30)]
    np.testing.assert_allclose(values, [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 1.25e-5], rtol=1e-6)
    config.optimizer.decay_factor = 0.1
    values = [float(make_schedule(config)(s)) for s in (9, 10, 20)]
    np.testing.assert_allclose(values, [1e-4, 1e-5, 1e-6], rtol=1e-6)


def test_memory_of_squared_gradients(config):
    """Adam's second moment after one step is (1 - beta2) times the square."""
    config.optimizer.beta2 = 0.9
    tx = make_optimizer(config)
    params = {"w": jnp.zeros(1)}
    _, state = tx.update({"w": jnp.asarray([0.5])}, tx.init(params), params)
    second = optax.tree_utils.tree_get(state, "nu")["w"]
    np.testing.assert_allclose(second, [0.1 * 0.25], rtol=1e-5)


def test_warm_up_and_cosine(config):
    config.steps = 21
    config.optimizer.schedule = "cosine"
    config.optimizer.learning_rate = 1.0
    config.optimizer.warmup_steps = 4
    config.optimizer.final_fraction = 0.1
    schedule = make_schedule(config)
    values = [float(schedule(s)) for s in (0, 3, 4, 12, 20)]
    np.testing.assert_allclose(values, [0.2, 0.8, 1.0, 0.55, 0.1], rtol=1e-6)


def test_clipping_bounds_the_norm(config):
    config.optimizer.clip_norm = 1.0
    tx = make_optimizer(config)
    clip_state, _ = tx.init({"w": jnp.zeros(2)}), None
    _, new_state = tx.update({"w": jnp.asarray([30.0, 40.0])}, clip_state, {"w": jnp.zeros(2)})
    mean = optax.tree_utils.tree_get(new_state, "mu")["w"]
    np.testing.assert_allclose(mean, [0.06, 0.08], rtol=1e-5)  # 0.1 * (0.6, 0.8)
