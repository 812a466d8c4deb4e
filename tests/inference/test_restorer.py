"""A Restorer: its results for one and several images, options, progress, programs and copies."""

import copy
import logging
import multiprocessing
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.networks import _blocks
from tests.inference.blur import BUCKET, Blur, TwoViews, by_hand, make
from tests.inference.filters import Filter, pair


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (1, 9), (11, 1), (37, 31), (17, 2)])
def test_equals_the_network_on_the_mirrored_image(rng, color, size):
    image = rng.random((*size, 3), np.float32)
    result = color(image)
    np.testing.assert_allclose(result, by_hand(color, image), rtol=0, atol=1e-5)


def test_lists(rng, color):
    """Of any sizes and types, in their order."""
    images = [
        rng.random((17, 23, 3), np.float32),
        rng.integers(0, 255, (9, 31), np.uint8),
        rng.integers(0, 65535, (1, 1, 4), np.uint16),
    ]
    for several in (images, tuple(images)):
        results = color(several)
        assert isinstance(results, list)
        for image, result in zip(images, results, strict=True):
            assert result.dtype == image.dtype
            np.testing.assert_array_equal(result, color(image))
    assert color([]) == []


@pytest.mark.parametrize("shape", [(3, 17, 9, 3), (1, 9, 9, 1), (2, 5, 4, 4)], ids=str)
def test_batches(rng, color, shape):
    batch = rng.integers(0, 255, shape, np.uint8)
    results = color(batch)
    assert (results.shape, results.dtype) == (shape, np.uint8)
    for image, result in zip(batch, results, strict=True):
        np.testing.assert_array_equal(result, color(image))


def test_errors_tell_which_image(rng, color):
    good = rng.random((9, 9, 3), np.float32)
    bad = np.where(good == good.max(), np.nan, good)
    with pytest.raises(ImageError, match=r"^image 1 of 2: the image holds NaN or infinite"):
        color([good, bad])
    with pytest.raises(ImageError, match=r"^image 2 of 3: the image holds NaN or infinite"):
        color(np.stack([good, good, bad]))
    with pytest.raises(ImageError, match=r"^image 0 of 1: expected an image .* shape \(9,\)"):
        color([[0.1] * 9])


def test_predict_is_the_network_alone(rng, color):
    image = rng.random((13, 9, 1), np.float32).repeat(3, axis=-1)
    result = Restorer(color.module, color.variables, bucket=BUCKET, strength=0).predict(image)
    np.testing.assert_allclose(result, by_hand(color, image), rtol=0, atol=1e-5)
    for other in (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 4), "f"), np.zeros((9, 9), "f")):
        with pytest.raises(ImageError, match=r"expected \[H, W, C\] floating-point pixels without"):
            color.predict(other)


def test_predictions_of_many_images_are_those_of_each(rng, color):
    """In their order, whichever are computed together; and they are read as they are needed."""
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, tile_batch=1)
    shapes = [(BUCKET - 1 - i % 3, BUCKET * (1 + (i == 9)), 3) for i in range(12)]
    images, read = [rng.random(shape, np.float32) for shape in shapes], []
    results = restorer.predict_each(read.append(i) or image for i, image in enumerate(images))
    first = next(results)
    assert len(read) == jax.local_device_count()
    for image, result in zip(images, [first, *results], strict=True):
        np.testing.assert_array_equal(result, restorer.predict(image))


class TestStrength:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(13, 9), (13, 9, 3), (13, 9, 4)])
    def test_mixes_image_and_result(self, rng, color, dtype, shape):
        top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
        image = (rng.random(shape) * top).astype(dtype)
        options = {"bucket": BUCKET}
        full = color(image)
        for strength in (0, 0.25, np.float32(0.5), 1):
            restorer = Restorer(color.module, color.variables, strength=strength, **options)
            result = restorer(image)
            assert (result.dtype, result.shape) == (dtype, shape)
            expected = {0: image, 1: full}.get(strength)
            if expected is not None:
                np.testing.assert_array_equal(result, expected)
                continue
            exact = image + strength * (full.astype(np.float64) - image)
            tolerance = 0.51 if top > 1 else np.finfo(dtype).eps * 4 + 1e-6
            np.testing.assert_allclose(result, exact, rtol=0, atol=tolerance)

    def test_0_is_a_copy(self, rng, color):
        image = rng.random((9, 9, 3)).astype(">f4")
        restorer = Restorer(color.module, color.variables, strength=0)
        result = restorer(image)
        assert result is not image
        assert result.dtype == image.dtype

    def test_mode(self, color):
        assert Restorer(color.module, {}, max_pixels=None, strength=0.5).mode == "strength 0.5"
        assert Restorer(color.module, {}, max_pixels=None, strength=1).mode == "full"

    @pytest.mark.parametrize("value", [-0.1, 1.01, np.nan, "0.5", None, True, np.inf])
    def test_other_values(self, value):
        with pytest.raises(ValueError, match=r"strength must be a number from 0 to 1, got"):
            Restorer(Blur(), {}, strength=value)

    def test_where_nothing_can_be_mixed(self):
        rcan = networks.create("rcan", scale=2, groups=1, blocks=1, features=16)
        with pytest.raises(ValueError, match="RCAN enlarges by 2, so its result cannot be mixed"):
            Restorer(rcan, {}, strength=0.5)
        with pytest.raises(ValueError, match="TwoViews takes two views, so its result cannot be"):
            Restorer(TwoViews(), {}, strength=0.5)
        Restorer(rcan, {}, strength=1)
        with pytest.raises(ValueError, match="RCAN enlarges by 2"):
            Restorer(rcan, {}).with_strength(0.5)

    def test_of_a_copy(self, rng, color):
        image = rng.random((13, 9, 3), np.float32)
        half = color.with_strength(0.5)
        assert (half.strength, color.strength) == (0.5, 1)
        assert half._program is color._program
        expected = Restorer(color.module, color.variables, strength=0.5, bucket=BUCKET)(image)
        np.testing.assert_array_equal(half(image), expected)
        with pytest.raises(ValueError, match=r"strength must be a number from 0 to 1, got 2"):
            color.with_strength(2)


def test_the_input_is_left_alone(rng, color):
    image = rng.random((16, 16, 3), np.float32)
    before = image.copy()
    image.flags.writeable = False
    result = color(image)
    np.testing.assert_array_equal(image, before)
    result += 1  # and the result belongs to the caller


def test_programs_are_shared(rng, caplog):
    """One for five sizes in a bucket and for all weights; another for the next bucket."""
    restorer = make(3)

    def compiled(restorer, *sizes):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            for size in sizes:
                restorer(rng.random((*size, 3), np.float32))
        return len([m for m in caplog.messages if re.match(r"Compiling (jit\()?apply\b", m)])

    sizes = [(33, 50), (48, 64), (40, 49), (34, 63), (47, 57)]
    assert compiled(restorer, *sizes) == 1
    others = make(3, seed=1).variables
    assert compiled(restorer.with_variables(others), *sizes) == 0
    assert compiled(restorer, (49, 50)) == 1


def test_networks_may_ask_for_more_overlap():
    assert Restorer(networks.create("unet_n2n"), {}, tile=512).mode == "tiled 512/96"
    assert Restorer(networks.create("dncnn"), {}, tile=512).mode == "tiled 512/64"
    assert Restorer(networks.create("unet_n2n"), {}, tile=512, overlap=32).mode == "tiled 512/32"


class TestProgress:
    def test_windows(self, rng, color):
        calls = []
        report = lambda *call: calls.append(call)  # noqa: E731
        options = {"bucket": BUCKET, "tile": 32, "overlap": 0, "device": "cpu"}
        tiled = Restorer(color.module, color.variables, **options, progress=report)
        tiled(rng.random((60, 70, 3), np.float32))
        windows = calls[-1][0]
        assert windows > 8
        assert calls == [(i, windows) for i in range(1, windows + 1)]
        assert tiled.count_windows(np.zeros((60, 70, 3))) == windows
        assert tiled.count_windows(np.zeros((20, 20))) == 1
        calls.clear()
        tiled([rng.random((20, 20, 3), np.float32), rng.random((60, 70, 3), np.float32)])
        assert calls == [(i, windows + 1) for i in range(1, windows + 2)]
        calls.clear()
        color.with_progress(report)(rng.random((2, 9, 9, 3), np.float32))
        assert calls == [(2, 2)]  # on two of the devices
        assert color._progress is None

    def test_an_exception_ends_the_call(self, rng, color):
        def stop(done, total):
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            color.with_progress(stop)(rng.random((9, 9, 3), np.float32))

    def test_compilation(self, rng, color):
        calls = []
        restorer = Restorer(
            color.module, color.variables, on_compile=lambda *size: calls.append(size)
        )
        for shape in ((60, 70), (64, 80), (50, 60), (60, 70, 3)):
            restorer(rng.random(shape, np.float32))
        assert calls == [(64, 96), (64, 64)]


def restore_elsewhere(restorer, image):
    return restorer(image), restorer.mode


class TestPickling:
    @pytest.mark.extended
    def test_in_another_process(self, rng, color):
        image = rng.integers(0, 256, (21, 13, 3), np.uint8)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            restored, mode = pool.apply(restore_elsewhere, (color, image))
        np.testing.assert_array_equal(restored, color(image))
        assert mode == color.mode

    def test_round_trip(self, rng, color):
        image = rng.integers(0, 256, (21, 13, 3), np.uint8)
        color(image)  # with programs and arrays on the device
        options = {"tile": 64, "overlap": 8, "ensemble": True, "bucket": 32, "device": "cpu"}
        for one in (color, Restorer(color.module, color.variables, **options)):
            other = pickle.loads(pickle.dumps(one))
            assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(other.variables))
            same = ("module", "tile", "overlap", "max_pixels", "tile_batch", "ensemble", "bucket")
            assert all(getattr(other, name) == getattr(one, name) for name in (*same, "_device"))
            np.testing.assert_array_equal(other(image), one(image))

    def test_copies(self, rng, color):
        image = rng.random((9, 9, 3), np.float32)
        for one in (copy.copy(color), copy.deepcopy(color)):
            np.testing.assert_array_equal(one(image), color(image))
        assert color.with_bucket(32)._program is color._program  # shares compiled programs


def test_with_variables_leaves_the_original(rng, color):
    image = rng.random((13, 9, 3), np.float32)
    before = color(image)
    other = color.with_variables(make(3, seed=1).variables)
    np.testing.assert_allclose(other(image), by_hand(other, image), rtol=0, atol=1e-5)
    assert (other(image) != before).any()
    np.testing.assert_array_equal(color(image), before)


def test_paths_and_names_in_a_wrong_place(color, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=r"got 'a'; use Restorer.from_checkpoint\(path\) or"):
        Restorer("a", {})
    with pytest.raises(ValueError, match=r"by Restorer.from_pretrained\('sadnet-photo'\)"):
        Restorer.from_checkpoint("sadnet-photo")
    for path in ("a.png", tmp_path / "a.png"):
        with pytest.raises(
            ImageError, match=r"is a path, '.*; read it with lcdnet_jax.image_io.re"
        ):
            color(path)


class LocalMean(networks.RestorationNetwork):
    channels: int = 1
    local_pool: int | None = None

    def __call__(self, x):
        return jnp.zeros_like(x) + _blocks.windowed_mean(x, self.local_pool)


def test_local_means(rng):
    """As numbers: the means of LCDNet's blocks, alone."""
    image = rng.random((12, 20), np.float32)
    module = LocalMean()
    full, wide, local = (
        Restorer(module, {}, bucket=1, local_pool=window)(image) for window in (None, 20, 5)
    )
    np.testing.assert_allclose(full, image.mean(), rtol=1e-6)
    np.testing.assert_array_equal(wide, full)
    np.testing.assert_allclose(local[4, 7], image[2:7, 5:10].mean(), rtol=1e-5)


@pytest.mark.extended
def test_local_means_of_lcdnet(lcdnet):
    """As programs, which are quicker to make than to compile."""

    def program(restorer):
        apply = jax.jit(restorer.module.apply)
        return apply.lower(restorer.variables, np.zeros((1, 16, 32, 1), "f")).as_text()

    module, variables = lcdnet
    full = program(Restorer(module, variables))
    assert program(Restorer(module, variables, local_pool=32)) == full
    local = program(Restorer(module, variables, local_pool=8))
    assert local == program(Restorer(module.clone(local_pool=8), variables))
    assert local != full


def test_mode(lcdnet):
    module, variables = lcdnet
    tiled = {"tile": 256, "overlap": 64}
    full = {"max_pixels": None}
    assert Restorer(module, variables).mode == "windows with overlap 32 above 1572864 pixels"
    assert Restorer(module, variables, **full).mode == "full"
    assert Restorer(module, variables, local_pool=96, **full).mode == "local 96"
    assert Restorer(module, variables, **full, ensemble=True).mode == "ensemble"
    assert Restorer(module, variables, **tiled).mode == "tiled 256/64"
    assert Restorer(module, variables, local_pool=96, **tiled).mode == "tiled 256/64, local 96"
    assert Restorer(module.clone(local_pool=24), variables, **full).mode == "local 24"
    assert Restorer(Filter(), {}, **tiled).mode == "tiled 256/64"
    assert module.local_pool is None


def test_options_are_kept(rng, lcdnet, monkeypatch):
    whole, tiled = pair()
    other = jax.tree.map(lambda a: 2 * a, whole.variables)
    image = rng.random((41, 50, 3), np.float32)
    result = tiled.with_variables(other)(image)
    np.testing.assert_allclose(result, whole.with_variables(other)(image), rtol=0, atol=1e-6)
    np.testing.assert_allclose(result, 2 * tiled(image), rtol=0, atol=1e-6)
    monkeypatch.setattr(weights_lib, "load", lambda *_, **__: weights_lib.Weights(*lcdnet, {}))
    loaded = Restorer.from_checkpoint("run", tile=200, overlap=32, local_pool=12)
    assert loaded.with_variables({}).mode == "tiled 200/32, local 12"
