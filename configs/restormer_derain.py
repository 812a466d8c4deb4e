"""Restormer for deraining on Rain13K, the recipe of the official code.

The recipe of restormer_gopro.py on whole images. Scores are computed on the Y channel.

Command: python train.py --config configs/restormer_derain.py --workdir runs/restormer_derain
         python eval.py --workdir runs/restormer_derain --split test    # five test sets, their mean
Rain13K is expected in data/Rain13K: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import restormer_gopro


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = restormer_gopro.get_config()
    config.network.kwargs.preset = "deraining"
    config.data.train.source = config.data.eval.source = "rain13k"
    config.data.train.path = config.data.eval.path = "data/Rain13K"
    config.data.eval.split = "Rain100L"
    config.data.tile = config.data.tile_stride = 0
    config.eval.max_images = 0
    return config
