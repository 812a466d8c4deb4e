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


def test_denoising(images):
    strength = np.float32([0.3, 1.0])
    actual = np.asarray(quick_jit(processing.denoise)(images, strength))
    gray = np.asarray(quick_jit(processing.denoise)(images[..., :1], strength))
    for n, amount in enumerate(strength.astype(np.float64)):
        image = images[n].astype(np.float64)
        luma = image @ [0.2126, 0.7152, 0.0722]
        chroma = image - luma[..., None]
        wanted = (1 - amount) * chroma + amount * blur(chroma, 2.5, 6)
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


def test_bias(rng):
    """Window by window in float64, near the edges, too; black and white stay."""
    images = rng.random((2, 9, 11, 3), np.float32)
    images[0, 0, 0], images[0, 1, 1] = 0, 1
    quiet = np.clip(images + 0.05 * rng.standard_normal(images.shape).astype(np.float32), 0, 1)
    noisy = np.clip(quiet + 0.3 * rng.standard_normal(images.shape).astype(np.float32), 0, 1)
    actual = np.asarray(quick_jit(processing.remove_bias)(noisy, quiet, images))
    noise, rows, columns = noisy.astype(np.float64) - quiet, np.arange(9), np.arange(11)
    for n, row, column in np.ndindex(2, 9, 11):
        down = np.exp(-0.5 * ((rows - row) / 8) ** 2)
        across = np.exp(-0.5 * ((columns - column) / 8) ** 2)
        window = np.outer(down / down.sum(), across / across.sum())
        bias = np.tensordot(window, noise[n], 2)
        average = np.clip(quiet[n, row, column] + bias, 1e-6, 1 - 1e-6)
        clean = images[n, row, column].astype(np.float64)
        weaker = np.minimum(1, np.minimum(clean / average, (1 - clean) / (1 - average)))
        wanted = np.clip(clean + weaker * (noise[n, row, column] - bias), 0, 1)
        np.testing.assert_allclose(actual[n, row, column], wanted, atol=2e-6)
    assert (actual[0, 0, 0] == 0).all()
    assert (actual[0, 1, 1] == 1).all()


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
        neutral = {"contrast": (0, 0), "zoom": (1, 1), "denoise": (0, 0), "sharpen": (0, 0)}
        plain, _ = self.photograph(shot=(1e-3, 1e-3))
        processed, _ = self.photograph(shot=(1e-3, 1e-3), **neutral)
        assert abs(plain - processed).max() <= 1.01 / 255  # a level, by rounding

    @pytest.mark.extended
    @pytest.mark.parametrize("channels", [1, 3])
    def test_constant_colors_come_back(self, channels):
        """Through white balance, color matrix, tone curve, zoom and denoising; a level of error."""
        keys = jax.random.split(jax.random.key(0), 3)
        clean = np.float32([[0.3, 0.6, 0.4], [0.9, 0.5, 0.7], [0.1, 0.12, 0.08]])[:, None, None]
        clean = np.broadcast_to(clean[..., :channels], (3, 5, 7, channels))
        camera = functools.partial(
            degradations.camera_noise,
            shot=(1e-12, 1e-12),
            quality=None,
            color_matrix=(1, 1),
            balance="demosaiced",
            contrast=(0, 1),
            zoom=(1, 2),
            denoise=(0, 1),
            sharpen=(0, 1),
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
        mixed = measure(color_matrix=(1, 1))
        assert mixed[0] > 1.5 * variance
        assert mixed[1] < colors - 0.1
        zoomed = measure(zoom=(2, 2))
        assert zoomed[2] > pixels + 0.2
        denoised = measure(denoise=(1, 1))
        assert denoised[0] < 0.8 * variance
        assert denoised[1] > colors + 0.15  # noise without color
        assert measure(sharpen=(1, 1))[0] > 1.5 * variance
        # Noise of green in red, amplified as red is.
        assert measure(balance="demosaiced")[0] > 1.2 * variance

    @pytest.mark.extended
    def test_strong_noise_keeps_dark_colors(self):
        """Around the average of captures; as the scene, dark red becomes more blue than red."""
        keys = jax.random.split(jax.random.key(4), 48)
        clean = np.broadcast_to(np.float32([0.16, 0.06, 0.05]), (48, 24, 24, 3))
        options = {"shot": (0.02, 0.02), "quality": None, "color_matrix": (1, 1)}

        def measure(**more):
            camera = functools.partial(degradations.camera_noise, **options, **more)
            noisy = np.asarray(quick_jit(camera)(keys, clean), np.float64)
            return 255 * (noisy - clean).mean(axis=(0, 1, 2)), 255 * (noisy - clean).std()

        biased, deviation = measure()
        assert biased[2] - biased[0] > 10
        assert deviation > 30
        centered, deviation = measure(ground_truth="average")
        assert abs(centered).max() < 0.6
        assert deviation > 10

    @pytest.mark.extended
    def test_the_average_of_captures_is_neither_blurred_nor_sharpened(self):
        """Without noise only rounding is left of all steps."""
        keys = jax.random.split(jax.random.key(0), 3)
        clean = np.random.default_rng(0).random((3, 7, 9, 3), np.float32)
        camera = functools.partial(
            degradations.camera_noise,
            shot=(1e-12, 1e-12),
            quality=None,
            color_matrix=(1, 1),
            contrast=(0, 1),
            zoom=(1, 2),
            denoise=(0, 1),
            sharpen=(0, 1),
            ground_truth="average",
        )
        np.testing.assert_allclose(quick_jit(camera)(keys, clean), clean, atol=0.51 / 255)

    @pytest.mark.extended
    def test_second_compression(self):
        options = {"shot": (1e-4, 1e-4)}
        once, _ = self.photograph(**options)
        twice, _ = self.photograph(**options, second_quality=(5, 5))
        changed = (once != twice).any(axis=(1, 2, 3))
        assert 4 < changed.sum() < 20
        wanted = degradations.jpeg(once[changed].astype(np.float32), quality=5)
        np.testing.assert_allclose(twice[changed], wanted, atol=1e-6)

    @pytest.mark.extended
    def test_share_of_processed_images(self):
        """Each image is as with all steps or as without the four."""
        rest = {"shot": (1e-3, 1e-3), "contrast": (0, 1)}
        steps = {"zoom": (1.5, 2), "denoise": (0.5, 1), "sharpen": (0.5, 1)}
        steps["second_quality"] = (5, 5)
        without, _ = self.photograph(**rest)
        with_all, _ = self.photograph(**rest, **steps)
        some, _ = self.photograph(**rest, **steps, processed=0.3)
        level = 1.01 / 255  # by rounding
        is_processed = abs(some - with_all).max(axis=(1, 2, 3)) < level
        is_plain = abs(some - without).max(axis=(1, 2, 3)) < level
        assert (is_processed ^ is_plain).all()
        assert 0 < is_processed.sum() < is_plain.sum()

    @pytest.mark.parametrize(
        ("option", "value", "match"),
        [
            ("processed", 1.5, "processed is 1.5; use a share from 0 to 1"),
            ("processed", "half", "processed is 'half'; use a share"),
            ("processed", True, "processed is True; use a share"),
            ("color_matrix", (0, 2), "color_matrix is .*high <= 1"),
            ("contrast", (0, 2), "contrast is .*high <= 1"),
            ("ground_truth", "mean", "no ground_truth 'mean'; use one of scene, average"),
            ("subsampling", "4:2:2", "no subsampling '4:2:2'; use one of 4:2:0, 4:4:4, random"),
            ("shift_blocks", 1, "shift_blocks is 1; use True or False"),
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
