"""NAFNet for the noise of smartphone cameras on SIDD, the recipe of the official code.

Source: as nafnet_gopro.py, with the option files ``options/train/SIDD/NAFNet-width32.yml`` and
``NAFNet-width64.yml``: tiles every 384 pixels, crops that are not flipped, no weight decay.

Command: python train.py --config configs/nafnet_sidd.py:32 --workdir runs/nafnet_sidd
         python eval.py --workdir runs/nafnet_sidd
SIDD-Medium and the validation blocks are expected in data/SIDD_Medium_Srgb and
data/SIDD_validation: --config.data.train.path=DIR and --config.data.eval.path=DIR. Decoding a large
PNG for each crop is slow: set --config.data.cache_dir=DIR, a folder on a fast local disk.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import nafnet_gopro


def get_config(width: str = "32") -> ConfigDict:
    """Returns the recipe for a width of 32 or 64 channels."""
    config = nafnet_gopro.get_config(width)
    config.network.kwargs.preset = f"sidd_width{width}"
    config.data.train.source, config.data.eval.source = "sidd", "sidd_validation"
    config.data.train.path, config.data.eval.path = "data/SIDD_Medium_Srgb", "data/SIDD_validation"
    config.data.tile_stride = 384
    config.data.augment = False
    config.data.cache_gb = 4.0
    config.optimizer.weight_decay = 0.0
    config.eval.max_images = 0
    return config
