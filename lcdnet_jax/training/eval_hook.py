"""Evaluation during a training: scores in the logs and in scores.jsonl, and panels."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator

import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import protocols, visualization
from lcdnet_jax.evaluation import Case, DataSet, Row, ScoredImage, Setting, sweep
from lcdnet_jax.evaluation.evaluator import Example
from lcdnet_jax.inference import Restorer
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.metric_writer import MetricWriter
from lcdnet_jax.typing import JsonObject, Variables
from lcdnet_jax.weights.card import get_folder_names


class EvalHook:
    """Scores the evaluation images with the weights of a run. Averaged weights take precedence."""

    def __init__(
        self,
        config: ConfigDict,
        module: RestorationNetwork,
        examples: Iterable[Example],
        writer: MetricWriter,
    ):
        self._config = config
        self._writer = writer
        self._restorer = Restorer(module, {}, bucket=config.eval.bucket, max_pixels=None)
        self._protocols = protocols.of_training(
            config.degradation.kind,
            protocol=config.degradation.protocol,
            spectrum=config.degradation.spectrum,
            source=config.data.eval.source,
            scale=config_lib.find_scale(config),
        )
        sigmas = config.eval.sigmas if config.degradation.kind == "awgn" else (None,)
        self._dataset = DataSet(
            _data_name(config),
            _FirstExamples(examples, config.eval.max_images),
            [Setting(one, sigma) for one in self._protocols for sigma in sigmas],
        )
        step = config_lib.create_degradation(config)
        self._degradations = {} if step is None else {config.degradation.kind: step}

    def __call__(self, step: int, variables: Variables) -> None:
        """Evaluates the weights after ``step`` steps, which are in this host's memory."""

        def draw(case: Case, number: int, image: ScoredImage) -> None:
            if number < self._config.eval.panels:
                ending = "".join(f"_{part}" for part in self._case_name(case))
                self._writer.write_panel(step, image.name, ending, _draw_panel(image))

        begin = time.perf_counter()
        for row in sweep(
            [self._dataset],
            {"full": self._restorer.with_variables(variables)},
            degradations=self._degradations,
            bucket=self._config.eval.bucket,
            on_image=draw,
        ):
            self._report(step, row, seconds=time.perf_counter() - begin)
            # After each row: a damaged image later on must not lose the scores before it.
            self._writer.write_scores([_to_json(step, row)])
            begin = time.perf_counter()

    def _report(self, step: int, row: Row, *, seconds: float) -> None:
        summary = row.summary
        prefix = "/".join(["eval", *self._case_name(row)])
        scores = {"psnr": summary.psnr, "ssim": summary.ssim, **summary.extra}
        self._writer.write_scalars(
            step, {f"{prefix}/{name}": score for name, score in scores.items()}
        )
        level = "" if row.sigma is None else f"sigma {row.sigma:g}: "
        self._writer.print_line(
            f"evaluation after step {step}: {level}{summary.psnr:.2f} dB, SSIM {summary.ssim:.4f} "
            f"(input {summary.input_psnr:.2f} dB), {summary.n} images, "
            f"{seconds:.1f} s  [{row.protocol.describe()}]"
        )

    def _case_name(self, case: Case) -> list[str]:
        """Parts of names in logs. The protocol is one of them if there are several protocols."""
        protocol = [case.protocol.name] if len(self._protocols) > 1 else []
        return protocol + ([] if case.sigma is None else [f"sigma{case.sigma:g}"])


class _FirstExamples:
    """The first ``count`` examples, or all for 0. It can be iterated repeatedly."""

    def __init__(self, examples: Iterable[Example], count: int):
        self._examples = examples
        self._count = count

    def __iter__(self) -> Iterator[Example]:
        return itertools.islice(self._examples, self._count or None)


def _data_name(config: ConfigDict) -> str:
    """Kind and folder of the evaluation images, without the parents of the folder."""
    evaluated = config.data.eval
    return f"{evaluated.source} {get_folder_names(evaluated.source, evaluated.path)}".strip()


def _to_json(step: int, row: Row) -> JsonObject:
    """A row of scores.jsonl, without scores that are not finite, which JSON cannot hold."""
    scores = {"psnr": row.summary.psnr, "ssim": row.summary.ssim, **row.summary.extra}
    return {
        "step": step,
        "data": row.dataset,
        "protocol": row.protocol.describe(),
        "sigma": row.sigma,
        **{name: score for name, score in scores.items() if math.isfinite(score)},
        "n": row.summary.n,
    }


def _draw_panel(image: ScoredImage) -> np.ndarray:
    pictures = [
        (f"degraded {image.input_psnr:.2f} dB", image.degraded),
        (f"restored {image.psnr:.2f} dB", image.restored),
        ("clean", image.clean),
    ]
    return visualization.draw_panel(pictures, clean=image.clean)
