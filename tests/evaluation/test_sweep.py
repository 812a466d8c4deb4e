"""Sweeps: which rows, in which order, from which images."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax import multihost, networks, protocols
from lcdnet_jax.evaluation import DataSet, Evaluator, Setting, add_means, summarize, sweep
from lcdnet_jax.inference import Restorer, predictor


class Scale(networks.RestorationNetwork):
    """Multiplies by a factor."""

    channels: int = 3
    factor: float = 1.0

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x * jnp.float32(self.factor)


@pytest.fixture
def restorers():
    return {
        name: Restorer(Scale(factor=factor), {}, bucket=32, max_pixels=None)
        for name, factor in (("dark", 0.8), ("same", 1.0))
    }


@pytest.fixture
def examples(rng):
    return [{"name": f"image{i}", "clean": rng.random((20 + i, 30, 3), np.float32)} for i in (0, 1)]


def settings(name, *sigmas):
    return [Setting(protocols.get(name), sigma) for sigma in sigmas]


def cases(rows):
    return [(row.dataset, row.protocol.name, row.sigma, row.mode) for row in rows]


def test_scores_are_of_the_network_alone(examples):
    """A network that gives NaN has such scores and ends no training, and gray is not special."""
    broken = Restorer(Scale(factor=np.nan), {}, bucket=32, max_pixels=None)
    (row,) = sweep([DataSet("one", examples, settings("float", 25.0))], {"broken": broken})
    assert np.isnan(row.summary.psnr)
    gray = [{**example, "degraded": np.zeros_like(example["clean"])} for example in examples]
    seen = []
    restorer = Restorer(Scale(factor=1.0), {}, bucket=32, max_pixels=None, strength=0)
    predict = restorer.predict_each

    def predict_each(images):
        return predict(seen.append(image.shape) or image for image in images)

    restorer.predict_each = predict_each
    list(sweep([DataSet("gray", gray, settings("pairs", None))], {"same": restorer}))
    assert seen == [example["clean"].shape for example in examples]


def test_rows_are_those_of_the_evaluator(examples, restorers):
    chosen = [*settings("float", 25.0, 50.0), *settings("8bit", 50.0)]
    datasets = [DataSet("both", examples, chosen), DataSet("one", examples[:1], chosen[:1])]
    rows = list(sweep(datasets, restorers, bucket=32))
    assert cases(rows) == [
        ("both", "float", 25.0, "dark"),
        ("both", "float", 25.0, "same"),
        ("both", "float", 50.0, "dark"),
        ("both", "float", 50.0, "same"),
        ("both", "8bit", 50.0, "dark"),
        ("both", "8bit", 50.0, "same"),
        ("one", "float", 25.0, "dark"),
        ("one", "float", 25.0, "same"),
    ]
    assert [row.summary.n for row in rows] == [2] * 6 + [1] * 2
    assert {row.restorer_mode for row in rows} == {"full"}
    evaluator = Evaluator(protocols.get("8bit"), bucket=32)
    expected = summarize(evaluator.score_images(restorers["dark"], examples, sigma=50.0))
    assert rows[4].summary == expected


def test_images_are_shown_with_their_case(examples, restorers):
    seen = []
    datasets = [DataSet("set", examples, settings("float", 25.0, 50.0))]
    rows = sweep(
        datasets, restorers, on_image=lambda case, number, image: seen.append((case, number, image))
    )
    row = next(rows)
    assert cases(case for case, _, _ in seen) == cases([row, row])  # one row at a time
    assert [(number, image.name) for _, number, image in seen] == [(0, "image0"), (1, "image1")]
    assert row.summary.psnr == np.mean([image.psnr for _, _, image in seen])
    list(rows)
    assert len(seen) == 8


def test_degradations_by_kind(examples, restorers):
    protocol = protocols.get("8bit").with_degradation("half", label="x")
    datasets = [DataSet("set", examples, [Setting(protocol)])]
    step = lambda keys, images: images * jnp.float32(0.5)  # noqa: E731
    rows = sweep(datasets, {"same": restorers["same"]}, degradations={"half": step, "other": None})
    (row,) = rows
    assert (row.protocol.name, row.sigma) == ("x-8bit", None)
    np.testing.assert_allclose(row.summary.psnr, row.summary.input_psnr, rtol=1e-6)
    with pytest.raises(ValueError, match=r"has the degradation 'half', but the function given is"):
        list(sweep(datasets, restorers))


def test_a_protocol_that_cuts_sides_pads_nothing(examples, restorers, monkeypatch):
    """In each mode, whatever the restorer does else; its weights are placed once."""
    real, shapes = predictor.pad_to_bucket, []

    def spy(batch, *limits, **tiles):
        padded = real(batch, *limits, **tiles)
        shapes.append(padded.shape[1:3])
        return padded

    monkeypatch.setattr(predictor, "pad_to_bucket", spy)
    chosen = [*settings("float", 25.0), *settings("sadnet", 25.0, 50.0)]
    list(sweep([DataSet("set", examples, chosen)], {"same": restorers["same"]}))
    assert shapes == [(32, 32)] * 2 + [(16, 24)] * 4
    assert restorers["same"].bucket == 32


def test_rows_before_a_failure_stay(examples, restorers):
    def damaged():
        yield examples[0]
        raise ValueError("image1 is damaged")

    datasets = [
        DataSet("good", examples, settings("float", 25.0)),
        DataSet("bad", damaged(), settings("float", 25.0)),
    ]
    rows = sweep(datasets, {"same": restorers["same"]})
    assert next(rows).dataset == "good"
    with pytest.raises(ValueError, match="image1 is damaged"):
        next(rows)
    with pytest.raises(ValueError, match="no image to score"):
        list(sweep([DataSet("empty", [], settings("float", 25.0))], restorers))


def test_means_of_groups(examples, restorers):
    """Each data set has the same weight, however many images it has."""
    chosen = settings("float", 25.0, 50.0)
    names = ("all", "first", "alone", "second")
    sets = (examples, examples[:1], examples[1:], examples[1:])
    datasets = [DataSet(name, one, chosen) for name, one in zip(names, sets, strict=True)]
    rows = list(add_means(sweep(datasets, restorers), {"both": ("all", "first", "second")}))
    assert [row.dataset for row in rows[-8:]] == ["second", "both_mean"] * 4
    assert [row.dataset for row in rows[:-8]] == ["all"] * 4 + ["first"] * 4 + ["alone"] * 4
    for row in rows[-7::2]:
        case = (row.protocol, row.sigma, row.mode)
        members = [
            one.summary
            for one in rows
            if (one.protocol, one.sigma, one.mode) == case
            and one.dataset in ("all", "first", "second")
        ]
        assert len(members) == 3
        assert row.summary.n == 4
        for score in ("psnr", "ssim", "input_psnr"):
            expected = np.mean([getattr(one, score) for one in members])
            np.testing.assert_allclose(getattr(row.summary, score), expected, rtol=1e-12)


class TestProcesses:
    """Of one run, one after the other: what each gives to the others, and what it gets."""

    @pytest.fixture
    def process(self, monkeypatch):
        def become(index, count, others):
            monkeypatch.setattr(jax, "process_index", lambda: index)
            monkeypatch.setattr(jax, "process_count", lambda: count)
            monkeypatch.setattr(multihost, "gather", others)

        return become

    @pytest.fixture
    def examples(self, rng):
        return [
            {"name": f"image{i}", "clean": rng.random((20, 30, 3), np.float32)} for i in range(5)
        ]

    def restorers(self):
        options = {"bucket": 32, "max_pixels": None, "tile_batch": 1}
        return {"dark": Restorer(Scale(factor=0.8), {}, **options)}

    def run(self, examples, **options):
        dataset = DataSet("one", examples, settings("float", 25.0))
        return list(sweep([dataset], self.restorers(), bucket=32, **options))

    @pytest.mark.parametrize("is_list", [True, False])
    def test_rows_are_those_of_one(self, examples, process, is_list):
        alone = self.run(examples)
        seen, given = [], []

        class Once:  # as a data set that can only be iterated
            def __iter__(self):
                return iter(examples)

        data = examples if is_list else Once()

        def note(case, number, image):
            seen.append((number, image.name))

        for index in (1, 2, 0):
            process(index, 3, lambda value: given.append(value) or [value])
            self.run(data, on_image=note, distributed=True)
        order = itertools.chain(range(1, 5, 3), range(2, 5, 3), range(0, 5, 3))
        assert seen == [(i, f"image{i}") for i in order]
        for index in range(3):
            process(index, 3, lambda value: [given[2], given[0], given[1]])
            assert self.run(data, distributed=True) == alone

    def test_an_error_ends_all(self, examples, process):
        given = []
        examples[1]["clean"] = np.full((20, 30, 3), np.nan, np.float32)
        process(1, 2, lambda value: given.append(value) or [value])
        with pytest.raises(ValueError, match=r"^image1: the clean image holds NaN"):
            self.run(examples, distributed=True)
        process(0, 2, lambda value: [value, given[0]])
        with pytest.raises(ValueError, match=r"^process 1 failed: ValueError\('image1: the clean"):
            self.run(examples, distributed=True)

    def test_more_processes_than_images(self, examples, process):
        alone, given = self.run(examples[:1]), []
        process(1, 2, lambda value: given.append(value) or [{"scores": [], "error": None}])
        with pytest.raises(ValueError, match="the data set is empty"):
            self.run(examples[:1], distributed=True)
        process(0, 2, lambda value: [value, given[0]])
        assert self.run(examples[:1], distributed=True) == alone


def test_devices_do_not_change_scores(rng):
    """Images of one size go to all devices together, in the order in which they come."""
    examples = [
        {"name": f"image{i}", "clean": rng.random((20 + i // 7, 30, 3), np.float32)}
        for i in range(9)
    ]
    datasets = [DataSet("one", examples, settings("float", 25.0))]
    rows, sizes = [], []
    for device in (None, jax.local_devices()[0]):
        options = {"bucket": 1, "max_pixels": None, "tile_batch": 1, "device": device}
        restorer = Restorer(Scale(factor=0.8), {}, **options)
        run = restorer._program.run
        restorer._program.run = lambda variables, batch, run=run: (
            sizes.append(len(batch)) or run(variables, batch)
        )
        rows.append(list(sweep(datasets, {"dark": restorer}, bucket=32)))
    assert rows[0] == rows[1]
    count = jax.local_device_count()
    assert sizes == [count, count] + [1] * 9
