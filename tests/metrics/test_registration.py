"""Alignment for RealBlur, against what is known by construction."""

import re

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage import data

from lcdnet_jax import protocols
from lcdnet_jax.evaluation import Evaluator
from lcdnet_jax.metrics import registration

HEIGHT, WIDTH = 121, 128
# The pixel (x, y) of the ground truth is at TRUE @ (x, y, 1) of the restored image.
TRUE = np.array([[1.004, -0.006, 1.7], [0.005, 0.997, -1.3], [1e-5, -8e-6, 1]])
BRIGHTNESS = 0.85


def places(matrix):
    """``[2, H, W]`` float64, columns and rows where a homography takes every pixel."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    points = np.tensordot(matrix, np.stack([columns, rows, np.ones_like(rows)]), axes=1)
    return points[:2] / points[2]


@pytest.fixture(scope="module")
def pair():
    """A photograph, and the same seen through the inverse of TRUE, darker."""
    photo = data.astronaut()[40:220, 150:330].astype(np.float64) / 255
    margin = 26
    columns, rows = places(np.linalg.inv(TRUE)) + margin
    restored = np.stack(
        [map_coordinates(photo[..., c], [rows, columns], order=3) for c in range(3)], axis=-1
    )
    clean = photo[margin:, margin:][:HEIGHT, :WIDTH]
    return (BRIGHTNESS * restored).clip(0, 1).astype(np.float32), clean.astype(np.float32)


def psnr(a, b):
    return -10 * np.log10(np.mean((a.astype(np.float64) - b) ** 2))


def cubic(image, matrix):
    """Values of an image at the places of a homography: Keys' kernel with a = -0.75, float64."""

    def kernel(t):
        t = np.abs(t)
        near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    def mirrored(i, size):
        return np.where(i < 0, -1 - i, np.where(i >= size, 2 * size - 1 - i, i))

    columns, rows = places(matrix.astype(np.float64))
    left, top = np.floor(columns).astype(int), np.floor(rows).astype(int)
    total = np.zeros(image.shape)
    for y in range(-1, 3):
        for x in range(-1, 3):
            weight = kernel(rows - top - y) * kernel(columns - left - x)
            i, j = mirrored(top + y, HEIGHT), mirrored(left + x, WIDTH)
            total += weight[..., None] * image[i, j]
    return total


def test_the_homography_is_recovered(pair):
    found = registration.homography(*pair)
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    distance = np.linalg.norm(places(found) - places(TRUE), axis=0)
    assert distance.mean() < 0.1
    assert distance.max() < 0.3
    start = np.linalg.norm(places(np.eye(3)) - places(TRUE), axis=0)
    assert start.min() > 0.5  # there was something to find
    gray = [image.mean(axis=-1, keepdims=True) for image in pair]
    distance = np.linalg.norm(places(registration.homography(*gray)) - places(TRUE), axis=0)
    assert distance.mean() < 0.1


def test_aligned_images_agree(pair):
    restored, clean = pair
    aligned, valid = registration.align(restored, clean)
    assert aligned.shape == clean.shape
    assert aligned.dtype == np.float32
    assert valid.shape == clean.shape[:2]
    assert valid.dtype == bool
    assert psnr(aligned[valid], clean[valid]) > psnr(restored, clean) + 15
    assert not aligned[~valid].any()


def test_align_by_its_parts(pair):
    """The factor, the interpolation and the mask, each from its definition in float64."""
    restored, clean = (x.astype(np.float64) for x in pair)
    aligned, valid = registration.align(*pair)
    scale = (restored * clean).sum() / (restored**2).sum()
    matrix = registration.homography(np.float32(scale * restored), pair[1])
    columns, rows = places(matrix.astype(np.float64))
    inside = (np.rint(columns) >= 0) & (np.rint(columns) < WIDTH)
    inside &= (np.rint(rows) >= 0) & (np.rint(rows) < HEIGHT)
    assert 0 < (~inside).sum() < 0.1 * inside.size
    # OpenCV before 5 rounds places to 1/32 pixel.
    edge = np.minimum(np.abs(columns % 1 - 0.5), np.abs(rows % 1 - 0.5)) < 0.05
    np.testing.assert_array_equal(valid[~edge], inside[~edge])
    expected = scale * cubic(restored, matrix)
    np.testing.assert_allclose(aligned[valid], expected[valid], atol=0.02)
    assert np.abs(aligned[valid] - expected[valid]).mean() < 1e-3


def test_an_aligned_image_stays_as_it_is(pair):
    _, clean = pair
    aligned, valid = registration.align(clean, clean)
    assert valid.all()
    np.testing.assert_allclose(aligned, clean, atol=1e-3)
    gray = clean[..., :1]
    np.testing.assert_allclose(registration.align(0.5 * gray, gray)[0], gray, atol=1e-3)


def test_the_inputs_are_left_alone(pair):
    copies = [image.copy() for image in pair]
    registration.align(*pair)
    for image, copy in zip(pair, copies, strict=True):
        np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize("which", [0, 1])
def test_a_constant_image_has_no_place(pair, which):
    images = list(pair)
    images[which] = np.full_like(images[which], 0.5)
    for function in (registration.align, registration.homography):
        with pytest.raises(ValueError, match=r"do not converge.*; look at .* protocol 'pairs'"):
            function(*images)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_black_or_broken_images(pair, value):
    with pytest.raises(ValueError, match="is black, or holds NaN or infinite pixels; look at"):
        registration.align(np.full_like(pair[0], value), pair[1])


def test_bad_shapes(pair):
    restored, clean = pair
    for a, b in ((restored[:-1], clean), (restored[..., :2], clean[..., :2]), (clean[0], clean[0])):
        for function in (registration.align, registration.homography):
            with pytest.raises(ValueError, match=re.escape(f"got {a.shape} and {b.shape}; crop")):
                function(a, b)


def test_protocol_realblur(pair):
    """From the network's output to the score."""
    restored, clean = pair
    protocol = protocols.get("realblur")
    scores = Evaluator(protocol).score(restored, clean)
    aligned, valid = registration.align(np.asarray(protocol.clip_and_round(restored)), clean)
    np.testing.assert_allclose(scores["psnr"], psnr(aligned[valid], clean[valid]), rtol=1e-5)
    assert scores["psnr"] > psnr(restored, clean) + 15
    assert 0.9 < scores["ssim"] < 1
