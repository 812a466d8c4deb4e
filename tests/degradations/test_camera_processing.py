"""Processing of cameras against float64 references of NumPy and SciPy."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from lcdnet_jax import degradations
from lcdnet_jax.degradations import camera_processing as processing

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def images(rng):
    return rng.random((2, 9, 7, 3), np.float32)


def blur(planes, sigma, radius):
    options = {"sigma": (sigma, sigma), "radius": radius, "mode": "nearest"}
    return ndimage.gaussian_filter(planes.astype(np.float64), axes=(0, 1), **options)


def test_color_matrix(images):
    shares = np.float32([0.0, 0.6])
    mixed = np.asarray(quick_jit(processing.mix_colors)(images, shares))
    for n, share in enumerate(shares.astype(np.float64)):
        matrix = (1 - share) * np.eye(3) + share / 3
        np.testing.assert_allclose(mixed[n], images[n].astype(np.float64) @ matrix, atol=1e-6)
        wanted = images[n].astype(np.float64) @ np.linalg.inv(matrix)
        actual = quick_jit(processing.separate_colors)(images, shares)[n]
        np.testing.assert_allclose(actual, wanted, atol=3e-6)


def test_denoising(images):
    strength = np.float32([0.3, 1.0])
    actual = np.asarray(quick_jit(processing.denoise)(images, strength))
    gray = np.asarray(quick_jit(processing.denoise)(images[..., :1], strength))
    for n, amount in enumerate(strength.astype(np.float64)):
        image = images[n].astype(np.float64)
        luma = image @ [0.299, 0.587, 0.114]
        chroma = image - luma[..., None]
        wanted = (1 - amount) * chroma + amount * blur(chroma, 1.5, 4)
        wanted += ((1 - amount / 2) * luma + amount / 2 * blur(luma, 0.7, 2))[..., None]
        np.testing.assert_allclose(actual[n], wanted, atol=1e-6)
        wanted = (1 - amount / 2) * image[..., 0] + amount / 2 * blur(image[..., 0], 0.7, 2)
        np.testing.assert_allclose(gray[n, ..., 0], wanted, atol=1e-6)


def test_sharpening(images):
    actual = np.asarray(quick_jit(processing.sharpen)(images, np.float32([0.0, 1.5])))
    np.testing.assert_array_equal(actual[0], images[0])
    image = images[1].astype(np.float64)
    np.testing.assert_allclose(actual[1], image + 1.5 * (image - blur(image, 1.0, 3)), atol=2e-6)


def resample(line, step, width):
    """One sample after another, by a triangle."""
    result = np.zeros_like(line)
    for i in range(len(line)):
        center = min(max((i + 0.5) * step - 0.5, 0), len(line) - 1)
        weights = np.maximum(0, 1 - abs(np.arange(len(line)) - center) / width)
        result[i] = np.tensordot(weights / weights.sum(), line, 1)
    return result


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0])
def test_zoom(images, factor):
    factors = np.float32([factor, factor])
    small = np.asarray(quick_jit(processing.reduce_for_zoom)(images, factors))
    large = np.asarray(quick_jit(processing.enlarge_for_zoom)(small, factors))

    def both(image, step, width):
        image = resample(image, step, width)
        return np.swapaxes(resample(np.swapaxes(image, 0, 1), step, width), 0, 1)

    wanted = both(images[0].astype(np.float64), factor, factor)
    np.testing.assert_allclose(small[0], wanted, atol=2e-6)
    np.testing.assert_allclose(large[0], both(wanted, 1 / factor, 1), atol=4e-6)
    if factor == 1:
        np.testing.assert_allclose(large, images, atol=1e-6)


class TestOptionsOfTheCamera:
    def photograph(self, **options):
        keys = jax.random.split(jax.random.key(3), 24)
        ramp = np.linspace(0.2, 0.7, 16, dtype=np.float32)
        clean = np.stack([ramp, ramp[::-1], np.full_like(ramp, 0.4)], -1)[None, None]
        clean = np.broadcast_to(clean, (24, 16, 16, 3))
        camera = functools.partial(degradations.camera_noise, quality=None, **options)
        return np.asarray(quick_jit(camera)(keys, clean), np.float64), clean

    @pytest.mark.extended
    def test_neutral_values_change_nothing(self):
        neutral = {"crosstalk": (0, 0), "zoom": (1, 1), "denoise": (0, 0), "sharpen": (0, 0)}
        plain, _ = self.photograph(shot=(1e-3, 1e-3))
        processed, _ = self.photograph(shot=(1e-3, 1e-3), **neutral)
        assert abs(plain - processed).max() <= 1.01 / 255  # a level, by rounding

    @pytest.mark.extended
    def test_white_balance_after_demosaicing(self):
        """Constant colors come back, wherever they are balanced."""
        keys = jax.random.split(jax.random.key(0), 2)
        clean = np.broadcast_to(np.float32([0.2, 0.6, 0.4]), (2, 6, 6, 3))
        camera = functools.partial(
            degradations.camera_noise, shot=(1e-12, 1e-12), quality=None, balance="demosaiced"
        )
        np.testing.assert_allclose(quick_jit(camera)(keys, clean), clean, atol=0.51 / 255)

    @pytest.mark.extended
    def test_correlation_of_noise(self):
        """Between colors by the color matrix, between pixels by zoom and denoising."""

        def measure(**options):
            noisy, clean = self.photograph(shot=(4e-3, 4e-3), **options)
            noise = noisy - clean
            noise -= noise.mean(axis=(0, 1), keepdims=True)
            red, green = noise[..., 0], noise[..., 1]
            variance = (red**2).mean()
            return (
                variance,
                (red * green).mean() / np.sqrt(variance * (green**2).mean()),
                (red[:, :, 1:] * red[:, :, :-1]).mean() / variance,
            )

        variance, colors, pixels = measure()
        mixed = measure(crosstalk=(0.5, 0.5))
        assert mixed[0] > 1.5 * variance
        assert mixed[1] < colors - 0.1
        zoomed = measure(zoom=(2, 2))
        assert zoomed[2] > pixels + 0.2
        denoised = measure(denoise=(1, 1))
        assert denoised[0] < 0.8 * variance
        assert denoised[1] > colors + 0.2  # noise without color
        assert measure(sharpen=(1, 1))[0] > 1.5 * variance
        # Noise of green in red, amplified as red is.
        assert measure(balance="demosaiced")[0] > 1.2 * variance

    @pytest.mark.extended
    def test_second_compression(self):
        options = {"shot": (1e-4, 1e-4)}
        once, _ = self.photograph(**options)
        twice, _ = self.photograph(**options, second_quality=(5, 5))
        changed = (once != twice).any(axis=(1, 2, 3))
        assert 4 < changed.sum() < 20
        wanted = degradations.jpeg(once[changed].astype(np.float32), quality=5)
        np.testing.assert_allclose(twice[changed], wanted, atol=1e-6)

    @pytest.mark.parametrize(
        ("option", "value", "match"),
        [
            ("crosstalk", (0, 1), "crosstalk is .*high <= 0.8"),
            ("zoom", (0.5, 1), "zoom is .*1 <= low"),
            ("denoise", (0, 2), "denoise is"),
            ("sharpen", (-1, 0), "sharpen is"),
            ("second_quality", (0, 50), "second_quality is"),
            ("balance", "late", "no balance 'late'; use one of raw, demosaiced"),
        ],
    )
    def test_messages(self, option, value, match):
        keys, image = jax.random.split(jax.random.key(0), 1), np.zeros((1, 4, 4, 3), np.float32)
        with pytest.raises(ValueError, match=match):
            degradations.camera_noise(keys, image, **{option: value})
