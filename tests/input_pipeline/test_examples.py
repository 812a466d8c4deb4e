"""Training images at several scales."""

import itertools
import json
import shutil

import cv2
import numpy as np
import pytest

import input_pipeline
from input_pipeline import sources
from input_pipeline.train_host import TrainDataset
from lcdnet_jax import config as config_lib
from lcdnet_jax import image_io
from lcdnet_jax.config import ConfigError
from lcdnet_jax.image_io import ImageError

SFM = (1.0, 0.9, 0.8, 0.7)


def create(config, split="train", **fields):
    """A data set, after changing some fields of a copy of the config."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    return input_pipeline.create_dataset(config, split)


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def opened(folder):
    return sources.open_source({"source": "folder", "path": str(folder)}, field="x")


@pytest.fixture
def images(tmp_path, config, fill):
    """Color, gray, and one that is smaller than the crop at every scale."""
    config.data.train.path = str(tmp_path)
    config.data.scales = (1.0, 0.7)
    return fill(tmp_path, {"a.png": (20, 31, 3), "b.png": (19, 17), "c.png": (5, 9, 3)})


# What is scaled, and how


def test_the_recipe_of_sfm(tmp_path, config, fill):
    """180x180 gives 180, 162, 144 and 125 pixels a side, and 16 + 16 + 9 + 4 tiles."""
    fill(tmp_path, {"a.png": (180, 180)})
    config.data.train.path = str(tmp_path)
    config.data.crop = config.data.tile = 64
    config.data.tile_stride = 32
    dataset = create(config, **{"data.scales": SFM})
    assert "scales 1.0, 0.9, 0.8, 0.7: 4 images, from 125x125 to 180x180" in dataset.describe()
    assert "45 tiles" in dataset.describe()
    sides = [example.clean.header.height for example in opened(tmp_path).rescale(SFM).examples]
    assert sides == [180, 125, 144, 162]  # a, a_x0.7, a_x0.8, a_x0.9
    assert "1 image, 180x180, 16 tiles" in create(config).describe()


@pytest.mark.parametrize("shape", [(40, 27), (40, 27, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_those_of_opencv(tmp_path, fill, shape, dtype):
    """Read, resized and turned into RGB by OpenCV alone."""
    fill(tmp_path, {"a.png": shape}, dtype=dtype)
    for example, scale in zip(
        opened(tmp_path).rescale((0.5, 0.9)).examples, (0.5, 0.9), strict=True
    ):
        assert example.name == f"a_x{scale}"
        pixels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
        pixels = cv2.resize(
            pixels, (int(27 * scale), int(40 * scale)), interpolation=cv2.INTER_CUBIC
        )
        read = example.clean.read(1 if len(shape) == 2 else 3)
        assert read.dtype == dtype
        expected = pixels[..., None] if len(shape) == 2 else pixels[..., ::-1]
        np.testing.assert_array_equal(read, expected)


def test_bicubic_without_antialiasing(tmp_path):
    """At half the size only the four nearest pixels of each row and column count.

    Weights of Keys' kernel with a = -0.75 at the distances 1.5, 0.5, 0.5, 1.5.
    """
    rng = np.random.default_rng(0)
    image = rng.integers(100, 150, (16, 20), np.uint8)  # no overshoot, so nothing is clipped
    image_io.write(tmp_path / "a.png", image)
    (example,) = opened(tmp_path).rescale((0.5,)).examples
    a = -0.75
    near = (a + 2) * 0.5**3 - (a + 3) * 0.5**2 + 1
    far = a * 1.5**3 - 5 * a * 1.5**2 + 8 * a * 1.5 - 4 * a
    weights = np.array([far, near, near, far])
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    expected = np.zeros((8, 10))
    for row, column in np.ndindex(8, 10):
        window = padded[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        expected[row, column] = weights @ window @ weights
    difference = example.clean.read(1)[..., 0] - expected
    assert np.abs(difference).max() < 0.6  # rounded to integers


def test_scale_one_changes_nothing(tmp_path, images):
    source = opened(tmp_path)
    assert source.rescale((1.0,)) is source
    assert source.rescale([1]) is source
    scaled = {example.name: example for example in source.rescale((0.5, 1.0)).examples}
    assert list(scaled) == ["a", "a_x0.5", "b", "b_x0.5", "c", "c_x0.5"]
    for example in source.examples:
        assert scaled[example.name] == example
        image = image_io.convert_channels(images[f"{example.name}.png"], 3)
        np.testing.assert_array_equal(scaled[example.name].clean.read(3), image)


# Batches


def windows(image, side):
    """All crops of an image, padded by reflection, as a set of bytes."""
    free = [(0, max(side - size, 0)) for size in image.shape[:2]]
    image = np.pad(image, [*free, (0, 0)], mode="reflect")
    rows, columns = image.shape[0] - side + 1, image.shape[1] - side + 1
    return {
        image[top : top + side, left : left + side].tobytes()
        for top, left in itertools.product(range(rows), range(columns))
    }


@pytest.mark.parametrize("cache_gb", [1.0, 0.0])
def test_an_epoch_shows_every_image_at_every_scale(config, images, cache_gb):
    dataset = create(config, **{"data.augment": False, "data.cache_gb": cache_gb, "batch_size": 6})
    assert len(dataset) == 6
    expected = []
    for image in images.values():
        image = image_io.convert_channels(image, 3)
        size = tuple(int(0.7 * side) for side in image.shape[1::-1])
        smaller = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        expected += [windows(image_io.to_float(each), 8) for each in (image, smaller)]
    for batch in take(dataset.batches(), 3):
        shown = [k for crop in batch["clean"] for k in range(6) if crop.tobytes() in expected[k]]
        assert sorted(shown) == list(range(6))


def test_batches_are_a_function_of_seed_and_step(config, images):
    dataset = create(config)
    batches = take(dataset.batches(), 4)
    assert_equal(batches, take(create(config, **{"data.cache_gb": 0.0}).batches(), 4))
    assert_equal(batches[3:], take(dataset.batches(3), 1))


def test_the_default_is_the_images_themselves(tmp_path, config, images):
    config.data.scales = (1.0,)
    assert len(create(config)) == 3
    untouched = TrainDataset(opened(tmp_path), config)
    assert_equal(take(create(config).batches(), 4), take(untouched.batches(), 4))


def test_evaluation_images_are_not_scaled(tmp_path, config, images):
    config.data.eval.path = str(tmp_path)
    assert [item["name"] for item in input_pipeline.create_dataset(config, "eval")] == [*"abc"]


# Refusals


def test_images_of_which_nothing_is_left(tmp_path, config, images, fill):
    fill(tmp_path, {"d.png": (1, 9, 3)})
    with pytest.raises(ImageError, match=r"d\.png: at scale 0\.7 nothing is left of 1x9 pixels"):
        create(config)


def test_a_crop_larger_than_every_scaled_image(config, images):
    with pytest.raises(ValueError, match=r"crop 20 .*at scales 0\.5\), .* is 10x15"):
        create(config, **{"data.crop": 20, "data.scales": (0.5,)})


def test_files_that_change_after_the_start(tmp_path, config, images):
    dataset = create(config, **{"data.cache_gb": 0.0, "data.scales": (0.7,)})
    for name in images:
        image_io.write(tmp_path / name, np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(ImageError, match=r"\.png: is now 30x30"):
        next(dataset.batches())


@pytest.mark.parametrize(
    "value", [(), 0.9, (0.0,), (1.0, 1.1), (1.0, 0.5, 1), (float("nan"),), ("1",), (True,), ((1,),)]
)
def test_wrong_scales(config, value):
    fields = config.to_dict()
    fields["data"]["scales"] = value
    config = type(config)(fields)
    with pytest.raises(ConfigError, match=r"config\.data\.scales must be a tuple of one or more"):
        config_lib.validate(config)


def test_pairs_are_not_scaled(config):
    config.data.scales = SFM
    config_lib.validate(config)
    config.degradation.kind = "none"
    with pytest.raises(ConfigError, match=r"config\.data\.scales \(1\.0, .* would smooth the noi"):
        config_lib.validate(config)
    config.data.scales = (1.0,)
    config_lib.validate(config)


def test_stored_configs_without_scales(tmp_path, config):
    stored = config.to_dict()
    del stored["data"]["scales"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    loaded = config_lib.load(tmp_path / "config.json")
    config_lib.validate(loaded)
    assert config_lib.differences(loaded, config) == []
    config.data.scales = SFM
    assert config_lib.differences(loaded, config) == [
        "config.data.scales: [1.0] there, [1.0, 0.9, 0.8, 0.7] given"
    ]


# Two views of a dual-pixel camera


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
        (
            "network.name",
            "sadnet",
            "set config.network.name to 'lcdnet' or 'restormer', or the channels to 3",
        ),
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
    refuses(config, "scenes with only one of their files in train_l/source/ and train_r/source/:",
            "1P0A0892", kind=ImageError)  # fmt: skip
    shutil.rmtree(tmp_path / "train_r")
    refuses(config, "looked for train_r/source/, found", kind=ImageError)
    # The picture of the center is not needed, and not there.
    assert not (tmp_path / "test_c/source").exists()
    assert len(create(config, "eval")) == 2
