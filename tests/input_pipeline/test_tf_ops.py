"""Each op by itself, eagerly and inside a Dataset."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import fft, stats

from input_pipeline import tf_ops
from lcdnet_jax import image_io, sfm
from lcdnet_jax.degradations import NOISE_PROTOCOLS


def both_ways(function, *arguments):
    """Results of an eager call and of a Dataset's map, which must be equal."""
    eager = function(*(tf.constant(a) for a in arguments)).numpy()
    mapped = tf.data.Dataset.from_tensors(arguments).map(function).as_numpy_iterator().next()
    np.testing.assert_array_equal(eager, mapped)
    return eager


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 6, 1), (2, 3, 3), (1, 1, 1), (16, 9, 3)])
def test_reflect_pad_is_numpys_reflect(rng, shape):
    image = rng.integers(0, 256, shape, np.uint8)
    height, width = 16, 23
    expected = np.pad(
        image, ((0, max(height - shape[0], 0)), (0, width - shape[1]), (0, 0)), mode="reflect"
    )
    padded = both_ways(lambda x: tf_ops.reflect_pad(x, height, width), image)
    np.testing.assert_array_equal(padded, expected)


def test_reflect_pad_leaves_large_images(rng):
    image = rng.integers(0, 65536, (9, 10, 3), np.uint16)
    np.testing.assert_array_equal(both_ways(lambda x: tf_ops.reflect_pad(x, 8, 10), image), image)


def test_orient_flips_then_transposes(rng):
    image = rng.integers(0, 256, (4, 6, 3), np.uint8)
    for choices, expected in (
        ([False, False, False], image),
        ([True, False, False], image[::-1]),
        ([False, True, False], image[:, ::-1]),
        ([False, False, True], image.transpose(1, 0, 2)),
        ([True, False, True], np.rot90(image, -1)),
        ([False, True, True], np.rot90(image)),
    ):
        np.testing.assert_array_equal(both_ways(tf_ops.orient, image, np.array(choices)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_to_float_equals_the_library_exactly(dtype):
    image = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(16, -1, 1)
    result = both_ways(tf_ops.to_float, image)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, image_io.to_float(image))


SEED = np.array([3, 5], np.int64)


@pytest.mark.parametrize("protocol", NOISE_PROTOCOLS)
def test_noise_statistics(protocol):
    """At mid gray and sigma 20 (six sigma from the ends) no protocol clips anything."""
    image = np.full((100, 120, 3), 128 / 255, np.float32)
    noisy = both_ways(
        lambda x, s: tf_ops.add_noise(x, s, sigma_min=20.0, sigma_max=20.0, protocol=protocol),
        image,
        SEED,
    )
    noise = (noisy - image) * 255
    count, spread = noise.size, np.sqrt(20.0**2 + (1 / 12 if protocol == "8bit" else 0))
    assert abs(noise.mean()) < 4 * spread / np.sqrt(count)
    assert abs(noise.std() - spread) < 4 * spread / np.sqrt(2 * count)
    # Independent over pixels and channels, and Gaussian (fourth moment 3).
    for a, b in (
        (noise[1:], noise[:-1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[..., 1:], noise[..., :-1]),
    ):
        assert abs((a * b).mean()) < 4 * spread**2 / np.sqrt(a.size)
    assert abs(((noise / spread) ** 4).mean() - 3) < 4 * np.sqrt(96 / count)


def test_protocols_differ_in_range_and_levels():
    image = np.zeros((64, 64, 1), np.float32)
    noisy = {
        protocol: tf_ops.add_noise(
            image, tf.constant(SEED), sigma_min=50.0, sigma_max=50.0, protocol=protocol
        ).numpy()
        for protocol in NOISE_PROTOCOLS
    }
    assert noisy["float"].min() < -0.3
    np.testing.assert_array_equal(noisy["clipped"], noisy["float"].clip(0, 1))
    np.testing.assert_array_equal(
        noisy["8bit"], np.round(noisy["clipped"] * np.float32(255)) / np.float32(255)
    )


def test_blind_noise_draws_one_level_an_image_from_the_whole_range():
    image = np.zeros((48, 48, 1), np.float32)
    spread = np.array(
        [
            255 * noisy.std()
            for noisy in tf.data.Dataset.range(200)
            .map(
                lambda i: tf_ops.add_noise(image, tf.stack([3, i]), sigma_min=10.0, sigma_max=60.0)
            )
            .as_numpy_iterator()
        ]
    )
    assert 9 < spread.min() < 14
    assert 56 < spread.max() < 63
    assert abs(spread.mean() - 35) < 4 * 50 / np.sqrt(12 * 200)
    # The level says nothing about the first pixel, although both come from one seed.
    first = np.array(
        [
            tf_ops.add_noise(image, tf.constant([3, i], tf.int64), sigma_min=10.0, sigma_max=60.0)[
                0, 0, 0
            ]
            for i in np.arange(200)
        ]
    )
    assert abs(np.corrcoef(first / spread, spread)[0, 1]) < 4 / np.sqrt(200)


def test_noise_is_a_function_of_the_seed():
    image = np.zeros((8, 8, 3), np.float32)
    a, b, c = (
        tf_ops.add_noise(image, tf.constant(seed, tf.int64), sigma_min=5.0, sigma_max=9.0).numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_min": 1.0, "sigma_max": 2.0, "protocol": "jpeg"}, "float, clipped, 8bit"),
        ({"sigma_min": 3.0, "sigma_max": 2.0}, "lowest <= highest"),
    ],
)
def test_noise_refuses_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        tf_ops.add_noise(np.zeros((2, 2, 1), np.float32), tf.constant(SEED), **options)


# Frequency masking


FAILURE = 1e-7  # probability, of each statistical test
SEED = np.array([3, 5], np.int64)


def draws(function, count):
    """Results for the seeds (3, 0), (3, 1), ..."""
    numbers = tf.data.Dataset.range(count)
    results = numbers.map(lambda i: function(tf.stack([tf.constant(3, tf.int64), i])))
    return next(results.batch(count).as_numpy_iterator())


@pytest.mark.extended
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


@pytest.mark.extended
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
        "central": 2 * share * (1 - share),
        "random": np.full(shape, 0.5),
    }[mode]
    bound = np.sqrt(np.log(2 * share.size / FAILURE) / (2 * count))  # Hoeffding, all at once
    np.testing.assert_allclose(1 - masks.mean(0), law, rtol=0, atol=bound)


@pytest.mark.extended
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
        ({"rate": 1.5}, r"rate 1\.5 is not a probability; use 0 to 1"),
        ({"rate": 0.5, "mode": "middle"}, "no mode 'middle'; use one of targeted"),
        ({"rate": 0.5, "unselected": "black"}, "no unselected 'black'; use one of keep, zero"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tf_ops.mask_frequencies(tf.zeros([4, 4, 1]), tf.constant(SEED), **options)


# Two views


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
