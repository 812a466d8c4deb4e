"""Restormer for defocus deblurring on DPDD, from both views of the dual-pixel sensor.

The recipe of restormer_dpdd_single.py. Training images are never transposed, and a horizontal flip
exchanges the views.

Command: python train.py --config configs/restormer_dpdd_dual.py --workdir runs/restormer_dual
         python eval.py --workdir runs/restormer_dual --split test
DPDD is expected in data/DPDD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import restormer_dpdd_single


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = restormer_dpdd_single.get_config()
    config.network.kwargs.preset = "defocus_dual"
    config.data.train.source = config.data.eval.source = "dpdd_dual"
    config.data.channels = 6
    return config
