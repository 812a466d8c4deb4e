"""Filtering, motion blur, defocus and dual-pixel views, against scipy and slow loops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from lcdnet_jax import degradations
from lcdnet_jax.degradations import motion

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEYS = jax.random.split(jax.random.key(0), 2)
filter_images = quick_jit(degradations.filter_images)


def filtered(images, kernels):
    """By scipy in float64."""
    result = np.empty(images.shape)
    for n, kernel in enumerate(np.asarray(kernels, np.float64)):
        for c in range(images.shape[-1]):
            plane = np.asarray(images[n, ..., c], np.float64)
            result[n, ..., c] = ndimage.convolve(plane, kernel, mode="mirror")
    return result


@pytest.mark.parametrize(
    ("shape", "kernel"), [((2, 9, 14, 3), (5, 21)), ((1, 8, 1, 1), (3, 7)), ((3, 1, 5, 2), (1, 1))]
)
def test_filter(rng, shape, kernel):
    images = rng.random(shape, np.float32)
    kernels = rng.standard_normal((shape[0], *kernel)).astype(np.float32)
    kernels /= abs(kernels).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(
        filter_images(images, kernels), filtered(images, kernels), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 3, 3), (3, 3)])
def test_kernels_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"expected kernels \[2, K, L\] with K and L odd"):
        degradations.filter_images(np.zeros((2, 5, 5, 1), np.float32), np.zeros(shape, np.float32))


@pytest.fixture(scope="module")
def paths():
    """300 of each anxiety."""
    keys = jax.random.split(jax.random.key(1), 300)
    draw = quick_jit(degradations.camera_paths, static_argnames="anxiety")
    return {a: np.asarray(draw(keys, anxiety=a), np.float64) for a in (0.0, 1.0)}


class TestPaths:
    def test_length_and_center(self, paths):
        for path in paths.values():
            assert path.shape == (300, 128, 2)
            steps = np.linalg.norm(np.diff(path, axis=1), axis=-1)
            np.testing.assert_allclose(steps, 1 / 127, rtol=2e-4)  # constant speed
            np.testing.assert_allclose(path.mean(axis=1), 0, atol=1e-6)
            assert np.linalg.norm(path, axis=-1).max() < 0.5 + 1e-5

    def test_straight_without_anxiety(self, paths):
        steps = np.diff(paths[0.0], axis=1)
        np.testing.assert_allclose(steps, steps[:, :1].repeat(127, axis=1), atol=1e-6)
        angles = np.arctan2(*steps[:, 0].T)  # all directions alike
        assert stats.kstest(angles / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3

    def test_anxiety_curls(self, paths):
        ends = {a: np.linalg.norm(p[:, -1] - p[:, 0], axis=-1) for a, p in paths.items()}
        assert (ends[0.0] > 0.999).all()
        assert 0.5 < ends[1.0].mean() < 0.9

    def test_reversals(self, paths):
        """Some paths turn back at once; tremor alone does not."""
        steps = np.diff(paths[1.0], axis=1) * 127
        cosines = (steps[:, 1:] * steps[:, :-1]).sum(axis=-1)
        per_path = (cosines < -0.5).sum(axis=1)
        assert 0.3 < per_path.mean() < 0.7  # expected: half of the most, 1
        assert (cosines > 0).sum() + (cosines < -0.5).sum() > 0.999 * cosines.size

    def test_kernels(self, paths):
        path = paths[1.0][:3] * 12
        expected = np.zeros((3, 13, 13))
        for n, t in np.ndindex(3, 128):
            row, column = path[n, t] + 6
            top, left = math.floor(row), math.floor(column)
            for i, j in np.ndindex(2, 2):
                share = (1 - abs(row - top - i)) * (1 - abs(column - left - j)) / 128
                if share:
                    expected[n, top + i, left + j] += share
        kernels = degradations.path_kernels(jnp.asarray(path, jnp.float32), size=13)
        np.testing.assert_allclose(kernels, expected, atol=1e-6)
        np.testing.assert_allclose(np.asarray(kernels).sum(axis=(1, 2)), 1, rtol=1e-5)
        with pytest.raises(ValueError, match="size is 4; use an odd number"):
            degradations.path_kernels(jnp.zeros((1, 2, 2), jnp.float32), size=4)


class TestMotion:
    def test_point(self):
        """Its light becomes a kernel that is centered, sums to 1 and has the extent of its path."""
        points = np.zeros((2, 25, 27, 1), np.float32)
        points[:, 12, 13] = 1
        blur = functools.partial(
            degradations.motion_blur, length=(20.0, 20.0), anxiety=0.0, gamma=2.0
        )
        blurred = np.asarray(quick_jit(blur)(KEYS, points), np.float64)[..., 0]
        kernels = abs(blurred) * blurred
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
        for kernel in kernels:
            rows, columns = np.mgrid[:25, :27]
            assert (kernel * rows).sum() == pytest.approx(12, abs=1e-4)
            assert (kernel * columns).sum() == pytest.approx(13, abs=1e-4)
            # Of a line of length L the variance is L^2 / 12, and that of bilinear sharing.
            spread = (kernel * ((rows - 12) ** 2 + (columns - 13) ** 2)).sum()
            assert spread == pytest.approx(20**2 / 12, rel=0.03)

    @pytest.mark.extended
    def test_constant_images_stay(self):
        clean = np.broadcast_to(np.float32([0, -0.3, 0.6, 1]), (2, 5, 12, 4))  # -0.3: masked
        blur = functools.partial(degradations.motion_blur, length=(9.0, 9.0), rotation=10.0)
        np.testing.assert_allclose(quick_jit(blur)(KEYS, clean), clean, atol=2e-5)

    def test_roll(self, rng, monkeypatch):
        """At the places whose kernels are computed: the mean of the turned and moved images."""
        clean = rng.random((2, 13, 17, 1), np.float32)
        clean = ndimage.gaussian_filter(clean, (0, 1.5, 1.5, 0))
        unit = rng.standard_normal((2, 128, 2)).cumsum(axis=1)
        unit -= unit.mean(axis=1, keepdims=True)
        unit = (unit / (2.2 * abs(unit).max(axis=(1, 2), keepdims=True))).astype(np.float32)
        monkeypatch.setattr(motion, "camera_paths", lambda *_, **__: jnp.asarray(unit))
        drawn = jnp.asarray([[5.0] * 2, [math.radians(8)] * 2], jnp.float32)
        monkeypatch.setattr(motion, "draw_uniform", lambda *_: drawn)
        blur = functools.partial(
            degradations.motion_blur, length=(5.0, 5.0), rotation=8.0, grid=3, gamma=1.0
        )
        blurred = np.asarray(quick_jit(blur)(KEYS, clean))
        paths, rolls = 5.0 * unit.astype(np.float64), np.radians(8.0) * unit[..., 0]
        for n, row, column in np.ndindex(2, 3, 3):
            place = np.array([row - 1, column - 1]) * [6.0, 8.0]
            sine, cosine = np.sin(rolls[n]), np.cos(rolls[n])
            turned = np.stack(
                [cosine * place[0] - sine * place[1], sine * place[0] + cosine * place[1]], axis=-1
            )
            moved = paths[n] + turned - place
            # Light at a moved place comes from where it was before.
            seen = (place + np.array([6, 8]) - moved).T
            values = ndimage.map_coordinates(
                clean[n, ..., 0].astype(np.float64), seen, order=1, mode="mirror"
            )
            actual = blurred[n, row * 6, column * 8, 0]
            assert actual == pytest.approx(values.mean(), abs=3e-3)
        assert abs(blurred - clean).max() > 0.05


def covered(radius, side, size, fine=48):
    """Disk as shares of pixels, by counting ``fine`` x ``fine`` points of each."""
    at = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = at[:, None] ** 2 + at[None] ** 2 <= radius**2
    inside &= {"both": np.abs(at) >= 0, "left": at < 0, "right": at > 0}[side][None]
    disk = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    return disk / disk.sum(), disk.sum()


disk_kernels = quick_jit(degradations.disk_kernels, static_argnames=("size", "side"))


class TestDisk:
    @pytest.mark.parametrize("side", ["both", "left", "right"])
    def test_kernels(self, side):
        radii = np.array([0.7, 2.0, 3.37, 5.0], np.float32)
        kernels = np.asarray(disk_kernels(radii, size=11, side=side))
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-5)
        for radius, kernel in zip(radii, kernels, strict=True):
            expected, area = covered(radius, side, 11)
            assert area == pytest.approx(np.pi * radius**2 / (1 + (side != "both")), rel=0.01)
            np.testing.assert_allclose(kernel * area, expected * area, atol=0.02)
            rows, columns = np.mgrid[-5:6, -5:6]
            shift = {"both": 0, "left": -1, "right": 1}[side] * 4 * radius / (3 * np.pi)
            if radius > 1:  # moments of a disk, and of the pixels that share it
                assert (kernel * columns).sum() == pytest.approx(shift, abs=0.1)
                assert (kernel * rows**2).sum() == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.05)

    def test_small_radii_change_nothing(self):
        for side in ("both", "left"):
            kernels = np.asarray(disk_kernels(np.float32([0, 0.3, 0.5]), size=3, side=side))
            expected = np.zeros((3, 3, 3))
            expected[:, 1, 1] = 1
            np.testing.assert_allclose(kernels, expected, atol=1e-6)

    def test_messages(self):
        with pytest.raises(ValueError, match="size is 6; use an odd number"):
            degradations.disk_kernels([1.0], size=6)
        with pytest.raises(ValueError, match="no side 'top' of a disk; use one of both, left"):
            degradations.disk_kernels([1.0], size=5, side="top")

    def test_defocus(self, rng):
        clean = rng.random((2, 9, 7, 3), np.float32)
        blurred = quick_jit(functools.partial(degradations.defocus, radius=(2.5, 2.5)))(KEYS, clean)
        kernels = [covered(2.5, "both", 7)[0]] * 2
        expected = filtered(clean.astype(np.float64) ** 2.2, kernels) ** (1 / 2.2)
        np.testing.assert_allclose(blurred, expected, atol=2e-3)


class TestDualPixel:
    def test_mean_of_the_views_is_defocus(self, rng):
        clean = rng.random((2, 9, 11, 3), np.float32)
        options = {"radius": (3.3, 3.3), "gamma": 2.0}
        dual_pixel = quick_jit(degradations.dual_pixel, static_argnames=("radius", "gamma"))
        views = np.asarray(dual_pixel(KEYS, clean, **options))
        assert views.shape == (2, 9, 11, 6)
        defocus = quick_jit(degradations.defocus, static_argnames=("radius", "gamma"))
        both = np.asarray(defocus(KEYS, clean, **options))
        mean = (views[..., :3] ** 2 + views[..., 3:] ** 2) / 2
        np.testing.assert_allclose(mean, both**2, atol=1e-5)
        behind = dual_pixel(KEYS, clean, radius=(-3.3, -3.3), gamma=2.0)
        np.testing.assert_allclose(np.roll(behind, 3, axis=-1), views, atol=1e-6)

    def test_views_are_mirrored_and_either_may_be_on_the_left(self):
        point = np.zeros((32, 11, 11, 1), np.float32)
        point[:, 5, 5] = 1
        keys = jax.random.split(jax.random.key(5), 32)
        dual_pixel = functools.partial(degradations.dual_pixel, radius=(-4.0, 4.0), gamma=1.0)
        left, right = np.moveaxis(np.asarray(quick_jit(dual_pixel)(keys, point)), -1, 0)
        np.testing.assert_allclose(left, right[:, :, ::-1], atol=1e-6)
        before, after = left[:, :, :5].sum(axis=(1, 2)), left[:, :, 6:].sum(axis=(1, 2))
        assert (np.minimum(before, after) < 1e-5).all()
        assert 6 < (before > after).sum() < 26
        positive = functools.partial(degradations.dual_pixel, radius=(4.0, 4.0), gamma=1.0)
        views = np.asarray(quick_jit(positive)(KEYS, point[:2]))
        assert views[:, :, :5, 0].sum() > 0.8 * 2  # the left view is on the left
