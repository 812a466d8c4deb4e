"""Training without clean images: what Noise2Noise and Noise2Self show the network and ask of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, losses, networks, sfm
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import create_state, make_train_step
from lcdnet_jax.training.prepare import hidden_pixels, prepare

# Compiled without LLVM's optimisation: these programs run a few times.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

COUNT = 6
N2N = {"objective": "noise2noise"}
N2S = {"objective": "noise2self"}


@pytest.fixture
def config():
    config = tiny.get_config()
    config.data.channels = 1
    config.degradation.sigma_min = 5.0
    config.degradation.sigma_max = 50.0
    return config


def clean_batch(height=10, width=13):
    clean = np.random.default_rng(2).uniform(size=(COUNT, height, width, 1)).astype(np.float32)
    return {"clean": jnp.asarray(clean), "mask": jnp.ones(COUNT)}


def pairs():
    batch = clean_batch()
    return {**batch, "degraded": batch["clean"] + jnp.float32(0.1)}


def prepared(config, batch, *, step=0, **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    config_lib.validate(config)
    result = prepare(batch, config, step=jnp.int32(step), axis_name=None)
    return {key: np.asarray(value) for key, value in result.items()}


def keys_of(config, step):
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    return jnp.stack([jax.random.fold_in(key, place) for place in range(COUNT)])


class TestNoise2Noise:
    def test_input_and_target_are_two_noisy_copies(self, config):
        batch = clean_batch()
        actual = prepared(config, batch, step=3, **N2N)
        assert set(actual) == {"clean", "degraded", "mask"}
        levels = {"sigma_min": 5.0, "sigma_max": 50.0}
        one, other = degradations.noisy_copies(
            keys_of(config, 3), batch["clean"], count=2, **levels
        )
        np.testing.assert_array_equal(actual["degraded"], one)
        np.testing.assert_array_equal(actual["clean"], other)
        # The input is that of supervised training.
        supervised = prepared(config, batch, step=3)
        np.testing.assert_array_equal(actual["degraded"], supervised["degraded"])

    def test_masked_after_noise(self, config):
        batch = clean_batch()
        plain = prepared(config, batch, **N2N)
        masked = prepared(config, batch, **N2N, **{"sfm.rate": 1.0})
        np.testing.assert_array_equal(masked["clean"], plain["clean"])
        keys = jnp.stack([jax.random.fold_in(key, 2) for key in keys_of(config, 0)])
        expected, _ = sfm.mask_images(keys, plain["degraded"], rate=1.0)
        np.testing.assert_allclose(masked["degraded"], expected, atol=1e-6)
        assert np.abs(masked["degraded"] - plain["degraded"]).max() > 0.01

    def test_as_released_the_others_are_black(self, config):
        fields = {"sfm.rate": 0.5, "sfm.unselected": "zero"}
        actual = prepared(config, clean_batch(), **N2N, **fields)
        plain = prepared(config, clean_batch(), **N2N)
        black = ~actual["degraded"].any((1, 2, 3))
        assert 0 < black.sum() < COUNT
        np.testing.assert_array_equal(actual["clean"], plain["clean"])

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"degradation.kind": "none"}, "pairs of two captures are trained on by 'supervised'"),
            ({"degradation.where": "host"}, "set config.degradation.where to 'device'"),
            ({"sfm.rate": 0.5, "sfm.where": "host"}, "set config.sfm.where to 'device'"),
            ({"sfm.rate": 0.5, "sfm.target": "masked"}, "which are not masked; set config.sfm"),
        ],
    )
    def test_refused(self, config, fields, message):
        with pytest.raises(ConfigError, match=message):
            prepared(config, pairs(), **N2N, **fields)


class TestNoise2Self:
    def test_pixels_are_those_of_the_official_masker(self):
        """row % 3 == step % 3 and column % 3 == step // 3 % 3; nine steps hide all once."""
        seen = 0
        for step in range(20):
            actual = np.asarray(hidden_pixels(7, 5, step=jnp.int32(step)))
            expected = np.zeros((7, 5), bool)
            for row in range(7):
                for column in range(5):
                    expected[row, column] = (row % 3, column % 3) == (step % 3, step // 3 % 3)
            np.testing.assert_array_equal(actual[0, :, :, 0], expected)
            seen = seen + expected * (step < 9)
        assert (seen == 1).all()

    @pytest.mark.parametrize("source", ["noise", "pairs", "degraded only", "host"])
    def test_hidden_pixels_are_random_and_the_target_is_the_input(self, config, source):
        batch = pairs() if source in ("pairs", "host") else clean_batch()
        fields = {"noise": {}, "host": {"degradation.where": "host"}}
        given = N2S | fields.get(source, {"degradation.kind": "none"})
        actual = prepared(config, batch, step=4, **given)
        noisy = {
            "noise": prepared(config, clean_batch(), step=4)["degraded"],
            "degraded only": np.asarray(batch["clean"]),
        }.get(source, np.asarray(batch.get("degraded")))
        np.testing.assert_array_equal(actual["clean"], noisy)
        hidden = actual["scored"]
        assert hidden.shape == (COUNT, 10, 13, 1)
        assert (hidden == np.asarray(hidden_pixels(10, 13, step=jnp.int32(4)))).all()
        np.testing.assert_array_equal(actual["degraded"][~hidden], noisy[~hidden])
        drawn = actual["degraded"][hidden]
        assert len(np.unique(drawn)) == drawn.size
        assert 0 <= drawn.min() < 0.1
        assert 0.9 < drawn.max() < 1

    def test_masked_before_pixels_are_hidden(self, config):
        batch = pairs()
        given = {**N2S, "degradation.kind": "none"}
        plain = prepared(config, batch, **given)
        masked = prepared(config, batch, **given, **{"sfm.rate": 1.0})
        np.testing.assert_array_equal(masked["clean"], batch["degraded"])
        hidden = masked["scored"]
        np.testing.assert_array_equal(masked["degraded"][hidden], plain["degraded"][hidden])
        assert np.abs(masked["degraded"] - plain["degraded"])[~hidden].max() > 0.01

    def test_refused(self, config):
        with pytest.raises(ConfigError, match="'noise2self' masks the noisy image"):
            prepared(config, pairs(), **N2S, **{"sfm.rate": 0.5, "sfm.where": "host"})


class Shift(networks.RestorationNetwork):
    """output = input * a + b: the smallest network whose gradients can be written down."""

    channels: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        a = self.param("a", nn.initializers.constant(0.5), ())
        b = self.param("b", nn.initializers.constant(0.25), ())
        return x * a + b


def step_with(config, module, batch, **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    tx = optax.sgd(1.0)
    state = create_state(jax.random.key(0), module, tx, ema=False)
    new, metrics = quick_jit(make_train_step(module, tx, config))(state, batch)
    gradient = jax.tree.map(lambda old, now: float(old - now), state.params, new.params)
    return gradient, float(metrics["loss"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_hidden_pixels_are_compared(config, accumulate):
    batch = clean_batch()
    given = {"objective": "noise2self", "loss": "sse", "accumulate": accumulate}
    seen = prepared(config, batch, **given)
    gradient, loss = step_with(config, Shift(), batch, **given)
    x, y = (seen[k].astype(np.float64)[seen["scored"]] for k in ("degraded", "clean"))
    error = 0.5 * x + 0.25 - y
    np.testing.assert_allclose(loss, 0.5 * (error**2).sum() / COUNT, rtol=1e-5)
    np.testing.assert_allclose(gradient["a"], (error * x).sum() / COUNT, rtol=1e-5)
    np.testing.assert_allclose(gradient["b"], error.sum() / COUNT, rtol=1e-4)


def test_the_dct_loss_is_added_with_its_weight(config):
    batch = clean_batch()
    seen = prepared(config, batch)
    output = 0.5 * seen["degraded"] + np.float32(0.25)
    plain, extra = (f(output, seen["clean"]) for f in (losses.l2, losses.dct_sse))
    _, loss = step_with(config, Shift(), batch, dct_loss_weight=0.3)
    np.testing.assert_allclose(loss, plain + 0.3 * extra, rtol=1e-5)


class Scales(Shift):
    """Gives a coarser image when asked, as LCDNet does."""

    has_scales = True

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None, all_scales=False):
        a = self.param("a", nn.initializers.constant(0.5), ())
        b = self.param("b", nn.initializers.constant(0.25), ())
        finest = x * a + b
        return (finest, finest[:, ::2, ::2]) if all_scales else finest


def test_all_scales_are_compared_where_the_loss_takes_them(config):
    batch = clean_batch(16, 16)
    seen = prepared(config, batch)
    output = 0.5 * seen["degraded"] + np.float32(0.25)
    for loss, expected in (
        ("l1_fft", losses.l1_fft((output, output[:, ::2, ::2]), seen["clean"], fft_weight=0.5)),
        ("l2", losses.l2(output, seen["clean"])),
    ):
        _, actual = step_with(config, Scales(), batch, loss=loss, fft_weight=0.5)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_whole_spectra_need_all_pixels(config):
    with pytest.raises(ConfigError, match="'l1_fft' compares whole spectra"):
        prepared(config, clean_batch(), **N2S, loss="l1_fft")


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


@pytest.mark.parametrize("objective", ["noise2noise", "noise2self"])
def test_denoises_without_clean_images(config, objective):
    """Smooth images in noise; supervised on the noisy image itself, copying would be perfect."""
    ramp = np.linspace(0.3, 0.7, 24, dtype=np.float32)
    clean = np.stack([np.add.outer(ramp, s * ramp) / 2 for s in np.linspace(0, 1, 8)])[..., None]
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
    before, after = (float(jnp.mean((x - clean) ** 2)) for x in (noisy, restored))
    assert after < 0.25 * before


def test_recipes_name_their_variants():
    from configs import sfm_awgn, sfm_microscopy, sfm_n2n, sfm_small

    for module, variant in (
        (sfm_awgn, "unet"), (sfm_awgn, "dncnn:on"), (sfm_n2n, "on"), (sfm_microscopy, "n2v"),
        (sfm_small, "on"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"no variant '{variant}'; use"):
            module.get_config(variant)
    assert isinstance(sfm_microscopy.get_config("n2s").network.kwargs, ConfigDict)
