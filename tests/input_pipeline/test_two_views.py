"""The two views of a dual-pixel camera: six channels in, three out."""

import itertools
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from flax import linen as nn
from ml_collections import ConfigDict

import input_pipeline
from configs import tiny
from input_pipeline import sources, tf_ops
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io, networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.training import train_and_evaluate

HALVES = {
    "left": ("l/source", 0, "_L"),
    "right": ("r/source", 0, "_R"),
    "clean": ("c/target", 1, ""),
}


@pytest.fixture
def scenes(tmp_path, config, fill):
    """Two scenes to train on, two to test on; images by split, half and number."""
    images = {}
    for split, numbers, shape in (
        ("train", (890, 892), (7, 9, 3)),
        ("test", (917, 933), (9, 8, 3)),
    ):
        for seed, (half, (folder, step, suffix)) in enumerate(HALVES.items()):
            names = {f"1P0A{n + step:04d}{suffix}.png": shape for n in numbers}
            written = fill(tmp_path / f"{split}_{folder}", names, dtype=np.uint16, seed=seed)
            for number, image in zip(numbers, written.values(), strict=True):
                images[split, half, number] = image
    for split, part in (("train", config.data.train), ("test", config.data.eval)):
        part.source, part.path, part.split = "dpdd_dual", str(tmp_path), split
    config.data.channels = 6
    config.data.crop = 6
    config.degradation.kind = "none"
    config.network.name, config.network.kwargs = "lcdnet", ConfigDict({"preset": "tiny"})
    return images


def create(config, split="train", **fields):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    return input_pipeline.create_dataset(config, split)


def joined(images, split, number):
    """Clean, left and right, in [0, 1]."""
    halves = [images[split, half, number] for half in ("clean", "left", "right")]
    return image_io.to_float(np.concatenate(halves, axis=-1))


# What is read


def test_evaluation_keeps_16_bits(scenes, config):
    dataset = create(config, "eval")
    assert "2 pairs (published: 76), 9x8, 6 channels" in dataset.describe()
    for item, number in zip(dataset, (917, 933), strict=True):
        assert item["name"] == f"1P0A0{number}"
        whole = joined(scenes, "test", number)
        np.testing.assert_array_equal(item["clean"], whole[..., :3])
        np.testing.assert_array_equal(item["degraded"], whole[..., 3:])


def orientations(crop):
    """A crop and its flips, each a picture that the camera could have taken."""
    clean, left, right = np.split(crop, 3, axis=-1)
    mirrored = np.concatenate([clean[:, ::-1], right[:, ::-1], left[:, ::-1]], axis=-1)
    return [crop, crop[::-1], mirrored, mirrored[::-1]]


@pytest.mark.parametrize("augment", [True, False])
def test_crops_and_their_flips(scenes, config, augment):
    """All of them appear, and nothing else: no transposition, no flip with unexchanged views."""
    expected = {
        turned.tobytes()
        for number in (890, 892)
        for top, left in itertools.product(range(2), range(4))
        for crop in [joined(scenes, "train", number)[top : top + 6, left : left + 6]]
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


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_batches_are_a_function_of_seed_and_step(scenes, config, cache_gb):
    dataset = create(config, **{"data.cache_gb": cache_gb})
    from_start = list(itertools.islice(create(config).batches(), 4))
    shares = [next(dataset.batches(3, process_index=p, process_count=2)) for p in range(2)]
    for key in ("clean", "degraded", "mask"):
        for other in (next(dataset.batches(3))[key], np.concatenate([s[key] for s in shares])):
            np.testing.assert_array_equal(other, from_start[3][key])


def views(scene, disparity):
    """Clean, left and right: what lies out of focus is displaced to opposite sides."""
    rows, columns = np.mgrid[: scene.shape[0], : scene.shape[1]]
    width = scene.shape[1]
    left = scene[rows, (columns - disparity) % width]
    right = scene[rows, (columns + disparity) % width]
    return np.concatenate([scene, left, right], axis=-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flipped_views_are_the_views_of_the_flipped_scene(rng, dtype):
    scene = rng.integers(0, np.iinfo(dtype).max, (6, 8, 3), dtype, endpoint=True)
    disparity = rng.integers(-2, 3, (6, 8))  # of each pixel, signed
    for down, across, transposed in itertools.product([False, True], repeat=3):
        rows, columns = slice(None, None, 1 - 2 * down), slice(None, None, 1 - 2 * across)
        turned = tf_ops.orient(
            tf.constant(views(scene, disparity)),
            tf.constant([down, across, transposed]),
            two_views=True,
        )
        flipped = views(scene[rows, columns], disparity[rows, columns])
        np.testing.assert_array_equal(turned, flipped)


def test_masked_frequencies(scenes, config):
    fields = {"sfm.rate": 1.0, "sfm.where": "host"}
    plain, masked = (next(create(config, **f).batches()) for f in ({}, fields))
    np.testing.assert_array_equal(masked["clean"], plain["clean"])
    assert masked["degraded"].shape == (4, 6, 6, 6)
    assert (masked["degraded"] != plain["degraded"]).any()


# Refusals


def refuses(config, *needles, kind=ValueError, split="train", **fields):
    with pytest.raises(kind) as caught:
        create(config, split, **fields)
    for needle in needles:
        assert needle in str(caught.value)


def test_six_channels_and_three(scenes, config, tmp_path):
    three = {"data.channels": 3}
    refuses(
        config,
        f"config.data.train (dpdd_dual train {tmp_path}) holds two views of every scene, together "
        "6 channels, but config.data.channels is 3; set it to 6",
        **three,
    )
    refuses(config, "config.data.eval (dpdd_dual", "channels is 1;", split="eval",
            **{"data.channels": 1})  # fmt: skip
    one = {"data.train.source": "dpdd"}
    for half in ("source", "target"):
        (tmp_path / f"train_c/{half}").mkdir(exist_ok=True)
    image_io.write(tmp_path / "train_c/source/1P0A0890.png", scenes["train", "left", 890])
    (tmp_path / "train_c/target/1P0A0893.png").unlink()
    refuses(
        config,
        "holds one view of every scene, but config.data.channels is 6, for the two views of a",
        'set it to 3, or the source to one with two views, such as "dpdd_dual"',
        **one,
    )
    assert next(create(config, **one, **three).batches())["degraded"].shape == (4, 6, 6, 3)
    spec = {"source": "dpdd_dual", "path": str(tmp_path), "split": "test"}
    with pytest.raises(ValueError, match=r"--data \(dpdd_dual .*channels is 3; set it to 6"):
        input_pipeline.create_eval_dataset(spec, 3, field="--data")
    with pytest.raises(ValueError, match=r"photos test.* holds one view"):
        input_pipeline.create_eval_dataset({"source": "photos", "split": "test"}, 6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("degradation.kind", "awgn", "set config.degradation.kind, which is 'awgn', to 'none'"),
        ("network.name", "sadnet", "set config.network.name to 'lcdnet', or the channels to 3"),
        ("objective", "noise2self", "config.objective 'noise2self' needs it; set that to 'super"),
    ],
)
def test_six_channels_need(scenes, config, field, value, message):
    config_lib.validate(config)
    refuses(config, "config.data.channels 6 (the two views of", message, kind=ConfigError,
            **{field: value})  # fmt: skip


def test_views_that_do_not_belong_together(scenes, config, tmp_path, fill):
    right = tmp_path / "train_r/source"
    fill(right, {"1P0A0892_R.png": (7, 9, 3)})
    refuses(
        config,
        "config.data.train.path: ",
        "1P0A0892_R.png are views of one scene, but differ (7x9 with 16 bits, 7x9 with 8 bits)",
        kind=ImageError,
    )
    fill(right, {"1P0A0892_R.png": (7, 9, 4)}, dtype=np.uint16)
    refuses(config, "1P0A0892_R.png: the image has an alpha channel", kind=ImageError)
    (right / "1P0A0892_R.png").unlink()
    refuses(config, "1 scenes have only one of their files in train_l/source/ and train_r/source/:",
            "1P0A0892", kind=ImageError)  # fmt: skip
    shutil.rmtree(tmp_path / "train_r")
    refuses(config, "looked for train_r/source/, found", kind=ImageError)
    # The picture of the centre is not needed, and not there.
    assert not (tmp_path / "test_c/source").exists()
    assert len(create(config, "eval")) == 2


def test_one_and_two_views_are_not_joined(scenes, tmp_path, fill):
    for half in ("input", "target"):
        fill(tmp_path / "plain" / half, {"a.png": (9, 9, 3)})
    spec = {"source": "folder,dpdd_dual", "path": f"{tmp_path}/plain,{tmp_path}", "split": "test"}
    with pytest.raises(
        ValueError, match=r"x: dpdd_dual .* two views of every scene and folder .*;"
    ):
        sources.open_source(spec, field="x")


# Training


class FromViews(nn.Module):
    """A base of both views and a convolution."""

    channels: int = 6
    dtype: type = np.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return (x[..., :3] + x[..., 3:]) / 2 + nn.Conv(3, (3, 3), dtype=self.dtype)(x)


def test_training_and_evaluation(scenes, config, tmp_path, monkeypatch, capsys):
    """Two steps, evaluation on full images with panels, and the checkpoint."""
    monkeypatch.setitem(networks._REGISTRY, "lcdnet", FromViews)
    fields = tiny.get_config()
    fields.network.name, fields.network.kwargs = "lcdnet", ConfigDict()
    fields.data, fields.degradation = config.data, config.degradation
    fields.steps, fields.eval.bucket = 2, 8
    state = train_and_evaluate(
        fields, tmp_path / "run", datasets=input_pipeline.create_datasets(fields)
    )
    assert state.params["Conv_0"]["kernel"].shape == (3, 3, 6, 3)
    said = capsys.readouterr()
    assert re.search(r"\(input \d+\.\d\d dB\), 1 images", said.out + said.err)
    assert list((tmp_path / "run/panels").glob("**/*.png"))
    x = jnp.zeros((1, 6, 6, 6))
    assert jax.eval_shape(FromViews().apply, state.variables(), x).shape == (1, 6, 6, 3)
