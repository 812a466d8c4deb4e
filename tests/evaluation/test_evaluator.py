import collections
import dataclasses
import logging
import os
import re
import zlib

import jax
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from lcdnet_jax import degradations, protocols
from lcdnet_jax.evaluation import Evaluator, ScoredImage, Summary, summarize
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.inference import pad_to_bucket
from lcdnet_jax.metrics import lpips, registration


def darker(image):
    """A restorer that needs no compilation."""
    return image * np.float32(0.9)


@pytest.fixture
def examples(rng):
    """Of several sizes, all within one bucket."""
    return [
        {"name": f"image{i}", "clean": rng.random((20 + i, 40 - 3 * i, 3), np.float32)}
        for i in range(4)
    ]


def evaluate(examples, name="float", *, sigma=50.0, restore=darker, **options):
    evaluator = Evaluator(protocols.get(name), **options)
    return {s.name: s for s in evaluator.score_images(restore, examples, sigma=sigma)}


def degraded(scored):
    return {name: one.degraded for name, one in scored.items()}


def assert_equal_arrays(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


class TestNoise:
    def test_two_runs_agree_exactly(self, examples):
        first, second = evaluate(examples), evaluate(examples)
        assert_equal_arrays(degraded(first), degraded(second))
        for name in first:
            for score in ("psnr", "ssim", "input_psnr"):
                assert getattr(first[name], score) == getattr(second[name], score)

    @pytest.mark.parametrize("changed", [{"bucket": 16}, {"bucket": 128}])
    def test_does_not_depend_on_the_bucket(self, examples, changed):
        base, other = evaluate(examples), evaluate(examples, **changed)
        assert_equal_arrays(degraded(base), degraded(other))
        for name in base:
            np.testing.assert_allclose(base[name].psnr, other[name].psnr, rtol=1e-5)
            np.testing.assert_allclose(base[name].ssim, other[name].ssim, rtol=1e-4)

    def test_does_not_depend_on_the_other_images(self, examples):
        base = degraded(evaluate(examples))
        assert_equal_arrays(base, degraded(evaluate(examples[::-1])))
        some = examples[1::2]
        assert_equal_arrays({e["name"]: base[e["name"]] for e in some}, degraded(evaluate(some)))

    def test_depends_on_name_and_seed(self, examples):
        clean = examples[0]["clean"]
        evaluator, other = (Evaluator(protocols.get("float"), seed=s) for s in (0, 1))
        noise = evaluator.degrade(clean, "a", sigma=50) - clean
        assert (noise != evaluator.degrade(clean, "b", sigma=50) - clean).all()
        assert (noise != other.degrade(clean, "a", sigma=50) - clean).all()

    @pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"caf\xe9", b"a" * 255, "北京".encode()])
    def test_depends_on_the_bytes_of_the_name(self, examples, name):
        clean = examples[0]["clean"]
        noisy = Evaluator(protocols.get("float")).degrade(clean, os.fsdecode(name), sigma=50)
        key = jax.random.fold_in(jax.random.key(0), zlib.crc32(name))
        padded = pad_to_bucket(clean[None], 64)
        expected = degradations.awgn(key[None], padded, sigma=np.float32(50), protocol="float")
        np.testing.assert_allclose(noisy, expected[0, : len(clean), : clean.shape[1]], atol=1e-6)

    def test_filtered_noise_is_that_of_the_images_own_size(self, examples):
        """Not of a padded one: what is a low frequency depends on the size."""
        clean = examples[0]["clean"]
        for spectrum, spread in (("low", 0), ("white", 20)):
            protocol = protocols.get("float").with_noise(spectrum=spectrum, spread=spread)
            field = Evaluator(protocol).degrade(clean, "a", sigma=50) - clean
            key = jax.random.fold_in(jax.random.key(0), zlib.crc32(b"a"))
            white = jax.random.normal(key, clean.shape)[None]
            level = np.linspace(50 - spread, 50 + spread, clean.shape[1])[:, None] / 255
            expected = np.asarray(degradations.shape_noise(white, spectrum=spectrum)[0]) * level
            np.testing.assert_allclose(field, expected, atol=1e-6)

    def test_level_and_protocol_act_on_one_field(self, examples):
        clean = examples[0]["clean"]
        evaluators = {name: Evaluator(protocols.get(name)) for name in ("float", "clipped", "8bit")}
        noisy = {name: e.degrade(clean, "a", sigma=50) for name, e in evaluators.items()}
        assert noisy["float"].dtype == np.float32
        assert noisy["float"].shape == clean.shape
        field = noisy["float"] - clean
        assert abs(field.std() - 50 / 255) < 4 * 50 / 255 / np.sqrt(2 * field.size)
        half = evaluators["float"].degrade(clean, "a", sigma=25) - clean
        np.testing.assert_allclose(field, 2 * half, rtol=0, atol=1e-6)
        # Other programs than for "float", so the last bit may differ.
        np.testing.assert_allclose(noisy["clipped"], noisy["float"].clip(0, 1), rtol=0, atol=1e-6)
        np.testing.assert_allclose(noisy["8bit"] * 255, np.rint(noisy["clipped"] * 255), atol=1e-4)


class TestScores:
    def test_by_hand(self, examples):
        for one in evaluate(examples).values():
            np.testing.assert_array_equal(one.restored, darker(one.degraded))
            for score, image in ((one.input_psnr, one.degraded), (one.psnr, one.restored)):
                expected = peak_signal_noise_ratio(one.clean, image.clip(0, 1), data_range=1)
                np.testing.assert_allclose(score, expected, rtol=1e-5)

    def test_pairs(self, examples, rng):
        for e in examples:
            e["degraded"] = e["clean"] + rng.normal(0, 0.1, e["clean"].shape).astype(np.float32)
        scored = evaluate(examples, "pairs", sigma=None)
        for example in examples:
            one = scored[example["name"]]
            np.testing.assert_array_equal(one.degraded, example["degraded"])
            image = one.degraded.clip(0, 1)
            expected = peak_signal_noise_ratio(one.clean, image, data_range=1)
            np.testing.assert_allclose(one.input_psnr, expected, rtol=1e-5)

    def test_two_views(self, examples, rng):
        """The network gets both; shown and scored before it is their mean."""
        for e in examples:
            e["degraded"] = rng.random((*e["clean"].shape[:2], 6), np.float32)
        scored = evaluate(examples, "pairs", sigma=None, restore=lambda views: views[..., 2::-1])
        for example in examples:
            one, (left, right) = scored[example["name"]], np.split(example["degraded"], 2, axis=-1)
            np.testing.assert_array_equal(one.restored, left[..., ::-1])
            np.testing.assert_allclose(one.degraded, np.mean([left, right], axis=0), atol=1e-7)
            for score, image in ((one.input_psnr, one.degraded), (one.psnr, one.restored)):
                expected = peak_signal_noise_ratio(one.clean, image, data_range=1)
                np.testing.assert_allclose(score, expected, rtol=1e-5)

    @pytest.mark.extended
    def test_the_network_sees_what_the_protocol_leaves(self, examples, rng):
        for sigma, name in ((50.0, "sadnet"), (None, "sadnet-pairs")):
            if sigma is None:
                for e in examples:
                    e["degraded"] = rng.random(e["clean"].shape, np.float32)
            for example in examples:
                one = evaluate([example], name, sigma=sigma)[example["name"]]
                height, width = (side // 8 * 8 for side in example["clean"].shape[:2])
                cut = (slice(height), slice(width))
                np.testing.assert_array_equal(one.clean, example["clean"][cut])
                assert one.degraded.shape == one.restored.shape == one.clean.shape
                if sigma is None:
                    np.testing.assert_array_equal(one.degraded, example["degraded"][cut])
                else:  # the noise of the whole image, then cut
                    whole = evaluate([example], "8bit")[example["name"]].degraded
                    np.testing.assert_array_equal(one.degraded, whole[cut])

    def test_perfect_and_tiny(self, rng):
        clean = rng.random((5, 7, 1), np.float32)
        evaluator = Evaluator(protocols.get("float"), bucket=8)
        scores = evaluator.score(clean, clean)
        assert scores["psnr"] == np.inf
        assert np.isnan(scores["ssim"])  # smaller than its window

    def test_restorer_that_changes_the_size(self, examples):
        with pytest.raises(ValueError, match="differ in shape"):
            evaluate(examples, restore=lambda x: x.repeat(4, axis=0))

    def test_summary(self, examples):
        scored = list(evaluate(examples).values())
        summary = summarize(iter(scored))
        assert summary.n == 4
        for score in ("psnr", "ssim", "input_psnr"):
            expected = sum(getattr(s, score) for s in scored) / 4
            np.testing.assert_allclose(getattr(summary, score), expected, rtol=1e-6)
        with pytest.raises(ValueError, match="no image to score"):
            summarize([])

    def test_images_without_ssim_do_not_count_in_its_mean(self):
        image = np.zeros((1, 1, 1), np.float32)

        def summary(*scores):
            return summarize(
                ScoredImage(str(i), image, image, image, psnr, ssim, 20.0, {"mae": 0.5})
                for i, (psnr, ssim) in enumerate(scores)
            )

        assert summary((30.0, 0.5), (40.0, np.nan), (50.0, 1.0)) == Summary(
            40.0, 0.75, 20.0, 3, {"mae": 0.5}
        )
        assert np.isnan(summary((30.0, np.nan)).ssim)
        assert np.isnan(summary((30.0, 0.5), (np.nan, np.nan)).psnr)  # of a network that gave NaN


class TestFurtherScores:
    @pytest.fixture
    def pairs(self, rng):
        """Odd sizes, large enough for LPIPS."""
        examples = []
        for i, size in enumerate([(33, 41), (35, 37)]):
            clean = rng.random((*size, 3), np.float32)
            degraded = clean + rng.normal(0, 0.1, clean.shape).astype(np.float32)
            examples.append({"name": f"image{i}", "clean": clean, "degraded": degraded})
        return examples

    def test_mae_and_lpips(self, pairs, monkeypatch):
        """LPIPS of clipped images, only where it is installed, and never of the degraded ones."""
        seen = []

        def distance(restored, clean):
            seen.append((restored, clean))
            return float(len(seen))

        monkeypatch.setattr(lpips, "lpips", distance)
        monkeypatch.setattr(lpips, "available", lambda: False)
        without = evaluate(pairs, "dpdd", sigma=None)
        assert not seen
        monkeypatch.setattr(lpips, "available", lambda: True)
        scored = evaluate(pairs, "dpdd", sigma=None)
        assert len(seen) == len(pairs)
        for i, (name, one) in enumerate(scored.items()):
            image = one.restored.clip(0, 1)
            np.testing.assert_allclose(
                one.extra["mae"], np.abs(image - one.clean).mean(), rtol=1e-5
            )
            np.testing.assert_array_equal(seen[i][0], image)
            np.testing.assert_array_equal(seen[i][1], one.clean)
            assert one.extra == {**without[name].extra, "lpips": i + 1}
        summary = summarize(scored.values())
        assert summary.extra["lpips"] == 1.5
        mean = np.mean([one.extra["mae"] for one in scored.values()])
        np.testing.assert_allclose(summary.extra["mae"], mean)
        assert set(summarize(without.values()).extra) == {"mae"}

    def test_lpips_without_the_border(self, pairs, monkeypatch):
        monkeypatch.setattr(lpips, "available", lambda: True)
        monkeypatch.setattr(lpips, "lpips", lambda restored, clean: restored.shape[0])
        protocol = dataclasses.replace(protocols.get("dpdd"), border=2)
        clean = pairs[0]["clean"]
        assert Evaluator(protocol).score(clean, clean)["lpips"] == len(clean) - 4

    def test_alignment(self, pairs, monkeypatch):
        """Of what a PNG would hold; both images, each scored where its own mask says."""
        seen = []

        def shift(restored, clean):  # as if the restored image covered all but two columns
            seen.append(restored)
            valid = np.ones(clean.shape[:2], bool)
            valid[:, :2] = False
            return np.where(valid[..., None], restored * np.float32(1.5), np.float32(0)), valid

        monkeypatch.setattr(registration, "align", shift)
        for one in evaluate(pairs, "realblur", sigma=None).values():
            assert not one.extra
            for image, score in ((one.restored, one.psnr), (one.degraded, one.input_psnr)):
                stored = np.rint(image.clip(0, 1) * 255) / 255
                np.testing.assert_allclose(seen.pop(0), stored, atol=1e-6)
                error = np.mean((1.5 * stored - one.clean)[:, 2:].astype(np.float64) ** 2)
                np.testing.assert_allclose(score, -10 * np.log10(error), rtol=1e-5)

    def test_an_image_that_cannot_be_aligned_is_named(self, pairs):
        with pytest.raises(ValueError, match=r"image0: no alignment found: .* do not converge"):
            evaluate(pairs, "realblur", sigma=None, restore=lambda x: np.full_like(x, 0.5))


class TestMismatches:
    def test_pairs_without_degraded_images(self, examples):
        with pytest.raises(
            ValueError, match=r"'pairs' .* needs degraded images .* image0 has none"
        ):
            evaluate(examples, "pairs", sigma=50.0)
        with pytest.raises(ValueError, match="'float' with sigma None"):
            evaluate(examples, "float", sigma=None)

    @pytest.mark.parametrize(("name", "sigma"), [("float", 50.0), ("float", None), ("pairs", 50.0)])
    def test_noise_for_degraded_images(self, examples, name, sigma):
        examples[0]["degraded"] = examples[0]["clean"]
        with pytest.raises(ValueError, match="image0 is degraded already; use a protocol"):
            evaluate(examples, name, sigma=sigma)

    def test_pixels_that_are_no_numbers(self, examples):
        pairs = [{**example, "degraded": example["clean"]} for example in examples]
        pairs[0]["clean"] = np.full_like(pairs[0]["clean"], np.nan)
        with pytest.raises(ValueError, match="image0: the clean image holds NaN"):
            evaluate(pairs, "pairs", sigma=None)

        def restore(image):
            raise ImageError("broken")

        with pytest.raises(ValueError, match="image1: broken"):
            evaluate(pairs[1:], "pairs", sigma=None, restore=restore)

    def test_no_noise_from_pairs(self, examples):
        with pytest.raises(ValueError, match="'pairs' degrades nothing"):
            Evaluator(protocols.get("pairs")).degrade(examples[0]["clean"], "a", sigma=50)


def test_one_compilation_for_each_bucket(rng, caplog):
    """Not for each image, and none more for another level or another run."""
    sizes = [(70, 130), (128, 192), (65, 129), (100, 150)]  # a bucket of this test alone
    examples = [{"name": str(s), "clean": rng.random((*s, 1), np.float32)} for s in sizes]

    def compiled(sigma):
        evaluator = Evaluator(protocols.get("float"))
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            summarize(evaluator.score_images(darker, examples, sigma=sigma))
        found = (re.match(r"Compiling (?:jit\()?(\w+)", m) for m in caplog.messages)
        return collections.Counter(match[1] for match in found if match)

    first = compiled(50)
    assert first["awgn"] == first["score"] == 1
    assert not compiled(25)
