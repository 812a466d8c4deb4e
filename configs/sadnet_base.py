"""SADNet `base` (4.2 million parameters) on an accelerator, in pieces where jobs have a time limit.

Our own recipe, not the paper's (that is sadnet_color_awgn.py): images in device memory, no
TensorFlow, bfloat16, larger batches and a higher learning rate that falls to zero, both kinds of
noise that users have. Variants: a noise level, or a range of them such as "0-75".

Command: timeout -s TERM 8m python train.py --config configs/sadnet_base.py:50 --workdir runs/b
with --config.data.train.path=DIR, (and the comma) as in sadnet_blind.py. The same command again
continues where the last one was stopped, to the bit on CPU.
Time and score: not yet run in full; docs/pretrained.md tells what was tried at a small scale.
"""

import re

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config(sigmas: str = "50") -> ConfigDict:
    """Color; one noise level, in 8-bit units, or the lowest and the highest."""
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
