"""Learning-rate schedules, Adam and AdamW."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from configs import tiny
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import make_optimizer, make_schedule, optimizer
from lcdnet_jax.training.optimizer import reset_optimizer


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


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_reset(config, weight_decay):
    """A warm-up on top of the schedule; the moments are lost, the schedule is not."""
    config.steps, config.optimizer.schedule = 9, "cosine"
    config.optimizer.weight_decay = weight_decay
    before = [float(make_schedule(config)(s)) for s in range(8)]
    config.optimizer.resets, config.optimizer.reset_warmup_steps = (3, 6), 3
    factors = [float(make_schedule(config)(s)) / before[s] for s in range(8)]
    np.testing.assert_allclose(factors, [1, 1, 1, 1 / 4, 2 / 4, 3 / 4, 1 / 4, 2 / 4], rtol=1e-6)

    tx, params = make_optimizer(config), {"w": jnp.zeros(1)}
    state = reset_optimizer(tx, params, 4)
    assert [int(count) for _, count in optax.tree.get_all_with_path(state, "count")] == [0, 4]
    updates, _ = tx.update({"w": jnp.asarray([0.5])}, state, params)
    # The first step of Adam has the size of the rate.
    np.testing.assert_allclose(updates["w"], [-float(make_schedule(config)(4))], rtol=1e-5)


def test_clipping_bounds_the_norm(config):
    config.optimizer.clip_norm = 1.0
    tx = make_optimizer(config)
    clip_state, _ = tx.init({"w": jnp.zeros(2)}), None
    _, new_state = tx.update({"w": jnp.asarray([30.0, 40.0])}, clip_state, {"w": jnp.zeros(2)})
    mean = optax.tree_utils.tree_get(new_state, "mu")["w"]
    np.testing.assert_allclose(mean, [0.06, 0.08], rtol=1e-5)  # 0.1 * (0.6, 0.8)


def restormer_rate(step, *, peak, periods, weights, ends):
    """The rate of CosineAnnealingRestartCyclicLR after ``step`` updates, in plain Python."""
    last = [sum(periods[: i + 1]) for i in range(len(periods))]
    cycle = next(i for i, end in enumerate(last) if step <= end)
    start = 0 if cycle == 0 else last[cycle - 1]
    cosine = math.cos(math.pi * (step - start) / periods[cycle])
    return ends[cycle] + weights[cycle] * 0.5 * (peak - ends[cycle]) * (1 + cosine)


@pytest.mark.parametrize(
    ("periods", "weights", "ends"),
    [
        ((10, 25), (1.0, 1.0), (3e-4, 1e-6)),  # the first cycle is constant
        ((4, 4, 8), (1.0, 0.5, 0.25), (1e-7, 1e-6, 0.0)),
        ((16,), (1.0,), (1e-7,)),
    ],
)
def test_cosine_with_restarts(config, periods, weights, ends):
    peak = config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "cosine_restarts"
    config.optimizer.cycle_steps, config.optimizer.cycle_weights = periods, weights
    config.optimizer.cycle_final_fractions = tuple(end / peak for end in ends)
    schedule = make_schedule(config)
    steps = range(sum(periods) + 1)
    expected = [
        restormer_rate(k, peak=peak, periods=periods, weights=weights, ends=ends) for k in steps
    ]
    np.testing.assert_allclose([schedule(k) for k in steps], expected, rtol=2e-4, atol=1e-10)
    assert schedule(sum(periods) + 5) == schedule(sum(periods))


def test_decoupled_weight_decay(config, rng):
    """Three steps of AdamW as its paper has them, in float64."""
    config.optimizer.learning_rate, config.optimizer.beta2 = 0.1, 0.99
    config.optimizer.weight_decay, config.optimizer.clip_norm = 0.5, 0.0
    tx = make_optimizer(config)
    params = {"w": jnp.asarray(rng.normal(size=5), jnp.float32)}
    state, w = tx.init(params), np.asarray(params["w"], np.float64)
    mean = square = np.zeros(5)
    for step in (1, 2, 3):
        gradient = rng.normal(size=5).astype(np.float32)
        updates, state = tx.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient.astype(np.float64) ** 2
        w = w - 0.1 * 0.5 * w
        w -= 0.1 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


def test_decay_of_matrices_alone(config):
    config.optimizer.weight_decay, config.optimizer.decay_vectors = 0.5, False
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    tx = make_optimizer(config)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    rate = float(make_schedule(config)(0))
    np.testing.assert_allclose(updates["kernel"], [[-0.5 * rate]], rtol=1e-5)
    np.testing.assert_array_equal(updates["bias"], [0])


def test_rate_of_offset_layers(config):
    """All layers of offset blocks and deformable convolutions that predict offsets; no other."""
    layers = {
        "offset4": {"offset_conv1": 0.1},
        "dres4": {"dcnpack": {"conv_offset_mask": 0.1, "kernel": 1.0}, "conv1": 1.0},
    }
    params = jax.tree.map(lambda _: jnp.ones(2), layers)
    grads = jax.tree.map(lambda _: jnp.asarray([0.3, -2.0]), layers)

    def update():
        tx = make_optimizer(config)
        return tx.update(grads, tx.init(params), params)[0]

    config.optimizer.clip_norm = 0.5
    plain = update()
    config.optimizer.offset_rate = 0.1
    expected = jax.tree.map(lambda factor, plain: factor * plain, layers, plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), update(), expected)

    network = jax.eval_shape(
        networks.create("sadnet", width=2, offset_width=2, groups=1).init,
        jax.random.key(0),
        jnp.zeros((1, 8, 8, 3)),
    )["params"]
    chosen = traverse_util.flatten_dict(optimizer._predict_offsets(network), sep="/")
    slow = {name.rpartition("/")[0] for name, is_offset in chosen.items() if is_offset}
    blocks = {f"offset{s}/offset_conv{i}" for s in (1, 2, 3, 4) for i in (1, 2, 3)}
    deformable = {f"dres{s}/dcnpack/conv_offset_mask" for s in (1, 2, 3, 4)}
    assert slow == (blocks - {"offset4/offset_conv2"}) | deformable

    with pytest.raises(ConfigError, match="has none; set it to 1"):
        make_optimizer(config).init({"conv": {"kernel": jnp.ones(1)}})
    make_optimizer(config, peak=1e-4).init({"conv": {"kernel": jnp.ones(1)}})
