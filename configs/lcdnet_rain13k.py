"""LCDNet for deraining on Rain13K: 13,712 training pairs and five test sets.

The recipe of lcdnet_gopro.py. Scores are computed on the Y channel, as usual for deraining.

Command: python train.py --config configs/lcdnet_rain13k.py --workdir runs/rain13k
         python eval.py --workdir runs/rain13k --modes full,local,tiled
Rain13K is expected in data/Rain13K: --config.data.train.path=DIR and --config.data.eval.path=DIR.
         python eval.py --workdir runs/rain13k --split test     # five test sets and their mean
Other test sets: --split Rain100H for eval.py.
Time and score: not yet run; it needs several accelerators.
"""

from ml_collections import ConfigDict

from configs import lcdnet_gopro


def get_config(preset: str = "base") -> ConfigDict:
    """Returns the recipe for a preset of LCDNet."""
    config = lcdnet_gopro.get_config(preset)
    config.data.train.source = config.data.eval.source = "rain13k"
    config.data.train.path = config.data.eval.path = "data/Rain13K"
    config.data.eval.split = "Rain100L"
    config.eval.max_images = 0
    return config
