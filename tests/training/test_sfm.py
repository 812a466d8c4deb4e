"""Frequency masking inside the training step: what is masked, what is the target, which keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from scipy import fft, stats

from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, networks, sfm
from lcdnet_jax.training import create_state, make_train_step
from lcdnet_jax.training.step import prepare

# Compiled without LLVM's optimization: these programs run once.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FAILURE = 1e-7  # probability, of each statistical test


@pytest.fixture
def config():
    """Every image masked on the device, noise of sigma 50 after that."""
    config = tiny.get_config()
    config.sfm.rate = 1.0
    return config


def impulses(count=8, size=12, channels=3):
    """Images that hold all frequencies, so that masks can be read off their coefficients."""
    clean = np.zeros((count, size, size, channels), np.float32)
    clean[:, 0, 0] = 1
    return {"clean": jnp.asarray(clean), "mask": jnp.ones(count)}


def masks_in(images, like):
    """Which coefficients are kept, bool ``[N, H, W, C]``; others must be gone."""
    ratio = fft.dctn(images, axes=(1, 2), norm="ortho") / fft.dctn(like, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(ratio, np.rint(ratio), rtol=0, atol=1e-2)
    return np.rint(ratio) == 1


def prepared(config, batch, *, step=0, **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    config_lib.validate(config)
    result = prepare(batch, config, step=jnp.int32(step), axis_name=None)
    assert set(result) == {"clean", "degraded", "mask"}
    return {key: np.asarray(value) for key, value in result.items()}


NOISELESS = {"degradation.sigma_min": 0.0, "degradation.sigma_max": 0.0}


@pytest.mark.parametrize("where", ["device", "host"])
def test_off_means_the_numbers_of_before(config, where):
    batch = impulses()
    off = {"sfm.rate": 0.0, "sfm.where": where, "sfm.unselected": "zero", "sfm.target": "masked"}
    actual = prepared(config, batch, step=7, seed=3, **off, **{"degradation.sigma_min": 10.0})
    key = jax.random.fold_in(jax.random.key(3), 7)
    keys = jnp.stack([jax.random.fold_in(key, place) for place in range(8)])
    expected = degradations.blind_awgn(keys, batch["clean"], sigma_min=10.0, sigma_max=50.0)
    np.testing.assert_array_equal(actual["degraded"], expected)
    np.testing.assert_array_equal(actual["clean"], batch["clean"])


def test_masked_before_noise_with_the_clean_target(config):
    batch = impulses()
    masked = prepared(config, batch, **NOISELESS)
    masks = masks_in(masked["degraded"], batch["clean"])
    assert not masks.all((1, 2, 3)).any()
    assert len({mask.tobytes() for mask in masks}) > 4
    np.testing.assert_array_equal(masks, masks[..., :1].repeat(3, axis=-1))
    np.testing.assert_array_equal(masked["clean"], batch["clean"])
    # Noise comes after, in all frequencies, and is that of a run without masking.
    noisy = prepared(config, batch)
    np.testing.assert_array_equal(noisy["clean"], batch["clean"])
    plain = prepared(config, batch, **{"sfm.rate": 0.0})
    np.testing.assert_allclose(
        noisy["degraded"] - masked["degraded"], plain["degraded"] - plain["clean"], atol=1e-6
    )


def test_masking_does_not_clip_and_the_protocol_does(config, rng):
    batch = impulses()
    batch["clean"] = jnp.asarray(rng.integers(0, 2, (8, 12, 12, 3)).astype(np.float32))
    free = prepared(config, batch, **NOISELESS)["degraded"]
    assert free.min() < -0.1
    assert free.max() > 1.1
    clipped = prepared(config, batch, **NOISELESS, **{"degradation.protocol": "clipped"})
    np.testing.assert_array_equal(clipped["degraded"], free.clip(0, 1))


def test_unselected_images_and_masked_targets(config):
    batch = impulses()
    fields = {"sfm.rate": 0.5, "degradation.sigma_max": 20.0, "degradation.sigma_min": 20.0}
    clean = np.asarray(batch["clean"])
    keep = prepared(config, batch, **fields, **{"sfm.target": "masked"})
    zero = prepared(config, batch, **fields, **{"sfm.target": "masked", "sfm.unselected": "zero"})
    black = ~zero["clean"].any((1, 2, 3))
    assert 0 < black.sum() < 8
    np.testing.assert_array_equal(keep["clean"][black], clean[black])
    np.testing.assert_allclose(keep["clean"][~black], zero["clean"][~black], atol=1e-6)
    assert (np.abs(keep["clean"] - clean)[~black].max((1, 2, 3)) > 1e-3).all()
    # The target is what noise was added to; with a clean target only that changes.
    for kind, both in (("keep", keep), ("zero", zero)):
        noise = 255 * (both["degraded"] - both["clean"])
        assert abs(noise.std() - 20) < 5.5 * 20 / np.sqrt(2 * noise.size)
        other = prepared(config, batch, **fields, **{"sfm.unselected": kind})
        np.testing.assert_array_equal(other["degraded"], both["degraded"])
        np.testing.assert_array_equal(other["clean"], clean)


def test_of_pairs_the_degraded_half_is_masked(config):
    """As it is: no noise, no clipping."""
    batch = impulses()
    batch["degraded"] = 3 * batch["clean"][:, ::-1, ::-1]
    pairs = prepared(config, batch, **{"degradation.kind": "none"})
    np.testing.assert_array_equal(pairs["clean"], batch["clean"])
    masks = masks_in(pairs["degraded"], batch["degraded"])
    # By the same masks as noise would find.
    alone = prepared(config, impulses(), **NOISELESS)["degraded"]
    np.testing.assert_array_equal(masks, masks_in(alone, batch["clean"]))


@pytest.mark.extended
@pytest.mark.parametrize("mode", ["targeted", "random"])
def test_laws(config, mode):
    """How often each coefficient is masked, of all images and steps."""
    center, sigma, rate, count, size = 0.7, 0.2, 0.4, 2000, 8
    batch = impulses(count, size, 1)
    options = {"sfm.mode": mode, "sfm.center": center, "sfm.sigma": sigma, "sfm.rate": rate}
    images = [prepared(config, batch, step=s, **options, **NOISELESS) for s in range(2)]
    images = np.concatenate([each["degraded"] for each in images])[..., 0]
    masks = masks_in(images[..., None], np.asarray(batch["clean"])[:1])[..., 0]
    share = np.hypot(*np.indices((size, size))) / np.hypot(size, size)
    law = {
        "targeted": 2 * stats.norm.sf(np.abs(share - center) / sigma),
        "random": np.full_like(share, 0.5),
    }[mode]
    bound = np.sqrt(np.log(2 * size**2 / FAILURE) / (2 * 2 * count))  # Hoeffding, all at once
    np.testing.assert_allclose((~masks).mean(0), rate * law, rtol=0, atol=bound)


def test_masks_are_a_function_of_seed_step_and_place(config):
    batch = impulses()

    def masked(seed, step):
        return prepared(config, batch, step=step, seed=seed, **NOISELESS)["degraded"]

    np.testing.assert_array_equal(masked(0, 3), masked(0, 3))
    assert (masked(0, 3) != masked(0, 4)).any((1, 2, 3)).sum() > 4
    assert (masked(0, 3) != masked(1, 3)).any((1, 2, 3)).sum() > 4


def test_no_key_is_used_twice(config, monkeypatch):
    """Selections, masks, levels and noise, of several steps."""
    seen = []

    def record(keys, images, **options):
        for some in (keys, jax.vmap(jax.random.split)(keys)):
            seen.extend(map(bytes, np.asarray(jax.random.key_data(some)).reshape(-1, 2)))
        return images

    monkeypatch.setattr(degradations, "blind_awgn", record)
    monkeypatch.setattr(sfm, "mask_images", lambda *a, **k: (record(*a, **k), None))
    for step in range(3):
        prepared(config, impulses(), step=step)
    assert len(seen) == 3 * 8 * 2 * 3
    assert len(set(seen)) == len(seen)


@pytest.mark.extended
@pytest.mark.parametrize("spread", ["jit", "sharded", "pmap"])
def test_devices_give_the_numbers_of_one(config, spread, rng):
    config.sfm.rate = 0.5
    batch = impulses()
    batch["clean"] = jnp.asarray(rng.random((8, 12, 12, 3), np.float32))
    expected = prepared(config, batch)["degraded"]
    stage = functools.partial(prepare, config=config)
    if spread == "pmap":
        parts = jax.tree.map(lambda x: x.reshape(8, 1, *x.shape[1:]), batch)
        stage = jax.pmap(
            functools.partial(stage, step=jnp.int32(0), axis_name="data"), axis_name="data"
        )
        actual = stage(parts)["degraded"].reshape(expected.shape)
    else:
        if spread == "sharded":
            mesh = jax.make_mesh((8,), ("data",))
            batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        stage = functools.partial(stage, axis_name=None)
        actual = quick_jit(lambda batch, step: stage(batch, step=step))(batch, jnp.int32(0))
        actual = actual["degraded"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", ["clean", "masked"])
def test_noise_on_what_the_host_has_masked(config, target):
    batch = impulses()
    source = 0.5 * batch["clean"] - 0.1
    fields = {"sfm.where": "host", "sfm.target": target}
    given = {"clean": source} if target == "masked" else {"to_degrade": source}
    actual = prepared(config, {**batch, **given}, **fields)
    plain = prepared(config, {**batch, "clean": source}, **{"sfm.rate": 0.0})
    np.testing.assert_array_equal(actual["degraded"], plain["degraded"])
    np.testing.assert_array_equal(actual["clean"], given.get("clean", batch["clean"]))


@pytest.mark.parametrize("kind", ["awgn", "none"])
def test_what_the_host_has_degraded_is_left_alone(config, kind):
    batch = impulses()
    batch["degraded"] = 0.5 * batch["clean"]
    where = {"sfm.where": "host", "degradation.where": "host", "degradation.kind": kind}
    actual = prepared(config, batch, **where)
    np.testing.assert_array_equal(actual["degraded"], batch["degraded"])


def test_batches_that_do_not_suit(config):
    batch = impulses()
    with pytest.raises(ValueError, match=r"have no 'to_degrade' images, which config\.sfm"):
        prepared(config, batch, **{"sfm.where": "host"})
    with pytest.raises(ValueError, match=r"have 'degraded' images, but config\.sfm .*'device'"):
        prepared(config, {**batch, "degraded": batch["clean"]})


@pytest.mark.extended
def test_a_step_learns_from_masked_images(config, rng):
    """It makes the step that it would make with images masked by the host."""

    class Gain(networks.RestorationNetwork):
        channels: int = 3

        @nn.compact
        def __call__(self, x, *, train=False, axis_name=None):
            return x * self.param("gain", nn.initializers.ones, ())

    tx = optax.sgd(0.1)
    state = create_state(jax.random.key(0), Gain(), tx, ema=False)
    config.loss = "l1"  # in l2 a projection of the target is as good as the target
    batch = impulses()
    batch["clean"] = jnp.asarray(rng.random((8, 12, 12, 3), np.float32))
    results = {}
    masked = prepared(config, batch, **NOISELESS)["degraded"]
    for name, rate, where, given in [
        ("device", 1.0, "device", batch),
        ("host", 1.0, "host", {**batch, "to_degrade": jnp.asarray(masked)}),
        ("off", 0.0, "device", batch),
    ]:
        config.sfm.rate, config.sfm.where, config.accumulate = rate, where, 2
        step = quick_jit(make_train_step(Gain(), tx, config))
        results[name] = step(state, given)[0].params["gain"]
    assert results["device"] == pytest.approx(float(results["host"]), abs=1e-6)
    assert results["device"] != pytest.approx(float(results["off"]), abs=1e-4)
