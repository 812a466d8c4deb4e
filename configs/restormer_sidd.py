"""Restormer for the noise of smartphone cameras on SIDD, the recipe of the official code.

The recipe of restormer_gopro.py, with tiles every 384 pixels and the mixup of
restormer_gaussian.py.

Command: python train.py --config configs/restormer_sidd.py --workdir runs/restormer_sidd
         python eval.py --workdir runs/restormer_sidd
SIDD-Medium and the validation blocks are expected in data/SIDD_Medium_Srgb and
data/SIDD_validation: --config.data.train.path=DIR and --config.data.eval.path=DIR. Decoding a large
PNG for each crop is slow: set --config.data.cache_dir=DIR, a folder on a fast local disk.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import restormer_gopro


def get_config() -> ConfigDict:
    """Returns the recipe."""
    config = restormer_gopro.get_config()
    config.network.kwargs.preset = "real_denoising"
    config.data.train.source, config.data.eval.source = "sidd", "sidd_validation"
    config.data.train.path, config.data.eval.path = "data/SIDD_Medium_Srgb", "data/SIDD_validation"
    config.data.tile_stride = 384
    config.data.cache_gb = 4.0
    config.mixup.rate, config.mixup.beta, config.mixup.groups = 0.5, 1.2, 8
    config.eval.max_images = 0
    return config
