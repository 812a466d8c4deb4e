"""Restormer for defocus deblurring on DPDD, from one picture of a scene.

The recipe of restormer_gopro.py, with tiles every 204 pixels. The authors leave out those with the
weakest gradients; here all count.

Command: python train.py --config configs/restormer_dpdd_single.py --workdir runs/restormer_dpdd
         python eval.py --workdir runs/restormer_dpdd --split test
DPDD is expected in data/DPDD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import restormer_gopro


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = restormer_gopro.get_config()
    config.network.kwargs.preset = "defocus_single"
    config.data.train.source = config.data.eval.source = "dpdd"
    config.data.train.path = config.data.eval.path = "data/DPDD"
    config.data.eval.split = "val"
    config.data.tile_stride = 204
    return config
