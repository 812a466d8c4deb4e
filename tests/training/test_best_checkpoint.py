"""The best checkpoint of a run: kept, the same however often the run is killed, and loaded."""

import shutil

import jax
import numpy as np
import pytest

from lcdnet_jax import Restorer, storage, weights
from lcdnet_jax.checkpoints import CheckpointError, Checkpoints
from lcdnet_jax.training import loop, train_and_evaluate
from tests.training.short_run import Images, make_config

pytestmark = [pytest.mark.extended, pytest.mark.usefixtures("quick_trainer")]

# The last is that of the last step; step 4 is the best, and step 8 equals it.
PSNR = {2: 20.0, 4: 24.0, 6: 21.0, 8: 24.0, 9: 23.0}


class Killed(BaseException):
    """In place of SIGKILL: nothing of the library handles it."""


class Evaluation:
    """Writes scores by step. Each evaluation has two rows, of which a killed one writes fewer."""

    def __init__(self, psnr=PSNR, *, killed_at=None, rows=2):
        self.psnr, self.killed_at, self.rows = psnr, killed_at, rows
        self.steps = []

    def __call__(self, config, module, examples, writer):
        def evaluate(step, variables):
            self.steps.append(step)
            for number, sigma in enumerate((25.0, 50.0)):
                if step == self.killed_at and number == self.rows:
                    raise Killed
                row = {"step": step, "data": "x", "protocol": "float", "sigma": sigma, "n": 3}
                writer.write_scores([row | {"psnr": self.psnr[step] + number, "ssim": -step}])
            if step == self.killed_at and self.rows == 2:
                raise Killed

        return evaluate


@pytest.fixture
def run(monkeypatch):
    def run(workdir, evaluation=None, *, steps=9, **fields):
        evaluation = evaluation or Evaluation()
        monkeypatch.setattr(loop, "EvalHook", evaluation)
        fields = {"eval_every": 2, "checkpoint_every": 3, "keep_checkpoints": 1, **fields}
        config = make_config(steps=steps, best_metric="psnr")
        config.eval.sigmas = (25.0, 50.0)
        config.update(fields)
        train_and_evaluate(config, workdir, datasets={"train": Images(), "eval": []})
        return evaluation

    return run


def kept(workdir):
    reader = Checkpoints(workdir)
    steps = reader.steps()
    reader.close()
    return steps


def assert_same(workdir, other):
    assert kept(workdir) == kept(other)
    for step in kept(other):
        found, wanted = (weights.load(path, step=step) for path in (workdir, other))
        jax.tree.map(np.testing.assert_array_equal, found.variables, wanted.variables)
    first, second = ((path / "scores.jsonl").read_text() for path in (workdir, other))
    assert first == second


@pytest.fixture
def straight(tmp_path, run):
    run(tmp_path / "straight")
    return tmp_path / "straight"


def test_kept_and_loaded(straight, run, tmp_path, capsys):
    assert kept(straight) == [4, 9]
    loaded = weights.load(straight, step="best")
    assert loaded.card["step"] == weights.load_card(straight, step="best")["step"] == 4
    assert [row["psnr"] for row in loaded.card["metrics"]] == [24, 25]
    assert weights.load(straight).card["step"] == 9
    x = np.full((8, 8, 3), 0.5, np.float32)
    wanted = Restorer.from_checkpoint(straight, step=4)(x)
    np.testing.assert_array_equal(Restorer.from_checkpoint(straight, step="best")(x), wanted)

    run(tmp_path / "ssim", best_metric="ssim")
    assert kept(tmp_path / "ssim") == [2, 9]
    run(tmp_path / "none", best_metric="")
    assert kept(tmp_path / "none") == [9]
    with pytest.raises(CheckpointError, match=r"best_metric is empty\. Give"):
        weights.load(tmp_path / "none", step="best")
    (straight / "scores.jsonl").unlink()
    with pytest.raises(CheckpointError, match="no evaluation of a checkpoint yet"):
        weights.load(straight, step="best")


def test_the_best_so_far_replaces_the_one_before(run, tmp_path):
    run(tmp_path, steps=2)
    run(tmp_path, Evaluation({3: 10.0}), steps=3)  # the last step is always evaluated
    assert kept(tmp_path) == [2, 3]
    run(tmp_path, steps=4)
    assert kept(tmp_path) == [4]


@pytest.mark.parametrize(("step", "rows"), [(2, 0), (4, 0), (4, 1), (4, 2), (6, 1), (9, 0)])
def test_killed_in_an_evaluation(run, tmp_path, straight, step, rows):
    """It is repeated whole, also that of the last step, unless all of its scores are there."""
    with pytest.raises(Killed):
        run(tmp_path / "cut", Evaluation(killed_at=step, rows=rows))
    again = run(tmp_path / "cut")
    assert again.steps[:1] == [step if rows < 2 else min(s for s in PSNR if s > step)]
    assert_same(tmp_path / "cut", straight)


def test_killed_before_the_save_was_complete(run, tmp_path, straight):
    """Its scores are there, its checkpoint is not; the best one before must still be."""
    with pytest.raises(Killed):
        run(tmp_path / "cut", Evaluation(PSNR | {6: 30.0}, killed_at=6))
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "6")
    assert 4 in kept(tmp_path / "cut")
    run(tmp_path / "cut")
    assert_same(tmp_path / "cut", straight)


def test_other_settings_are_not_compared(run, tmp_path):
    """Step 2 has the scores of other noise levels. Those of the newest step are made again."""

    class OneRow(Evaluation):
        def __call__(self, config, module, examples, writer):
            def evaluate(step, variables):
                row = {"step": step, "data": "x", "protocol": "float", "sigma": 50.0, "n": 3}
                writer.write_scores([row | {"psnr": -float(step)}])

            return evaluate

    run(tmp_path, Evaluation(PSNR | {2: 30.0}), steps=4)
    assert kept(tmp_path) == [2, 4]
    run(tmp_path, OneRow(), eval={"sigmas": (50.0,)})
    assert kept(tmp_path) == [4, 9]


def test_in_a_bucket(bucket, run):
    workdir = f"{bucket}/run"
    with pytest.raises(Killed):
        run(workdir, Evaluation(killed_at=6, rows=1))
    run(workdir)
    assert kept(storage.to_path(workdir)) == [4, 9]
    assert weights.load(workdir, step="best").card["step"] == 4
