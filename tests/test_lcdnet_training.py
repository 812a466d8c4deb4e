"""LCDNet learns: a short training of the preset `tiny` takes rain off photographs not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from configs import lcdnet_synthetic_rain
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, metrics
from lcdnet_jax.training import make_optimizer, make_train_step
from lcdnet_jax.training.state import abstract_state

CROP, BATCH, STEPS = 32, 4, 60


def crops(photo, rng, count):
    places = rng.integers(0, np.array(photo.shape[:2]) - CROP + 1, (count, 2))
    return np.stack([photo[top : top + CROP, left : left + CROP] for top, left in places])


def fresh_state(module, tx, rng):
    """As ``create_state`` gives it, without the minute that compiling it takes."""

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), jnp.float32)
        return jnp.full(leaf.shape, float(path[-1].key == "scale"), jnp.float32)

    shapes = abstract_state(module, tx, ema=False)
    params = jax.tree_util.tree_map_with_path(draw, shapes.params)
    return shapes.replace(step=jnp.int32(0), params=params, opt_state=tx.init(params))


@pytest.mark.slow
def test_beats_the_degraded_input_on_held_out_crops(rng):
    config = lcdnet_synthetic_rain.get_config("tiny")
    config.degradation.options.rain.kind = ("heavy",)
    config.data.crop, config.batch_size, config.steps = CROP, BATCH, STEPS
    config.optimizer.warmup_steps = 5
    config.ema_decay = 0.0
    config_lib.validate(config)
    module, tx = config_lib.network(config), make_optimizer(config)
    state = fresh_state(module, tx, rng)
    step = jax.jit(make_train_step(module, tx, config), donate_argnums=0)
    photo = np.asarray(skimage.data.astronaut(), np.float32) / 255
    seen, held_out = photo[:, :256], photo[:, 256:]
    for _ in range(STEPS):
        batch = {"clean": crops(seen, rng, BATCH), "mask": np.ones(BATCH, np.float32)}
        state, _ = step(state, batch)

    clean = jnp.asarray(crops(held_out, rng, 16))
    degrade = config_lib.degradation(config)
    rainy = degradations.as_stored(degrade(jax.random.split(jax.random.key(1), 16), clean), "8bit")
    restored = jax.jit(module.apply)(state.variables(), rainy)
    # One image of all crops: some hold a constant only.
    before, after = (
        metrics.psnr(x.reshape(1, -1, CROP, 3), clean.reshape(1, -1, CROP, 3))[0]
        for x in (rainy, restored)
    )
    assert after >= before + 1
