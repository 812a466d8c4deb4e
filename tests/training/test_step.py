"""One step, alone. test_sharding.py runs it on several devices, test_sfm.py tests masking."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from lcdnet_jax.training import create_state, make_train_step
from lcdnet_jax.training.step import prepare
from tests.training.conv_net import ConvNet


@pytest.fixture
def config():
    return tiny.get_config()


def batch_of(size=16, count=8):
    """Smooth random images."""
    coarse = np.random.default_rng(0).uniform(size=(count, size // 4, size // 4, 3))
    clean = coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    return {"clean": clean, "mask": np.ones(count, np.float32)}


def step_with(config, module):
    tx = optax.sgd(0.1)  # Adam would hide a wrong scale of the gradients
    state = create_state(jax.random.key(0), module, tx, ema=True)
    return jax.jit(make_train_step(module, tx, config))(state, batch_of())


@pytest.mark.extended
def test_accumulation_gives_the_same_step(config):
    module = ConvNet(norm=False)  # batch statistics are those of the part
    whole, _ = step_with(config, module)
    config.accumulate = 4
    parts, _ = step_with(config, module)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_average_of_the_parameters(config):
    config.ema_decay = 0.15  # from step 1 on below the start's (1 + t) / (10 + t)
    module, tx = ConvNet(), optax.sgd(0.1)
    state = create_state(jax.random.key(0), module, tx, ema=True)
    step = jax.jit(make_train_step(module, tx, config))
    batch = batch_of()
    expected = state.params
    for decay in (1 / 10, 0.15):
        state, _ = step(state, batch)
        expected = jax.tree.map(
            lambda mean, new, d=decay: d * mean + (1 - d) * new, expected, state.params
        )
    for a, b in zip(jax.tree.leaves(state.ema), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_padding_examples_do_not_count(config):
    module = ConvNet()
    tx = optax.sgd(0.1)
    state = create_state(jax.random.key(0), module, tx, ema=False)
    batch = batch_of()
    batch["degraded"] = batch["clean"] * 0.9
    step = jax.jit(make_train_step(module, tx, config))
    other = {k: v.copy() for k, v in batch.items()}
    batch["mask"][-1] = other["mask"][-1] = 0
    other["clean"][-1] = 0.0
    (_, a), (_, b) = step(state, batch), step(state, other)
    assert a["loss"] == b["loss"]
    assert a["psnr"] == b["psnr"]


@pytest.mark.extended
def test_bfloat16_computes_coarsely_and_keeps_float32_state(config):
    exact, _ = step_with(config, ConvNet())
    state, metrics = step_with(config, ConvNet(dtype=jnp.bfloat16))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))
    assert np.isfinite(metrics["loss"])
    differences = [
        float(np.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(exact.params), jax.tree.leaves(state.params), strict=True)
    ]
    assert 0 < max(differences) < 0.05


def test_noise_depends_on_seed_and_step_only(config):
    batch = batch_of()
    clean = {k: jnp.asarray(v) for k, v in batch.items()}

    def noisy(seed, step):
        config.seed = seed
        prepared = prepare(clean, config, step=jnp.int32(step), axis_name=None)
        return np.asarray(prepared["degraded"])

    assert (noisy(0, 3) == noisy(0, 3)).all()
    assert (noisy(0, 3) != noisy(0, 4)).any()
    assert (noisy(0, 3) != noisy(1, 3)).any()
