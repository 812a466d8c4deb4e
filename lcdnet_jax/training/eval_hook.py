"""Evaluation during a training: scores in the logs and in scores.jsonl, and panels."""

import base64
import itertools
import math
import time
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost, visualization
from lcdnet_jax.evaluation import Case, DataSet, Row, ScoredImage, Setting, sweep
from lcdnet_jax.evaluation.evaluator import Example
from lcdnet_jax.evaluation.sweep import Sliceable
from lcdnet_jax.inference import Restorer
from lcdnet_jax.messages import SlowWorkReporter, format_count
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.metric_writer import MetricWriter
from lcdnet_jax.typing import JsonObject, Variables
from lcdnet_jax.weights.card import get_folder_names


class EvalHook:
    """Scores the evaluation images with the weights of a run. Averaged weights take precedence.

    All processes of the run share the images, on all of their devices. Process 0 writes.
    """

    def __init__(
        self,
        config: ConfigDict,
        module: RestorationNetwork,
        examples: Iterable[Example],
        writer: MetricWriter,
    ):
        self._config = config
        self._writer = writer
        self._slow_work = SlowWorkReporter(lambda line: writer.print_line(line))
        self._restorer = Restorer(
            module,
            {},
            bucket=config.eval.bucket,
            max_pixels=None,
            tile_batch=1,
            on_compile=lambda height, width: self._slow_work.begin(
                "compiling", f"the network for {width}x{height} pixels"
            ),
        )
        evaluations = config_lib.list_evaluations(config)
        self._has_several_protocols = len({protocol for protocol, _ in evaluations}) > 1
        self._dataset = DataSet(
            _data_name(config),
            _FirstExamples(examples, config.eval.max_images),
            [Setting(protocol, sigma) for protocol, sigma in evaluations],
        )
        step = config_lib.create_degradation(config)
        self._degradations = {} if step is None else {config.degradation.kind: step}

    def __call__(self, step: int, variables: Variables) -> None:
        """Evaluates the weights after ``step`` steps, which are in this host's memory.

        All processes must call it. An error in one of them is raised in all.
        """
        is_alone = jax.process_count() == 1
        panels: list[JsonObject] = []  # of the row, for process 0

        def draw(case: Case, number: int, image: ScoredImage) -> None:
            self._slow_work.end()
            if number >= self._config.eval.panels:
                return
            ending = "".join(f"_{part}" for part in self._case_name(case))
            panel = _draw_panel(image)
            if is_alone:
                self._writer.write_panel(step, image.name, ending, panel)
            else:
                pixels = base64.b64encode(panel.tobytes()).decode()
                panels.append(
                    {"name": image.name, "ending": ending, "shape": panel.shape, "pixels": pixels}
                )

        begin = time.perf_counter()
        for row in sweep(
            [self._dataset],
            {"full": self._restorer.with_variables(variables)},
            degradations=self._degradations,
            bucket=self._config.eval.bucket,
            on_image=draw,
            distributed=not is_alone,
        ):
            drawn = [] if is_alone else multihost.gather(panels)
            panels.clear()
            failure: Exception | None = None
            try:
                for panel in itertools.chain.from_iterable(drawn):
                    self._writer.write_panel(
                        step, panel["name"], panel["ending"], _decode_panel(panel)
                    )
                self._report(step, row, seconds=time.perf_counter() - begin)
                # After each row: a damaged image later on must not lose the scores before it.
                self._writer.write_scores([_to_json(step, row)])
            except Exception as error:
                failure = error  # the other processes must not wait
            if not multihost.all_succeeded(failure is None):
                raise failure or RuntimeError("process 0 could not write scores, see its output")
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
            f"(input {summary.input_psnr:.2f} dB), {format_count(summary.n, 'image')}, "
            f"{seconds:.1f} s  [{row.protocol.describe()}]"
        )

    def _case_name(self, case: Case) -> list[str]:
        """Parts of names in logs. The protocol is one of them if there are several protocols."""
        protocol = [case.protocol.name] if self._has_several_protocols else []
        return protocol + ([] if case.sigma is None else [f"sigma{case.sigma:g}"])


class _FirstExamples:
    """The first ``count`` examples, or all for 0. It can be iterated repeatedly."""

    def __init__(self, examples: Iterable[Example], count: int):
        self._examples = examples
        self._count = count

    def __iter__(self) -> Iterator[Example]:
        return itertools.islice(self._examples, self._count or None)

    def __getitem__(self, chosen: slice) -> Iterator[Example]:
        if not isinstance(self._examples, Sliceable):
            return itertools.islice(self, chosen.start, chosen.stop, chosen.step)
        stop = min((n for n in (chosen.stop, self._count or None) if n is not None), default=None)
        return iter(self._examples[slice(chosen.start, stop, chosen.step)])


def _data_name(config: ConfigDict) -> str:
    """Kind, folder and names of the evaluation images, without the parents of the folder."""
    evaluated = config.data.eval
    name = f"{evaluated.source} {get_folder_names(evaluated.source, evaluated.path)}".strip()
    return f"{name}, names {evaluated.names}" if evaluated.names else name


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


def _decode_panel(panel: JsonObject) -> np.ndarray:
    pixels = np.frombuffer(base64.b64decode(panel["pixels"]), np.uint8)
    return pixels.reshape(panel["shape"])


def _draw_panel(image: ScoredImage) -> np.ndarray:
    pictures = [
        (f"degraded {image.input_psnr:.2f} dB", image.degraded),
        (f"restored {image.psnr:.2f} dB", image.restored),
        ("clean", image.clean),
    ]
    return visualization.draw_panel(pictures, clean=image.clean)
