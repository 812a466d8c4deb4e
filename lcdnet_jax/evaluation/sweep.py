"""Scores of several data sets under several protocols, noise levels and modes.

``eval.py`` and the evaluation during a training run call it. In a notebook:

    settings = [Setting(protocols.get("float"), sigma) for sigma in (25.0, 50.0)]
    datasets = [DataSet("photos", examples, settings)]
    for row in sweep(datasets, {"small": small_restorer, "base": base_restorer}):
        print(row.mode, row.sigma, row.summary.psnr)
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Structure
from typing import runtime_checkable

import jax

from lcdnet_jax import multihost
from lcdnet_jax.degradations import Step
from lcdnet_jax.evaluation.evaluator import (
    Evaluator,
    Example,
    ScoredImage,
    Summary,
    mean,
    summarize_scores,
)
from lcdnet_jax.inference import Restorer
from lcdnet_jax.protocols import Protocol


@dataclass(frozen=True)
class Setting:
    """A protocol and a noise level.

    Attributes:
        protocol: How images are degraded and scored.
        sigma: Noise level in 8-bit units; None without noise.
    """

    protocol: Protocol
    sigma: float | None = None


@dataclass(frozen=True)
class DataSet:
    """Images and the settings under which they are scored.

    Attributes:
        name: Name in tables.
        examples: Images as for :meth:`Evaluator.score_images`. They are iterated once per row. If
            several processes share them, :class:`Sliceable` ones are faster: of others, each
            process reads all.
        settings: Protocols and noise levels.
    """

    name: str
    examples: Iterable[Example]
    settings: Sequence[Setting]


@dataclass(frozen=True)
class Case:
    """Data set, protocol, noise level and mode of one row.

    Attributes:
        dataset: Name of the data set.
        protocol: The protocol.
        sigma: Noise level in 8-bit units; None without noise.
        mode: Name of the restorer in the mapping given to :func:`sweep`.
    """

    dataset: str
    protocol: Protocol
    sigma: float | None
    mode: str


@dataclass(frozen=True)
class Row(Case):
    """Scores of a data set in one case.

    Attributes:
        restorer_mode: :attr:`Restorer.mode`, with sizes: "tiled 384/64".
        summary: Mean scores.
    """

    restorer_mode: str
    summary: Summary


@runtime_checkable
class Sliceable(Structure):
    """Examples of which a slice can be taken without reading the others, such as a list."""

    def __getitem__(self, chosen: slice) -> Iterable[Example]:
        """Takes some of the examples."""


def sweep(
    datasets: Iterable[DataSet],
    restorers: Mapping[str, Restorer],
    *,
    degradations: Mapping[str, Step] | None = None,
    bucket: int = 64,
    on_image: Callable[[Case, int, ScoredImage], None] | None = None,
    distributed: bool = False,
) -> Iterator[Row]:
    """Scores every data set in every setting with every restorer.

    All devices of this process compute if images of equal padded size follow each other. Scores do
    not depend on the number of devices or processes if the restorers have ``tile_batch`` 1.

    Args:
        datasets: The data sets.
        restorers: Restorers by the name of their mode. For a protocol that cuts sides to
            multiples, the restorer pads to these multiples, so that the network sees no padding.
        degradations: Functions that degrade clean images, by ``Protocol.degradation``.
        bucket: Metrics are compiled for sides that are multiples of this, pixels.
        on_image: Called with the case, the number of the image from 0, and the image.
        distributed: Whether the processes of a run share the images: each scores every n-th one,
            and calls ``on_image`` for these. All of them must call this function alike, and all get
            the same rows.

    Yields:
        Rows, in the order of data sets, then settings, then restorers. Earlier rows stay valid if
        a later image fails.

    Raises:
        ValueError: As :meth:`Evaluator.score_images`, for an empty data set, and if another
            process failed.
    """
    steps = degradations or {}
    evaluators: dict[Protocol, Evaluator] = {}
    unpadded: dict[tuple[str, int], Restorer] = {}
    for dataset in datasets:
        for setting in dataset.settings:
            protocol = setting.protocol
            if protocol not in evaluators:
                step = steps.get(protocol.degradation) if protocol.degradation else None
                evaluators[protocol] = Evaluator(protocol, degradation=step, bucket=bucket)
            for mode, restorer in restorers.items():
                if protocol.multiple > 1:
                    key = mode, protocol.multiple
                    restorer = unpadded.setdefault(key, restorer.with_bucket(protocol.multiple))
                case = Case(dataset.name, protocol, setting.sigma, mode)
                scores = _score(
                    evaluators[protocol], restorer, dataset, case, on_image, distributed
                )
                summary = summarize_scores(scores)
                yield Row(dataset.name, protocol, setting.sigma, mode, restorer.mode, summary)


def add_means(rows: Iterable[Row], groups: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Adds the mean scores of groups of data sets, each data set with the same weight.

    Args:
        rows: Rows as :func:`sweep` yields them.
        groups: Names of the data sets of each group, by its name.

    Yields:
        The rows. After the last row of a group, its means: a row for each protocol, noise level and
        mode, named "GROUP_mean". It counts all images.
    """
    seen: dict[tuple[str, Protocol, float | None, str], list[Row]] = {}
    for row in rows:
        yield row
        for group, names in groups.items():
            if row.dataset not in names:
                continue
            key = (group, row.protocol, row.sigma, row.mode)
            seen.setdefault(key, []).append(row)
            if row.dataset == names[-1]:
                summary = _average([one.summary for one in seen[key]])
                yield dataclasses.replace(row, dataset=f"{group}_mean", summary=summary)


def _average(summaries: Sequence[Summary]) -> Summary:
    extra = {
        name: sum(one.extra[name] for one in summaries) / len(summaries)
        for name in summaries[0].extra
    }
    psnr, input_psnr = (
        sum(values) / len(summaries)
        for values in zip(*((one.psnr, one.input_psnr) for one in summaries), strict=True)
    )
    ssim = mean(one.ssim for one in summaries)
    return Summary(psnr, ssim, input_psnr, sum(one.n for one in summaries), extra)


def _score(
    evaluator: Evaluator,
    restorer: Restorer,
    dataset: DataSet,
    case: Case,
    on_image: Callable[[Case, int, ScoredImage], None] | None,
    distributed: bool,
) -> list[dict[str, float]]:
    """The scores of all images of a row, in their order."""
    first, step = (jax.process_index(), jax.process_count()) if distributed else (0, 1)
    scores: list[dict[str, float]] = []
    failure: Exception | None = None
    examples = dataset.examples if step == 1 else _take(dataset.examples, first, step)
    images = evaluator.score_each(restorer.predict_each, examples, sigma=case.sigma)
    try:
        for number, image in zip(itertools.count(first, step), images, strict=False):
            if on_image is not None:
                on_image(case, number, image)
            scores.append(image.scores())
    except Exception as error:
        if step == 1:
            raise
        failure = error  # the other processes must not wait
    if step == 1:
        return scores
    found = multihost.gather({"scores": scores, "error": failure and repr(failure)})
    if failure is not None:
        raise failure
    for index, one in enumerate(found):
        if one["error"] is not None:
            raise ValueError(f"process {index} failed: {one['error']}")
    rounds = itertools.zip_longest(*(one["scores"] for one in found))
    return [row for each in rounds for row in each if row is not None]


def _take(examples: Iterable[Example], first: int, step: int) -> Iterable[Example]:
    if isinstance(examples, Sliceable):
        return examples[first::step]
    return itertools.islice(examples, first, None, step)
