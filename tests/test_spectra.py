"""Spectra, gains and mask coverage against float64 loops over SciPy's DCT, and known cases."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft, ndimage

from lcdnet_jax import sfm, spectra

EDGES = (0.05, 0.2, 0.5, 0.75, 1.0)
# Compiled without LLVM's optimization: these programs run once.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
response_gain = quick_jit(spectra.response_gain, static_argnames="edges")
radial_mean = quick_jit(spectra.radial_mean, static_argnames="edges")


def dct(images):
    """``[N, H, W, C]`` to coefficients, float64."""
    return fft.dctn(np.asarray(images, np.float64), axes=(1, 2), norm="ortho")


def idct(coefficients):
    return fft.idctn(coefficients, axes=(1, 2), norm="ortho").astype(np.float32)


def shares(height, width):
    corner = np.sqrt(height**2 + width**2)
    return np.array(
        [[np.sqrt(u * u + v * v) / corner for v in range(width)] for u in range(height)]
    )


# --- amplitude_spectrum ---


@pytest.mark.parametrize("shape", [(2, 12, 17, 3), (1, 7, 16, 1), (9, 5, 1), (3, 2, 6, 8, 2)])
@pytest.mark.parametrize(("rows", "columns"), [(5, None), (1, 4), (3, 1)])
def test_amplitudes_by_loops(rng, shape, rows, columns):
    images = rng.random(shape, np.float32)
    *_, width, channels = shape
    count = width if columns is None else columns
    if count > width:
        pytest.skip("narrower than that")
    coefficients = dct(images.reshape(-1, *shape[-3:]))
    expected = []
    for v in range(count):
        sizes = [abs(image[u, v, c]) for image in coefficients for u in range(rows)
                 for c in range(channels)]  # fmt: skip
        expected.append(sum(sizes) / len(sizes))
    frequencies, actual = spectra.amplitude_spectrum(images, rows=rows, columns=columns)
    assert actual.dtype == jnp.float32
    assert frequencies.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(frequencies, [v / (2 * width) for v in range(count)], rtol=1e-7)


@pytest.mark.parametrize("cycles", [0.0625, 0.125, 0.4])
def test_frequencies_are_cycles_per_pixel(cycles):
    """A wave of known length shows at its frequency, and nowhere else."""
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * cycles * (np.arange(80) + 0.5))
    image = np.broadcast_to(wave[:, None], (8, 80, 1))
    with jax.enable_x64(True):
        frequencies, amplitudes = spectra.amplitude_spectrum(image, rows=1)
    assert amplitudes.dtype == np.float64
    place = int(np.argmax(amplitudes[1:])) + 1
    assert frequencies[place] == pytest.approx(cycles)
    # Over 8 equal rows: sqrt(8) times the one-dimensional coefficient.
    assert amplitudes[place] == pytest.approx(0.4 * np.sqrt(8) * np.sqrt(80 / 2))
    assert amplitudes[0] == pytest.approx(0.5 * np.sqrt(8 * 80))
    rest = np.delete(np.asarray(amplitudes), [0, place])
    np.testing.assert_allclose(rest, 0, atol=1e-12)


def test_white_noise_is_flat(rng):
    noise = 0.1 * rng.standard_normal((80, 32, 64, 3)).astype(np.float32)
    _, amplitudes = spectra.amplitude_spectrum(noise)
    samples, mean = 80 * 5 * 3, 0.1 * np.sqrt(2 / np.pi)  # of the absolute value of a normal
    bound = 5.5 * 0.1 * np.sqrt((1 - 2 / np.pi) / samples)
    np.testing.assert_allclose(amplitudes, np.full(64, mean), rtol=0, atol=bound)


def test_low_precision_images_are_computed_in_float32(rng):
    images = jnp.asarray(rng.random((2, 8, 16, 1)), jnp.bfloat16)
    _, actual = spectra.amplitude_spectrum(images)
    _, expected = spectra.amplitude_spectrum(images.astype(jnp.float32))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 4, 8, 1), {}, "rows is 5, but images of 4x8 pixels have 4 rows"),
        ((1, 8, 8, 1), {"rows": 0}, "rows is 0"),
        ((1, 8, 8, 1), {"columns": 9}, "columns is 9, but images of 8x8 pixels have 8 columns"),
        ((1, 8, 8, 1), {"columns": 0}, "columns is 0"),
        ((8, 8), {}, r"expected images \[..., H, W, C\]"),
        ((0, 8, 8, 1), {}, "have no pixels"),
        ((1, 0, 8, 1), {}, "have no pixels"),
    ],
)
def test_amplitudes_of_unusable_images(shape, options, message):
    with pytest.raises(ValueError, match=message):
        spectra.amplitude_spectrum(np.ones(shape, np.float32), **options)


def test_integer_images_are_refused():
    image = np.ones((1, 8, 8, 1), np.uint8)
    with pytest.raises(TypeError, match="to_float"):
        spectra.amplitude_spectrum(image)
    with pytest.raises(TypeError, match="to_float"):
        spectra.response_gain(image, image, edges=EDGES)
    with pytest.raises(TypeError, match="floating-point"):
        spectra.radial_mean(image[0, ..., 0], edges=EDGES)


# --- response_gain ---


def gain_by_loops(outputs, inputs, edges):
    height, width = inputs.shape[1:3]
    share = shares(height, width)
    after, before = dct(outputs), dct(inputs)
    gains = np.zeros((len(inputs), len(edges) - 1))
    for n in range(len(inputs)):
        for i in range(len(edges) - 1):
            product = energy = 0.0
            for u in range(height):
                for v in range(width):
                    if edges[i] <= share[u, v] < edges[i + 1]:
                        product += (after[n, u, v] * before[n, u, v]).sum()
                        energy += (before[n, u, v] ** 2).sum()
            gains[n, i] = product / energy
    return gains


@pytest.mark.parametrize("shape", [(2, 12, 17, 3), (3, 9, 9, 1), (1, 13, 6, 2)])
def test_gain_by_loops(rng, shape):
    inputs, outputs = rng.random((2, *shape), np.float32)
    outputs = 0.5 * outputs + 0.5 * inputs
    edges = (0.0, *EDGES)
    actual = response_gain(outputs, inputs, edges=edges)
    assert actual.shape == (shape[0], len(edges) - 1)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, gain_by_loops(outputs, inputs, edges), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (17, 30)])
def test_a_filter_of_known_gain(rng, height, width):
    """Each image and band by a factor of its own, and noise elsewhere does not matter."""
    factors = np.array([[1.0, 0.5, 2.0, -0.25], [0.0, 1.0, 0.9, 0.1]])
    inputs = rng.random((2, height, width, 3), np.float32)
    coefficients = dct(inputs)
    share = shares(height, width)
    filtered = rng.random(coefficients.shape)  # below the first edge: in no band
    for n, row in enumerate(factors):
        for factor, (low, high) in zip(row, itertools.pairwise(EDGES), strict=True):
            inside = (low <= share) & (share < high)
            filtered[n, inside] = factor * coefficients[n, inside]
    actual = response_gain(idct(filtered), inputs, edges=EDGES)
    np.testing.assert_allclose(actual, factors, rtol=0, atol=1e-4)


def test_a_blur_has_its_transfer_function(rng):
    """Along rows, mirrored borders: each coefficient times (1 + cos(2 pi f)) / 2."""
    image = rng.random((1, 20, 33, 1), np.float32)
    blurred = ndimage.convolve1d(image, [0.25, 0.5, 0.25], axis=2, mode="reflect")
    gain = response_gain(blurred, image, edges=EDGES)
    transfer = (1 + np.cos(np.pi * np.arange(33) / 33)) / 2
    energy = dct(image)[0, :, :, 0] ** 2
    share, expected = shares(20, 33), []
    for low, high in itertools.pairwise(EDGES):
        inside = (low <= share) & (share < high)
        expected.append((energy * transfer)[inside].sum() / energy[inside].sum())
    np.testing.assert_allclose(gain, [expected], rtol=1e-4)


def test_unrelated_content_has_no_gain(rng):
    inputs, outputs = rng.standard_normal((2, 1, 128, 128, 1)).astype(np.float32)
    gain = response_gain(inputs + outputs, inputs, edges=(0.2, 0.9))
    assert gain[0, 0] == pytest.approx(1, abs=5.5 / np.sqrt(0.5 * 128**2))


def test_gain_in_a_band_that_is_exactly_empty():
    flat = np.zeros((1, 8, 8, 1), np.float32)
    assert np.isnan(response_gain(flat, flat, edges=(0.2, 0.9))).all()


def test_gain_of_unusable_images():
    image = np.ones((1, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="differ in shape"):
        spectra.response_gain(image, image[:, :4], edges=EDGES)
    with pytest.raises(ValueError, match=r"\[N, H, W, C\]"):
        spectra.response_gain(image[0], image[0], edges=EDGES)


# --- radial_mean ---


@pytest.mark.parametrize("shape", [(11, 8), (3, 9, 14), (2, 2, 10, 10)])
def test_radial_mean_by_loops(rng, shape):
    values = rng.random(shape, np.float32)
    share = shares(*shape[-2:])
    actual = radial_mean(values, edges=EDGES)
    assert actual.shape == (*shape[:-2], len(EDGES) - 1)
    for i, (low, high) in enumerate(itertools.pairwise(EDGES)):
        inside = (low <= share) & (share < high)
        expected = values[..., inside].astype(np.float64).mean(axis=-1)
        np.testing.assert_allclose(actual[..., i], expected, rtol=1e-5)


def test_bands_hold_their_lower_end_only():
    values = np.arange(12.0, dtype=np.float32).reshape(3, 4)  # the largest radius is 5
    actual = radial_mean(values, edges=(0.0, 0.2, 0.28, 0.4, 1.0))
    # 0 | 1, at (0, 1) and (1, 0) | sqrt(2) | the rest
    np.testing.assert_allclose(actual, [0, 2.5, 5, (2 + 3 + 6 + 7 + 8 + 9 + 10 + 11) / 8])


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((0.5,), "are not bands"),
        ((0.1, 0.1), "are not bands"),
        ((0.5, 0.2), "are not bands"),
        ((-0.1, 0.5), "are not bands"),
        ((0.1, np.nan), "are not bands"),
        ((np.nan, 0.1), "are not bands"),
        (((0.1, 0.5), (0.5, 0.9)), "are not bands"),
        ((0.1, 0.52, 0.53), "8x8 pixels has no coefficient between the shares 0.52 and 0.53"),
        ((0.99, 1.0), "no coefficient"),
    ],
)
def test_unusable_bands(edges, message):
    with pytest.raises(ValueError, match=message):
        spectra.radial_mean(np.ones((8, 8), np.float32), edges=edges)


def test_radial_mean_needs_two_axes():
    with pytest.raises(ValueError, match="shape"):
        spectra.radial_mean(np.ones(8, np.float32), edges=EDGES)


# --- mask_coverage ---


@functools.cache
def covered(mode="targeted", center=0.85):
    draw = functools.partial(spectra.mask_coverage, count=2500, mode=mode, center=center)
    drawn = quick_jit(lambda key: draw(key, 64, 64))(jax.random.key(1))
    return tuple(np.asarray(a, np.float64) for a in drawn)


def ring(probability, low, high):
    share = shares(64, 64) * np.sqrt(2) * 64
    return probability[(low <= share) & (share < high)].mean()


@pytest.mark.extended
def test_coverage_is_that_of_the_published_masks():
    """Against shares measured on samples of the authors' masks, noted to two digits."""
    probability, share = covered()
    assert share.mean() == pytest.approx(0.180, abs=0.01)
    assert np.median(share) == pytest.approx(0.129, abs=0.01)
    assert np.quantile(share, [0.05, 0.95]) == pytest.approx([0.035, 0.485], abs=0.03)
    rings = {
        (0, 30): (0, 1e-3),
        (30, 40): (0.003, 0.003),
        (40, 50): (0.02, 0.01),
        (50, 60): (0.11, 0.02),
        (60, 70): (0.34, 0.03),
        (70, 80): (0.80, 0.02),
        (80, 90): (0.64, 0.03),
    }
    for (low, high), (published, tolerance) in rings.items():
        assert ring(probability, low, high) == pytest.approx(published, abs=tolerance)


@pytest.mark.extended
def test_coverage_of_low_frequencies():
    probability, share = covered(center=0.15)
    assert share.mean() == pytest.approx(0.124, abs=0.01)
    assert probability[0, 0] == pytest.approx(0.32, abs=0.03)


@pytest.mark.extended
def test_coverage_of_the_other_modes():
    probability, share = covered("uniform")
    assert share.mean() == pytest.approx(0.41, abs=0.02)
    assert probability[0, 0] == 0
    assert ring(probability, 40, 50) == pytest.approx(0.5, abs=0.03)  # 2 x (1 - x) at x = 1/2
    probability, share = covered("random")
    assert share.mean() == pytest.approx(0.5, abs=0.002)
    assert np.ptp(share) < 0.12  # every mask takes about half
    np.testing.assert_allclose(probability, np.full((64, 64), 0.5), rtol=0, atol=0.05)


@pytest.mark.parametrize("mode", sfm.MODES)
def test_coverage_counts_the_masks_themselves(mode):
    key = jax.random.key(5)
    options = {"mode": mode, "center": 0.4, "sigma": 0.2}
    masks = [np.asarray(sfm.draw_mask(k, 6, 9, **options)) for k in jax.random.split(key, 7)]
    probability, share = spectra.mask_coverage(key, 6, 9, count=7, **options)
    np.testing.assert_allclose(probability, 1 - np.mean(masks, axis=0), rtol=0, atol=1e-6)
    expected = [1 - mask.mean() for mask in masks]
    np.testing.assert_allclose(share, expected, rtol=0, atol=1e-6)
    assert 0 < np.mean(expected) < 1


def test_unusable_coverage():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="count is 0"):
        spectra.mask_coverage(key, 8, 8, count=0)
    with pytest.raises(ValueError, match="0x8 pixels is empty"):
        spectra.mask_coverage(key, 0, 8)
    with pytest.raises(ValueError, match="no mode 'middle'"):
        spectra.mask_coverage(key, 8, 8, mode="middle")
    with pytest.raises(ValueError, match="center 2 is not a share"):
        spectra.mask_coverage(key, 8, 8, center=2)
