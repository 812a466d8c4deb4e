import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft, ndimage, stats

from lcdnet_jax import degradations

# Few shapes and types below, so that few programs are compiled.
awgn = jax.jit(degradations.awgn, static_argnames="protocol")
blind_awgn = jax.jit(degradations.blind_awgn, static_argnames="protocol")

SIGMA = 50 / 255
FLAT = np.full((4, 40, 90, 3), 0.1, np.float32)  # half a sigma above black: much is clipped


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 4)


@pytest.fixture
def clean(rng):
    return rng.random(FLAT.shape, np.float32)


def moments(protocol, level):
    """Mean, variance and the share of exact zeros of a noisy value, from the normal law."""
    if protocol == "float":
        return level, SIGMA**2, 0.0
    steps = np.linspace(-6, 6, 20_001)
    weights = stats.norm.pdf(steps) / stats.norm.pdf(steps).sum()
    values = np.clip(level + SIGMA * steps, 0, 1)
    lowest = 0.0
    if protocol == "8bit":
        values, lowest = np.round(values * 255) / 255, 0.5 / 255
    mean = weights @ values
    return mean, weights @ (values - mean) ** 2, stats.norm.cdf((lowest - level) / SIGMA)


def assert_follows_the_law(noisy, protocol, level):
    """Within four standard errors."""
    noisy = np.asarray(noisy, np.float64)
    mean, variance, zeros = moments(protocol, level)
    centered = noisy - mean
    count = noisy.size
    assert abs(centered.mean()) < 4 * np.sqrt(variance / count)
    error = np.sqrt(((centered**2).var()) / count)
    assert abs((centered**2).mean() - variance) < 4 * error
    share = (noisy == 0).mean()
    assert abs(share - zeros) <= 4 * np.sqrt(zeros * (1 - zeros) / count)


@pytest.mark.parametrize("protocol", degradations.NOISE_PROTOCOLS)
def test_statistics(protocol, keys):
    noisy = awgn(keys, FLAT, sigma=50, protocol=protocol)
    assert noisy.shape == FLAT.shape
    assert noisy.dtype == jnp.float32
    assert_follows_the_law(noisy, protocol, 0.1)


@pytest.mark.parametrize("protocol", degradations.NOISE_PROTOCOLS)
def test_host_noise_follows_the_same_law(protocol):
    """Training may add noise in tf.data or on the device; evaluation does it on the device."""
    tf = pytest.importorskip("tensorflow")
    from input_pipeline import tf_ops

    noisy = tf_ops.add_noise(
        tf.constant(FLAT.reshape(-1, 90, 3)),
        tf.constant([3, 5], tf.int64),
        sigma_min=50.0,
        sigma_max=50.0,
        protocol=protocol,
    )
    assert_follows_the_law(noisy.numpy(), protocol, 0.1)


def test_noise_is_white_and_differs_between_images(keys):
    noise = np.asarray(awgn(keys, FLAT, sigma=50, protocol="float")) - FLAT
    for a, b in (
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[1:], noise[:-1]),
    ):
        assert abs((a * b).mean()) < 4 * SIGMA**2 / np.sqrt(a.size)


@pytest.mark.parametrize("sigma", [25, np.array([10, 0, 70, 3], np.float32)])
def test_is_the_clean_image_plus_scaled_normal_noise(keys, clean, sigma):
    noise = np.stack([jax.random.normal(key, clean.shape[1:]) for key in keys])
    levels = np.broadcast_to(sigma, 4)[:, None, None, None] / 255
    noisy = awgn(keys, clean, sigma=sigma, protocol="float")
    np.testing.assert_allclose(noisy, clean + noise * levels, rtol=0, atol=3e-7)


@pytest.mark.extended
def test_an_image_does_not_depend_on_its_batch(keys, clean):
    def degrade(order):
        order = np.asarray(order)
        return np.asarray(blind_awgn(keys[order], clean[order], sigma_min=0, sigma_max=50))

    together = degrade([0, 1, 2, 3])
    np.testing.assert_array_equal(degrade([3, 2, 1, 0]), together[::-1])
    np.testing.assert_array_equal(degrade([1, 1, 3, 3]), together[[1, 1, 3, 3]])
    np.testing.assert_array_equal(degrade([2]), together[2:3])
    assert (together[0] - clean[0] != together[1] - clean[1]).all()


def test_stored_values(keys, clean):
    noisy = {
        protocol: np.asarray(awgn(keys, clean, sigma=80, protocol=protocol))
        for protocol in degradations.NOISE_PROTOCOLS
    }
    assert noisy["float"].min() < 0
    assert noisy["float"].max() > 1
    # Three programs, so the last bit may differ.
    np.testing.assert_allclose(noisy["clipped"], noisy["float"].clip(0, 1), rtol=0, atol=1e-6)
    levels = np.rint(noisy["clipped"].astype(np.float64) * 255)
    # XLA divides by a constant with its reciprocal, which costs the last bit.
    np.testing.assert_allclose(noisy["8bit"], levels / 255, rtol=1e-6)


def test_blind_levels_are_uniform():
    """The noise of an image is as strong as its level; levels fill the range evenly."""
    clean = np.zeros((400, 16, 16, 3), np.float32)
    keys = jax.random.split(jax.random.key(1), 400)
    noisy = blind_awgn(keys, clean, sigma_min=20, sigma_max=60)
    levels = np.asarray(noisy).std(axis=(1, 2, 3)) * 255
    assert 18 < levels.min() < 22  # one level is measured to 2.5 %
    assert 57 < levels.max() < 64
    assert stats.kstest((levels - 20) / 40, "uniform").pvalue > 1e-3
    # A level says nothing about the noise: normalized noise is standard normal.
    unit = np.asarray(noisy) / levels[:, None, None, None] * 255
    assert stats.kstest(unit[:20].ravel(), "norm").pvalue > 1e-3


def test_blind_range_of_one_level(keys):
    noisy = blind_awgn(keys, FLAT, sigma_min=50, sigma_max=50)
    assert_follows_the_law(noisy, "float", 0.1)


@pytest.mark.parametrize("shape", [(2, 33, 20, 1), (1, 9, 40, 3)])
def test_spectra(rng, shape):
    """The filters as the SFM code writes them, by scipy in float64."""
    white = rng.standard_normal(shape).astype(np.float32)
    height, width = shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    radius, limit = np.hypot(rows, columns), np.hypot(height, width)
    coefficients = fft.dctn(white.astype(np.float64), axes=(1, 2), norm="ortho")
    for spectrum, zeroed in (
        ("high", (radius >= 0) & (radius <= 0.5 * limit)),
        ("low", (radius >= 0.5 * limit) & (radius <= limit)),
    ):
        kept = np.where(zeroed[None, :, :, None], 0, coefficients)
        expected = fft.idctn(kept, axes=(1, 2), norm="ortho")
        actual = degradations.shape_noise(jnp.asarray(white), spectrum=spectrum)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    expected = ndimage.gaussian_filter(white.astype(np.float64), (0, 3, 3, 0))
    actual = degradations.shape_noise(jnp.asarray(white), spectrum="brownian")
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert degradations.shape_noise(white, spectrum="white") is white
    with pytest.raises(ValueError, match="'pink'; use one of white, low, high, brownian"):
        degradations.shape_noise(white, spectrum="pink")


def test_variance_that_is_left(rng):
    """As the docstring says, for 64x64."""
    white = jnp.asarray(rng.standard_normal((8, 64, 64, 1)), jnp.float32)
    left = {
        s: float(degradations.shape_noise(white, spectrum=s).var()) for s in degradations.SPECTRA
    }
    assert left["white"] == pytest.approx(1, abs=0.03)
    assert left["low"] == pytest.approx(0.404, abs=0.02)
    assert left["high"] == pytest.approx(0.596, abs=0.02)
    assert left["brownian"] == pytest.approx(0.01, abs=0.003)


def test_awgn_of_other_spectra(keys, clean):
    noise = awgn(keys, clean, sigma=30) - clean
    for spectrum in ("low", "brownian"):
        shaped = degradations.awgn(keys, clean, sigma=30, spectrum=spectrum)
        expected = clean + degradations.shape_noise(noise, spectrum=spectrum)
        np.testing.assert_allclose(shaped, expected, atol=1e-6)


def test_level_that_varies_over_the_columns(keys):
    levels = degradations.varying_sigma(201, sigma=25, spread=10)
    np.testing.assert_allclose(levels[0, 0, [0, 100, 200], 0], [15, 25, 35], rtol=1e-6)
    flat = np.zeros((4, 400, 201, 3), np.float32)
    noisy = np.asarray(awgn(keys, flat, sigma=levels))
    measured = noisy.std(axis=(0, 1, 3)) * 255
    np.testing.assert_allclose(measured, levels.ravel(), rtol=0.06)
    for spread in (26, -1):
        with pytest.raises(ValueError, match=r"cannot vary by .* around 25; use a spread from 0"):
            degradations.varying_sigma(5, sigma=25, spread=spread)


def test_copies_share_the_level_and_nothing_else(keys, clean):
    levels = {"sigma_min": 0.0, "sigma_max": 80.0}
    first, second = degradations.noisy_copies(keys, clean, count=2, **levels)
    np.testing.assert_array_equal(first, degradations.blind_awgn(keys, clean, **levels))
    one, other = (np.asarray(copy) - clean for copy in (first, second))
    axes = (1, 2, 3)
    np.testing.assert_allclose(one.std(axes), other.std(axes), rtol=0.05)
    assert len(set(one.std(axes).round(3))) == 4
    correlation = (one * other).mean(axes) / one.std(axes) / other.std(axes)
    assert (abs(correlation) < 5 / np.sqrt(one[0].size)).all()


def test_bfloat16_stays(keys, clean):
    coarse = clean.astype(jnp.bfloat16)  # a NumPy array still
    noisy = awgn(keys, coarse, sigma=80, protocol="8bit")
    assert noisy.dtype == jnp.bfloat16
    # Noise and rounding to levels are of float32, the result alone is rounded to bfloat16.
    exact = awgn(keys, coarse.astype(np.float32), sigma=80, protocol="8bit")
    np.testing.assert_array_equal(noisy, exact.astype(jnp.bfloat16))


def test_keys_and_axes_are_checked(keys, clean):
    """One key for all would broadcast: the same noise in every image."""
    levels = {"sigma_min": 0, "sigma_max": 50}
    for few in (keys[:1], keys[:-1]):
        with pytest.raises(ValueError, match=r"keys have shape .*, expected \(\d+,\); give one"):
            degradations.awgn(few, clean, sigma=25)
        with pytest.raises(ValueError, match=r"keys have shape .*, expected \(\d+,\); give one"):
            degradations.blind_awgn(few, clean, **levels)
    with pytest.raises(ValueError, match=r"expected images \[N, H, W, C\]"):
        degradations.awgn(keys, clean[..., 0], sigma=25)


def test_unknown_protocol(keys):
    with pytest.raises(ValueError, match="'16bit'; use one of float, clipped, 8bit"):
        awgn(keys, FLAT, sigma=25, protocol="16bit")
