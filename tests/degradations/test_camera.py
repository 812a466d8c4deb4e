"""Signal-dependent noise, the Bayer pattern, and the camera that has both."""

import functools
import math

import jax
import numpy as np
import pytest
from scipy import stats

from lcdnet_jax import degradations
from lcdnet_jax.degradations import camera
from lcdnet_jax.degradations.tone import (
    light_to_srgb,
    lower_contrast,
    raise_contrast,
    srgb_to_light,
)

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def demosaic_by_formulas(raw, corner):
    """The paper's formulas, pixel by pixel: bilinear, and second differences."""
    padded, result = np.pad(raw.astype(np.float64), 2, mode="reflect"), np.zeros((*raw.shape, 3))
    for row, column in np.ndindex(raw.shape):
        at = lambda r, c: padded[row + 2 + r, column + 2 + c]  # noqa: B023, E731
        up_down, sides = at(-1, 0) + at(1, 0), at(0, -1) + at(0, 1)
        diagonal = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
        far_sides, far_up_down = at(0, -2) + at(0, 2), at(-2, 0) + at(2, 0)
        bend = at(0, 0) - (far_sides + far_up_down) / 4
        green = (up_down + sides) / 4 + bend / 2
        other = diagonal / 4 + 3 / 4 * bend
        beside = sides / 2 + 5 / 8 * (at(0, 0) - (diagonal + far_sides) / 5 + far_up_down / 10)
        above = up_down / 2 + 5 / 8 * (at(0, 0) - (diagonal + far_up_down) / 5 + far_sides / 10)
        odd = [(row + corner[0]) % 2, (column + corner[1]) % 2]
        result[row, column] = {
            (0, 0): [at(0, 0), green, other],
            (0, 1): [beside, at(0, 0), above],
            (1, 0): [above, at(0, 0), beside],
            (1, 1): [other, green, at(0, 0)],
        }[tuple(odd)]
    return result


class TestPoissonGaussian:
    def test_law(self):
        keys = jax.random.split(jax.random.key(0), 4)
        shot, read = np.float32([0.0, 0.01, 0.02, 0.05]), np.float32([1e-3, 0.0, 1e-4, 2e-3])
        clean = np.linspace(0, 1, 5, dtype=np.float32)[None, :, None, None]
        clean = clean * np.ones((4, 1, 4000, 1), np.float32)
        add = quick_jit(degradations.poisson_gaussian)
        noise = np.asarray(add(keys, clean, shot=shot, read=read), np.float64) - clean
        for n in range(4):
            variance = shot[n] * np.linspace(0, 1, 5) + read[n]
            np.testing.assert_allclose(noise[n].var(axis=(1, 2)), variance, rtol=0.1, atol=1e-12)
            unit = noise[n, variance > 0, :, 0] / np.sqrt(variance[variance > 0])[:, None]
            assert stats.kstest(unit.ravel(), "norm").pvalue > 1e-3
        correlation = np.corrcoef(noise.reshape(4, -1))
        assert abs(correlation - np.eye(4)).max() < 4 / math.sqrt(noise[0].size)

    def test_protocol_and_negative_values(self):
        keys = jax.random.split(jax.random.key(0), 1)
        clean = np.full((1, 6, 6, 1), -0.5, np.float32)
        add = quick_jit(degradations.poisson_gaussian, static_argnames="protocol")
        np.testing.assert_array_equal(add(keys, clean, shot=0.1, read=0.0), clean)
        assert np.asarray(add(keys, clean, shot=0.1, read=0.1, protocol="8bit")).min() == 0


class TestBayer:
    def test_mosaic(self, rng):
        image = rng.random((4, 5, 6, 3), np.float32)
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        raw = np.asarray(quick_jit(degradations.mosaic)(image, corners))
        pattern = [[0, 1], [1, 2]]
        for n, row, column in np.ndindex(4, 5, 6):
            color = pattern[(row + corners[n, 0]) % 2][(column + corners[n, 1]) % 2]
            assert raw[n, row, column, 0] == image[n, row, column, color]

    def test_demosaic(self, rng):
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        raw = rng.random((4, 5, 6, 1), np.float32)
        actual = np.asarray(quick_jit(degradations.demosaic)(raw, corners))
        for n, corner in enumerate(corners):
            expected = demosaic_by_formulas(raw[n, ..., 0], corner)
            np.testing.assert_allclose(actual[n], expected, atol=1e-6)

    def test_constant_colors_and_gray_ramps_come_back(self):
        corners = np.array([[0, 1], [1, 0]])
        colors = np.float32([[0.9, 0.5, 0.2], [0.1, 0.3, 1.0]])[:, None, None]
        image = np.broadcast_to(colors, (2, 3, 7, 3))
        again = quick_jit(lambda x: degradations.demosaic(degradations.mosaic(x, corners), corners))
        np.testing.assert_allclose(again(image), image, atol=1e-6)
        ramp = np.arange(7, dtype=np.float32)[None, None, :, None] / 7
        ramp = np.broadcast_to(ramp, (2, 3, 7, 3))
        np.testing.assert_allclose(np.asarray(again(ramp))[:, :, 2:-2], ramp[:, :, 2:-2], atol=1e-6)

    def test_messages(self):
        with pytest.raises(ValueError, match="a mosaic of 1x5 pixels lacks a color"):
            degradations.demosaic(np.zeros((1, 1, 5, 1), np.float32), [[0, 0]])
        with pytest.raises(ValueError, match="expected 3 channels, got 1"):
            degradations.mosaic(np.zeros((1, 4, 5, 1), np.float32), [[0, 0]])


class TestCamera:
    def test_tone_curve(self):
        values = np.linspace(0, 1, 1001, dtype=np.float32)
        light = np.asarray(srgb_to_light(values))
        assert light[[0, 1000]].tolist() == [0, 1]
        assert light[500] == pytest.approx(0.21404, abs=1e-5)
        assert (np.diff(light) > 0).all()
        np.testing.assert_allclose(light_to_srgb(light), values, atol=2e-6)

    def test_contrast(self):
        """The curve of the source, and its inverse by polynomial roots."""
        amounts = np.float32([0.0, 0.005, 0.4, 1.0])[:, None, None, None]
        values = np.linspace(0, 1, 41, dtype=np.float32)[None, :, None, None] + 0 * amounts
        raised = np.asarray(raise_contrast(values, amounts))
        np.testing.assert_array_equal(raised[0], values[0])
        smooth = 3 * values[3] ** 2 - 2 * values[3] ** 3
        np.testing.assert_allclose(raised[3], smooth, atol=1e-6)
        np.testing.assert_allclose(raised[2], 0.6 * values[2] + 0.4 * smooth, atol=1e-6)
        lowered = np.asarray(lower_contrast(values, amounts))
        np.testing.assert_array_equal(lowered[0], values[0])
        for n, amount in enumerate(amounts.ravel().astype(np.float64)[1:], 1):
            for value, actual in zip(values[n].ravel(), lowered[n].ravel(), strict=True):
                roots = np.roots([-2 * amount, 3 * amount, 1 - amount, -float(value)])
                wanted = min(roots.real, key=lambda root: abs(root - 0.5))
                assert actual == pytest.approx(wanted, abs=5e-4 if amount == 1 else 2e-6)
        np.testing.assert_allclose(raise_contrast(lowered, amounts), values, atol=1e-6)

    @pytest.mark.extended
    @pytest.mark.parametrize("balance", camera.BALANCES)
    def test_covariance_of_noise(self, balance):
        """White noise of a sensor after development, against the matrix of the linear steps."""
        count, gains = 20_000, np.array([2.0, 1.0, 1.6])
        matrix = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.05, 0.35, 0.6]])
        pattern = np.array([[gains[0], 1], [1, gains[2]]])
        impulses = np.eye(49).reshape(49, 7, 7)
        if balance == "raw":
            impulses = impulses * np.tile(pattern, (4, 4))[:7, :7]
        linear = np.stack([demosaic_by_formulas(one, (0, 0)) for one in impulses])
        if balance == "demosaiced":
            linear = linear * gains
        linear = linear @ np.linalg.inv(matrix).T

        def develop(key):
            return camera._develop(
                lambda raw: raw + 0.1 * jax.random.normal(key, raw.shape, np.float32),
                np.full((count, 7, 7, 3), 0.5, np.float32),
                np.full(count, gains[0], np.float32),
                np.full(count, gains[2], np.float32),
                np.zeros(count, np.float32),
                np.zeros(count, np.float32),
                balance=balance,
                matrices=np.broadcast_to(np.float32(matrix), (count, 3, 3)),
            )

        noise = np.asarray(quick_jit(develop)(jax.random.key(0)), np.float64) - 0.5
        # All four places of the pattern, and pairs of neighbors.
        measured = noise[:, 2:5, 2:5].reshape(count, 27)
        wanted = linear[:, 2:5, 2:5].reshape(49, 27)
        covariance = 0.01 * wanted.T @ wanted
        tolerance = 5 * covariance.diagonal().max() / np.sqrt(count)
        np.testing.assert_allclose(measured.T @ measured / count, covariance, atol=tolerance)

    @pytest.mark.extended
    def test_the_default_camera_is_that_of_shipped_weights(self):
        """Stored values of the first version of the camera, with a level for other processors."""
        rows, columns = np.mgrid[:3, :4]
        clean = np.stack([rows / 3, columns / 4, (rows + columns) / 7], -1).astype(np.float32)[None]
        stored = quick_jit(degradations.camera_noise)(jax.random.split(jax.random.key(6), 1), clean)
        levels = np.rint(np.asarray(stored[0]) * 255)
        expected = [
            [[26, 24, 45], [39, 37, 58], [28, 132, 99], [38, 142, 109]],
            [[54, 52, 73], [57, 55, 76], [44, 148, 115], [109, 213, 180]],
            [[74, 22, 70], [98, 46, 94], [66, 119, 113], [140, 193, 187]],
        ]
        assert abs(levels - expected).max() <= 1

    @pytest.mark.extended
    def test_without_noise_only_jpeg_changes_constant_colors(self):
        colors = np.float32([[0.91, 0.52, 0.21], [0.1, 0.31, 1.0]])[:, None, None]
        clean = np.broadcast_to(colors, (2, 5, 6, 3))
        quiet = functools.partial(degradations.camera_noise, shot=(1e-12, 1e-12), quality=(20, 20))
        stored = quick_jit(quiet)(jax.random.split(jax.random.key(0), 2), clean)
        expected = quick_jit(functools.partial(degradations.jpeg, quality=20))(clean)
        np.testing.assert_allclose(stored, expected, atol=1e-6)
        assert abs(expected - clean).max() > 0.003

    @pytest.mark.extended
    def test_noise_of_gray_images(self):
        """Of the sensor, by the slope of the tone curve; the read noise by its law."""
        count = 64
        keys = jax.random.split(jax.random.key(1), count)
        clean = np.full((count, 24, 24, 1), 0.6, np.float32)
        noisy = functools.partial(degradations.camera_noise, shot=(1e-3, 1e-3), quality=None)
        deviation = np.asarray(quick_jit(noisy)(keys, clean)).std(axis=(1, 2, 3))
        light = float(srgb_to_light(np.float32(0.6)))
        slope = 1.055 / 2.4 * light ** (1 / 2.4 - 1)
        read = np.exp(2.18 * np.log(1e-3) + 1.2)
        assert np.median(deviation) == pytest.approx(
            slope * math.sqrt(1e-3 * light + read), rel=0.05
        )

    @pytest.mark.extended
    def test_noise_of_colors(self):
        """Red and blue are amplified; neighbors share noise; levels follow their law."""
        count = 48
        keys = jax.random.split(jax.random.key(2), count)
        clean = np.full((count, 32, 32, 3), 0.5, np.float32)
        noisy = functools.partial(degradations.camera_noise, quality=None)
        noise = np.asarray(quick_jit(noisy)(keys, clean), np.float64) - 0.5
        red, green, blue = np.median(noise.std(axis=(1, 2)), axis=0)
        assert red > 1.1 * green
        assert blue > 1.02 * green
        spread = noise[..., 1].std(axis=(1, 2))
        assert 0.002 < spread.min() < 0.012
        assert 0.03 < spread.max() < 0.12
        left, right = noise[:, :, :-1, 0], noise[:, :, 1:, 0]
        assert (left * right).mean() / noise[..., 0].var() > 0.15
