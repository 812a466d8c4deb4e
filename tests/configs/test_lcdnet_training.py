"""LCDNet learns: a short training of the preset `tiny` takes rain off photographs not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from configs import lcdnet_synthetic_rain
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, metrics
from lcdnet_jax.training import create_state, make_optimizer, make_train_step

CROP, BATCH, STEPS = 32, 4, 60


def crops(photo, rng, count):
    places = rng.integers(0, np.array(photo.shape[:2]) - CROP + 1, (count, 2))
    return np.stack([photo[top : top + CROP, left : left + CROP] for top, left in places])


@pytest.mark.slow
def test_beats_the_degraded_input_on_held_out_crops(rng):
    config = lcdnet_synthetic_rain.get_config("tiny")
    config.degradation.options.rain.kind = ("heavy",)
    config.data.crop, config.batch_size, config.steps = CROP, BATCH, STEPS
    config.optimizer.warmup_steps = 5
    config.ema_decay = 0.0
    config_lib.validate(config)
    module, tx = config_lib.network(config), make_optimizer(config)
    state = create_state(jax.random.key(0), module, tx, ema=False)
    step = jax.jit(make_train_step(module, tx, config), donate_argnums=0)
    photo = np.asarray(skimage.data.astronaut(), np.float32) / 255
    seen, held_out = photo[:, :256], photo[:, 256:]
    for _ in range(STEPS):
        batch = {"clean": crops(seen, rng, BATCH), "mask": np.ones(BATCH, np.float32)}
        state, _ = step(state, batch)

    clean = jnp.asarray(crops(held_out, rng, 16))
    degrade = config_lib.create_degradation(config)
    rainy = degradations.apply_protocol(
        degrade(jax.random.split(jax.random.key(1), 16), clean), "8bit"
    )
    restored = jax.jit(module.apply)(state.variables(), rainy)
    # One image of all crops: some hold a constant only.
    before, after = (
        metrics.psnr(x.reshape(1, -1, CROP, 3), clean.reshape(1, -1, CROP, 3))[0]
        for x in (rainy, restored)
    )
    assert after >= before + 1
