"""A configuration, batches and steps, for the tests of all objectives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, networks
from lcdnet_jax.training import create_state, make_train_step
from lcdnet_jax.training.step import prepare

# Compiled without LLVM's optimization: these programs run a few times.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

COUNT = 6


@pytest.fixture
def config():
    config = tiny.get_config()
    config.data.channels = 1
    config.degradation.sigma_min = 5.0
    config.degradation.sigma_max = 50.0
    return config


@pytest.fixture
def clean_batch():
    """A function that makes one."""

    def make(height=10, width=13):
        clean = np.random.default_rng(2).uniform(size=(COUNT, height, width, 1)).astype(np.float32)
        return {"clean": jnp.asarray(clean), "mask": jnp.ones(COUNT)}

    return make


@pytest.fixture
def pairs(clean_batch):
    """The same with degraded images."""
    batch = clean_batch()
    return {**batch, "degraded": batch["clean"] + jnp.float32(0.1)}


@pytest.fixture
def prepared(config):
    """A function that makes the network's inputs of a batch."""

    def make(batch, *, step=0, **fields):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(fields)
        config_lib.validate(changed)
        result = prepare(batch, changed, step=jnp.int32(step), axis_name=None)
        return {key: np.asarray(value) for key, value in result.items()}

    return make


@pytest.fixture
def step_with(config):
    """A function that makes one step of SGD, and gives the gradient and the loss."""

    def make(module, batch, **fields):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(fields)
        tx = optax.sgd(1.0)
        state = create_state(jax.random.key(0), module, tx, ema=False)
        new, metrics = quick_jit(make_train_step(module, tx, changed))(state, batch)
        gradient = jax.tree.map(lambda old, now: float(old - now), state.params, new.params)
        return gradient, float(metrics["loss"])

    return make


class Shift(networks.RestorationNetwork):
    """output = input * a + b: the smallest network whose gradients can be written down."""

    channels: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        a = self.param("a", nn.initializers.constant(0.5), ())
        b = self.param("b", nn.initializers.constant(0.25), ())
        return x * a + b


@pytest.fixture
def shift():
    return Shift()


class Smooth(networks.RestorationNetwork):
    """One convolution: a network that could copy its input, but should average."""

    channels: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        kernel = self.param("kernel", nn.initializers.constant(0.0), (3, 3))
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        height, width = x.shape[1:3]
        return sum(
            kernel[i, j] * padded[:, i : i + height, j : j + width]
            for i in range(3)
            for j in range(3)
        )


@pytest.fixture
def errors_before_and_after(config):
    """A function that trains on smooth images in noise, without the clean ones.

    It gives the mean squared errors of noisy and of restored images. Were the target the input
    itself, copying would be perfect.
    """

    def train(objective):
        ramp = np.linspace(0.3, 0.7, 24, dtype=np.float32)
        clean = np.stack([np.add.outer(ramp, s * ramp) / 2 for s in np.linspace(0, 1, 8)])
        clean = clean[..., None]
        batch = {"clean": jnp.asarray(clean), "mask": jnp.ones(8)}
        config.objective = objective
        config.degradation.sigma_min = config.degradation.sigma_max = 40.0
        module, tx = Smooth(), optax.adam(0.02)
        state = create_state(jax.random.key(0), module, tx, ema=False)
        step = quick_jit(make_train_step(module, tx, config))
        with jax.numpy_dtype_promotion("standard"):  # optax
            for _ in range(150):
                state, _ = step(state, batch)
        noisy = degradations.awgn(jax.random.split(jax.random.key(5), 8), clean, sigma=40.0)
        restored = module.apply({"params": state.params}, noisy)
        return tuple(float(jnp.mean((x - clean) ** 2)) for x in (noisy, restored))

    return train
