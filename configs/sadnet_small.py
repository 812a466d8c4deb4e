"""SADNet `small` (0.31 million parameters), the size for CPUs and for trying ideas.

Our own recipe, that of sadnet_quickstart.py with larger crops and more of them. Trains on the
embedded photographs unless told otherwise; a folder of several hundred images does better:
--config.data.train.source=folder --config.data.train.path=DIR

Command: python train.py --config configs/sadnet_small.py --workdir runs/small
Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import sadnet_quickstart


def get_config(sigma: str = "50") -> ConfigDict:
    """One noise level, in 8-bit units; unclipped noise."""
    config = sadnet_quickstart.get_config()
    config.degradation.sigma_min = config.degradation.sigma_max = float(sigma)
    config.eval.sigmas = (float(sigma),)
    config.data.crop = 96
    config.steps = 25_000
    config.optimizer.learning_rate = 1.5e-3
    config.ema_decay = 0.999
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    return config
