"""The best checkpoint of a run (``config.best_metric``): which one it is, and that it is kept.

Nothing is stored about it. It follows from scores.jsonl, from which a run that continues removes
what came after its checkpoint, so it is the same however often a run is stopped or killed.
"""

from ml_collections import ConfigDict

from lcdnet_jax import checkpoints as checkpoints_lib
from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost
from lcdnet_jax.training.metric_writer import MetricWriter
from lcdnet_jax.weights import scores


class BestCheckpoint:
    """Keeps the best checkpoint. All processes must call each method.

    Args:
        config: The configuration, with ``best_metric``.
        checkpoints: Checkpoints of the run.
        writer: Writer of its scores.
    """

    def __init__(
        self, config: ConfigDict, checkpoints: checkpoints_lib.Checkpoints, writer: MetricWriter
    ):
        self._metric = config.best_metric
        self._count = len(config_lib.list_evaluations(config))
        self._checkpoints = checkpoints
        self._writer = writer

    def lacks_evaluation(self, step: int) -> bool:
        """Whether a saved step has no scores, because the process was killed in its evaluation.

        Scores of a part of the evaluation are removed.
        """

        def find() -> bool:
            rows = scores.read(self._writer.folder)
            count = sum(row["step"] == step for row in rows)
            if count == self._count or step not in self._checkpoints.steps():
                return False
            self._writer.remove_scores(step)
            return True

        return multihost.run_on_first_process(find, checkpoints_lib.CheckpointError)

    def update(self, step: int | None = None) -> None:
        """Keeps the best checkpoint, and deletes the one that was the best before.

        Args:
            step: The step that was just evaluated, whose save may not be complete. None at the
                start.
        """

        def find() -> int | None:
            steps = {*self._checkpoints.steps(), *(() if step is None else (step,))}
            rows = scores.read(self._writer.folder)
            return scores.find_best(rows, self._metric, count=self._count, steps=steps)

        best = multihost.run_on_first_process(find, checkpoints_lib.CheckpointError)
        self._checkpoints.protect(best)
        if best is not None and step is not None:
            self._writer.print_line(f"best {self._metric} so far: after step {best}")
