import dataclasses
import importlib.machinery
import sys
import types

import jax
import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lcdnet_jax import metrics, protocols
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.protocols import Protocol
from tests.metrics.test_ssim import slow_ssim_3d as ssim_3d_by_hand

SIZES = np.array([[23, 31], [32, 20], [17, 18]], np.int32)
PADDED = (len(SIZES), 32, 32)


@pytest.fixture
def images(rng):
    """Restored, some of it outside [0, 1], and clean; all beyond the sizes is rubbish."""
    clean = rng.random((*PADDED, 3), np.float32)
    restored = clean + 0.2 * rng.standard_normal(clean.shape, np.float32)
    for i, (height, width) in enumerate(SIZES):
        for padded in (clean[i], restored[i]):
            padded[height:] = padded[:, width:] = np.nan
    return restored, clean


def cut_to_size(batch):
    return [image[:h, :w].astype(np.float64) for image, (h, w) in zip(batch, SIZES, strict=True)]


def score_by_hand(restored, clean, protocol):
    restored = restored.clip(0, 1)
    if protocol.rounded:
        restored = np.rint(restored * 255) / 255
    if protocol.luma and clean.shape[-1] == 3:
        restored, clean = (rgb2ycbcr(x)[..., :1] / 255 for x in (restored, clean))
        if protocol.luma_rounded:
            restored, clean = (np.rint(x * 255) / 255 for x in (restored, clean))
    if protocol.border:
        inner = slice(protocol.border, -protocol.border)
        restored, clean = restored[inner, inner], clean[inner, inner]
    psnr = peak_signal_noise_ratio(clean, restored, data_range=1)
    scores = {"psnr": psnr, "mae": np.abs(restored - clean).mean()}
    if protocol.ssim == "3d":
        return {**scores, "ssim": ssim_3d_by_hand(restored, clean)}
    if protocol.ssim == "uniform":
        uniform = structural_similarity(clean, restored, data_range=1, channel_axis=-1)
        return {**scores, "ssim": uniform}
    ssim = structural_similarity(
        clean, restored, data_range=1, channel_axis=-1, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return {**scores, "ssim": ssim}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "protocol",
    [
        protocols.get("float"),
        protocols.get("8bit"),
        protocols.get("sadnet"),
        protocols.get("gopro"),
        protocols.get("rain"),
        protocols.get("dpdd"),
        Protocol("everything", rounded=True, border=3, luma=True),
    ],
    ids=lambda protocol: protocol.name,
)
def test_score_by_hand(images, protocol, channels):
    restored, clean = (x[..., :channels] for x in images)
    scores = jax.jit(protocol.score)(restored, clean, SIZES)
    pairs = zip(cut_to_size(restored), cut_to_size(clean), strict=True)
    expected = [score_by_hand(r, c, protocol) for r, c in pairs]
    assert set(scores) == {"psnr", "ssim"} | ({"mae"} if protocol.mae else set())
    for name in scores:
        np.testing.assert_allclose(scores[name], [e[name] for e in expected], rtol=0, atol=2e-5)


def test_score_of_aligned_images(images, rng):
    """Neither clipped nor rounded again, 0 outside the mask, in windows of SSIM too."""
    restored, clean = images
    mask = np.ones((*PADDED, 1), bool)
    mask[:, :3] = mask[:, :, :2] = mask[:, 9, 9] = False
    for protocol in (protocols.get("realblur"), Protocol("cut", aligned=True, border=2, luma=True)):
        scores = jax.jit(protocol.score)(restored, clean, SIZES, mask)
        pairs = zip(*map(cut_to_size, (restored, clean, mask)), strict=True)
        for i, (a, b, inside) in enumerate(pairs):
            if protocol.luma:
                a, b = (rgb2ycbcr(x)[..., :1] / 255 for x in (a, b))
            a, b = a * inside, b * inside
            inner = slice(protocol.border, -protocol.border or None)
            a, b, inside = (x[inner, inner] for x in (a, b, inside))
            squares = ((a - b) ** 2).mean(-1, keepdims=True)
            psnr = -10 * np.log10((squares * inside).sum() / inside.sum())
            np.testing.assert_allclose(scores["psnr"][i], psnr, rtol=1e-5)
            similarity = structural_similarity(
                a, b, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False, full=True,
            )[1][5:-5, 5:-5]  # fmt: skip
            inside = inside[5:-5, 5:-5]
            ssim = (similarity.mean(-1, keepdims=True) * inside).sum() / inside.sum()
            np.testing.assert_allclose(scores["ssim"][i], ssim, atol=2e-5)
    with pytest.raises(ValueError, match=r"'realblur' needs images from registration\.align and"):
        protocols.get("realblur").score(restored, clean, SIZES)
    with pytest.raises(ValueError, match="'pairs' aligns nothing; leave the mask off"):
        protocols.get("pairs").score(restored, clean, SIZES, mask)


def test_luma_rounded_by_hand():
    """Y of pure red is 16 + 65.481, so 81; of black 16. MATLAB says the same of 8-bit images."""
    red, black = np.zeros((2, 1, 12, 13, 3), np.float32)
    red[..., 0] = 1
    sizes = np.array([[12, 13]], np.int32)
    scores = jax.jit(protocols.get("rain").score)(red, black, sizes)
    np.testing.assert_allclose(scores["psnr"], [20 * np.log10(255 / 65)], rtol=1e-6)


def test_for_source():
    expected = {
        **dict.fromkeys(("gopro", "gopro_gamma", "hide", "gopro,hide", "gopro , gopro"), "gopro"),
        **dict.fromkeys(("realblur_j", "realblur_r", "realblur_j,realblur_r"), "realblur"),
        **dict.fromkeys(("dpdd", "dpdd_dual"), "dpdd"),
        "rain13k": "rain",
        **dict.fromkeys(("folder", "sidd", "gopro,realblur_j", "gopro,folder", ""), "pairs"),
    }
    assert {kind: protocols.for_source(kind) for kind in expected} == expected
    for source in DATA_SETS:
        assert protocols.get(protocols.for_source(source)).noise is None


@pytest.mark.parametrize(
    ("installed", "said"), [(True, "LPIPS (AlexNet)"), (False, "not installed")]
)
def test_the_line_says_whether_lpips_is_there(monkeypatch, installed, said):
    module = types.ModuleType("lpips")
    module.__spec__ = importlib.machinery.ModuleSpec("lpips", None)
    monkeypatch.setitem(sys.modules, "lpips", module if installed else None)
    assert said in protocols.get("dpdd").describe()
    assert "LPIPS" not in protocols.get("gopro").describe()


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("awgn", "", protocols.get("8bit").with_noise(spectrum="high")),
        ("motion", "", protocols.get("8bit").with_degradation("motion")),
        ("none", "gopro", protocols.get("gopro")),
        ("none", "sidd", protocols.get("pairs")),
        ("none", "realblur_j", protocols.get("pairs")),
        ("none", "dpdd", dataclasses.replace(protocols.get("dpdd"), lpips=False)),
    ],
)
def test_of_training(kind, source, expected):
    found = protocols.of_training(kind, protocol="8bit", spectrum="high", source=source)
    assert found == [expected]


def test_of_training_with_several():
    assert protocols.of_training("awgn", protocol="float,8bit", spectrum="white", source="") == [
        protocols.get("float"),
        protocols.get("8bit"),
    ]


def test_other_noise():
    clipped = protocols.get("clipped")
    assert clipped.with_noise() is clipped
    low = clipped.with_noise(spectrum="low", spread=10)
    assert (low.name, low.spectrum, low.spread) == ("clipped-low-varying10", "low", 10)
    assert low.describe() == (
        "clipped-low-varying10: noise clipped to [0, 1] (low), level from -10 to +10 over the "
        "columns; output clipped to [0, 1]; border 0; all channels; mean of per-image scores"
    )
    with pytest.raises(ValueError, match="'pink'; use one of white"):
        clipped.with_noise(spectrum="pink")
    with pytest.raises(ValueError, match="'pairs' adds no noise"):
        protocols.get("pairs").with_noise(spectrum="low")


def test_the_parts_of_a_protocol_matter(images):
    """Or the test above could not tell them apart."""
    restored, clean = images[0][0, :17, :18].astype(float), images[1][0, :17, :18].astype(float)
    base = score_by_hand(restored, clean, Protocol("base"))["psnr"]
    for change in ({"rounded": True}, {"border": 2}, {"luma": True}):
        changed = score_by_hand(restored, clean, Protocol("changed", **change))["psnr"]
        assert abs(changed - base) > 2e-4


def test_too_small_for_ssim(rng):
    """Images smaller than the window after cutting the border, alone or in a larger frame."""
    x = rng.random((2, 16, 16, 3), np.float32)
    sizes = np.array([[16, 10], [16, 11]], np.int32)
    scores = jax.jit(Protocol("float").score)(x, x * 0.9, sizes)
    assert np.isfinite(scores["psnr"]).all()
    assert np.isnan(scores["ssim"]).tolist() == [True, False]
    sizes = np.array([[16, 16], [6, 16]], np.int32)
    scores = jax.jit(Protocol("cut", border=3).score)(x, x * 0.9, sizes)
    assert np.isnan(scores["ssim"]).all()
    assert np.isnan(scores["psnr"]).tolist() == [False, True]  # nothing is left of the second


def test_sizes_of_the_metrics(images):
    """The argument itself; without clipping."""
    for metric in (jax.jit(metrics.psnr), jax.jit(metrics.ssim)):
        scores = metric(*images, sizes=SIZES)
        for i, pair in enumerate(zip(*map(cut_to_size, images), strict=True)):
            alone = metric(*(x[None].astype(np.float32) for x in pair))
            np.testing.assert_allclose(scores[i], alone[0], rtol=1e-5)


def test_names():
    noises = {
        **{name: name for name in ("float", "clipped", "8bit")},
        "pairs": None,
        "sadnet": "8bit",
        "sadnet-pairs": None,
        "sr": "8bit",
        "sr-pairs": None,
        **dict.fromkeys(("gopro", "sidd", "rain", "dpdd", "realblur")),
    }
    assert {name: p.noise for name, p in protocols.PROTOCOLS.items()} == noises
    for name, protocol in protocols.PROTOCOLS.items():
        assert protocols.get(name) is protocol
        assert protocol.name == name
        rounded = ("8bit", "gopro", "rain", "realblur", "sr", "sr-pairs")
        assert protocol.rounded == (name in rounded)
        assert (protocol.multiple == 8) == name.startswith("sadnet")
        assert (protocol.ssim == "3d") == (name in ("sadnet", "sadnet-pairs", "gopro", "sidd"))
    with pytest.raises(ValueError, match="'16bit'; known protocols: float, clipped, 8bit, pairs"):
        protocols.get("16bit")


def test_cut_to_multiples(rng):
    image = rng.random((23, 40, 3))
    np.testing.assert_array_equal(protocols.get("sadnet").cut(image), image[:16])
    np.testing.assert_array_equal(protocols.get("8bit").cut(image), image)
    with pytest.raises(
        ValueError, match=r"'sadnet' .* multiples of 8, .* nothing of 7x40 pixels; use"
    ):
        protocols.get("sadnet").cut(image[:7])
    bordered = Protocol("cut", border=3)
    assert bordered.cut(image[:7]) is not None
    with pytest.raises(ValueError, match=r"border 3\) leaves nothing of 6x40 pixels"):
        bordered.cut(image[:6])


def test_with_scale(rng):
    image = rng.random((47, 40, 1))
    for name in ("8bit", "pairs", "sadnet"):
        assert protocols.get(name).with_scale(1) is protocols.get(name)
    np.testing.assert_array_equal(protocols.get("sr").with_scale(3).cut(image), image[:45, :39])
    np.testing.assert_array_equal(protocols.get("sadnet").with_scale(2).cut(image), image[:32, :32])
    assert [protocols.get("sr-pairs").with_scale(s).border for s in (2, 3, 4)] == [2, 3, 4]
    with pytest.raises(ValueError, match="'sr' cuts a border as wide as images are enlarged"):
        protocols.get("sr").with_scale(1)


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        (
            protocols.get("float"),
            "float: unclipped float noise; output clipped to [0, 1]; border 0; all channels; "
            "mean of per-image scores",
        ),
        (
            protocols.get("clipped"),
            "clipped: noise clipped to [0, 1]; output clipped to [0, 1]; border 0; all channels; "
            "mean of per-image scores",
        ),
        (
            protocols.get("8bit"),
            "8bit: noise clipped and rounded to 8 bits; output clipped to [0, 1] and rounded to 8 "
            "bits; border 0; all channels; mean of per-image scores",
        ),
        (
            Protocol("pairs4", noise=None, border=4, luma=True),
            "pairs4: degraded images from disk; output clipped to [0, 1]; border 4; Y of BT.601; "
            "mean of per-image scores",
        ),
        (
            protocols.get("sadnet"),
            "sadnet: noise clipped and rounded to 8 bits; sides cut to multiples of 8; output "
            "clipped to [0, 1]; border 0; all channels; SSIM with windows over height, width and "
            "channels; mean of per-image scores",
        ),
        (
            protocols.get("gopro"),
            "gopro: degraded images from disk; output clipped to [0, 1] and rounded to 8 bits; "
            "border 0; all channels; SSIM with windows over height, width and channels; mean of "
            "per-image scores",
        ),
        (
            protocols.get("rain"),
            "rain: degraded images from disk; output clipped to [0, 1] and rounded to 8 bits; "
            "border 0; Y of BT.601 rounded to 8 bits; mean of per-image scores",
        ),
        (
            protocols.get("realblur"),
            "realblur: degraded images from disk; output clipped to [0, 1] and rounded to 8 bits; "
            "aligned to the ground truth (intensity, homography by ECC) and scored inside; border "
            "0; all channels; mean of per-image scores",
        ),
        (
            protocols.get("sr").with_scale(4).with_degradation("low_resolution"),
            "low_resolution-sr-x4: synthetic low_resolution, rounded to 8 bits; sides cut to "
            "multiples of 4; output clipped to [0, 1] and rounded to 8 bits; border 4; Y of "
            "BT.601; mean of per-image scores; input scored as enlarged by bicubic interpolation",
        ),
        (
            protocols.get("8bit").with_scale(2).with_degradation("blur", label="b"),
            "b-8bit-x2: synthetic blur, rounded to 8 bits; sides cut to multiples of 2; output "
            "clipped to [0, 1] and rounded to 8 bits; border 0; all channels; mean of per-image "
            "scores; input scored as enlarged by bicubic interpolation",
        ),
        (
            Protocol("d", noise=None, ssim="uniform", mae=True),
            "d: degraded images from disk; output clipped to [0, 1]; border 0; all channels; SSIM "
            "with uniform 7x7 windows; MAE; mean of per-image scores",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_description(protocol, line):
    assert protocol.describe() == line
