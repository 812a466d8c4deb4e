"""Each op by itself, eagerly and inside a Dataset."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import tf_ops
from lcdnet_jax import image_io
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
    """At mid grey and sigma 20 (six sigma from the ends) no protocol clips anything."""
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
