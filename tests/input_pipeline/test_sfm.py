"""Frequency masking on the host: the device's maths and laws, and its place in the pipeline."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from flax import linen as nn
from ml_collections import ConfigDict
from scipy import fft, stats

import input_pipeline
from configs import tiny
from input_pipeline import tf_ops
from lcdnet_jax import image_io, networks, sfm
from lcdnet_jax.training import train_and_evaluate

FAILURE = 1e-7  # probability, of each statistical test
SEED = np.array([3, 5], np.int64)


def draws(function, count):
    """Results for the seeds (3, 0), (3, 1), ..."""
    numbers = tf.data.Dataset.range(count)
    results = numbers.map(lambda i: function(tf.stack([tf.constant(3, tf.int64), i])))
    return next(results.batch(count).as_numpy_iterator())


# The ops


@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 14, 1), (1, 7, 3)])
def test_masks_and_masking_equal_those_of_the_device(rng, shape):
    image = rng.random(shape, np.float32)
    for inner, outer in [(2.0, 5.0), (0.0, 1.0), (-0.5, 3.3), (5.0, 99.0), (4.0, 4.0)]:
        mask = tf_ops.band_mask(*shape[:2], tf.constant(inner), tf.constant(outer))
        expected = sfm.band_mask(*shape[:2], inner, outer)
        np.testing.assert_array_equal(mask, expected)
        masked = tf_ops.apply_mask(tf.constant(image), mask)
        np.testing.assert_allclose(masked, sfm.apply_mask(image, expected), rtol=0, atol=1e-5)


def test_turning_and_masking_may_change_places(rng):
    """Of square crops, so that masking after augmentation says no less than before it."""
    image = tf.constant(rng.random((8, 8, 3), np.float32))
    mask = tf_ops.band_mask(8, 8, tf.constant(3.5), tf.constant(6.0))
    for choices in itertools.product([False, True], repeat=3):
        turned = tf_ops.apply_mask(tf_ops.orient(image, tf.constant(choices)), mask)
        expected = tf_ops.orient(tf_ops.apply_mask(image, mask), tf.constant(choices))
        np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", sfm.MODES)
def test_laws_of_masks(mode):
    """How often each coefficient is masked: the laws that the device's masks follow."""
    center, sigma, count, shape = 0.7, 0.2, 6000, (8, 11)
    masks = draws(
        lambda seed: tf_ops.draw_mask(*shape, seed, mode=mode, center=center, sigma=sigma), count
    )
    assert set(np.unique(masks)) == {0, 1}
    share = np.hypot(*np.indices(shape)) / np.hypot(*shape)
    law = {
        "targeted": 2 * stats.norm.sf(np.abs(share - center) / sigma),
        "uniform": 2 * share * (1 - share),
        "random": np.full(shape, 0.5),
    }[mode]
    bound = np.sqrt(np.log(2 * share.size / FAILURE) / (2 * count))  # Hoeffding, all at once
    np.testing.assert_allclose(1 - masks.mean(0), law, rtol=0, atol=bound)


def test_selection(rng):
    """At its rate, whatever the mask will be; the others are kept to the bit, or black."""
    count, rate = 6000, 0.3
    image = np.zeros((4, 4, 1), np.float32)
    image[0, 0] = 1  # every band changes it
    options = {"rate": rate, "mode": "random"}
    keep, zero = (
        draws(
            lambda s, u=u: tf_ops.mask_frequencies(tf.constant(image), s, unselected=u, **options),
            count,
        )
        for u in ("keep", "zero")
    )  # fmt: skip
    kept = (keep == image).all((1, 2, 3))
    bound = np.sqrt(np.log(2 / FAILURE) / (2 * count))
    assert 1 - kept.mean() == pytest.approx(rate, abs=bound)
    assert not zero[kept].any()
    np.testing.assert_array_equal(keep[~kept], zero[~kept])
    # The mean of a selected image survives half of the time.
    alive = np.abs(keep[~kept].sum((1, 2, 3))) > 0.5
    assert alive.mean() == pytest.approx(0.5, abs=np.sqrt(np.log(2 / FAILURE) / (2 * len(alive))))


def test_masking_is_not_clipped_and_channels_share_a_mask():
    image = np.zeros((10, 10, 3), np.float32)
    image[0, 0] = [1, 0.5, 0.25]
    options = {"rate": 1.0, "center": 0.6, "sigma": 0.3}
    masked = tf_ops.mask_frequencies(tf.constant(image), tf.constant(SEED), **options).numpy()
    assert masked.dtype == np.float32
    assert masked.min() < 0
    ratio = fft.dctn(masked, axes=(0, 1), norm="ortho") / fft.dctn(image, axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(ratio, np.rint(ratio[..., :1]).repeat(3, -1), rtol=0, atol=1e-2)
    assert set(np.unique(np.rint(ratio))) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, r"rate 1\.5 is no probability; use 0 to 1"),
        ({"rate": 0.5, "mode": "central"}, "no mode 'central'; use one of targeted"),
        ({"rate": 0.5, "unselected": "black"}, "no unselected 'black'; use one of keep, zero"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tf_ops.mask_frequencies(tf.zeros([4, 4, 1]), tf.constant(SEED), **options)


# The pipeline

ON = {"sfm.rate": 0.5, "sfm.where": "host"}
NOISE = {"degradation.where": "host"}
NOISELESS = {**NOISE, "degradation.sigma_min": 0.0, "degradation.sigma_max": 0.0}


@pytest.fixture
def images(tmp_path, config, fill):
    config.data.train.path = str(tmp_path)
    return fill(tmp_path, {f"{k}.png": (16, 20, 3) for k in range(4)})


def create(config, **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    return input_pipeline.create_dataset(config, "train")


def first(config, **fields):
    batches = create(config, batch_size=16, **fields).batches()
    batch = next(batches)
    batches.close()
    return batch


def test_streams_of_random_numbers_are_those_of_earlier_runs(config, images):
    """Batches of runs without masking stay what they were."""
    assert create(config)._streams[:4] == [
        3948308845846928943,
        1459132311362927889,
        4298829809192954015,
        1645606736464176184,
    ]


def test_masked_after_the_crop_and_before_noise(config, images):
    plain, noisy = first(config), first(config, **NOISE)
    device = first(config, **ON)
    assert set(device) == {"clean", "to_degrade", "mask"}
    np.testing.assert_array_equal(device["clean"], plain["clean"])
    change = np.abs(device["to_degrade"] - plain["clean"]).max((1, 2, 3))
    assert 0 < (change == 0).sum() < 16
    before, after = (
        fft.dctn(x.astype(np.float64), axes=(1, 2), norm="ortho")
        for x in (plain["clean"], device["to_degrade"])
    )
    gone = (np.abs(after) < 1e-5) & (np.abs(before) > 1e-5)
    np.testing.assert_allclose(after, np.where(gone, 0, before), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(gone.any((1, 2, 3)), change > 0)
    # With noise on the host, too: the same masks, then the noise of a run without masking.
    host = first(config, **ON, **NOISE)
    assert set(host) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(host["clean"], plain["clean"])
    noise = noisy["degraded"] - noisy["clean"]
    np.testing.assert_allclose(host["degraded"] - device["to_degrade"], noise, atol=1e-6)
    quiet = first(config, **ON, **NOISELESS)
    np.testing.assert_array_equal(quiet["degraded"], device["to_degrade"])
    clipped = first(config, **ON, **NOISELESS, **{"degradation.protocol": "clipped"})
    np.testing.assert_array_equal(clipped["degraded"], device["to_degrade"].clip(0, 1))


def test_masks_and_noise_levels_know_nothing_of_each_other(config, images):
    fields = {**NOISE, "degradation.sigma_min": 0.0, "degradation.sigma_max": 50.0}
    target = {"sfm.target": "masked"}
    config.batch_size = 64
    batches = [
        next(create(config, **each).batches()) for each in (fields, {**ON, **fields, **target})
    ]
    levels = (batches[1]["degraded"] - batches[1]["clean"]).std((1, 2, 3))
    selected = (batches[1]["clean"] != batches[0]["clean"]).any((1, 2, 3))
    # 5.3 standard deviations; one key for both would give 0.87.
    assert abs(np.corrcoef(levels, selected)[0, 1]) < 0.66


def test_unselected_and_target(config, images):
    keep = first(config, **ON)
    zero = first(config, **ON, **{"sfm.unselected": "zero"})
    black = (keep["to_degrade"] == keep["clean"]).all((1, 2, 3))
    assert not zero["to_degrade"][black].any()
    np.testing.assert_array_equal(zero["to_degrade"][~black], keep["to_degrade"][~black])
    np.testing.assert_array_equal(zero["clean"], keep["clean"])
    target = {"sfm.target": "masked"}
    for batch, keys in (
        (first(config, **ON, **target), {"clean", "mask"}),
        (first(config, **ON, **target, **NOISELESS), {"clean", "degraded", "mask"}),
    ):
        assert set(batch) == keys
        for key in keys - {"mask"}:
            np.testing.assert_array_equal(batch[key], keep["to_degrade"])


def test_masking_left_to_the_device_and_none(config, images):
    for fields in ({"sfm.rate": 0.5}, {"sfm.where": "host"}):
        assert set(first(config, **fields)) == {"clean", "mask"}


def test_of_pairs_the_degraded_half_is_masked(config, tmp_path, fill):
    targets = fill(tmp_path / "target", {"a.png": (12, 20, 3), "b.png": (9, 9, 3)})
    (tmp_path / "input").mkdir()
    for name, image in targets.items():
        image_io.write(tmp_path / "input" / name, 255 - image)
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    plain, masked = first(config), first(config, **ON)
    assert set(masked) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    change = np.abs(masked["degraded"] - plain["degraded"]).max((1, 2, 3))
    assert 0 < (change == 0).sum() < 16


@pytest.mark.parametrize("fields", [ON, {**ON, **NOISE}], ids=["noise later", "noise too"])
def test_batches_are_a_function_of_seed_and_step(config, images, fields):
    dataset = create(config, **fields)
    from_start = list(itertools.islice(dataset.batches(), 4))
    shares = [dataset.batches(3, process_index=p, process_count=2) for p in range(2)]
    shares = [next(share) for share in shares]
    joined = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
    for other in (next(dataset.batches(3)), joined):
        assert other.keys() == from_start[3].keys()
        for key in other:
            np.testing.assert_array_equal(other[key], from_start[3][key])


# Training


class Conv(nn.Module):
    channels: int = 3
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + nn.Conv(self.channels, (3, 3), dtype=self.dtype)(x)


def test_training_with_masking_on_either_side(tmp_path, fill, monkeypatch):
    monkeypatch.setitem(networks._REGISTRY, "conv", Conv)
    fill(tmp_path / "images", {"a.png": (20, 17, 3), "b.png": (18, 30, 3)})
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.steps, config.eval.bucket, config.sfm.rate = 1, 8, 0.5
    for split in (config.data.train, config.data.eval):
        split.source, split.path = "folder", str(tmp_path / "images")
    kernels = []
    for where in ("device", "host"):
        config.sfm.where = where
        datasets = input_pipeline.create_datasets(config)
        state = train_and_evaluate(config, tmp_path / where, datasets=datasets)
        kernels.append(np.asarray(state.params["Conv_0"]["kernel"]))
    assert np.isfinite(kernels).all()
    assert (kernels[0] != kernels[1]).any()  # other masks
