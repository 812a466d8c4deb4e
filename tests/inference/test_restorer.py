import copy
import logging
import multiprocessing
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import Restorer, image_io, inference, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import limits, picture
from lcdnet_jax.networks import _blocks
from tests.inference.blur import BUCKET, Blur, TwoViews, Whole, by_hand, make
from tests.inference.filters import Filter, pair


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (1, 9), (11, 1), (37, 31), (17, 2)])
def test_equals_the_network_on_the_mirrored_image(rng, color, size):
    image = rng.random((*size, 3), np.float32)
    result = color(image)
    np.testing.assert_allclose(result, by_hand(color, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(13, 9), (13, 9, 1), (13, 9, 3)])
def test_keeps_shape_and_dtype(rng, color, gray, shape, dtype):
    image = (rng.random(shape) * (1 if np.dtype(dtype).kind == "f" else 255)).astype(dtype)
    for restorer in (color, gray):
        result = restorer(image)
        assert isinstance(result, np.ndarray)
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_clipped_and_rounded(rng, color, dtype, top):
    image = rng.integers(0, top, (13, 9, 3), dtype, endpoint=True)
    exact = by_hand(color, image / top) * top
    assert exact.min() < 0 or exact.max() > top  # so that clipping matters
    np.testing.assert_allclose(color(image), exact.clip(0, top), rtol=0, atol=0.51)


def test_floats_are_neither_clipped_nor_rejected(rng, color):
    image = rng.uniform(-2, 3, (13, 9, 3)).astype(np.float32)
    result = color(image)
    assert result.min() < 0
    assert result.max() > 1
    np.testing.assert_allclose(result, by_hand(color, image), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(color(image.astype(np.float64)), result)


@pytest.mark.parametrize(
    "shape", [(), (9,), (9, 9, 5), (9, 9, 0), (0, 9, 9, 3), (2, 1, 9, 9, 3), (0, 9, 3), (9, 0)],
    ids=str,
)  # fmt: skip
def test_other_shapes(color, shape):
    with pytest.raises(ImageError, match=r"expected an image .*got shape \(") as error:
        color(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_handed_through(rng, color, gray, options, dtype, channels):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (rng.random((41, 35, channels)) * top).astype(dtype)
    image[..., -1] = np.maximum(image[..., -1], top / 100)  # nothing is hidden
    for one in (color, gray):
        restorer = Restorer(one.module, one.variables, bucket=BUCKET, **options)
        result = restorer(image)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result[..., -1], image[..., -1])
        np.testing.assert_array_equal(result[..., :-1], restorer(image[..., :-1]))
        assert (result[..., :-1] != image[..., :-1]).any()


def test_channels_that_are_no_alpha(rng):
    """A network of four channels restores all of them, and nothing else."""
    four = make(4)
    image = rng.random((9, 9, 4), np.float32)
    np.testing.assert_allclose(four(image), by_hand(four, image), rtol=0, atol=1e-5)
    for shape in ((9, 9), (9, 9, 2), (9, 9, 3)):
        with pytest.raises(ImageError, match=r"for a network with channels=4; got shape"):
            four(np.zeros(shape))


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_two_views(rng, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    views = (rng.random((13, 9, 6)) * top).astype(dtype)
    restorer = Restorer(TwoViews(), {}, bucket=BUCKET)
    result = restorer(views)
    assert result.shape == (13, 9, 3)
    assert result.dtype == dtype
    left, right = np.split(views.astype(np.float64), 2, axis=-1)
    expected = left + right / 4
    if dtype != np.float32:
        expected = np.rint(expected.clip(0, top))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1 if top > 1 else 1e-6)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (0, 9, 6), (1, 9, 9, 2)], ids=str)
def test_one_view_in_a_network_of_two(shape):
    with pytest.raises(ImageError, match=r"takes the left and right view .*got shape \("):
        Restorer(TwoViews(), {})(np.zeros(shape, np.float32))


def test_two_views_in_a_network_of_one(color, gray):
    for restorer in (color, gray):
        with pytest.raises(ImageError, match=r"expected an image .*got shape \(9, 9, 6\)"):
            restorer(np.zeros((9, 9, 6), np.float32))


@pytest.mark.parametrize("dtype", [">u2", ">f2", ">f4", ">f8", "<u2"])
def test_byte_orders(rng, color, dtype):
    """The result has that of the image, and the values do not depend on it."""
    image = rng.random((13, 9, 3)) * (65535 if "u" in dtype else 1)
    native = image.astype(np.dtype(dtype).newbyteorder("="))
    result = color(native.astype(dtype))
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, color(native))


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
def test_memory_layouts(rng, color, options):
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    image = rng.integers(0, 256, (41, 35, 3), np.uint8)
    views = (image[::-1, ::2], image.transpose(1, 0, 2), np.asfortranarray(image), image[..., ::-1])
    for view in views:
        np.testing.assert_array_equal(restorer(view), restorer(view.copy()))


def test_images_of_pillow(rng, color):
    """By mode; the result is an array. All modes: test_pil_images.py."""
    image = rng.integers(0, 256, (13, 9, 3), np.uint8)
    palette = Image.fromarray(image).quantize(64)
    for one in (Image.fromarray(image), palette, Image.fromarray(image).convert("CMYK")):
        result = color(one)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, color(np.asarray(one.convert("RGB"))))
        np.testing.assert_array_equal(color([one])[0], result)
    with pytest.raises(ImageError, match="a PIL image of mode I holds 32-bit integers"):
        color(Image.new("I", (9, 13)))
    with pytest.raises(ImageError, match="image 1 of 2: a PIL image of mode I"):
        color([palette, Image.new("I", (9, 13))])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_pixels_that_are_no_numbers(color, value):
    """Of float32: the last is none."""
    image = np.zeros((9, 9, 3))
    image[3, 4, 1] = value
    with pytest.raises(ImageError, match="NaN or infinite pixels"):
        color(image)


class Scaled(networks.RestorationNetwork):
    """Multiplies by a number; needs no parameters."""

    channels: int = 3
    factor: float = 1.0

    def __call__(self, x):
        return x * jnp.float32(self.factor)


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.uint8, np.inf), (np.uint16, np.nan), (np.float32, np.nan), (np.float64, np.inf),
     (np.float16, 1e5)],
)  # fmt: skip
def test_results_that_are_no_numbers(rng, options, dtype, factor):
    """Of the image's type, as the last is not; where scores are computed they come back."""
    image = (rng.random((41, 35, 3)) * 99).astype(dtype)
    restorer = Restorer(Scaled(factor=factor), {}, bucket=BUCKET, **options)
    with pytest.raises(ImageError, match=r"the result holds NaN or infinity; scale the values"):
        restorer(image / 99 if image.dtype.kind == "f" else image)
    assert not np.isfinite(restorer.predict(np.float16(image + 1))).all()


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


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_pictures_in_color_stay_gray(rng, color, gray, options, dtype):
    """They become what the gray picture becomes; a single pixel of another color is color."""
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    one = (rng.random((41, 35)) * top).astype(dtype)
    image = one[..., None].repeat(3, axis=-1)
    for network in (color, gray):
        restorer = Restorer(network.module, network.variables, bucket=BUCKET, **options)
        result = restorer(image)
        np.testing.assert_array_equal(result, restorer(one)[..., None].repeat(3, axis=-1))
        transparent = np.dstack([image, np.full_like(one, top)])
        transparent[:9, :9] = [0, top, 0, 0]  # a color that nobody sees
        result = restorer(transparent)
        np.testing.assert_array_equal(result[9:, 9:, 0], result[9:, 9:, 2])
    image[17, 11, 0] = top - image[17, 11, 0]
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    assert (np.ptp(restorer(image), axis=-1) > 0).mean() > 0.9


@pytest.mark.parametrize("options", [{}, {"tile": 32, "overlap": 1}], ids=["whole", "tiled"])
@pytest.mark.parametrize("channels", [2, 4])
def test_hidden_colors_do_not_show(rng, color, options, channels):
    """What is under alpha 0 changes nothing that is visible, and comes back as it was."""
    restorer = Restorer(color.module, color.variables, bucket=BUCKET, **options)
    image = rng.integers(0, 256, (41, 35, channels), np.uint8)
    image[..., -1] = rng.choice([0, 1, 255], (41, 35), p=[0.4, 0.1, 0.5])
    hidden = image[..., -1] == 0
    results = []
    for value in (0, 255):
        image[hidden, :-1] = value
        results.append(restorer(image))
        np.testing.assert_array_equal(results[-1][hidden], image[hidden])
        np.testing.assert_array_equal(results[-1][..., -1], image[..., -1])
    np.testing.assert_array_equal(results[0][~hidden], results[1][~hidden])
    image[..., -1] = 0  # nothing to see: as if opaque
    np.testing.assert_array_equal(restorer(image)[..., :-1], restorer(image[..., :-1]))


def test_hidden_colors_of_a_network_that_enlarges():
    """They become those that the network saw, since alpha between pixels is not 0."""

    class Twice(networks.RestorationNetwork):
        channels: int = 3
        scale: int = 2

        def __call__(self, x):
            return x.repeat(2, axis=1).repeat(2, axis=2)

    image = np.full((9, 11, 4), 255, np.uint8)
    image[3:5, 4:7] = 0
    result = Restorer(Twice(), {})(image)
    np.testing.assert_array_equal(result[..., :3], 255)
    assert result[8, 10, 3] == 0


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


def test_values_of_8_bits_as_floats(rng, color):
    """They most likely were never divided, so that the result would be wrong without a word."""
    image = rng.integers(0, 256, (9, 9, 3))
    message = r"the pixels are from 0 to 255, far outside of the \[0, 1\].*; divide them by 255"
    image[0, 0, :2] = 0, 255
    with pytest.warns(inference.PixelRangeWarning, match=message):
        color(image.astype(np.float32))
    with pytest.warns(inference.PixelRangeWarning, match=message):
        color([image.astype(np.float64)])


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.bool_, np.complex64, "U3"])
def test_other_dtypes(color, dtype):
    with pytest.raises(ImageError, match=f"expected uint8, uint16.*got {np.dtype(dtype)}"):
        color(np.zeros((9, 9, 3), dtype))


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


# The smallest of each; a field that a network lacks is a mistake here, a network that is missing
# here is restored with its defaults.
_TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "ikc": {
        **{"channels": 1, "features": 4, "blocks": 1},
        **{"code_length": 3, "kernel_size": 5, "iterations": 2},
    },
    "kmsr": {"channels": 1, "features": 4, "blocks": 1},
    "lcdnet": {
        "channels": 1, "width": 16, "enc_blocks": (1, 1, 1, 1), "block": "naf", "use_msfm": False,
        "scam_type": "none", "sfe_type": "naf", "global_branch": "none",
    },
    "memnet": {"features": 4, "blocks": 1, "units": 1},
    "n3net": {"features": 4, "depth": 3, "neighbours": 2},
    "nafnet": {"channels": 1, "width": 4, "enc_blocks": (1, 1, 1, 1)},
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "restormer": {
        "channels": 1, "width": 4, "blocks": (1, 1, 1, 1), "refinement_blocks": 1,
        "heads": (1, 1, 1, 1),
    },
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 3, "blocks": 1, "features": 4, "growth": 2},
    "sadnet": {"channels": 1, "width": 4, "offset_width": 2, "groups": 2},
}  # fmt: skip


@pytest.fixture
def quickly_compiled():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.extended
@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("name", networks.available())
def test_every_network(rng, name):
    """Whole, in tiles and as an ensemble, all by one program on frames of 32 x 32 pixels.

    Those with means over the image see whole images on frames of their own.
    """
    module = networks.create(name, **_TINY.get(name, {}))
    shapes = networks.abstract_variables(module)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f"), shapes)
    variables["params"] = jax.tree.map(
        lambda leaf: 0.05 * rng.normal(size=leaf.shape).astype("f"), shapes["params"]
    )
    restorer = Restorer(module, variables, bucket=32, tile=32, overlap=0, device="cpu")
    small, large = (rng.random(size, np.float32) for size in ((17, 23), (40, 33)))
    whole, tiled = restorer(small), restorer(large)
    scale = module.scale
    for image, result in ((small, whole), (large, tiled)):
        assert result.shape == tuple(scale * side for side in image.shape)
        assert np.isfinite(result).all()
        assert (result != image.repeat(scale, axis=0).repeat(scale, axis=1)).any()
    ensemble = Restorer(module, variables, bucket=32, ensemble=True)
    ensemble._program = restorer._program
    assert np.isfinite(ensemble(small)).all()
    bucket = module.stride if module.global_means else 32
    if module.padding != "reflect":  # the network pads by itself
        bucket = 1
    padded = inference.pad_to_bucket(small[None, ..., None], bucket)
    frame = padded.shape[1:3]
    assert len(restorer._program._compiled) == len({(32, 32), frame, frame[::-1]})
    expected = jax.jit(module.apply)(variables, padded)[0, : 17 * scale, : 23 * scale, 0]
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-6)


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


class TestMemory:
    """Windows of more pixels than a device could hold fail."""

    @pytest.fixture
    def limited(self, color, monkeypatch):
        """Makes restorers with a limit, and lists the sizes of the windows that fit."""

        def make(most, module=color.module, **options):
            restorer = Restorer(module, color.variables, **options, device="cpu")
            run, sizes = restorer._program.run, []

            def limit(variables, windows):
                if np.prod(windows.shape[:3]) > most:
                    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating bytes")
                sizes.append(windows.shape[:3])
                return run(variables, windows)

            monkeypatch.setattr(restorer._program, "run", limit)
            return restorer, sizes

        return make

    def test_whole_images(self, rng, color, limited):
        restorer, sizes = limited(100 * 100, overlap=8)
        image = rng.random((200, 180, 3), np.float32)
        expected = Restorer(color.module, color.variables)(image)
        with pytest.warns(inference.MemoryWarning) as warnings:
            result = restorer(image)
        assert [str(warning.message) for warning in warnings] == [
            "windows of 192x256 pixels do not fit into memory; using tiles of 128x128 for "
            "images as large",
            "windows of 128x128 pixels do not fit into memory; using tiles of 64x64 for "
            "images as large",
        ]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        assert set(sizes) == {(1, 64, 64)}
        np.testing.assert_array_equal(restorer([image[:60], image])[1], result)  # no warning

    def test_smaller_images_do_not_depend_on_larger_ones(self, rng, color, limited):
        """They are restored whole before and after one for which memory was too small."""
        small, large = (rng.random(size, np.float32) for size in ((90, 60, 3), (200, 180, 3)))
        restorer, sizes = limited(100 * 100, overlap=0)
        before = restorer(small)
        with pytest.warns(inference.MemoryWarning):
            restorer(large)
        sizes.clear()
        np.testing.assert_array_equal(restorer(small), before)
        assert sizes == [(1, 96, 64)]
        sizes.clear()
        np.testing.assert_array_equal(restorer([large, small])[1], before)  # no warning
        assert sizes[-1] == (1, 96, 64)

    def test_of_the_host(self, color, limited, monkeypatch):
        """Smaller windows do not help against it."""

        def fail(self, *arguments, **options):
            raise MemoryError

        restorer, _ = limited(100 * 100)
        monkeypatch.setattr(picture.Picture, "finish", fail)
        with pytest.raises(MemoryError):
            restorer(np.zeros((90, 90, 3), np.uint8))
        assert restorer._smaller is None

    def test_batches(self, rng, limited):
        restorer, sizes = limited(64 * 64, tile=64, overlap=8, tile_batch=4)
        images = rng.random((3, 64, 64, 3), np.float32)
        with pytest.warns(
            inference.MemoryWarning, match="windows as large are computed one by one"
        ):
            restorer(images)
        assert sizes == [(1, 64, 64)] * 3

    def test_progress_starts_again(self, rng, limited):
        calls = []
        options = {"tile": 128, "overlap": 8, "progress": lambda *call: calls.append(call)}
        restorer, _ = limited(64 * 64, **options)
        with pytest.warns(inference.MemoryWarning):
            restorer([rng.random(size, np.float32) for size in ((60, 60), (200, 60))])
        assert calls[0] == (1, 3)
        assert calls[-1][0] == calls[-1][1] > 3

    def test_too_little_for_any(self, rng, limited):
        restorer, _ = limited(50 * 50)
        with (
            pytest.warns(inference.MemoryWarning) as warnings,
            pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"),
        ):
            restorer(rng.random((500, 500, 3), np.float32))
        tiles = [str(warning.message).split()[-5] for warning in warnings]
        assert tiles == ["256x256", "160x160"]  # twice the overlap of 64 and some

    def test_means_over_the_image(self, limited):
        module = Whole()
        restorer, _ = limited(100 * 100, module=module, overlap=8)
        with pytest.warns(inference.MemoryWarning, match="which change the result of this netw"):
            restorer(np.zeros((120, 120, 3), np.float32))

    def test_a_cpu_has_no_such_error(self, rng, color, monkeypatch):
        """The system would end the process, so XLA's plan is compared with what is left."""
        image = rng.random((200, 180, 3), np.float32)
        expected = Restorer(color.module, color.variables)(image)
        monkeypatch.setattr(limits, "find_available_memory", lambda: 5 * 10**5)
        restorer = Restorer(color.module, color.variables, overlap=8, device="cpu")
        with pytest.warns(inference.MemoryWarning, match="windows of 192x256 pixels do not fit"):
            result = restorer(image)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        monkeypatch.setattr(limits, "find_available_memory", lambda: 10)
        with pytest.raises(RuntimeError, match=r"RESOURCE_EXHAUSTED: windows of 64x64 pixels need"):
            Restorer(color.module, color.variables, overlap=8, device="cpu").predict(
                image[:60, :60]
            )

    def test_other_errors(self, color, monkeypatch):
        def fail(variables, windows):
            raise RuntimeError("something else")

        restorer = Restorer(color.module, color.variables)
        monkeypatch.setattr(restorer._program, "run", fail)
        with pytest.raises(RuntimeError, match="something else"):
            restorer(np.zeros((9, 9), np.float32))


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


@pytest.mark.slow  # compiles each of them twice
@pytest.mark.parametrize("name", networks.available())
def test_every_network_on_the_command_line(rng, tmp_path, name):
    """From exported parameters, with their card, to a file."""
    kwargs = _TINY.get(name, {})
    module = networks.create(name, **kwargs)
    variables = jax.tree.map(
        lambda leaf: 0.05 * np.abs(rng.normal(size=leaf.shape)).astype("f"),
        networks.abstract_variables(module),
    )
    weights_lib.save_directory(
        weights_lib.create_weights(name, variables, **kwargs), tmp_path / "net"
    )
    image = rng.integers(0, 256, (20, 24, 3), np.uint8)
    image_io.write(tmp_path / "in.png", image)
    files = f"{tmp_path}/in.png -o {tmp_path}/out.png --checkpoint {tmp_path}/net"
    cli.main(["restore", *files.split()])
    expected = Restorer.from_checkpoint(tmp_path / "net")(image)
    np.testing.assert_array_equal(image_io.read(tmp_path / "out.png"), expected)


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
