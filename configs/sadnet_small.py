"""SADNet `small` (0.31 million parameters) for CPUs and experiments.

Our own recipe: sadnet_quickstart.py with fewer channels, larger crops and more steps. The default
training set is the photographs of scikit-image; a folder of several hundred images gives better
results: --config.data.train.source=folder --config.data.train.path=DIR

Command: python train.py --config configs/sadnet_small.py --workdir runs/small
Time and score: about 80 minutes of CPU time on one core (2026-11-20) on 332 images of BSDS500, by
--config.data.train.source=folder; Kodak24 28.84 dB, CBSD68 27.85 dB (protocol float; trained and
scored with --config.degradation.protocol=8bit: 28.69 and 27.74). The whole table is in
docs/results/sadnet.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_quickstart


def get_config(sigma: str = "50") -> ConfigDict:
    """Returns the recipe for one noise level, in 8-bit units, with unclipped noise."""
    config = sadnet_quickstart.get_config()
    config.network.kwargs.preset = "small"
    config.degradation.sigma_min = config.degradation.sigma_max = float(sigma)
    config.eval.sigmas = (float(sigma),)
    config.data.crop = 96
    config.steps = 25_000
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.beta2 = 0.999  # as the scores above were reached
    config.ema_decay = 0.999
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    return config
