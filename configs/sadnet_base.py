"""SADNet `base` (4.2 million parameters) on an accelerator, for jobs with a time limit.

Our own recipe; the paper's is sadnet_color_awgn.py. Images are in device memory, TensorFlow is not
needed, the compute type is bfloat16, batches are larger, and a higher learning rate falls to zero.
It trains on unclipped noise and on noise in 8-bit files. Variants: a noise level, or a range of
them such as "0-75".

Command: timeout -s TERM 8m python train.py --config configs/sadnet_base.py:50 --workdir runs/b
with --config.data.train.path=DIR, (and the comma) as in sadnet_blind.py. The same command
continues the run, bitwise exactly on a CPU.
Time and score: not yet run at full size or on an accelerator. At small scale on a CPU (preset
small, two crops of 48 pixels, 120 steps, 2 steps per call, bfloat16, 2026-11-22) four parts of a
minute, stopped after steps 2, 48 and 50, ended bitwise equal to one run. Rows of metrics.jsonl
right after a stop are means over fewer steps.
"""

import re

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config(sigmas: str = "50") -> ConfigDict:
    """Returns the color recipe for a noise level in 8-bit units, or for a range such as 0-75."""
    levels = re.fullmatch(r"(\d+)(?:-(\d+))?", sigmas)
    if not levels:
        raise ValueError(f"no variant {sigmas!r}; use a noise level such as 50, or a range, 0-75")
    low, high = float(levels[1]), float(levels[2] or levels[1])
    config = sadnet_blind.get_config()
    config.degradation.sigma_min, config.degradation.sigma_max = low, high
    config.eval.sigmas = (high,) if low == high else (15.0, 25.0, 50.0, high)
    config.network.kwargs.preset = "base"
    config.network.dtype = "bfloat16"
    config.data.crop = 128
    config.batch_size = 32
    config.steps = 40_000
    config.steps_per_call = 10
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_steps = 1_000
    config.eval_every = 10_000
    return config
