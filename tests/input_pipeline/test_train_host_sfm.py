"""Frequency masking of batches on the host."""

import itertools

import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict
from scipy import fft

import input_pipeline
from configs import tiny
from lcdnet_jax import image_io, networks
from lcdnet_jax.networks import registered
from lcdnet_jax.training import train_and_evaluate
from tests.input_pipeline.batches import create

ON = {"sfm.rate": 0.5, "sfm.where": "host"}
NOISE = {"degradation.where": "host"}
NOISELESS = {**NOISE, "degradation.sigma_min": 0.0, "degradation.sigma_max": 0.0}


@pytest.fixture
def four_images(tmp_path, config, fill):
    config.data.train.path = str(tmp_path)
    return fill(tmp_path, {f"{k}.png": (16, 20, 3) for k in range(4)})


def first_batch(config, **fields):
    batches = create(config, batch_size=16, **fields).batches()
    batch = next(batches)
    batches.close()
    return batch


def test_streams_of_random_numbers_are_those_of_earlier_runs(config, four_images):
    """Batches of runs without masking stay what they were."""
    assert create(config)._streams[:4] == [
        3948308845846928943,
        1459132311362927889,
        4298829809192954015,
        1645606736464176184,
    ]


@pytest.mark.extended
def test_masked_after_the_crop_and_before_noise(config, four_images):
    plain, noisy = first_batch(config), first_batch(config, **NOISE)
    device = first_batch(config, **ON)
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
    host = first_batch(config, **ON, **NOISE)
    assert set(host) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(host["clean"], plain["clean"])
    noise = noisy["degraded"] - noisy["clean"]
    np.testing.assert_allclose(host["degraded"] - device["to_degrade"], noise, atol=1e-6)
    quiet = first_batch(config, **ON, **NOISELESS)
    np.testing.assert_array_equal(quiet["degraded"], device["to_degrade"])
    clipped = first_batch(config, **ON, **NOISELESS, **{"degradation.protocol": "clipped"})
    np.testing.assert_array_equal(clipped["degraded"], device["to_degrade"].clip(0, 1))


def test_masks_and_noise_levels_know_nothing_of_each_other(config, four_images):
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


def test_unselected_and_target(config, four_images):
    keep = first_batch(config, **ON)
    zero = first_batch(config, **ON, **{"sfm.unselected": "zero"})
    black = (keep["to_degrade"] == keep["clean"]).all((1, 2, 3))
    assert not zero["to_degrade"][black].any()
    np.testing.assert_array_equal(zero["to_degrade"][~black], keep["to_degrade"][~black])
    np.testing.assert_array_equal(zero["clean"], keep["clean"])
    target = {"sfm.target": "masked"}
    for batch, keys in (
        (first_batch(config, **ON, **target), {"clean", "mask"}),
        (first_batch(config, **ON, **target, **NOISELESS), {"clean", "degraded", "mask"}),
    ):
        assert set(batch) == keys
        for key in keys - {"mask"}:
            np.testing.assert_array_equal(batch[key], keep["to_degrade"])


def test_masking_left_to_the_device_and_none(config, four_images):
    for fields in ({"sfm.rate": 0.5}, {"sfm.where": "host"}):
        assert set(first_batch(config, **fields)) == {"clean", "mask"}


def test_of_pairs_the_degraded_half_is_masked(config, tmp_path, fill):
    targets = fill(tmp_path / "target", {"a.png": (12, 20, 3), "b.png": (9, 9, 3)})
    (tmp_path / "input").mkdir()
    for name, image in targets.items():
        image_io.write(tmp_path / "input" / name, 255 - image)
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none"
    plain, masked = first_batch(config), first_batch(config, **ON)
    assert set(masked) == {"clean", "degraded", "mask"}
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    change = np.abs(masked["degraded"] - plain["degraded"]).max((1, 2, 3))
    assert 0 < (change == 0).sum() < 16


@pytest.mark.extended
@pytest.mark.parametrize("fields", [ON, {**ON, **NOISE}], ids=["noise later", "noise too"])
def test_masked_batches_are_a_function_of_seed_and_step(config, four_images, fields):
    dataset = create(config, **fields)
    from_start = list(itertools.islice(dataset.batches(), 4))
    shares = [dataset.batches(3, process_index=p, process_count=2) for p in range(2)]
    shares = [next(share) for share in shares]
    joined = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
    for other in (next(dataset.batches(3)), joined):
        assert other.keys() == from_start[3].keys()
        for key in other:
            np.testing.assert_array_equal(other[key], from_start[3][key])


class Conv(networks.RestorationNetwork):
    channels: int = 3
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + nn.Conv(self.channels, (3, 3), dtype=self.dtype)(x)


@pytest.mark.extended
def test_training_with_masking_on_either_side(tmp_path, fill):
    fill(tmp_path / "images", {"a.png": (20, 17, 3), "b.png": (18, 30, 3)})
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict()
    config.steps, config.eval.bucket, config.sfm.rate = 1, 8, 0.5
    for split in (config.data.train, config.data.eval):
        split.source, split.path = "folder", str(tmp_path / "images")
    kernels = []
    for where in ("device", "host"):
        config.sfm.where = where
        with registered("conv", Conv):
            datasets = input_pipeline.create_datasets(config)
            state = train_and_evaluate(config, tmp_path / where, datasets=datasets)
        kernels.append(np.asarray(state.params["Conv_0"]["kernel"]))
    assert np.isfinite(kernels).all()
    assert (kernels[0] != kernels[1]).any()  # other masks
