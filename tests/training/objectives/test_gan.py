"""Adversarial training: losses against NumPy, both networks, exact resume, devices, messages."""

import functools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

import input_pipeline
from configs import sr_esrgan
from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, storage
from lcdnet_jax.checkpoints import Checkpoints
from lcdnet_jax.networks import vgg
from lcdnet_jax.training import make_train_step, replay, train_and_evaluate
from lcdnet_jax.training.objectives import gan
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")

WITHOUT_VGG = {"gan.perceptual_weight": 0.0, "gan.vgg": ""}


def config_with(**fields):
    config = sr_esrgan.get_config("sfm")
    config.network.name = "rcan"
    config.network.kwargs = ConfigDict({"scale": 2, "groups": 1, "blocks": 1, "features": 16})
    config.degradation.options = ConfigDict({"low_resolution": {"scale": 2}})
    config.data.crop, config.batch_size, config.steps, config.init_from = 32, 4, 2, ""
    config.gan.critic_features = 2
    config.log_every, config.eval_every, config.checkpoint_every = 1, 0, 0
    config.eval.panels, config.eval.max_images = 0, 1
    config.update_from_flattened_dict(fields)
    config_lib.validate(config)
    return config


# --- Losses ---------------------------------------------------------------------------------------


@pytest.fixture
def tiny_vgg(monkeypatch, tmp_path, rng):
    """A file of VGG19 with two or three channels in each layer, and what it holds."""
    widths = tuple(2 + i % 2 for i in range(len(vgg.LAYERS)))
    monkeypatch.setattr(vgg, "WIDTHS", widths)
    tensors, before = {}, 3
    for layer, width in zip(vgg.LAYERS, widths, strict=True):
        kernel = rng.normal(0, (2 / 9 / before) ** 0.5, (width, before, 3, 3))
        tensors[f"features.{layer}.weight"] = kernel.astype(np.float32)
        tensors[f"features.{layer}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)
        before = width
    tensors["classifier.0.weight"] = np.ones((2, 2), np.float32)
    path = tmp_path / "vgg.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path, tensors


@pytest.fixture
def shallow_vgg(monkeypatch, request):
    """The same for the first two of its convolutions, which compile quickly."""
    monkeypatch.setattr(vgg, "LAYERS", vgg.LAYERS[:2])
    return request.getfixturevalue("tiny_vgg")


# torchvision's list "features" for configuration "E", to its 35th member.
E = [*"cc", "M", *"cc", "M", *"cccc", "M", *"cccc", "M", *"cccc"]


def slow_vgg(tensors, images):
    """By the list of torchvision, with PyTorch's shapes: [N, 3, H, W]."""
    y = np.broadcast_to(images, (*images.shape[:3], 3)).transpose(0, 3, 1, 2).astype(np.float64)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    y, index = (y - mean) / std, 0
    for number, kind in enumerate(E):
        height, width = y.shape[2:]
        if kind == "M":
            blocks = y[..., : height // 2 * 2, : width // 2 * 2]
            blocks = blocks.reshape(*y.shape[:2], height // 2, 2, width // 2, 2)
            y, index = blocks.max(axis=(3, 5)), index + 1
            continue
        kernel = tensors[f"features.{index}.weight"]
        padded = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
        y = sum(
            np.einsum(
                "nchw,oc->nohw", padded[..., i : i + height, j : j + width], kernel[..., i, j]
            )
            for i in range(3)
            for j in range(3)
        )
        y = y + tensors[f"features.{index}.bias"][:, None, None]
        if number < len(E) - 1:
            y, index = y.clip(0), index + 2
    assert index == 34
    return y.transpose(0, 2, 3, 1)


@pytest.mark.extended
@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_vgg(tiny_vgg, rng, channels):
    path, tensors = tiny_vgg
    images = rng.random((2, 35, 48, channels)).astype(np.float32)
    features = vgg.vgg19(convert.read_vgg19(path), images)
    assert features.shape == (2, 2, 3, 3)
    assert float(abs(features).max()) > 0.01
    np.testing.assert_allclose(features, slow_vgg(tensors, images), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="got 15x48 pixels; use at least 16x16"):
        vgg.vgg19((), images[:, :15])


def test_features_of_a_bucket(tiny_vgg, bucket):
    path, _ = tiny_vgg
    storage.upload_file(path, storage.to_path(f"{bucket}/vgg.safetensors"))
    for found, given in zip(
        convert.read_vgg19(f"{bucket}/vgg.safetensors"), convert.read_vgg19(path), strict=True
    ):
        np.testing.assert_array_equal(found[0], given[0])
    with pytest.raises(OSError, match=r"cannot read gs://.*none.safetensors: No such file"):
        convert.read_vgg19(f"{bucket}/none.safetensors")


def test_layers_are_those_of_vgg19():
    convolutions = sum(
        9 * before * width + width
        for before, width in zip((3, *vgg.WIDTHS), vgg.WIDTHS, strict=False)
    )
    assert convolutions == 20_024_384  # of torchvision's 143,667,240


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("features.34.bias"), r"vgg19: features.34.bias is missing$"),
        (
            lambda t: t.update({"features.2.weight": t["features.0.weight"]}),
            r"vgg19: features.2.weight is \(2, 3, 3, 3\), VGG19 has \(3, 2, 3, 3\)$",
        ),
        (lambda t: t.clear(), r"vgg19: features.0.weight is missing \(and 31 more\)"),
    ],
)
def test_other_files(tiny_vgg, change, message):
    path, tensors = tiny_vgg
    change(tensors)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=message):
        convert.read_vgg19(path)
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="is not a safetensors file, or is damaged"):
        convert.read_vgg19(path)


# --- Configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gan.vgg": ""}, r"gan.perceptual_weight \(1.0\) needs weights .*/vgg19-dcbb9e9d.pth, or"),
        ({"data.crop": 48}, r"data.crop \(48\) is not a multiple of 32, .*; use 32$"),
        ({"batch_size": 1}, r"batch_size \(1\) and config.data.crop \(32\) leave the critic one"),
        ({"accumulate": 2}, r"config.accumulate \(2\) cuts the batch"),
        ({"loss": "l1_fft"}, r"config.loss 'l1_fft' is not one of the pixel losses"),
        ({"dct_loss_weight": 1.0}, r"config.dct_loss_weight \(1.0\) is not used by"),
    ],
    ids=str,
)
def test_mistakes(fields, message):
    with pytest.raises(config_lib.ConfigError, match=message):
        config_with(**fields)


def test_stored_before_there_was_a_critic(tmp_path):
    config = config_with(objective="supervised", **WITHOUT_VGG)
    stored = config.to_dict()
    del stored["gan"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    loaded = config_lib.load(tmp_path / "config.json")
    config_lib.validate(loaded)
    assert set(config_lib.differences(loaded, config)) == {
        "config.gan.critic_features: 64 there, 2 given",
        "config.gan.perceptual_weight: 1.0 there, 0.0 given",
    }


# --- Steps ----------------------------------------------------------------------------------------


def batch_of(count=4):
    clean = np.random.default_rng(0).random((count, 32, 32, 1)).astype(np.float32)
    return {"clean": clean, "mask": np.ones(count, np.float32)}


TX = optax.sgd(0.1)  # Adam would hide a wrong scale of the gradients


def start_of(config, features=None):
    init = gan.make_extra_state_init(config)
    module = config_lib.network(config)
    state = create_state(jax.random.key(0), module, TX, ema=True, init_extra_state=init)
    return state.replace(features=features)


@pytest.mark.extended
@pytest.mark.slow
def test_one_step_on_two_devices_is_that_of_one(shallow_vgg):
    """Both networks move; gradients of the critic are seen in Adam's moments."""
    config = config_with(**{"gan.vgg": str(shallow_vgg[0])})
    start = jax.device_get(start_of(config, gan.read_features(config)))
    results = []
    for strategy, devices in (("jit", 1), ("pmap", 2)):
        config.parallel.strategy = strategy
        partitioner = Partitioner.from_config(config, jax.devices()[:devices])
        placed = jax.device_put(start, partitioner.get_state_sharding(start))
        program = compile_program(config_lib.network(config), TX, config, partitioner, placed)
        state, metrics = program(placed, partitioner.put_batches([batch_of()]))
        results.append(jax.device_get((state, metrics)))

    (state, metrics), (other, other_metrics) = results
    for name in ("critic_loss", "pixel_loss", "perceptual_loss", "adversarial_loss"):
        assert 0 < metrics[name] < 10
    total = sum(
        weight * metrics[f"{name}_loss"]
        for name, weight in (("pixel", 0.01), ("perceptual", 1), ("adversarial", 0.005))
    )
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    for before, after in (
        (start.params, state.params),
        (start.critic.params, state.critic.params),
        (start.critic.batch_stats, state.critic.batch_stats),
        (start.ema, state.ema),
    ):
        moved = jax.tree.map(lambda a, b: abs(a - b).max(), before, after)
        assert max(jax.tree.leaves(moved)) > 1e-5
    jax.tree.map(np.testing.assert_array_equal, start.features, state.features)

    def compared(state):
        return state.params, state.ema, state.critic.opt_state, state.critic.batch_stats

    same = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(same, compared(other), compared(state))
    for name, value in metrics.items():
        np.testing.assert_allclose(other_metrics[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.extended
def test_without_weight_the_critic_learns_alone():
    """The network's step is that of supervised training; one that is not finite is passed over."""
    config = config_with(
        **WITHOUT_VGG, **{"gan.pixel_weight": 1.0, "gan.critic_weight": 0.0}, skip_nonfinite=1
    )
    module, start = config_lib.network(config), start_of(config)
    step = jax.jit(make_train_step(module, TX, config))
    new, _ = step(start, batch_of())
    plain = config_with(objective="supervised")
    expected, _ = jax.jit(make_train_step(module, TX, plain))(start, batch_of())
    for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), start.critic.params, new.critic.params)
    assert max(jax.tree.leaves(moved)) > 1e-5

    params = jax.tree.map(lambda x: x * jnp.float32(jnp.inf), start.critic.params)
    broken = start.replace(critic=start.critic.replace(params=params))
    new, metrics = step(broken, batch_of())
    assert np.isnan(metrics["grad_norm"])
    assert int(new.step) == 1
    jax.tree.map(np.testing.assert_array_equal, new.params, start.params)


# --- Runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(noise_photos):
    return noise_photos(*[(36, 40, 1)] * 3)


def run(config, photos, workdir, **fields):
    config = config.copy_and_resolve_references()
    for split in ("train", "eval"):
        config.data[split].path = str(photos)
    config.update_from_flattened_dict(fields)
    datasets = input_pipeline.create_datasets(config)
    state = train_and_evaluate(config, workdir, datasets=datasets, devices=jax.devices()[:1])
    return state, config, datasets


@pytest.mark.extended
@pytest.mark.slow
def test_a_cut_changes_no_bit(photos, shallow_vgg, tmp_path, capsys):
    config = config_with(**{"gan.vgg": str(shallow_vgg[0]), "ema_decay": 0.9}, steps=4)
    straight, given, datasets = run(config, photos, tmp_path / "straight", checkpoint_every=2)
    cut = shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints/4")
    again, *_ = run(config, photos, cut, checkpoint_every=2)
    assert "continuing after step 2 of " in capsys.readouterr().out
    assert jax.tree.structure(straight) == jax.tree.structure(again)
    jax.tree.map(np.testing.assert_array_equal, straight, again)
    assert int(again.critic.opt_state[0].count) == 4
    rows = [json.loads(row) for row in (cut / "metrics.jsonl").read_text().splitlines()]
    assert {"train/critic_loss", "train/perceptual_loss", "eval/psnr"} <= {
        name for row in rows for name in row
    }
    reader = Checkpoints(cut)
    items = reader.items(4)
    reader.close()
    assert set(items) == {"params", "opt_state", "ema", "critic"}  # nothing of VGG
    assert set(items["critic"]) == {"params", "opt_state", "batch_stats"}

    capsys.readouterr()
    folder = replay(given, cut, 3, datasets=datasets)
    assert (folder / "batch.npz").is_file()
    printed = capsys.readouterr().out
    (expected,) = (row for row in rows if row["step"] == 3 and "train/loss" in row)
    for name, label in (("loss", "^step 3:"), ("critic_loss", "^  critic:")):
        found = re.search(rf"{label} loss ([\d.]+), gradient norm [\d.]+$", printed, re.MULTILINE)
        assert float(found[1]) == pytest.approx(expected[f"train/{name}"], rel=1e-3)


@pytest.mark.extended
@pytest.mark.slow
def test_starts_from_a_supervised_run(photos, tmp_path):
    """Whose checkpoints have no critic; and without weights of VGG the message comes early."""
    before, *_ = run(config_with(objective="supervised"), photos, tmp_path / "first")
    reader = Checkpoints(tmp_path / "first")
    assert set(reader.items(2)) == {"params", "opt_state"}
    reader.close()
    assert before.critic is None
    config = config_with(**WITHOUT_VGG, init_from=str(tmp_path / "first"))
    still = {"optimizer.learning_rate": 0.0, "steps": 1}
    after, *_ = run(config, photos, tmp_path / "second", **still)
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    assert after.features is None
    with pytest.raises(config_lib.ConfigError) as caught:
        run(config_with(**{"gan.vgg": "nowhere.safetensors"}), photos, tmp_path / "third")
    assert str(caught.value).startswith(
        "config.gan.vgg: cannot read nowhere.safetensors: No such file or directory; give a state"
    )
    assert not (tmp_path / "third").exists()
