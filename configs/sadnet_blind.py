"""SADNet `small` (0.31 million parameters) for Gaussian noise of any level from 0 to 55.

Our own recipe. Half of the crops have unclipped noise and half have the noise of 8-bit files, so
that one network serves both. Trained on unclipped noise alone, it loses more than 1 dB on 8-bit
files.

Command: python train.py --config configs/sadnet_blind.py:color --workdir runs/blind
with --config.data.train.path=DIR, where DIR holds several hundred photographs. The comma is part of
the path: the second source, the photographs of scikit-image, has an empty path.
Time: checkpoints/README.md; scores: docs/results/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_small


def get_config(channels: str = "color") -> ConfigDict:
    """Returns the variant ``color`` or ``gray``."""
    if channels not in ("color", "gray"):
        raise ValueError(f"no variant {channels!r}; use color or gray")
    config = sadnet_small.get_config()
    config.data.channels = {"color": 3, "gray": 1}[channels]
    config.data.train.source = "folder,photos"
    config.data.train.path = ","
    config.data.scales = (1.0, 0.8, 0.6)
    config.data.where = "device"
    config.degradation.sigma_min = 0.0
    config.degradation.sigma_max = 55.0
    config.degradation.protocol = "float,8bit"
    config.eval.sigmas = (15.0, 25.0, 50.0)
    config.steps = 16_000
    return config
