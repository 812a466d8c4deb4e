"""Evaluation on full images during training: scores for the logs, and panels."""

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import protocols, visualization
from lcdnet_jax.evaluation import Evaluator, Scored, summarise
from lcdnet_jax.inference import Restorer
from lcdnet_jax.training.metric_writer import MetricWriter
from lcdnet_jax.typing import Variables


class EvalHook:
    """Scores the evaluation images with a run's weights, averaged ones if there are any."""

    def __init__(
        self, config: ConfigDict, module: nn.Module, examples: Iterable[Any], writer: MetricWriter
    ):
        self._config = config
        self._examples = examples
        self._writer = writer
        self._restorer = Restorer(module, {}, bucket=config.eval.bucket, max_pixels=None)
        degradation = config.degradation
        self._sigmas: Sequence[float | None] = (
            config.eval.sigmas if degradation.kind == "awgn" else (None,)
        )
        self._evaluators = [
            Evaluator(
                protocol, degradation=config_lib.degradation(config), bucket=config.eval.bucket
            )
            for protocol in protocols.of_training(
                degradation.kind,
                protocol=degradation.protocol,
                spectrum=degradation.spectrum,
                source=config.data.eval.source,
                scale=config_lib.scale(config),
            )
        ]

    def __call__(self, step: int, variables: Variables) -> None:
        """Evaluates the weights after ``step`` steps. They are in the memory of this host."""
        restorer = self._restorer.with_variables(variables)
        for evaluator, sigma in itertools.product(self._evaluators, self._sigmas):
            begin = time.perf_counter()
            scored = evaluator.score_images(restorer, self._select_examples(), sigma=sigma)
            of = [evaluator.protocol.name] if len(self._evaluators) > 1 else []
            of += [] if sigma is None else [f"sigma{sigma:g}"]
            summary = summarise(self._write_panels(step, "_".join(["", *of]), scored))
            prefix = "/".join(["eval", *of])
            scores = {"psnr": summary.psnr, "ssim": summary.ssim, **summary.extra}
            self._writer.write_scalars(
                step, {f"{prefix}/{k}": value for k, value in scores.items()}
            )
            at = "" if sigma is None else f"sigma {sigma:g}: "
            self._writer.print_line(
                f"evaluation after step {step}: {at}{summary.psnr:.2f} dB, SSIM {summary.ssim:.4f} "
                f"(input {summary.input_psnr:.2f} dB), {summary.n} images, "
                f"{time.perf_counter() - begin:.1f} s  [{evaluator.protocol.describe()}]"
            )

    def _select_examples(self) -> Iterator[Any]:
        for i, example in enumerate(self._examples):
            if self._config.eval.max_images and i == self._config.eval.max_images:
                return
            yield example

    def _write_panels(self, step: int, of: str, scored: Iterable[Scored]) -> Iterator[Scored]:
        for i, one in enumerate(scored):
            if i < self._config.eval.panels:
                self._writer.write_panel(step, one.name + of, _draw_panel(one))
            yield one


def _draw_panel(scored: Scored) -> np.ndarray:
    pictures = [
        (f"degraded {scored.input_psnr:.2f} dB", scored.degraded),
        (f"restored {scored.psnr:.2f} dB", scored.restored),
        ("clean", scored.clean),
    ]
    return visualization.draw_panel(pictures, clean=scored.clean)
