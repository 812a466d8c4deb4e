"""SADNet (1248): sadnet_real.py with context dilations 1, 2, 4, 8 instead of 1, 2, 3, 4.

Source: Chang et al., ECCV 2020, table 4; the default of the first public code. Both
have the same number of parameters, so only config.json tells which of the two a checkpoint is.

Command: python train.py --config configs/sadnet_1248.py --workdir runs/real1248
Time and score: not yet run. The paper reports 39.37 dB on DND (SADNet: 39.59).
"""

from ml_collections import ConfigDict

from configs import sadnet_real


def get_config() -> ConfigDict:
    """Returns sadnet_real.py with the other dilations."""
    config = sadnet_real.get_config()
    config.network.kwargs.dilations = (1, 2, 4, 8)
    return config
