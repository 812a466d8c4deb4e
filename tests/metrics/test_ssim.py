import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from skimage.metrics import structural_similarity

from lcdnet_jax import metrics
from tests.metrics.images import pair

psnr = jax.jit(metrics.psnr)

ssim = jax.jit(metrics.ssim)

ssim_3d = jax.jit(metrics.ssim_3d)

ssim_uniform = jax.jit(metrics.ssim_uniform)


def skimage_ssim(a, b, data_range=1.0):
    return structural_similarity(
        np.asarray(a, np.float64),
        np.asarray(b, np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=data_range,
    )


def slow_ssim(a, b):
    """Window by window, in float64, from the definition."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    scores = []
    for c in range(a.shape[2]):
        for y in range(a.shape[0] - 10):
            for x in range(a.shape[1] - 10):
                p = a[y : y + 11, x : x + 11, c].astype(np.float64)
                q = b[y : y + 11, x : x + 11, c].astype(np.float64)
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                scores.append(
                    (2 * mp * mq + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
                )
    return np.mean(scores)


def slow_ssim_3d(a, b):
    """One array [H, W, C] with borders repeated along all axes, in float64, by scipy."""
    offsets = np.arange(11) - 5
    taps = np.exp(-(offsets**2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x):
        for axis in range(3):
            x = scipy.ndimage.correlate1d(x, taps, axis=axis, mode="nearest")
        return x

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    return np.mean(
        (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    )


def test_masks_of_ssim(rng):
    """The map of scikit-image, averaged where the center of a window is in the mask."""
    a, b = pair(rng, (1, 19, 22, 3))
    mask = rng.random((19, 22)) < 0.5
    options = {"data_range": 1, "channel_axis": -1, "full": True}
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for metric, cut, more in ((ssim, 5, gaussian), (ssim_uniform, 3, {})):
        x, y = a[0].astype(np.float64), b[0].astype(np.float64)
        inner = (slice(cut, -cut), slice(cut, -cut))
        expected = structural_similarity(x, y, **options, **more)[1][inner][mask[inner]].mean()
        result = metric(a, b, mask=mask[None, ..., None])
        np.testing.assert_allclose(result, [expected], atol=1e-5)
        assert abs(expected - metric(a, b)[0]) > 1e-4  # or the mask would not be seen
    everywhere = np.ones((1, 19, 22, 1), bool)
    np.testing.assert_allclose(ssim_3d(a, b, mask=everywhere), ssim_3d(a, b), rtol=1e-6)
    half = everywhere.copy()
    half[:, 10:] = False
    assert abs(ssim_3d(a, b, mask=half)[0] - ssim_3d(a, b)[0]) > 1e-3


@pytest.mark.parametrize("shape", [(3, 23, 31, 3), (1, 11, 11, 1), (2, 11, 40, 3)])
def test_ssim_agrees_with_scikit_image(rng, shape):
    a, b = pair(rng, shape)
    expected = [skimage_ssim(x, y) for x, y in zip(a, b, strict=True)]
    result = ssim(a, b)
    assert result.shape == shape[:1]
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_ssim_of_another_range(rng):
    a, b = pair(rng, (1, 15, 12, 3))
    scaled = jax.jit(functools.partial(metrics.ssim, data_range=255))
    np.testing.assert_allclose(scaled(a * 255, b * 255), [skimage_ssim(a[0], b[0])], atol=1e-5)


def test_ssim_agrees_with_its_definition(rng):
    a, b = pair(rng, (1, 14, 17, 3))
    np.testing.assert_allclose(ssim(a, b), [slow_ssim(a[0], b[0])], atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 23, 31, 3), (1, 7, 7, 1), (2, 7, 40, 3)])
def test_uniform_ssim_agrees_with_the_defaults_of_scikit_image(rng, shape):
    a, b = (x.astype(np.float64) for x in pair(rng, shape))
    expected = [
        structural_similarity(x, y, data_range=1, channel_axis=-1)
        for x, y in zip(a, b, strict=True)
    ]
    a, b = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_allclose(ssim_uniform(a, b), expected, atol=1e-5)
    frame = [np.pad(x, ((0, 0), (0, 6), (0, 9), (0, 0)), constant_values=np.nan) for x in (a, b)]
    sizes = np.array([shape[1:3]] * shape[0], np.int32)
    np.testing.assert_allclose(ssim_uniform(*frame, sizes=sizes), expected, atol=1e-5)


@pytest.mark.extended
@pytest.mark.parametrize("shape", [(3, 23, 31, 3), (2, 14, 12, 1), (2, 3, 40, 3), (1, 1, 1, 3)])
def test_ssim_3d_agrees_with_its_definition(rng, shape):
    a, b = pair(rng, shape)
    result = ssim_3d(a, b)
    assert result.shape == shape[:1]
    expected = [slow_ssim_3d(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(result, expected, atol=2e-6)
    scaled = jax.jit(functools.partial(metrics.ssim_3d, data_range=255))
    np.testing.assert_allclose(scaled(a * 255, b * 255), expected, atol=1e-5)


def test_ssim_3d_of_padded_images(rng):
    a, b = pair(rng, (2, 20, 24, 3))
    sizes = np.array([[20, 9], [13, 24]], np.int32)
    result = ssim_3d(a, b, sizes=sizes)
    expected = [
        slow_ssim_3d(x[:h, :w], y[:h, :w]) for x, y, (h, w) in zip(a, b, sizes, strict=True)
    ]
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_ssim_of_a_bright_nearly_flat_image(rng):
    """Where E[x^2] - E[x]^2 cancels: contrast of 1e-3 on 0.95, all values far above it."""
    a, b = (np.float32(0.95 + 1e-3 * rng.standard_normal((1, 40, 33, 3))) for _ in range(2))
    expected = skimage_ssim(a[0], b[0])
    np.testing.assert_allclose(ssim(a, b), [expected], atol=1e-6)


def test_ssim_of_real_images(shared_data):
    from lcdnet_jax import image_io

    path = image_io.find_images(shared_data("denoise/set12"))[0]
    clean = image_io.to_float(image_io.convert_channels(image_io.read(path), 1))[:200, :150]
    noisy = clean + np.float32(0.2) * np.random.default_rng(0).standard_normal(
        clean.shape, np.float32
    )
    result = ssim(clean[None], noisy[None])
    np.testing.assert_allclose(result, [skimage_ssim(clean, noisy)], atol=1e-5)


def test_ssim_corner_cases():
    checker = (np.indices((20, 21)).sum(0) % 2).astype(np.float32)[None, :, :, None]
    ones = np.ones_like(checker)
    a = np.concatenate([checker, checker, ones, 0 * ones, ones])
    b = np.concatenate([checker, 1 - checker, ones, 0 * ones, 0 * ones])  # second: opposites
    result = ssim(a, b)
    # The constants C1 and C2 keep the score of opposites a little above -1.
    np.testing.assert_allclose(result, [1, -1, 1, 1, 0], atol=5e-3)
    expected = [skimage_ssim(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_ssim_gradient_points_uphill(rng):
    a, b = pair(rng, (1, 12, 13, 1))
    score = jax.jit(jax.value_and_grad(lambda x: jnp.sum(metrics.ssim(x, b))))
    before, gradient = score(a)
    step = np.float32(1e-3) * gradient / jnp.linalg.norm(gradient)
    rise = (score(a + step)[0] - score(a - step)[0]) / np.float32(2e-3)
    assert rise > 0
    np.testing.assert_allclose(rise, jnp.linalg.norm(gradient), rtol=0.02)
    assert before < 1


def test_ssim_of_a_small_image():
    x = np.zeros((1, 10, 40, 3), np.float32)
    with pytest.raises(ValueError, match=r"11x11 pixels, got 10x40"):
        metrics.ssim(x, x)
    with pytest.raises(ValueError, match=r"7x7 pixels, got 6x40"):
        metrics.ssim_uniform(x[:, :6], x[:, :6])
    assert metrics.psnr(x[:, :1, :1], x[:, :1, :1] + np.float32(0.1)).shape == (1,)
