"""LCDNet's recipes: their variants, settings and data, and one of them from files to a picture."""

import functools
import importlib
import pathlib
import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import input_pipeline
from lcdnet_jax import Restorer, data_sets
from lcdnet_jax import config as config_lib
from lcdnet_jax.config import ConfigError
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.networks import lcdnet
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.training.optimizer import make_schedule

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
PRESETS = ("tiny", "small", "base", "large")
SIZES = (*PRESETS, "control")
VARIANTS = {
    "ablation": tuple("abcdefghijklmn"),
    "dpdd_dual": PRESETS,
    "dpdd_single": PRESETS,
    "gopro": PRESETS,
    "quickstart": (),
    "rain13k": PRESETS,
    "synthetic_defocus": (*SIZES, *(f"{size}:dual" for size in SIZES)),
    "synthetic_denoise": SIZES,
    "synthetic_motion": SIZES,
    "synthetic_rain": SIZES,
}
STEPS = {"gopro": 300_000, "dpdd_single": 150_000, "dpdd_dual": 150_000, "rain13k": 300_000}


def recipe(name, *variant):
    return importlib.import_module(f"configs.lcdnet_{name}").get_config(*variant)


def test_none_is_forgotten():
    shipped = {path.stem.removeprefix("lcdnet_") for path in CONFIGS.glob("lcdnet_*.py")}
    assert shipped == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_valid(name):
    for variant in ((), *((variant,) for variant in VARIANTS[name])):
        config = recipe(name, *variant)
        config_lib.validate(config)
        control = name == "ablation" and variant in (("m",), ("n",))
        assert config.network.name == ("nafnet" if control else "lcdnet")
        assert config.loss == "l1_fft"


@pytest.mark.extended
def test_ablation_rows(traced_once):
    """Parameters in the table of the docstring."""
    table = importlib.import_module("configs.lcdnet_ablation").__doc__
    rows = re.findall(r"^ {4}([a-n]) .* ([\d,]+)$", table, re.MULTILINE)
    assert [name for name, _ in rows] == list("abcdefghijklmn")
    for name, count in rows:
        if name in "afilmn":  # tracing all takes long; (e) and parts of it are in test_lcdnet.py
            module = config_lib.network(recipe("ablation", name))
            shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
            assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == int(count.replace(",", ""))
    assert [recipe("ablation", row).fft_weight for row in "eh"] == [0.1, 0.0]


# Settings


@pytest.mark.parametrize("name", STEPS)
def test_settings_for_published_data(name):
    """Those of the specification; it says "5e-4 -> 1e-7 cosine, 1k-step warm-up"."""
    config = recipe(name)
    network = config_lib.network(config)
    assert (network.width, network.enc_blocks, network.mid_blocks) == (32, (1, 1, 1, 28), 1)
    assert network.dec_blocks == (1, 1, 1, 1)
    assert (network.dtype, network.channels) == (jnp.bfloat16, 6 if name == "dpdd_dual" else 3)
    assert (config.batch_size, config.data.crop, config.steps) == (32, 256, STEPS[name])
    assert (config.loss, config.fft_weight) == ("l1_fft", 0.1)
    assert (config.optimizer.clip_norm, config.optimizer.beta2) == (0.01, 0.999)
    assert config.ema_decay == 0
    assert config.data.augment
    rate, last = make_schedule(config), config.steps - 1
    rates = [float(rate(step)) for step in (0, 500, 1_000, (1_000 + last) / 2, last)]
    assert rates == pytest.approx([5e-4 / 1001, 2.5e-4, 5e-4, 2.5005e-4, 1e-7], rel=2e-3)


@pytest.mark.parametrize(
    ("name", "variant", "kind"),
    [
        ("rain", "small", "rain"),
        ("defocus", "small", "defocus"),
        ("defocus", "small:dual", "dual_pixel"),
        ("denoise", "control", "camera"),
    ],
)
def test_degradation_and_steps_are_all_that_differ(name, variant, kind):
    config = recipe(f"synthetic_{name}", variant)
    motion = recipe("synthetic_motion", variant.partition(":")[0])
    assert (config.degradation.kind, config.degradation.protocol) == (kind, "8bit")
    assert config.data.channels == (6 if kind == "dual_pixel" else 3)
    config.degradation, config.data.channels = motion.degradation, 3
    config.steps = motion.steps
    assert config == motion


def test_plain_noise():
    """By the fields that the docstring names."""
    config = recipe("synthetic_denoise")
    config.degradation.kind, config.degradation.protocol = "awgn", "float"
    config_lib.validate(config)


# Data


def write(root, values, *, bits=8):
    """Flat pictures of 260x300 pixels by path."""
    for path, value in values.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        flat = np.full((260, 300, 3), value * (257 if bits == 16 else 1), f"uint{bits}")
        assert cv2.imwrite(str(root / path), flat)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Trees with two pairs to train on and one to score, where the recipes look for them.

    The clean half has the value 200, the degraded one 100, a second view 50.
    """
    monkeypatch.chdir(tmp_path)
    values = {"sharp": 200, "blur": 100, "target": 200, "input": 100}
    for split, frames in (("train", (47, 48)), ("test", (49,))):
        sequence = f"{split}/GOPR0372_07_00"
        write(
            tmp_path / "data/GoPro",
            {f"{sequence}/{h}/{k:06}.png": values[h] for h in ("blur", "sharp") for k in frames},
        )
    for folder, names in (("train/Rain13K", ("1.jpg", "2.jpg")), ("test/Rain100L", ("1.png",))):
        write(
            tmp_path / "data/Rain13K",
            {f"{folder}/{h}/{name}": values[h] for h in ("input", "target") for name in names},
        )
    for split, numbers in (("train", (890, 892)), ("val", (894,))):
        for k in numbers:
            views = {
                f"{split}_c/target/1P0A{k + 1:04}.png": 200,
                f"{split}_c/source/1P0A{k:04}.png": 100,
                f"{split}_l/source/1P0A{k:04}_L.png": 100,
                f"{split}_r/source/1P0A{k:04}_R.png": 50,
            }
            write(tmp_path / "data/DPDD", views, bits=16)
    return tmp_path


@pytest.mark.extended
@pytest.mark.parametrize("name", STEPS)
def test_reads_its_data(published, name):
    config = recipe(name)
    channels = config.data.channels
    datasets = input_pipeline.create_datasets(config)
    batch = next(datasets["train"].batches())
    (item,) = datasets["eval"]
    for one, shape in ((batch, (32, 256, 256)), (item, (260, 300))):
        assert one["clean"].shape == (*shape, 3)
        assert one["degraded"].shape == (*shape, channels)
        np.testing.assert_allclose(one["clean"], 200 / 255, atol=1e-6)
        if channels == 3:
            np.testing.assert_allclose(one["degraded"], 100 / 255, atol=1e-6)
        else:  # horizontal flips exchange the views
            views = np.split(one["degraded"], 2, axis=-1)
            np.testing.assert_allclose(np.maximum(*views), 100 / 255, atol=1e-6)
            np.testing.assert_allclose(np.minimum(*views), 50 / 255, atol=1e-6)
    if channels == 6:
        np.testing.assert_allclose(item["degraded"][..., :3], 100 / 255, atol=1e-6)
        exchanged = batch["degraded"][:, 0, 0, 0] < batch["degraded"][:, 0, 0, 5]
        assert 0 < exchanged.sum() < 32


# From files to a restored picture


@pytest.fixture
def quick(monkeypatch):
    """Compiles without LLVM's optimization, for one device: each would update all parameters."""
    options = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))
    device = jax.devices()[0]
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.extended
def test_trains_on_two_views(published, quick, monkeypatch, capsys):
    """LCDNet of two scales with NAFNet's blocks, which compile fast: 6 channels in, 3 out."""
    monkeypatch.setattr(lcdnet, "_SCALES", 2)
    config = recipe("dpdd_dual")
    config.network.kwargs = recipe("synthetic_motion", "control").network.kwargs
    config.network.kwargs.enc_blocks = config.network.kwargs.dec_blocks = (1, 1)
    config.network.dtype = "float32"
    config.data.crop, config.batch_size, config.steps = 16, 1, 1
    config.optimizer.warmup_steps = config.eval.panels = 0
    for half in ("c/target/1P0A0895", "l/source/1P0A0894_L", "r/source/1P0A0894_R"):
        path = str(published / f"data/DPDD/val_{half}.png")
        assert cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED)[:20, :28])
    config.eval.bucket = 16
    datasets = input_pipeline.create_datasets(config)
    state = train_and_evaluate(config, "run", datasets=datasets)
    assert state.params["stem"]["kernel"].shape == (3, 3, 6, 16)
    assert state.params["head0"]["kernel"].shape == (3, 3, 16, 3)
    printed = "".join(capsys.readouterr())
    assert "evaluation after step 1: " in printed
    assert "[dpdd: degraded images from disk" in printed  # the benchmark's own protocol
    assert '"eval/mae"' in pathlib.Path("run/metrics.jsonl").read_text()

    restorer = Restorer.from_checkpoint("run", bucket=16)
    (item,) = datasets["eval"]
    restored = restorer(item["degraded"])
    assert restored.shape == (20, 28, 3)
    mean = (item["degraded"][..., :3] + item["degraded"][..., 3:]) / 2
    assert 0 < np.abs(restored - mean).max() < 10
    with pytest.raises(ImageError, match=r"the left and right view .*got shape \(20, 28, 3\)"):
        restorer(item["clean"])


# Mistakes


def error_of(name, variant, **fields):
    config = recipe(name, variant)
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError) as caught:
        config_lib.validate(config)
    return str(caught.value)


def test_gopro_fits_into_its_cache():
    config = importlib.import_module("configs.lcdnet_gopro").get_config()
    pairs = data_sets.DATA_SETS["gopro"].splits["train"]
    assert pairs * 2 * 1280 * 720 * 3 <= config.data.cache_gb * 1e9


def test_networks_that_do_not_exist():
    wanted = "no preset 'huge'; its presets: tiny, small, base, large"
    assert wanted in error_of("gopro", "huge")
    assert wanted in error_of("synthetic_rain", "huge")
    with pytest.raises(ValueError, match="no variant 'tiny:duel'; use tiny or tiny:dual"):
        recipe("synthetic_defocus", "tiny:duel")
    with pytest.raises(ValueError, match="no ablation row 'z'; use one of a, b"):
        recipe("ablation", "z")
    assert error_of("gopro", "tiny", **{"network.kwargs": {"width": 40}}) == (
        "config.network.kwargs: LCDNet width 40 is not divisible by 16; use 32 or 48"
    )


def test_channels_that_do_not_fit(published):
    assert "'defocus' gives images of 3 channels, but config.data.channels is 6; add dual_" in (
        error_of("synthetic_defocus", "tiny", **{"data.channels": 6})
    )
    assert "'dual_pixel' gives images of 6 channels, but config.data.channels is 3; set " in (
        error_of("synthetic_defocus", "tiny:dual", **{"data.channels": 3})
    )
    config = recipe("dpdd_dual", "tiny")
    config.data.channels = 3
    with pytest.raises(ValueError, match=r"holds two views .*channels is 3; set it to 6"):
        input_pipeline.create_datasets(config)
    config = recipe("dpdd_single", "tiny")
    config.data.channels = 6
    with pytest.raises(ValueError, match=r"holds one view .*channels is 6, .*set it to 3"):
        input_pipeline.create_datasets(config)


@pytest.mark.parametrize("name", [*STEPS, "synthetic_motion"])
def test_data_that_are_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = recipe(name, "tiny")
    path = config.data.train.path
    with pytest.raises(ImageError, match=rf"^config\.data\.train\.path: {path}: does not exist"):
        input_pipeline.create_datasets(config)


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        (
            "gopro",
            "GoPro/train/GOPR0372_07_00/sharp/000048.png",
            "without a partner: blur/000048.png",
        ),
        ("rain13k", "Rain13K/train/Rain13K/target/2.jpg", "without a partner: input/2.jpg"),
        ("dpdd_single", "DPDD/train_c/target/1P0A0893.png", "has 2 pictures and train_c/target/ 1"),
        ("dpdd_dual", "DPDD/train_r/source/1P0A0890_R.png", "only one of their files in .*P0A0890"),
    ],
)
def test_data_with_a_file_missing(published, name, lost, message):
    (published / "data" / lost).unlink()
    with pytest.raises(ImageError, match=rf"^config\.data\.train\.path: .*{message}"):
        input_pipeline.create_datasets(recipe(name, "tiny"))
