import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from lcdnet_jax import losses

# Each loss of one difference, in float64.
REFERENCE = {
    "l1": np.abs,
    "l2": np.square,
    "charbonnier": lambda d: np.sqrt(d**2 + 1e-6),
    "sse": lambda d: 0.5 * d[0].size * np.square(d),  # so that the mean is half the sum
}
SHAPES = [(3, 7, 5, 3), (1, 9, 4, 1)]


def pair(rng, shape):
    return rng.random(shape, np.float32), rng.random(shape, np.float32)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_means(rng, name, shape):
    output, target = pair(rng, shape)
    each = REFERENCE[name](output.astype(np.float64) - target)
    loss = jax.jit(losses.get(name))
    result = loss(output, target)
    assert result.shape == ()
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, each.mean(), rtol=1e-6)

    weights = np.arange(shape[0], dtype=np.float32) + np.float32(0.5)
    weighted = (weights * each.mean((1, 2, 3))).sum() / weights.sum()
    np.testing.assert_allclose(loss(output, target, weights=weights), weighted, rtol=1e-6)
    ones = np.ones(shape[0], np.float32)
    np.testing.assert_allclose(loss(output, target, weights=ones), each.mean(), rtol=1e-6)


def test_by_hand():
    output = jnp.array([0.0, 3.0]).reshape(1, 1, 2, 1)
    target = jnp.array([1.0, 1.0]).reshape(1, 1, 2, 1)
    assert losses.l1(output, target) == 1.5
    assert losses.l2(output, target) == 2.5
    np.testing.assert_allclose(
        losses.charbonnier(output, target, eps=2.0), (5**0.5 + 8**0.5) / 2, rtol=1e-6
    )
    assert losses.charbonnier(output, output) == np.float32(1e-3)
    assert losses.sse(output, target) == 2.5
    assert losses.sse(jnp.tile(output, (3, 1, 1, 1)), jnp.tile(target, (3, 1, 1, 1))) == 2.5


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_of_dct_coefficients(rng, shape):
    output, target = pair(rng, shape)
    difference = output.astype(np.float64) - target
    weights = np.array([1.0, 0.0, 2.0][: shape[0]], np.float32)
    each = np.square(fft.dctn(difference, axes=(1, 2))).sum((1, 2, 3)) / 2
    np.testing.assert_allclose(losses.dct_sse(output, target), each.mean(), rtol=1e-5)
    expected = (weights * each).sum() / weights.sum()
    actual = losses.dct_sse(output, target, weights=weights)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_weight_of_the_dct_loss_on_patches_of_64():
    """(2 * 64)^2 times the loss of pixels, away from the first row and column."""
    wave = np.cos(np.pi * 5 * (np.arange(64) + 0.5) / 64)
    output = jnp.asarray(np.outer(wave, wave), jnp.float32)[None, ..., None]
    ratio = losses.dct_sse(output, 0 * output) / losses.sse(output, 0 * output)
    np.testing.assert_allclose(ratio, 16_384, rtol=1e-4)


def l1_fft_by_hand(outputs, target, fft_weight):
    """Targets from the definition of halving without antialiasing; NumPy's full transform."""
    terms = []
    for factor, output in zip((1, 2, 4, 8), outputs, strict=False):
        cells = target.reshape(len(target), -1, factor, target.shape[2] // factor, factor, 1)
        middle = slice((factor - 1) // 2, factor // 2 + 1)  # the two in the middle of a cell
        smaller = cells[:, :, middle, :, middle].mean((2, 4))
        spectrum = np.fft.fft2(output - smaller, axes=(1, 2))
        parts = np.abs(np.stack([spectrum.real, spectrum.imag]))
        terms.append(np.abs(output - smaller).mean() + fft_weight * parts.mean())
    return np.mean(terms)


@pytest.mark.extended
@pytest.mark.parametrize("fft_weight", [0.1, 0.0])
def test_l1_and_fourier_coefficients_of_four_scales(rng, fft_weight):
    target = rng.random((2, 16, 24, 1), np.float32)
    outputs = [rng.random((2, 16 // f, 24 // f, 1), np.float32) for f in (1, 2, 4, 8)]
    loss = jax.jit(functools.partial(losses.l1_fft, fft_weight=fft_weight))
    expected = l1_fft_by_hand([o.astype(np.float64) for o in outputs], target, fft_weight)
    np.testing.assert_allclose(loss(outputs, target), expected, rtol=1e-5)
    one = l1_fft_by_hand([outputs[0].astype(np.float64)], target, fft_weight)
    np.testing.assert_allclose(loss(outputs[0], target), one, rtol=1e-5)
    if not fft_weight:
        l1 = losses.l1(outputs[0], target)
        np.testing.assert_allclose(loss(outputs[0], target), l1, rtol=1e-6)
    # Padding of the batch does not count, equal images lose nothing, and gradients are finite.
    weights = jnp.array([1.0, 0.0])
    alone = loss([o[:1] for o in outputs], target[:1])
    np.testing.assert_allclose(loss(outputs, target, weights=weights), alone, rtol=1e-5)
    value, gradient = jax.value_and_grad(loss)(target, target)
    assert value == 0
    assert not gradient.any()


def test_fourier_loss_of_odd_widths_and_by_hand(rng):
    """One pixel off by one: |coefficients| are |cos| and |sin|, at a single pixel 1 and 0."""
    zero = jnp.zeros((1, 1, 1, 1))
    np.testing.assert_allclose(losses.l1_fft(zero + 1, zero), 1 + 0.1 * 0.5, rtol=1e-6)
    output, target = rng.random((1, 5, 7, 1)), rng.random((1, 5, 7, 1))
    expected = l1_fft_by_hand([output], target, 0.1)
    actual = losses.l1_fft(output.astype(np.float32), target.astype(np.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_fourier_loss_of_three_color_images(rng):
    output, target = rng.random((2, 3, 6, 4, 3))
    spectrum = np.fft.fft2(output - target, axes=(1, 2))
    parts = np.abs(np.stack([spectrum.real, spectrum.imag], axis=1))
    each = np.abs(output - target).mean((1, 2, 3)) + 0.1 * parts.mean((1, 2, 3, 4))
    output, target = output.astype(np.float32), target.astype(np.float32)
    np.testing.assert_allclose(losses.l1_fft(output, target), each.mean(), rtol=1e-5)
    weights = np.float32([1, 0.5, 3])
    weighted = losses.l1_fft(output, target, weights=weights)
    np.testing.assert_allclose(weighted, weights @ each / weights.sum(), rtol=1e-5)
    alone = losses.l1_fft(output[:1], target[:1], weights=weights[:1])
    np.testing.assert_allclose(alone, each[0], rtol=1e-5)


def test_scales_that_do_not_fit(rng):
    target = rng.random((1, 20, 24, 1), np.float32)
    outputs = [target, rng.random((1, 16, 16, 1), np.float32)]
    with pytest.raises(ValueError, match="crops whose sides are multiples of 16"):
        losses.l1_fft(outputs, target)


@pytest.mark.parametrize("name", REFERENCE)
def test_padding_does_not_count(rng, name):
    output, target = pair(rng, (3, 7, 5, 3))
    loss = jax.jit(losses.get(name))
    weights = jnp.array([1.0, 1.0, 0.0])
    expected, gradient = jax.value_and_grad(loss)(output[:2], target[:2])
    result, padded = jax.value_and_grad(functools.partial(loss, weights=weights))(output, target)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(padded[:2], gradient, rtol=1e-6)
    assert not padded[2].any()
    assert loss(output, target, weights=jnp.zeros(3)) == 0


@pytest.mark.parametrize("name", REFERENCE)
def test_bfloat16_is_computed_in_float32(rng, name):
    output, target = (jnp.asarray(x, jnp.bfloat16) for x in pair(rng, (2, 7, 5, 3)))
    loss = jax.jit(losses.get(name))
    exact = loss(output.astype(jnp.float32), target.astype(jnp.float32))
    result, gradient = jax.value_and_grad(loss)(output, target)
    assert result.dtype == jnp.float32
    assert result == exact
    assert gradient.dtype == jnp.bfloat16
    assert loss(output, target.astype(jnp.float32)) == exact
    weights = jnp.ones(2, jnp.bfloat16)
    np.testing.assert_allclose(loss(output, target, weights=weights), exact, rtol=1e-6)


@pytest.mark.parametrize("name", REFERENCE)
def test_gradients_are_finite_where_nothing_differs(name):
    x = jnp.full((2, 4, 4, 1), 0.5)
    assert not jax.grad(losses.get(name))(x, x).any()


@pytest.mark.parametrize("name", REFERENCE)
def test_bad_input(name):
    loss = losses.get(name)
    x = np.zeros((2, 4, 5, 3), np.float32)
    with pytest.raises(ValueError, match="differ in shape"):
        loss(x, x[..., :1])
    with pytest.raises(ValueError, match=r"\[N, H, W, C\]"):
        loss(x[0], x[0])
    with pytest.raises(TypeError, match=r"uint8.*to_float"):
        loss(x.astype(np.uint8), x)
    for weights in (np.ones(3, np.float32), np.ones((2, 1), np.float32), np.float32(1)):
        with pytest.raises(ValueError, match=r"expected \(2,\); give one for each image"):
            loss(x, x, weights=weights)


def test_get():
    assert losses.get("charbonnier") is losses.charbonnier
    with pytest.raises(ValueError, match="'huber'; use one of l1, l2, charbonnier, sse, psnr"):
        losses.get("huber")


def test_relativistic_loss(rng):
    real, fake = (rng.normal(0, 3, 5).astype(np.float32) for _ in range(2))

    def cross_entropy(logits, label):
        share = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return -np.log(share if label else 1 - share)

    def expected(real, fake):
        of_real = cross_entropy(real - fake.mean(), 1).mean()
        return (of_real + cross_entropy(fake - real.mean(), 0).mean()) / 2

    np.testing.assert_allclose(losses.relativistic(real, fake), expected(real, fake), rtol=1e-5)
    assert expected(fake, real) != pytest.approx(expected(real, fake), rel=1e-2)
    weighted = losses.relativistic(real, fake, weights=jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    np.testing.assert_allclose(weighted, expected(real[:3], fake[:3]), rtol=1e-5)
    far = losses.relativistic(jnp.array([-1e4]), jnp.array([1e4]))
    np.testing.assert_allclose(far, 2e4, rtol=1e-6)


def test_relativistic_means_are_those_of_all_devices(rng):
    real, fake = rng.normal(0, 3, (2, 2, 3)).astype(np.float32)
    loss = functools.partial(losses.relativistic, axis_name="batch")
    parts = jax.vmap(loss, axis_name="batch")(real, fake)
    whole = losses.relativistic(real.reshape(-1), fake.reshape(-1))
    np.testing.assert_allclose(parts.mean(), whole, rtol=1e-6)
    alone = [losses.relativistic(r, f) for r, f in zip(real, fake, strict=True)]
    assert abs(np.mean(alone) - whole) > 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr(rng, shape):
    """The mean over images of minus the PSNR, not the PSNR of the mean."""
    output, target = pair(rng, shape)
    errors = np.square(output.astype(np.float64) - target).mean((1, 2, 3))
    each = 10 * np.log10(errors)
    loss = jax.jit(losses.get("psnr"))
    np.testing.assert_allclose(loss(output, target), each.mean(), rtol=1e-5)
    weights = np.arange(shape[0], dtype=np.float32) + np.float32(0.5)
    expected = (weights * each).sum() / weights.sum()
    np.testing.assert_allclose(loss(output, target, weights=weights), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(output, output), -80, rtol=1e-6)
    assert not np.any(jax.grad(losses.psnr)(output, output))
