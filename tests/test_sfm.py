"""Frequency masking: golden numbers, bands by hand, and the laws that masks follow.

Bounds on random quantities are those of Dvoretzky, Kiefer and Wolfowitz (any distribution
function) or Hoeffding (any mean of values in [0, 1]) at a probability of 1e-7.
"""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import fft, stats

from lcdnet_jax import sfm

# Compiled without LLVM's optimization: these programs run once or twice.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
OPTIONS = ("rate", "mode", "center", "sigma")
masked_batch = quick_jit(sfm.stochastic_frequency_mask, static_argnames=OPTIONS)
masked_images = quick_jit(sfm.mask_images, static_argnames=(*OPTIONS, "unselected"))
apply_mask = quick_jit(sfm.apply_mask)

SIZE = 64
CORNER = np.sqrt(2) * SIZE
DRAWS = 20_000
GOLDEN = [
    f"{size}_{setting}"
    for size in ("64x64", "48x80", "33x57")
    for setting in ("mode1_c", "mode2_c0.85", "mode2_c0.15")
]


def bound(count):
    """Largest likely distance between a frequency or distribution function and its law."""
    return np.sqrt(np.log(2 / 1e-7) / (2 * count))


def radius(height=SIZE, width=SIZE):
    return np.array([[np.sqrt(u * u + v * v) for v in range(width)] for u in range(height)])


def keys_of(seed, count):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def bands(mode, center=0.85, sigma=0.15):
    """Ends of many bands at 64x64, float64."""
    draw = functools.partial(sfm.draw_band, mode=mode, center=center, sigma=sigma)
    ends = jax.jit(jax.vmap(lambda key: draw(key, SIZE, SIZE)))(keys_of(3, DRAWS))
    return tuple(np.asarray(end, np.float64) for end in ends)


def targeted_law(distance, center, sigma):
    """Probability that a coefficient is masked: both half-normal ends lie beyond it."""
    spread = sigma * CORNER
    gap = np.abs(distance - center * CORNER)
    return 2 * stats.norm.sf(gap / spread)


@pytest.fixture
def images(rng):
    return rng.random((4, 12, 17, 3), np.float32)


# --- the maths ---


@pytest.mark.parametrize(
    "function", [sfm.stochastic_frequency_mask, sfm.mask_images, sfm.draw_mask, sfm.draw_band]
)
def test_defaults_are_those_of_denoising(function):
    defaults = {
        "rate": 0.5, "mode": "targeted", "center": 0.85, "sigma": 0.15, "unselected": "keep"
    }  # fmt: skip
    found = {k: p.default for k, p in inspect.signature(function).parameters.items()}
    found = {k: v for k, v in found.items() if v is not inspect.Parameter.empty}
    assert {"mode", "center", "sigma"} <= set(found)
    assert found == {k: v for k, v in defaults.items() if k in found}


@pytest.mark.parametrize("case", GOLDEN)
def test_official_numbers(golden, case):
    data = {k.removeprefix(f"{case}/"): v for k, v in golden("sfm").items() if case in k}
    image = data["image"].transpose(1, 2, 0)
    mask = sfm.band_mask(*image.shape[:2], *data["band"])
    assert mask.dtype == jnp.float32
    np.testing.assert_array_equal(mask, data["mask"])
    assert 0 < data["mask"].mean() < 1
    expected = data["masked"].transpose(1, 2, 0)
    actual = apply_mask(image.astype(np.float32), mask)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    with jax.enable_x64(True):
        actual = apply_mask(image, data["mask"])
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("draw", [0.0, 0.5])
def test_draws_that_equal_the_bound(monkeypatch, images, draw):
    """Draws are below 1 and may be 0: a rate of 0 selects none, and half of all draws are kept."""

    def uniform(key, shape, dtype):
        return jnp.full(shape, draw, dtype)

    monkeypatch.setattr(jax.random, "uniform", uniform)
    _, selected = sfm.mask_images(keys_of(0, 4), images, rate=draw, sigma=0.0)
    assert not selected.any()
    kept = sfm.draw_mask(jax.random.key(0), 3, 4, mode="random")
    np.testing.assert_array_equal(kept, float(draw < 0.5))


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        # Radii: 0 1 2 3 / 1 1.41 2.24 3.16 / 2 2.24 2.83 3.61
        (1, np.sqrt(5), [[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1]]),  # both ends strict
        (0.99, 2.25, [[1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1]]),
        (3, 100.0, [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]),
        (0, 1, np.ones((3, 4))),  # the mean stays
        (-0.5, 1.5, [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]),  # a negative end masks it
        (2, 2, np.ones((3, 4))),
        (3, 1, np.ones((3, 4))),
    ],
)
def test_bands_by_hand(inner, outer, expected):
    np.testing.assert_array_equal(sfm.band_mask(3, 4, inner, outer), expected)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 6), (5, 1), (1, 1)])
def test_radii(height, width):
    np.testing.assert_allclose(sfm.radii(height, width), radius(height, width), rtol=1e-7)
    assert sfm.max_radius(height, width) == pytest.approx(np.sqrt(height**2 + width**2))


def test_bands_map(rng):
    inner, outer = rng.random((2, 5)).astype(np.float32) * [[4], [8]]
    inner, outer = inner.astype(np.float32), outer.astype(np.float32)
    together = jax.vmap(lambda a, b: sfm.band_mask(6, 7, a, b))(inner, outer)
    for mask, a, b in zip(together, inner, outer, strict=True):
        distance = radius(6, 7)
        np.testing.assert_array_equal(mask, ~((a < distance) & (distance < b)))


def test_leading_axes_broadcast(rng):
    """One mask for a batch, a mask for each image, and several masks for one image."""
    images = rng.random((2, 3, 6, 5, 2), np.float32)
    for lead_images, lead_mask in [((3,), ()), ((3,), (3,)), ((), (2, 3)), ((2, 3), (3,))]:
        some = images[(0,) * (2 - len(lead_images))]
        mask = rng.random((*lead_mask, 6, 5), np.float32)
        actual = apply_mask(some, mask)
        shape = (*np.broadcast_shapes(lead_images, lead_mask), 6, 5, 2)
        assert actual.shape == shape
        coefficients = fft.dctn(some.astype(np.float64), axes=(-3, -2), norm="ortho")
        expected = fft.idctn(coefficients * mask[..., None], axes=(-3, -2), norm="ortho")
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_mask_of_ones_and_zeros(images):
    for dtype in (np.float32, np.uint8, bool):
        ones = np.ones((12, 17), dtype)
        np.testing.assert_allclose(apply_mask(images, ones), images, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(apply_mask(images, np.zeros((12, 17))), 0)


def test_is_a_projection_and_not_clipped(rng):
    """Masking twice is masking once, and takes the energy of the masked band, no other."""
    image = rng.integers(0, 2, (20, 30, 1)).astype(np.float32)
    mask = sfm.band_mask(20, 30, 8.5, 25.0)
    once = apply_mask(image, mask)
    assert once.min() < -0.1
    assert once.max() > 1.1
    np.testing.assert_allclose(apply_mask(once, mask), once, rtol=0, atol=1e-5)
    coefficients = fft.dctn(image.astype(np.float64)[..., 0], norm="ortho")
    energy = np.square(np.where(mask == 1, coefficients, 0)).sum()
    assert np.square(np.asarray(once, np.float64)).sum() == pytest.approx(energy, rel=1e-5)


def test_gradient_is_the_mask_itself(rng, images):
    """Masking is a symmetric linear map, so its gradient is masking, too."""
    mask = sfm.band_mask(12, 17, 3.5, 9.0)
    cotangent = rng.random(images.shape, np.float32)
    pull_back = quick_jit(lambda c: jax.vjp(lambda x: sfm.apply_mask(x, mask), images)[1](c))
    (gradient,) = pull_back(cotangent)
    np.testing.assert_allclose(gradient, apply_mask(cotangent, mask), rtol=0, atol=1e-5)


# --- the laws ---


@pytest.mark.parametrize(("center", "sigma"), [(0.85, 0.15), (0.15, 0.15), (0.5, 0.02)])
def test_targeted_law(center, sigma):
    inner, outer = bands("targeted", center, sigma)
    middle = center * CORNER
    assert inner.max() <= middle * (1 + 1e-6)
    assert outer.min() >= middle * (1 - 1e-6)
    distance = np.linspace(-40, 2 * CORNER, 400)
    masked = (inner < distance[:, None]) & (distance[:, None] < outer)
    law = targeted_law(distance, center, sigma)
    np.testing.assert_allclose(masked.mean(1), law, rtol=0, atol=bound(DRAWS))
    # The two ends know nothing of each other.
    correlation = stats.spearmanr(inner, outer).statistic
    assert abs(correlation) < 5.5 / np.sqrt(DRAWS)


def test_targeted_law_gives_the_published_shares():
    """Against shares measured on samples of the authors' masks, noted to two digits."""
    distance = radius()
    law = targeted_law(distance, 0.85, 0.15)
    assert law.mean() == pytest.approx(0.180, abs=0.003)
    rings = {
        (0, 30): (0, 1e-3),
        (30, 40): (0.003, 1e-3),
        (40, 50): (0.02, 0.005),
        (50, 60): (0.11, 0.01),
        (60, 70): (0.34, 0.025),
        (70, 80): (0.80, 0.015),
        (80, 100): (0.64, 0.015),
    }
    for (low, high), (share, tolerance) in rings.items():
        ring = (low <= distance) & (distance < high)
        assert law[ring].mean() == pytest.approx(share, abs=tolerance)
    assert targeted_law(distance, 0.15, 0.15).mean() == pytest.approx(0.124, abs=0.003)
    assert targeted_law(0, 0.15, 0.15) == pytest.approx(0.32, abs=0.005)  # the mean


def test_central_is_another_name_of_uniform(images):
    key = jax.random.key(3)
    one, other = (
        sfm.stochastic_frequency_mask(key, images, rate=1.0, mode=mode)
        for mode in ("central", "uniform")
    )
    np.testing.assert_array_equal(one, other)
    assert (np.asarray(one) != images).any()


def test_uniform_law():
    inner, outer = bands("uniform")
    assert inner.min() >= 0  # so the mean stays
    assert (inner <= outer).all()
    assert outer.max() < CORNER
    share = np.linspace(0, 1, 300)
    masked = (inner < share[:, None] * CORNER) & (share[:, None] * CORNER < outer)
    law = 2 * share * (1 - share)  # one of two numbers below, the other above
    np.testing.assert_allclose(masked.mean(1), law, rtol=0, atol=bound(DRAWS))
    for end, power in ((inner, stats.beta(1, 2)), (outer, stats.beta(2, 1))):
        assert stats.kstest(end / CORNER, power.cdf).statistic < bound(DRAWS)
    distance = radius() / CORNER
    assert (2 * distance * (1 - distance)).mean() == pytest.approx(0.41, abs=0.01)


@pytest.mark.extended
@pytest.mark.parametrize(("mode", "share"), [("targeted", 0.180), ("uniform", 0.41)])
def test_shares_of_masked_coefficients(mode, share):
    """Of whole masks: mean, and for targeted ones the median and the 5 and 95 % quantiles."""
    draw = jax.jit(jax.vmap(lambda key: sfm.draw_mask(key, SIZE, SIZE, mode=mode).mean()))
    shares = 1 - np.asarray(draw(keys_of(5, DRAWS)), np.float64)
    assert shares.mean() == pytest.approx(share, abs=0.005 + bound(DRAWS))
    if mode == "targeted":
        for quantile, value in ((0.05, 0.035), (0.5, 0.129), (0.95, 0.485)):
            assert (shares <= value).mean() == pytest.approx(quantile, abs=0.005 + bound(DRAWS))


def test_random_law():
    """Every coefficient alone is kept half of the time, whatever the others do."""
    draw = jax.jit(jax.vmap(lambda key: sfm.draw_mask(key, 2, 3, mode="random")))
    masks = np.asarray(draw(keys_of(7, DRAWS))).reshape(DRAWS, 6)
    assert set(np.unique(masks)) == {0, 1}
    number = masks.astype(int) @ 2 ** np.arange(6)
    counts = np.bincount(number, minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-7


def test_selection_rate():
    """Images are selected independently, whatever their mask will be."""
    flat = np.zeros((DRAWS, 1, 4, 1), np.float32)
    flat[:, 0, 0] = 1  # every band changes it
    rate = 0.2
    options = {"rate": rate, "mode": "random", "unselected": "zero"}
    masked, selected = map(np.asarray, masked_images(keys_of(9, DRAWS), flat, **options))
    assert selected.dtype == bool
    assert selected.mean() == pytest.approx(rate, abs=bound(DRAWS))
    pairs = (selected[1:] & selected[:-1]).mean()
    assert pairs == pytest.approx(rate**2, abs=2 * bound(DRAWS / 2))  # two independent halves
    assert not masked[~selected].any()
    # The mean of a selected image survives half of the time.
    kept = np.abs(masked[selected].sum((1, 2, 3))) > 0.5
    assert kept.mean() == pytest.approx(0.5, abs=bound(selected.sum()))


# --- batches ---


@pytest.mark.parametrize("mode", sfm.MODES)
def test_all_are_masked_channels_alike_images_not(mode):
    """At rate 1. An impulse holds all frequencies, so its mask can be read off its coefficients."""
    impulse = np.zeros((6, 9, 8, 3), np.float32)
    impulse[:, 0, 0] = [1, 2, -1]
    masked = masked_batch(jax.random.key(4), impulse, rate=1.0, mode=mode, center=0.6, sigma=0.3)
    assert masked.shape == impulse.shape
    assert masked.dtype == jnp.float32
    before = fft.dctn(impulse, axes=(1, 2), norm="ortho")
    after = fft.dctn(np.asarray(masked), axes=(1, 2), norm="ortho")
    ratio = after / before
    masks = np.rint(ratio)
    np.testing.assert_allclose(ratio, masks, rtol=0, atol=1e-2)
    assert set(np.unique(masks)) == {0, 1}
    assert (masks == 0).any((1, 2, 3)).all()
    np.testing.assert_array_equal(masks[..., 0], masks[..., 1])
    np.testing.assert_array_equal(masks[..., 0], masks[..., 2])
    for a, b in itertools.combinations(masks[..., 0], 2):
        assert (a != b).any()
    if mode != "random":  # a band: radii of masked coefficients enclose no other
        for mask in masks[..., 0]:
            inside = radius(9, 8)[mask == 0]
            between = (inside.min() <= radius(9, 8)) & (radius(9, 8) <= inside.max())
            assert not mask[between].any()


def test_a_batch_equals_a_loop(images):
    keys = keys_of(11, 4)
    masked, selected = masked_images(keys, images, rate=1.0)
    assert selected.all()
    for key, image, actual in zip(keys, images, masked, strict=True):
        alone, _ = masked_images(key[None], image[None], rate=1.0)
        np.testing.assert_allclose(alone[0], actual, rtol=0, atol=1e-6)


def test_an_image_does_not_depend_on_its_batch(images):
    keys = keys_of(17, 4)

    def mask(order):
        masked, selected = masked_images(keys[np.array(order)], images[np.array(order)])
        return np.asarray(masked), np.asarray(selected)

    together, selected = mask([0, 1, 2, 3])
    assert 0 < selected.sum() < 4
    for order in ([3, 2, 1, 0], [1, 1, 3, 3], [2, 0, 2, 1]):
        permuted, which = mask(order)
        np.testing.assert_array_equal(which, selected[order])
        np.testing.assert_allclose(permuted, together[order], rtol=0, atol=1e-6)
    # With one key for all, image i depends on i.
    key = jax.random.key(13)
    longer = masked_batch(key, np.concatenate([images, images[::-1]]), rate=1.0)
    np.testing.assert_allclose(longer[:4], masked_batch(key, images, rate=1.0), rtol=0, atol=1e-6)


def test_keys_decide(images):
    def mask(seed):
        return np.asarray(masked_batch(jax.random.key(seed), images, rate=1.0))

    np.testing.assert_array_equal(mask(1), mask(1))
    assert (mask(1) != mask(2)).any()
    legacy = masked_batch(jax.random.PRNGKey(1), images, rate=1.0)
    np.testing.assert_allclose(legacy, mask(1), rtol=0, atol=1e-6)


def test_jit_equals_eager_and_maps(images):
    keys = keys_of(17, 3)
    looped = [masked_batch(key, images) for key in keys]
    eager = sfm.stochastic_frequency_mask(keys[0], images)
    np.testing.assert_allclose(eager, looped[0], rtol=0, atol=1e-6)
    mapped = quick_jit(jax.vmap(sfm.stochastic_frequency_mask, in_axes=(0, None)))(keys, images)
    np.testing.assert_allclose(mapped, np.stack(looped), rtol=0, atol=1e-6)


def test_unselected_images(images):
    """Kept bit by bit, or black; the selected ones are masked alike."""
    keys = keys_of(17, 4)
    keep, selected = map(np.asarray, masked_images(keys, images))
    zero, same = map(np.asarray, masked_images(keys, images, unselected="zero"))
    np.testing.assert_array_equal(selected, same)
    np.testing.assert_array_equal(keep[~selected], images[~selected])
    np.testing.assert_array_equal(zero[~selected], 0)
    np.testing.assert_allclose(keep[selected], zero[selected], rtol=0, atol=1e-6)
    assert (np.abs(keep - images)[selected].max((1, 2, 3)) > 1e-3).all()


def test_bfloat16_only_rounds_the_result(images):
    dtype = jnp.bfloat16
    coarse = jnp.asarray(images, dtype)
    key = jax.random.key(3)
    masked = masked_batch(key, coarse, rate=1.0)
    assert masked.dtype == dtype
    exact = masked_batch(key, coarse.astype(jnp.float32), rate=1.0).astype(dtype)
    scale = float(jnp.finfo(dtype).eps)  # a last bit, where two programs round differently
    np.testing.assert_allclose(
        masked.astype(jnp.float32), exact.astype(jnp.float32), rtol=scale, atol=1e-6
    )


def test_float64_draws_the_same_masks(images):
    key = jax.random.key(3)
    expected = masked_batch(key, images, rate=1.0)
    with jax.enable_x64(True):
        actual = masked_batch(key, images.astype(np.float64), rate=1.0)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "mode"),
    [
        ((2, 1, 9, 3), "targeted"),
        ((2, 7, 1, 1), "targeted"),
        ((0, 4, 4, 1), "targeted"),
        ((2, 1, 1, 1), "uniform"),
        ((2, 1, 1, 1), "random"),
    ],
)
def test_any_size(rng, shape, mode):
    images = rng.random(shape, np.float32)
    masked = masked_batch(jax.random.key(0), images, rate=1.0, mode=mode)
    assert masked.shape == shape
    assert np.isfinite(masked).all()
    if mode == "uniform":
        np.testing.assert_allclose(masked, images, rtol=0, atol=1e-6)  # a mean alone stays


def test_nothing_is_masked_at_rate_zero_or_without_width(images):
    untouched = masked_batch(jax.random.key(0), images, rate=0)
    np.testing.assert_array_equal(untouched, images)
    masked = masked_batch(jax.random.key(0), images, rate=1.0, sigma=0.0)
    np.testing.assert_allclose(masked, images, rtol=0, atol=1e-6)


def test_sharded_batch_needs_no_exchange(images):
    mesh = jax.make_mesh((8,), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    many = np.concatenate([images, images])
    program = jax.jit(
        functools.partial(sfm.stochastic_frequency_mask, rate=0.5),
        in_shardings=(whole, split),
        out_shardings=split,
    )
    key = jax.random.key(21)
    text = program.lower(key, many).compile().as_text()
    for exchange in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert exchange not in text
    np.testing.assert_allclose(program(key, many), masked_batch(key, many), rtol=0, atol=1e-6)


# --- errors ---


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": -0.1}, r"rate -0\.1 is not a probability; use 0 to 1"),
        ({"rate": 1.5}, r"rate 1\.5"),
        ({"rate": float("nan")}, "rate nan"),
        ({"center": 1.01}, r"center 1\.01 is not a share of the largest radius; use 0 to 1"),
        ({"center": -0.2, "mode": "uniform"}, r"center -0\.2"),
        ({"sigma": -0.15}, r"sigma -0\.15 is not a spread"),
        ({"sigma": float("inf")}, "sigma inf"),
        ({"mode": "middle"}, "no mode 'middle'; use one of targeted, uniform, random, central"),
    ],
)
def test_bad_options(images, wrap, options, message):
    function = wrap(functools.partial(sfm.stochastic_frequency_mask, **options))
    with pytest.raises(ValueError, match=message):
        function(jax.random.key(0), images)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_bad_images(wrap):
    function = wrap(sfm.stochastic_frequency_mask)
    key = jax.random.key(0)
    with pytest.raises(TypeError, match=r"got uint8; convert with image_io\.to_float"):
        function(key, np.zeros((1, 4, 4, 1), np.uint8))
    for shape in [(4, 4, 1), (4, 4), (1, 1, 4, 4, 1)]:
        with pytest.raises(ValueError, match=r"expected images \[N, H, W, C\], got shape"):
            function(key, np.zeros(shape, np.float32))
    for shape in [(1, 0, 4, 1), (1, 4, 0, 1)]:
        with pytest.raises(ValueError, match="pixels is empty"):
            function(key, np.zeros(shape, np.float32))


def test_bad_keys_and_unselected(images):
    with pytest.raises(ValueError, match=r"keys have shape \(3,\), expected \(4,\); give"):
        sfm.mask_images(keys_of(0, 3), images)
    with pytest.raises(ValueError, match="keys have shape"):
        sfm.mask_images(jax.random.key(0), images)
    with pytest.raises(ValueError, match="no unselected 'black'; use one of keep, zero"):
        sfm.mask_images(keys_of(0, 4), images, unselected="black")


@pytest.mark.parametrize(
    "shape", [(17, 12), (1, 17), (12, 1), (17,), (), (3, 12, 17), (4, 12, 17, 3), (4, 4, 17)]
)
def test_bad_masks(images, shape):
    with pytest.raises(ValueError, match=r"does not fit images .* give \[\.\.\., 12, 17\]"):
        sfm.apply_mask(images, np.ones(shape, np.float32))


def test_bad_bands(images):
    for height, width in [(0, 4), (4, 0), (-1, 4)]:
        with pytest.raises(ValueError, match="pixels is empty"):
            sfm.band_mask(height, width, 1.0, 2.0)
        with pytest.raises(ValueError, match="pixels is empty"):
            sfm.draw_mask(jax.random.key(0), height, width, mode="random")
    with pytest.raises(ValueError, match=r"two numbers as ends, got arrays of shape \(4,\)"):
        sfm.band_mask(4, 4, np.ones(4), 2.0)
    with pytest.raises(ValueError, match="'random' has no band; use draw_mask"):
        sfm.draw_band(jax.random.key(0), 4, 4, mode="random")
    with pytest.raises(TypeError, match="got int32"):
        sfm.apply_mask(np.ones((4, 4, 1), np.int32), np.ones((4, 4)))
