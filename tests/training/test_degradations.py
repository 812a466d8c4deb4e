"""Degradations by name: from a configuration to training batches and to scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import input_pipeline
from configs import tiny
from lcdnet_jax import Restorer, degradations, image_io, networks, protocols
from lcdnet_jax import config as config_lib
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.step import prepare

MOTION = {"degradation.kind": "motion", "degradation.options": {"motion": {"length": (3.0, 6.0)}}}


@pytest.fixture(autouse=True)
def quick_jit(monkeypatch):
    """Compiles without LLVM's optimization: these programs run once or twice."""
    options = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))


def config_with(**fields):
    config = tiny.get_config()
    config.update_from_flattened_dict(fields)
    return config


def error_of(**fields):
    with pytest.raises(config_lib.ConfigError) as caught:
        config_lib.validate(config_with(**fields))
    return str(caught.value)


class TestFromKind:
    @pytest.mark.extended
    def test_is_the_function_with_its_options(self, rng):
        keys = jax.random.split(jax.random.key(3), 2)
        images = jnp.asarray(rng.uniform(size=(2, 20, 17, 3)), jnp.float32)
        options = {"jpeg": {"quality": (30, 30)}, "motion": {"length": (5.0, 5.0), "gamma": 1.0}}

        def one_by_one(keys, images):
            fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))
            first, second = (fold_in(keys, i) for i in range(2))
            blurred = degradations.motion_blur(first, images, length=(5.0, 5.0), gamma=1.0)
            return degradations.random_jpeg(second, blurred, quality=(30, 30))

        result = jax.jit(degradations.from_kind("motion+jpeg", options))(keys, images)
        np.testing.assert_array_equal(result, jax.jit(one_by_one)(keys, images))

    @pytest.mark.parametrize("kind", sorted(set(degradations.KINDS) - {"low_resolution"}))
    def test_every_kind_works_without_options(self, kind, rng):
        images = jnp.asarray(rng.uniform(size=(1, 9, 24, 3)), jnp.float32)
        degrade = jax.jit(degradations.from_kind(kind, {}))
        result = degrade(jax.random.split(jax.random.key(0), 1), images)
        assert result.shape == (1, 9, 24, 6 if kind == "dual_pixel" else 3)
        assert not np.array_equal(result[..., :3], images)

    @pytest.mark.parametrize(
        ("kind", "options", "message"),
        [
            ("blur", {}, "no degradation 'blur'; use camera, defocus"),
            ("motion+", {}, "no degradation ''"),
            ("jpeg+jpeg", {}, "names one twice"),
            ("jpeg", {"rain": {}}, "options of 'rain', which is not in 'jpeg'; remove them"),
            ("jpeg", {"jpeg": 5}, "the options of 'jpeg' are 5; give a mapping"),
        ],
    )
    def test_mistakes(self, kind, options, message):
        with pytest.raises(ValueError, match=message):
            degradations.from_kind(kind, options)


@pytest.mark.extended
def test_one_of_several_rains_for_each_image(rng):
    keys = jax.random.split(jax.random.key(1), 40)
    images = jnp.asarray(rng.uniform(0, 0.5, (40, 6, 6, 1)), jnp.float32)
    dry = degradations.Rain(
        layers=1, coverage=(0, 0), length=(2, 2), width=(1, 1), brightness=(0, 0)
    )
    white = degradations.Rain(**{**vars(dry), "transmission": (0, 0), "airlight": (1, 1)})
    rainy = np.asarray(
        jax.jit(degradations.rain, static_argnames="kind")(keys, images, kind=(dry, white))
    )
    kept = (rainy == np.asarray(images)).all(axis=(1, 2, 3))
    assert ((rainy == 1).all(axis=(1, 2, 3)) != kept).all()
    assert 8 <= kept.sum() <= 32  # binomial: outside with a probability of 1e-4
    # Neither the other images nor the other kinds change what an image draws.
    add = jax.jit(degradations.rain, static_argnames="kind")
    keys, images = keys[:6], images[:6]
    both, alone = (
        add(keys, images, kind=("light", "heavy")),
        [add(keys, images, kind=kind) for kind in ("light", "heavy")],
    )
    for i in range(6):
        assert any(np.array_equal(both[i], one[i]) for one in alone)


class TestPrepare:
    def batch(self, rng):
        clean = rng.uniform(size=(4, 16, 16, 3)).astype(np.float32)
        return {"clean": jnp.asarray(clean), "mask": jnp.ones(4)}

    @pytest.mark.extended
    @pytest.mark.parametrize("protocol", ["float", "8bit"])
    def test_degraded_by_children_of_the_images_keys(self, rng, protocol):
        batch = self.batch(rng)
        config = config_with(**MOTION, **{"degradation.protocol": protocol, "seed": 5})
        config_lib.validate(config)
        result = prepare(batch, config, step=jnp.int32(7), axis_name=None)
        key, fold_in = jax.random.fold_in(jax.random.key(5), 7), jax.random.fold_in
        children = jnp.stack([fold_in(fold_in(fold_in(key, i), 4), 0) for i in range(4)])
        blurred = degradations.motion_blur(children, batch["clean"], length=(3.0, 6.0))
        expected = degradations.apply_protocol(blurred, protocol)
        np.testing.assert_allclose(result["degraded"], expected, atol=1e-6)
        np.testing.assert_array_equal(result["clean"], batch["clean"])

    def test_several_protocols_are_drawn_for_each_image(self, rng):
        batch = {"clean": jnp.asarray(rng.uniform(size=(64, 4, 4, 3)).astype(np.float32))}
        noise = {"degradation.sigma_min": 50.0, "seed": 5}

        def degraded(protocol, step):
            config = config_with(**noise, **{"degradation.protocol": protocol})
            config_lib.validate(config)
            result = prepare(batch, config, step=jnp.int32(step), axis_name=None)
            return np.asarray(result["degraded"])

        names = ("float", "8bit")
        alone = np.stack([degraded(name, 3) for name in names])
        assert (alone[0] != alone[1]).any(axis=(1, 2, 3)).all()
        both = degraded("float,8bit", 3)
        same = (both == alone).all(axis=(2, 3, 4))
        assert (same.sum(axis=0) == 1).all()
        assert 20 < same[0].sum() < 44
        assert (both == degraded("float,8bit", 3)).all()
        again = (degraded("float,8bit", 4) == degraded("float", 4)).all(axis=(1, 2, 3))
        assert (again != same[0]).any()

    @pytest.mark.extended
    def test_masked_before_it_is_degraded(self, rng):
        batch = self.batch(rng)
        # A path of length 0 leaves the image as it is: what is left is the mask.
        still = {"motion": {"length": (0.0, 0.0), "gamma": 1.0}}
        config = config_with(**MOTION | {"degradation.options": still, "sfm.rate": 1.0})
        result = prepare(batch, config, step=jnp.int32(0), axis_name=None)
        noise = {"degradation.sigma_min": 0.0, "degradation.sigma_max": 0.0, "sfm.rate": 1.0}
        masked = prepare(batch, config_with(**noise), step=jnp.int32(0), axis_name=None)
        assert abs(np.asarray(masked["degraded"] - batch["clean"])).max() > 0.01
        np.testing.assert_allclose(result["degraded"], masked["degraded"], atol=1e-6)


class TestConfig:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"degradation.kind": "blur"}, "config.degradation.kind must be 'awgn', 'none', or"),
            ({"degradation.kind": "motion+none"}, "config.degradation.kind must be"),
            (
                {"degradation.kind": "motion", "degradation.options": {"rain": {}}},
                "config.degradation.options: there are options of 'rain', which is not in 'motion'",
            ),
            (
                {"degradation.kind": "motion", "degradation.options": {"motion": {"length": 4.0}}},
                "config.degradation.options: length is 4.0; use two numbers",
            ),
            (
                {"degradation.kind": "motion", "degradation.options": {"motion": {"size": 4.0}}},
                "config.degradation.options: 'motion' has no option 'size'; use length, ",
            ),
            (
                {"degradation.options": {"motion": {"length": (4.0, 5.0)}}},
                "are of other kinds than 'awgn'; remove them",
            ),
            ({**MOTION, "degradation.where": "host"}, "config.degradation.where to 'device'"),
            ({**MOTION, "degradation.spectrum": "low"}, "kind 'motion' adds none"),
            ({**MOTION, "objective": "noise2self"}, "set it to 'supervised'"),
            ({**MOTION, "objective": "noise2noise"}, "the objective to 'supervised'"),
            (
                {
                    "degradation.kind": "rain",
                    "degradation.options": {"rain": {"kind": degradations.RAINS["light"]}},
                },
                "Rain is not JSON serializable",
            ),
            (
                {"degradation.kind": "rain", "degradation.options": {"rain": {"kind": ["light"]}}},
                "no rain ['light']; use one of",
            ),
            ({"degradation.kind": "dual_pixel"}, "gives images of 6 channels, but"),
            (
                {"degradation.kind": "motion", "data.channels": 6, "network.name": "lcdnet"},
                "gives images of 3 channels, but config.data.channels is 6; add dual_pixel",
            ),
            (
                {"degradation.kind": "dual_pixel+camera", "data.channels": 6},
                "expected 1 or 3 channels, got 6",
            ),
        ],
        ids=str,
    )
    def test_mistakes(self, fields, message):
        assert message in error_of(**fields)

    def test_pairs_use_no_options(self):
        config = config_with(**{**MOTION, "degradation.kind": "none"})
        config.degradation.options.low_resolution = {"scale": 2, "pool": "nowhere"}
        config_lib.validate(config)
        config_lib.check_kernels(config)

    def test_two_views_of_clean_images(self):
        config = config_with(**{"degradation.kind": "dual_pixel", "data.channels": 6})
        config.network.name, config.network.kwargs = "lcdnet", {"preset": "tiny"}
        config_lib.validate(config)
        config.data.eval.split = "train"
        datasets = input_pipeline.create_datasets(config)
        batch = next(datasets["train"].batches())
        assert batch["clean"].shape == (8, 16, 16, 3)
        prepared = functools.partial(prepare, config=config, step=jnp.int32(0), axis_name=None)
        assert jax.eval_shape(prepared, batch)["degraded"].shape == (8, 16, 16, 6)
        assert next(iter(datasets["eval"]))["clean"].shape[-1] == 3

    def test_survives_being_stored(self, tmp_path):
        config = config_with(**MOTION)
        config_lib.save(config, tmp_path / "config.json")
        stored = config_lib.load(tmp_path / "config.json")
        assert stored.degradation.options.motion.length == (3.0, 6.0)
        assert config_lib.differences(stored, config) == []
        config.degradation.options.motion.length = (3.0, 7.0)
        assert "config.degradation.options" in config_lib.differences(stored, config)[0]
        config_lib.validate(stored)


class Same(networks.RestorationNetwork):
    """Gives its input back; of two views the left one."""

    channels: int = 3
    two_views = True

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x[..., :3]


class TestEvaluation:
    def evaluator(self, kind="motion", options=None, **more):
        degradation = degradations.from_kind(kind, options or {"motion": {"length": (3.0, 6.0)}})
        protocol = protocols.get("8bit").with_degradation(kind)
        return Evaluator(protocol, degradation=degradation, **more)

    def examples(self, rng):
        sizes = {"a": (20, 33), "b": (33, 20), "c": (20, 33)}
        return [
            {"name": name, "clean": rng.uniform(size=(*size, 3)).astype(np.float32)}
            for name, size in sizes.items()
        ]

    @pytest.mark.extended
    def test_degraded_by_name_and_seed_alone(self, rng):
        examples = self.examples(rng)
        restorer = Restorer(Same(), {})
        scored = list(self.evaluator().score_images(restorer, examples))
        again = list(self.evaluator().score_images(restorer, examples[::-1]))[::-1]
        other = list(self.evaluator(seed=1).score_images(restorer, examples))
        for one, same, differing in zip(scored, again, other, strict=True):
            np.testing.assert_array_equal(one.degraded, same.degraded)
            assert one.psnr == pytest.approx(one.input_psnr)
            assert not np.array_equal(one.degraded, differing.degraded)
            steps = one.degraded * 255
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert not np.array_equal(scored[0].degraded, scored[2].degraded)

    def test_two_views(self, rng):
        evaluator = self.evaluator("dual_pixel", {"dual_pixel": {"radius": (2.0, 2.0)}})
        (one,) = evaluator.score_images(Restorer(Same(channels=6), {}), self.examples(rng)[:1])
        assert one.restored.shape == one.degraded.shape == (20, 33, 3)
        assert one.psnr != one.input_psnr  # the left view, and the mean of both

    def test_the_protocol_tells(self):
        protocol = self.evaluator().protocol
        assert protocol.name == "motion-8bit"
        assert protocol.describe().startswith(
            "motion-8bit: synthetic motion, rounded to 8 bits; output clipped to [0, 1] and rounded"
        )

    def test_mistakes(self, rng):
        with pytest.raises(ValueError, match="protocol 'motion-8bit' adds no noise; leave sigma"):
            list(self.evaluator().score_images(Restorer(Same(), {}), self.examples(rng), sigma=5.0))
        with pytest.raises(ValueError, match="with_degradation with a function"):
            Evaluator(protocols.get("8bit").with_degradation("motion"))
        with pytest.raises(ValueError, match="with_degradation with a function"):
            Evaluator(protocols.get("8bit"), degradation=degradations.from_kind("rain", {}))
        with pytest.raises(ValueError, match="'pairs' degrades nothing"):
            protocols.get("pairs").with_degradation("rain")


@pytest.mark.extended
def test_trains_on_a_folder_of_clean_images(tmp_path, rng):
    (tmp_path / "data").mkdir()
    for i in range(2):
        picture = rng.integers(0, 256, (24, 30, 3)).astype(np.uint8)
        image_io.write(tmp_path / "data" / f"{i}.png", picture)
    fields = {
        **MOTION,
        "network.name": "dncnn",
        "steps": 2,
        "loss": "l1_fft",
        "ema_decay": 0.0,
    }
    config = config_with(**fields)
    config.network.kwargs = {"depth": 3, "features": 4}
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "folder", str(tmp_path / "data")
    datasets = input_pipeline.create_datasets(config)
    train_and_evaluate(config, tmp_path / "run", datasets=datasets)
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert '"eval/psnr"' in log
