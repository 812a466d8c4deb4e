"""Super-resolution through the whole library: data, training, scores, files."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageCms

import input_pipeline
from configs import sr_small
from lcdnet_jax import Restorer, degradations, image_io, metrics, protocols, visualization
from lcdnet_jax import config as config_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.config import ConfigError
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.step import prepare
from tests.scripts import error_of as error_of_script
from tests.scripts import run

# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

TINY = {"scale": 2, "groups": 1, "blocks": 1, "features": 16}
# A file of this, for the scripts.
CONFIG = f"""
from configs import sr_small

def get_config(variant="regular"):
    config = sr_small.get_config(variant)
    config.network.kwargs = {TINY!r}
    config.data.crop, config.batch_size, config.steps = 16, 8, 2
    config.eval.max_images = config.eval.panels = 1
    return config
"""


@pytest.fixture(autouse=True)
def quick_jit(monkeypatch):
    """Compiles without LLVM's optimization: these programs run once or twice."""
    options = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))


def config_with(**fields):
    config = sr_small.get_config("sfm")
    config.network.kwargs = ConfigDict(TINY)
    config.data.crop, config.batch_size, config.steps = 16, 8, 2
    config.eval.panels = 0
    config.update_from_flattened_dict(fields)
    return config


PAIRS = {"degradation.kind": "none", "degradation.options": ConfigDict(), "sfm.rate": 0.0}


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write(path, image)


def halved(image):
    """Means of blocks of 2 x 2 pixels, which do not mind how an image is turned."""
    height, width = image.shape[:2]
    return image.reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """clean/ of odd sizes; pairs/ whose target is twice as large, in fours so that means fit."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i, shape in enumerate([(33, 35), (40, 37)]):
        coarse = rng.uniform(40, 215, (5, 5)).astype(np.float32)
        smooth = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
        noise = rng.normal(0, 12, shape)
        write(folder / "clean" / f"{i}.png", (np.asarray(smooth) + noise).clip(0, 255).astype("u1"))
    for i, shape in enumerate([(24, 28, 3), (20, 26, 3)]):
        target = 4 * rng.integers(0, 64, shape, np.uint8)
        write(folder / "pairs" / "target" / f"{i}.png", target)
        write(folder / "pairs" / "input" / f"{i}.png", halved(target).astype(np.uint8))
    return folder


# --- The degradation by name ----------------------------------------------------------------------


@pytest.fixture
def keys():
    return jax.random.split(jax.random.key(3), 2)


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.random((2, 12, 16, 1)), jnp.float32)


OPTIONS = {"scale": 2, "kernel": "isotropic", "width": (0.5, 1.5), "size": 5}


@pytest.mark.extended
def test_draws_a_kernel_for_each_image(keys, images):
    low = jax.jit(degradations.from_kind("low_resolution", {"low_resolution": OPTIONS}))(
        keys, images
    )
    child = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 0)))(keys)
    kernels = degradations.random_kernels(child[:, 0], kind="isotropic", width=(0.5, 1.5), size=5)
    expected = degradations.low_resolution(child[:, 1], images, scale=2, kernels=kernels)
    np.testing.assert_allclose(low, expected, rtol=0, atol=1e-6)
    assert abs(kernels[0] - kernels[1]).max() > 0.01
    without = degradations.random_low_resolution(keys, images, scale=2)
    expected = degradations.bicubic(images, height=6, width=8)
    np.testing.assert_allclose(without, expected, rtol=0, atol=1e-6)


def test_enlarges_again(keys, images):
    options = OPTIONS | {"protocol": "8bit"}
    low, large = (
        degradations.random_low_resolution(keys, images, enlarge=enlarge, **options)
        for enlarge in (False, True)
    )
    np.testing.assert_allclose(low * 255, np.rint(low * 255), rtol=0, atol=1e-4)
    expected = degradations.bicubic(low, height=12, width=16)
    np.testing.assert_allclose(large, expected, rtol=0, atol=1e-6)


@pytest.mark.extended
def test_a_pool_is_a_folder_or_an_array(keys, images, rng, tmp_path):
    pool = rng.random((3, 3, 3)).astype(np.float32)
    pool /= pool.sum(axis=(1, 2), keepdims=True)
    np.save(tmp_path / "kernels.npy", pool)
    options = {"scale": 2, "kernel": "pool"}
    from_folder, from_array = (
        degradations.from_kind("low_resolution", {"low_resolution": {**options, "pool": given}})
        for given in (str(tmp_path), pool)
    )
    np.testing.assert_array_equal(from_folder(keys, images), from_array(keys, images))
    # Read once: images of another size have the same kernels, whatever becomes of the folder.
    (tmp_path / "kernels.npy").unlink()
    wide = jnp.concatenate([images, images], axis=2)
    np.testing.assert_array_equal(from_folder(keys, wide), from_array(keys, wide))
    with pytest.raises(ValueError, match="kernel is None; set it to 'pool'"):
        degradations.random_low_resolution(keys, images, scale=2, pool=pool)


@pytest.mark.extended
def test_masked_then_made_small_and_compared_with_all(images):
    config = config_with(**{"sfm.rate": 1.0, "degradation.protocol": "float"})
    config_lib.validate(config)
    batch = {"clean": images, "mask": jnp.ones(2)}
    result = prepare(batch, config, step=jnp.int32(4), axis_name=None)
    assert result["degraded"].shape == (2, 6, 8, 1)
    np.testing.assert_array_equal(result["clean"], images)
    again, other = (
        prepare(batch, config, step=jnp.int32(step), axis_name=None)["degraded"] for step in (4, 5)
    )
    np.testing.assert_array_equal(again, result["degraded"])
    assert abs(other - again).max() > 0.01
    # The masked images, by noise of level 0, then the kernel.
    noise = {"sigma_min": 0.0, "sigma_max": 0.0, "protocol": "float", "kind": "awgn"}
    config.degradation.update({**noise, "options": ConfigDict()})
    masked = prepare(batch, config, step=jnp.int32(4), axis_name=None)["degraded"]
    assert abs(masked - images).max() > 0.05
    kernels = degradations.gaussian_kernels(jnp.ones((2, 2)), jnp.zeros(2), size=9)
    keys = jax.random.split(jax.random.key(0), 2)
    expected = degradations.low_resolution(keys, masked, scale=2, kernels=kernels)
    np.testing.assert_allclose(result["degraded"], expected, rtol=0, atol=1e-5)


# --- Configurations -------------------------------------------------------------------------------

LOW = "degradation.options.low_resolution."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.crop": 17}, "config.data.crop (17), pixels of the large images, is not a multiple"),
        ({"data.crop": 8}, "kernels of 9x9 pixels are larger than images of 8x8"),
        ({LOW + "scale": 4}, "makes 8 pixels of the 4 that config.degradation.kind 'low_resol"),
        ({"network.kwargs.scale": 3}, "makes 24 pixels of the 8 that config.degradation.kind"),
        (
            {"network.name": "kmsr", "network.kwargs": ConfigDict()},
            "set config.degradation.options.low_resolution.enlarge to True, or config.network to",
        ),
        (
            {"degradation.kind": "motion", "degradation.options": ConfigDict()},
            "low_resolution, which must be in the kind, one scale",
        ),
        (
            {"degradation.kind": "awgn", "degradation.options": ConfigDict()},
            "'rcan' enlarges 2 times, but config.degradation.kind 'awgn' leaves images their size",
        ),
        (
            {
                "degradation.kind": "awgn",
                "degradation.options": ConfigDict(),
                "objective": "noise2noise",
            },
            "'rcan' enlarges 2 times, but config.degradation.kind 'awgn'",
        ),
        ({"degradation.options": ConfigDict()}, "missing 1 required keyword-only argument: 'scale"),
        ({**PAIRS, "data.crop": 17}, "config.data.crop (17), pixels of the large images"),
        ({**PAIRS, "data.tile": 20, "data.tile_stride": 5}, "config.data.tile_stride (5), pixels"),
        ({**PAIRS, "objective": "noise2self", "loss": "sse"}, "'rcan' enlarges 2 times; set it to"),
        ({**PAIRS, "data.where": "device"}, "draws from pairs of equal size"),
    ],
    ids=str,
)
def test_mistakes(fields, message):
    with pytest.raises(config_lib.ConfigError) as caught:
        config_lib.validate(config_with(**fields))
    assert message in str(caught.value)


def test_a_missing_pool_is_found_when_it_is_read(images):
    options = {"low_resolution": {"scale": 2, "kernel": "pool", "pool": "nowhere"}}
    config = config_with(**{"degradation.options": ConfigDict(options)})
    config_lib.validate(config)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        prepare({"clean": images}, config, step=jnp.int32(0), axis_name=None)


# --- Pairs of different size ----------------------------------------------------------------------


def pairs_config(folder, **fields):
    config = config_with(**PAIRS | {"data.channels": 3, "data.crop": 12} | fields)
    for split in ("train", "eval"):
        config.data[split].path = str(folder)
    return config


def batches(config, count, start=0):
    iterator = input_pipeline.create_dataset(config, "train").batches(start)
    found = [next(iterator) for _ in range(count)]
    iterator.close()
    return found


@pytest.mark.extended
@pytest.mark.parametrize(
    "fields",
    [{}, {"data.cache_gb": 0.0}, {"data.tile": 14, "data.tile_stride": 6}, {"data.crop": 20}],
    ids=str,
)
def test_crops_of_pairs_show_one_place(data, fields):
    config = pairs_config(data / "pairs", **fields)
    crop = config.data.crop
    turned = set()
    for batch in batches(config, 3):
        assert batch["clean"].shape == (8, crop, crop, 3)
        assert batch["degraded"].shape == (8, crop // 2, crop // 2, 3)
        for clean, degraded in zip(batch["clean"], batch["degraded"], strict=True):
            np.testing.assert_allclose(halved(clean), degraded, rtol=0, atol=1e-6)
            turned.add(_orientation(np.rint(clean * 255).astype(np.uint8), data, crop))
    assert len(turned) > 4


def _orientation(clean, data, crop):
    """How a crop is turned, of which the image on disk has the original at an even place."""
    for i in range(2):
        whole = image_io.read(data / "pairs" / "target" / f"{i}.png")
        places = np.lib.stride_tricks.sliding_window_view(whole, (crop, crop), (0, 1))[::2, ::2]
        for flipped in range(2):
            for turns in range(4):
                seen = np.rot90(clean[:, ::-1] if flipped else clean, turns).transpose(2, 0, 1)
                if (places == seen).all(axis=(2, 3, 4)).any():
                    return flipped, turns
    raise AssertionError("no part of an image")


@pytest.mark.extended
def test_batches_of_pairs_are_a_function_of_the_step(data):
    config = pairs_config(data / "pairs")
    for name, array in batches(config, 2)[1].items():
        np.testing.assert_array_equal(array, batches(config, 1, start=1)[0][name])


def test_pairs_that_do_not_fit(data, tmp_path, rng):
    def error(**fields):
        with pytest.raises(ValueError, match=r"height x width|config\.data\.crop") as caught:
            input_pipeline.create_datasets(pairs_config(tmp_path, **fields))
        return str(caught.value)

    write(tmp_path / "target" / "a.png", rng.integers(0, 255, (24, 28, 3), np.uint8))
    write(tmp_path / "input" / "a.png", rng.integers(0, 255, (12, 14, 3), np.uint8))
    assert "must be 4 times larger than the degraded one (height x width), but is not in a " in (
        error(**{"network.kwargs.scale": 4})
    )
    assert "a (degraded 12x14, clean 24x28)" in error(**{"network.kwargs.scale": 4})
    kmsr = {"network.name": "kmsr", "network.kwargs": ConfigDict()}
    assert "must be of the size of the degraded one" in error(**kmsr)
    message = error(**{"data.crop": 26})
    assert (
        f"config.data.crop 26 is larger than a side of {tmp_path}/target/a.png (24x28)" in message
    )
    assert "use at most 24" in message
    write(tmp_path / "target" / "b.png", rng.integers(0, 255, (24, 27, 3), np.uint8))
    write(tmp_path / "input" / "b.png", rng.integers(0, 255, (12, 14, 3), np.uint8))
    assert (
        "the halves of some pairs differ in size (height x width): b (input 12x14, target 24x27)"
        in error()
    )


class TestRealSR:
    def fill(self, root, rng, scale=2, camera="Canon", sizes=((6, 8), (4, 6))):
        for part, (height, width) in zip(("Train", "Test"), sizes, strict=True):
            folder = root / camera / part / str(scale)
            large = (scale * height, scale * width, 3)
            write(folder / f"{camera}_001_HR.png", rng.integers(0, 255, large, np.uint8))
            small = rng.integers(0, 255, (height, width, 3), np.uint8)
            write(folder / f"{camera}_001_LR{scale}.png", small)

    def opened(self, root, split, scale):
        spec = {"source": "realsr", "path": str(root), "split": split}
        return input_pipeline.create_eval_dataset(spec, 3, scale=scale)

    def test_layout(self, tmp_path, rng):
        for camera in ("Canon", "Nikon"):
            self.fill(tmp_path, rng, 2, camera)
            self.fill(tmp_path, rng, 4, camera)
        for split, scale, size in (("train_x2", 2, (6, 8)), ("test_x4", 4, (4, 6))):
            items = list(self.opened(tmp_path, split, scale))
            assert [item["name"] for item in items] == ["Canon_001", "Nikon_001"]
            for item in items:
                assert item["degraded"].shape == (*size, 3)
                assert item["clean"].shape == (scale * size[0], scale * size[1], 3)
        assert len(self.opened(tmp_path / "Nikon", "test_x2", 2)) == 1

    def test_mistakes(self, tmp_path, rng):
        with pytest.raises(ValueError, match=r'split is "test"; realsr has the splits train_x2, t'):
            self.opened(tmp_path, "test", 2)
        with pytest.raises(image_io.ImageError, match=r"looked for Test/2/, found an empty folder"):
            self.opened(tmp_path, "test_x2", 2)
        self.fill(tmp_path, rng)
        with pytest.raises(
            ValueError, match=r"must be 4 times larger .*Canon_001 \(degraded 4x6, clean 8x12\)"
        ):
            self.opened(tmp_path, "test_x2", 4)
        (tmp_path / "Canon/Test/2/Canon_001_HR.png").rename(tmp_path / "x.png")
        with pytest.raises(image_io.ImageError, match=r"pictures with only one of .*: Canon_001"):
            self.opened(tmp_path, "test_x2", 2)


# --- Scores ---------------------------------------------------------------------------------------


def nearest(image):
    """Takes the place of a network of scale 2."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def evaluator(name="8bit", scale=2):
    step = degradations.from_kind("low_resolution", {"low_resolution": {"scale": scale}})
    protocol = protocols.get(name).with_scale(scale).with_degradation("low_resolution")
    return Evaluator(protocol, degradation=step, bucket=8)


@pytest.mark.extended
def test_scores_of_synthetic_images(rng):
    clean = rng.random((33, 31, 3)).astype(np.float32)
    example = {"name": "a", "clean": clean}
    (rgb,) = evaluator().score_images(nearest, [example])
    np.testing.assert_array_equal(rgb.clean, clean[:32, :30])
    low = degradations.bicubic(clean[None, :32, :30], height=16, width=15)
    low = np.asarray(degradations.apply_protocol(low, "8bit"))
    np.testing.assert_allclose(rgb.restored, nearest(low[0]), rtol=0, atol=1e-6)
    large = [
        np.asarray(Image.fromarray(low[0, ..., c]).resize((30, 32), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    np.testing.assert_allclose(rgb.degraded, np.stack(large, axis=-1), rtol=0, atol=1e-5)
    stored = np.rint(rgb.degraded.clip(0, 1) * 255) / 255
    expected = metrics.psnr(jnp.asarray(stored[None]), jnp.asarray(rgb.clean[None]))[0]
    np.testing.assert_allclose(rgb.input_psnr, expected, atol=1e-3)
    # Y without two pixels on each side.
    (one,) = evaluator("sr").score_images(nearest, [example])
    weights = np.array([65.481, 128.553, 24.966]) / 255
    restored = np.rint(one.restored.clip(0, 1).astype(np.float64) * 255) / 255
    difference = ((restored - one.clean) @ weights)[2:-2, 2:-2]
    np.testing.assert_allclose(one.psnr, -10 * np.log10((difference**2).mean()), atol=1e-3)
    assert visualization.draw_panel([("small", low[0])], clean=rgb.clean, width=32).ndim == 3


@pytest.mark.extended
def test_scores_of_pairs(rng):
    example = {
        "name": "a",
        "clean": rng.random((26, 28, 1)).astype(np.float32),
        "degraded": rng.random((13, 14, 1)).astype(np.float32),
    }
    (one,) = Evaluator(protocols.get("pairs").with_scale(2)).score_images(nearest, [example])
    assert one.restored.shape == one.degraded.shape == one.clean.shape == (26, 28, 1)
    np.testing.assert_array_equal(one.restored, nearest(example["degraded"]))
    # Multiples of 8 of the small image.
    seen = []
    sadnet = protocols.get("sadnet-pairs").with_scale(2)
    (one,) = Evaluator(sadnet).score_images(lambda x: seen.append(x.shape) or nearest(x), [example])
    assert seen == [(8, 8, 1)]
    assert one.clean.shape == (16, 16, 1)
    with pytest.raises(
        ValueError, match=r"a: the restored image \[13, 14, 1\] and .*\[26, 28, 1\]"
    ):
        list(Evaluator(protocols.get("pairs").with_scale(2)).score_images(np.copy, [example]))


def test_mistakes_name_the_image(rng):
    tiny = {"name": "tiny", "clean": rng.random((1, 9, 1)).astype(np.float32)}
    with pytest.raises(ValueError, match=r"^tiny: images of shape \(1, 0, 8, 1\) are empty"):
        list(evaluator().score_images(nearest, [tiny]))


# --- All of it ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data):
    """A finished run of train.py."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny_sr.py").write_text(CONFIG)
    arguments = [
        f"--config={folder}/tiny_sr.py:sfm",
        f"--workdir={folder}/run",
        f"--config.data.train.path={data}/clean",
        f"--config.data.eval.path={data}/clean",
    ]
    assert run("train.py", *arguments) is None
    return folder / "run"


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.extended
def test_trains_on_clean_images(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    measured = {name: value for row in rows for name, value in row.items()}
    assert np.isfinite(measured["train/loss"])
    assert 0 < measured["eval/psnr"] < 60
    assert len(list((workdir / "panels").glob("*.png"))) == 1


@pytest.mark.extended
def test_trains_on_pairs(data, tmp_path):
    config = pairs_config(data / "pairs", **{"eval.panels": 1})
    datasets = input_pipeline.create_datasets(config)
    state = train_and_evaluate(config, tmp_path / "run", datasets=datasets)
    assert int(state.step) == 2
    assert '"eval/psnr"' in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert len(list((tmp_path / "run" / "panels").glob("*.png"))) == 1


def test_masking_of_pairs_takes_from_the_small_image(data, rng):
    config = pairs_config(data / "pairs", **{"sfm.rate": 1.0})
    clean, low = (rng.random((2, side, side, 1), np.float32) for side in (16, 8))
    batch = {"clean": clean, "degraded": low, "mask": np.ones(2, np.float32)}
    masked = prepare(batch, config, step=jnp.int32(0), axis_name=None)
    np.testing.assert_array_equal(masked["clean"], clean)
    assert abs(masked["degraded"] - low).max() > 0.01


@pytest.mark.extended
def test_two_kernels_of_one_name(workdir, data, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "kernels").mkdir(parents=True)
    kernels = ",".join(f"pool:{tmp_path / folder / 'kernels'}" for folder in ("a", "b"))
    command = ("eval.py", "--workdir", workdir, "--data", data / "clean", "--kernels", kernels)
    message = run(*command, "--output", tmp_path / "out")
    assert "two are called pool-kernels in the results" in message


def test_kernels_are_read_before_a_directory_is_made(data, tmp_path):
    """So that the command can be mended and given again."""
    np.save(tmp_path / "kernel.npy", np.full((19, 19), 1 / 361, np.float32))
    for pool, reason in (("nowhere", "nowhere: no such folder"), (tmp_path, "19x19 .* 16x16")):
        low = {"scale": 2, "kernel": "pool", "pool": str(pool)}
        config = config_with(**{"degradation.options": ConfigDict({"low_resolution": low})})
        with pytest.raises(ConfigError, match=f"low_resolution.pool: .*{reason}"):
            train_and_evaluate(config, tmp_path / "run", datasets={"train": None, "eval": ()})
    assert not (tmp_path / "run").exists()


@pytest.mark.extended
def test_kernels_unseen_in_training(workdir, data, tmp_path, capsys):
    np.save(tmp_path / "kernel.npy", np.full((3, 3), 1 / 9, np.float32))
    kernels = f"none,gaussian:0.8,disk:2,pool:{tmp_path}"
    command = ("eval.py", "--workdir", workdir, "--data", data / "clean", "--protocols", "sr,8bit")
    assert run(*command, "--kernels", kernels, "--output", tmp_path / "out") is None
    rows = rows_of(tmp_path / "out")
    labels = ["no-blur", "gaussian0.8", "disk2", f"pool-{tmp_path.name}"]
    assert [row["protocol"] for row in rows] == [
        f"{label}-{name}-x2" for label in labels for name in ("sr", "8bit")
    ]
    assert {row["n"] for row in rows} == {2}
    blurred = [row["input_psnr"] for row in rows if row["protocol"].endswith("8bit-x2")]
    assert blurred[0] > blurred[1] > blurred[2]
    out = capsys.readouterr().out
    assert (
        "\ngaussian0.8-sr-x2: synthetic low_resolution with gaussian0.8, rounded to 8 bits" in out
    )
    # Without, the kernel of the training, and pairs beside clean images.
    both = f"{data / 'clean'},{data / 'pairs'}"
    command = ("eval.py", "--workdir", workdir, "--data", both, "--protocols", "sr")
    assert run(*command, "--output", tmp_path / "own") is None
    assert [(row["dataset"], row["protocol"]) for row in rows_of(tmp_path / "own")] == [
        ("clean", "low_resolution-sr-x2"),
        ("pairs", "sr-pairs-x2"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernels=blur:2"], "--kernels blur:2: no such kernel; use none, gaussian:1.6"),
        (["--kernels=disk"], "--kernels disk: no such kernel"),
        (["--sigmas=25"], "for noise that is added to clean images, but this network is for super"),
        (["--data={}/pairs", "--kernels=none"], "--kernels are for clean images"),
        (["--kernels=gaussian:6"], "0: kernels of 49x49 pixels are larger than images of 32x34"),
    ],
    ids=str,
)
def test_mistakes_of_eval(workdir, data, tmp_path, arguments, message):
    given = [argument.format(data) for argument in arguments]
    command = ("eval.py", "--workdir", workdir, "--output", tmp_path, *given)
    assert message in error_of_script(*command)


@pytest.mark.extended
def test_restores_files(workdir, tmp_path, rng, capsys):
    """Twice as large, with alpha, profile and EXIF data, and scored at that size."""
    image = rng.integers(0, 255, (9, 13, 4), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271] = "Maker"
    Image.fromarray(image).save(tmp_path / "in.png", exif=exif, icc_profile=profile)
    restorer = Restorer.from_checkpoint(workdir)
    expected = restorer(image)
    assert expected.shape == (18, 26, 4)
    image_io.write(tmp_path / "reference.png", expected)
    files = f"{tmp_path}/in.png -o {tmp_path}/out.png --checkpoint {workdir}"
    cli.main(["restore", *files.split(), "--reference", f"{tmp_path}/reference.png"])
    restored, metadata = image_io.read_with_metadata(tmp_path / "out.png")
    np.testing.assert_array_equal(restored, expected)
    assert metadata.icc_profile == profile
    assert b"Maker" in metadata.exif
    assert "inf" in capsys.readouterr().out
    image_io.write(tmp_path / "small.png", image)
    arguments = [*files.split(), "--force", "--reference", f"{tmp_path}/small.png"]
    with pytest.raises(SystemExit, match="it is 13x9 with 3 channels, the restored image 26x18"):
        cli.main(["restore", *arguments])
