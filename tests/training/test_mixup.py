"""Mixup: against a slow version in NumPy, its distribution, on several devices, and cut runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.mixup import draw_mixture, mix_images
from lcdnet_jax.training.step import prepare
from tests.training.conv_net import ConvNet

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def batch_of(rng, count=8, padding=0):
    clean, degraded = rng.uniform(size=(2, count, 4, 5, 3)).astype(np.float32)
    mask = np.ones(count, np.float32)
    mask[count - padding :] = 0
    return {"clean": clean, "degraded": degraded[:, :2], "mask": mask}


def mix_slowly(batch, mixture):
    mixed = {"mask": batch["mask"]}
    for name in ("clean", "degraded"):
        images = batch[name].astype(np.float64)
        mixed[name] = np.empty_like(images)
        for i, (weight, partner) in enumerate(zip(*mixture, strict=True)):
            mixed[name][i] = float(weight) * images[i] + (1 - float(weight)) * images[partner]
    return mixed


@pytest.mark.parametrize(
    "groups",
    [pytest.param(1, marks=pytest.mark.extended), 2, pytest.param(3, marks=pytest.mark.extended)],
)
def test_against_a_slow_version(rng, groups):
    """Other seeds, groups and padding; both arrays are mixed alike, whatever their sizes."""
    batch = batch_of(rng, count=8, padding=2)
    options = {"rate": 0.7, "beta": 1.2, "groups": groups}
    for seed in range(5):
        key = jax.random.key(seed)
        mixed = jax.jit(lambda key, batch: mix_images(key, batch, **options))(key, batch)
        mixture = jax.tree.map(np.asarray, draw_mixture(key, jnp.asarray(batch["mask"]), **options))
        assert sorted(mixture.partner) == list(range(8))
        size = 6 // groups
        for i in range(6):
            first = i // size * size
            assert first <= mixture.partner[i] < first + size
            assert mixture.weight[i] == mixture.weight[first]
        assert (mixture.weight[6:] == 1).all()
        expected = mix_slowly(batch, mixture)
        assert mixed.keys() == expected.keys()
        for name, images in expected.items():
            np.testing.assert_allclose(mixed[name], images, rtol=0, atol=2e-7)


@pytest.mark.extended
def test_distribution():
    """Rate, moments of Beta(1.2, 1.2), and every partner equally likely."""
    count = 6
    draw = jax.vmap(
        lambda key: draw_mixture(key, jnp.ones(count), rate=0.4, beta=1.2, groups=2), in_axes=0
    )
    weight, partner = map(np.asarray, jax.jit(draw)(jax.random.split(jax.random.key(1), 20_000)))
    first, second = weight[:, 0], weight[:, 3]
    assert (first < 1).mean() == pytest.approx(0.4, abs=0.015)
    assert ((first < 1) & (second < 1)).mean() == pytest.approx(0.16, abs=0.015)
    drawn = first[first < 1]
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * 1.2 + 1)), abs=0.003)
    for i in range(count):
        shares = np.bincount(partner[:, i], minlength=count) / len(partner)
        group = slice(0, 3) if i < 3 else slice(3, 6)
        np.testing.assert_allclose(shares[group], 1 / 3, atol=0.015)
    always = draw_mixture(jax.random.key(0), jnp.ones(4), rate=1.0, beta=1.2, groups=1)
    assert (np.asarray(always.weight) < 1).all()


def config_for(**fields):
    config = tiny.get_config()
    config.mixup.rate, config.mixup.groups = 0.7, 2
    config.update_from_flattened_dict(fields)
    return config


def test_is_a_function_of_seed_and_step_after_the_noise(rng):
    """The noise is that of a run without mixup, and both arrays are mixed after it is added."""
    clean = {"clean": rng.uniform(size=(8, 4, 4, 3)).astype(np.float32), "mask": np.ones(8)}
    clean = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), clean)

    def prepared(config, step):
        return jax.device_get(prepare(clean, config, step=jnp.int32(step), axis_name=None))

    mixed_steps = 0
    for step in range(12):
        plain, mixed = (
            prepared(config_for(**{"mixup.rate": 0.0}), step),
            prepared(config_for(), step),
        )
        np.testing.assert_array_equal(plain["clean"], clean["clean"])
        noise, mixed_noise = plain["degraded"] - plain["clean"], mixed["degraded"] - mixed["clean"]
        is_mixed = (plain["clean"] != mixed["clean"]).any()
        assert is_mixed == (noise != mixed_noise).any()
        mixed_steps += is_mixed
        jax.tree.map(np.testing.assert_array_equal, mixed, prepared(config_for(), step))
    assert mixed_steps >= 6  # 1 - 0.3 ** 2 of them
    others = [prepared(config_for(seed=1), step)["clean"] for step in range(12)]
    assert any(
        (other != prepared(config_for(), i)["clean"]).any() for i, other in enumerate(others)
    )


@pytest.fixture(scope="module", autouse=True)
def by_name():
    with networks.registered("conv", ConvNet):
        yield


def run(config, workdir, *, steps, devices):
    config = config.copy_and_resolve_references()
    config.steps = steps
    datasets = input_pipeline.create_datasets(config)
    return train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:devices])


def losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.fixture
def runs(noise_photos):
    photos = noise_photos((18, 25, 3), (19, 25, 3), (20, 25, 3))
    config = config_for(**{"batch_size": 8, "data.crop": 16, "log_every": 1, "eval_every": 0})
    config.network = ConfigDict({"name": "conv", "kwargs": {}, "dtype": "float32"})
    config.stages = ConfigDict({"steps": (3, 2), "crops": (8, 16), "batch_sizes": (8, 4)})
    config.eval.panels = 0
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", str(photos)
    return config


@pytest.mark.extended
@pytest.mark.parametrize("where", ["host", pytest.param("device", marks=pytest.mark.slow)])
def test_any_cut_changes_no_bit(runs, tmp_path, where):
    runs.data.where = where
    straight = run(runs, tmp_path / "straight", steps=6, devices=2)
    for steps in (1, 3, 4, 6):
        cut = run(runs, tmp_path / "cut", steps=steps, devices=2)
    jax.tree.map(np.testing.assert_array_equal, straight, cut)
    assert losses(tmp_path / "straight") == losses(tmp_path / "cut")
    runs.mixup.rate = 0.0
    run(runs, tmp_path / "plain", steps=6, devices=2)
    assert losses(tmp_path / "straight") != losses(tmp_path / "plain")


@pytest.mark.extended
@pytest.mark.parametrize("strategy", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_several_devices_give_the_step_of_one(runs, tmp_path, strategy):
    """Partners lie on other devices."""
    runs.mixup.rate = 1.0
    runs.parallel.strategy = strategy
    run(runs, tmp_path / "several", steps=4, devices=4)
    runs.parallel.strategy = "jit"
    run(runs, tmp_path / "one", steps=4, devices=1)
    several, one = (losses(tmp_path / name) for name in ("several", "one"))
    np.testing.assert_allclose(several, one, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mixup.groups": 3}, "config.mixup.groups (3) does not divide batches of 8; choose"),
        ({"mixup.groups": 8}, "config.mixup.groups (8) leaves one image in each group of a batch"),
        (
            {"objective": "noise2self", "loss": "l2"},
            "config.mixup.rate (0.7) is for config.objective 'supervised' or 'noise2noise', not "
            "for 'noise2self'; set it to 0",
        ),
        ({"mixup.rate": 1.5}, "config.mixup.rate must be a number from 0 up to 1"),
        ({"mixup.beta": 0.0}, "config.mixup.beta must be a number of at least 0.001"),
        ({"mixup.groups": 0}, "config.mixup.groups must be an integer of at least 1"),
    ],
)
def test_what_is_refused(fields, message):
    config = config_for(batch_size=8, **fields)
    with pytest.raises(ConfigError) as error:
        config_lib.validate(config)
    assert message in str(error.value)
    config.mixup.rate = 0.0
    if not set(fields) & {"mixup.beta"} and fields.get("mixup.groups") != 0:
        config_lib.validate(config)


def test_stages_are_divided_too():
    config = config_for(**{"batch_size": 8, "data.crop": 16})
    config.stages = ConfigDict({"steps": (3, 2), "crops": (8, 16), "batch_sizes": (8, 2)})
    config_lib.validate(config)  # groups of one image in the last stage, which is not mixed
    config.mixup.groups = 4
    with pytest.raises(ConfigError, match="does not divide batches of 2; choose"):
        config_lib.validate(config)


def test_noise2noise(rng):
    """Both noisy copies are mixed alike."""
    config = config_for(objective="noise2noise", **{"mixup.rate": 1.0, "mixup.groups": 1})
    config_lib.validate(config)
    config.degradation.sigma_min = config.degradation.sigma_max = 0.0
    batch = {"clean": jnp.asarray(rng.uniform(size=(4, 4, 4, 3)), jnp.float32), "mask": jnp.ones(4)}
    mixed = prepare(batch, config, step=jnp.int32(0), axis_name=None)
    np.testing.assert_array_equal(mixed["clean"], mixed["degraded"])
    assert (np.asarray(mixed["clean"]) != np.asarray(batch["clean"])).any()
