"""Batches of two views of a dual-pixel camera."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from lcdnet_jax import image_io, networks
from lcdnet_jax.networks import registered
from lcdnet_jax.training import train_and_evaluate
from tests.input_pipeline.batches import create


def join_halves(images, split, number):
    """Clean, left and right, in [0, 1]."""
    halves = [images[split, half, number] for half in ("clean", "left", "right")]
    return image_io.to_float(np.concatenate(halves, axis=-1))


def orientations(crop):
    """A crop and its flips, each a picture that the camera could have taken."""
    clean, left, right = np.split(crop, 3, axis=-1)
    mirrored = np.concatenate([clean[:, ::-1], right[:, ::-1], left[:, ::-1]], axis=-1)
    return [crop, crop[::-1], mirrored, mirrored[::-1]]


@pytest.mark.parametrize("augment", [True, False])
def test_crops_of_two_views_and_their_flips(scenes, config, augment):
    """All of them appear, and nothing else: no transposition, no flip with unexchanged views."""
    expected = {
        turned.tobytes()
        for number in (890, 892)
        for top, left in itertools.product(range(2), range(4))
        for crop in [join_halves(scenes, "train", number)[top : top + 6, left : left + 6]]
        for turned in (orientations(crop) if augment else [crop])
    }
    assert len(expected) == 2 * 8 * (4 if augment else 1)
    seen = set()
    dataset = create(config, batch_size=80, **{"data.augment": augment})
    for batch in itertools.islice(dataset.batches(), 8):
        assert batch["clean"].shape == (80, 6, 6, 3)
        assert batch["degraded"].shape == (80, 6, 6, 6)
        whole = np.concatenate([batch["clean"], batch["degraded"]], axis=-1)
        seen |= {example.tobytes() for example in whole}
    assert seen == expected


@pytest.mark.extended
@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_batches_of_two_views_are_a_function_of_seed_and_step(scenes, config, cache_gb):
    dataset = create(config, **{"data.cache_gb": cache_gb})
    from_start = list(itertools.islice(create(config).batches(), 4))
    shares = [next(dataset.batches(3, process_index=p, process_count=2)) for p in range(2)]
    for key in ("clean", "degraded", "mask"):
        for other in (next(dataset.batches(3))[key], np.concatenate([s[key] for s in shares])):
            np.testing.assert_array_equal(other, from_start[3][key])


def test_masked_frequencies_of_two_views(scenes, config):
    fields = {"sfm.rate": 1.0, "sfm.where": "host"}
    plain, masked = (next(create(config, **f).batches()) for f in ({}, fields))
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    assert masked["degraded"].shape == (4, 6, 6, 6)
    assert (masked["degraded"] != plain["degraded"]).any()


class FromViews(networks.RestorationNetwork):
    """A base of both views and a convolution."""

    channels: int = 6
    dtype: type = np.float32
    two_views = True

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return (x[..., :3] + x[..., 3:]) / 2 + nn.Conv(3, (3, 3), dtype=self.dtype)(x)


@pytest.mark.extended
def test_training_and_evaluation_on_two_views(scenes, config, tmp_path, capsys):
    """Two steps, evaluation on full images with panels, and the checkpoint."""
    fields = tiny.get_config()
    fields.network.name, fields.network.kwargs = "from_views", ConfigDict()
    fields.data, fields.degradation = config.data, config.degradation
    fields.steps, fields.eval.bucket = 2, 8
    with registered("from_views", FromViews):
        datasets = input_pipeline.create_datasets(fields)
        state = train_and_evaluate(fields, tmp_path / "run", datasets=datasets)
    assert state.params["Conv_0"]["kernel"].shape == (3, 3, 6, 3)
    said = capsys.readouterr()
    assert re.search(r"\(input \d+\.\d\d dB\), 1 image,", said.out + said.err)
    assert list((tmp_path / "run/panels").glob("**/*.png"))
    x = jnp.zeros((1, 6, 6, 6))
    assert jax.eval_shape(FromViews().apply, state.variables(), x).shape == (1, 6, 6, 3)
