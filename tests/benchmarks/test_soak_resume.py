"""Comparison of a run that was stopped with the uninterrupted one."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import soak_resume
from lcdnet_jax.checkpoints import Checkpoints


class TestSoakResume:
    """That it would notice a run that does not end as the uninterrupted one."""

    def state(self):
        return {
            "params": {"conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
            "opt_state": [np.int32(3), {"mu": np.float32([0.0, math.nan])}],
        }

    def saved(self, workdir, items, step=4):
        checkpoints = Checkpoints(workdir, keep=1)
        checkpoints.save(step, jax.tree.map(jnp.asarray, items))
        checkpoints.finish(step)
        checkpoints.close()
        return soak_resume.read_state(workdir)

    def test_states_read_from_checkpoints(self, tmp_path):
        wanted = self.saved(tmp_path / "a", self.state())
        assert soak_resume.state_differences(wanted, self.saved(tmp_path / "b", self.state())) == []
        changed = self.state()
        changed["params"]["conv"]["kernel"].view(np.uint32)[1, 2] ^= 1
        changed["opt_state"][1]["mu"][0] = -0.0
        found = self.saved(tmp_path / "c", changed, step=8)
        assert soak_resume.state_differences(wanted, found) == [
            "['opt_state'][1]['mu']: 1 of 2 values different",
            "['params']['conv']['kernel']: 1 of 6 values different",
            "['step']: 1 of 1 value different",
        ]

    def test_arrays_of_another_kind(self):
        found = self.state()
        found["params"]["conv"]["kernel"] = np.zeros((3, 2), np.float32)
        found["ema"] = found["opt_state"].pop()
        assert soak_resume.state_differences(self.state(), found) == [
            "['ema']['mu'] is unknown",
            "['opt_state'][1]['mu'] is missing",
            "['params']['conv']['kernel'] is float32[3, 2], not float32[2, 3]",
        ]

    @pytest.mark.parametrize(
        ("steps", "loss", "expected"),
        [
            ([1, 2, 3], 0.5, []),
            ([1, 3], 0.5, ["step 2 is missing"]),
            ([1, 2, 3, 3], 0.5, ["step 3 is there 2 times"]),
            ([1, 2, 3, 4], 0.5, ["step 4 has", "not None"]),
            (
                [1, 2, 3],
                0.5000001,
                ["step 2 has", "'train/loss': 0.5000001,", "'train/loss': 0.5,"],
            ),
        ],
    )
    def test_metrics(self, tmp_path, steps, loss, expected):
        def written(name, steps, loss):
            numbers = dict.fromkeys(("train/psnr", "train/grad_norm", "train/learning_rate"), 1.0)
            rows = [{"step": s, **numbers, "train/loss": loss if s == 2 else 0.1} for s in steps]
            rows.append({"step": 2, "compilations": len(steps)})  # differs, and may
            (tmp_path / name).mkdir()
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / name / "metrics.jsonl").write_text(text)
            return tmp_path / name

        wanted = written("wanted", [1, 2, 3], 0.5)
        lines = soak_resume.metrics_differences(wanted, written("found", steps, loss))
        assert len(lines) == bool(expected)
        assert all(part in lines[0] for part in expected)
