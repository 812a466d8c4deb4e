"""LCDNet for defocus deblurring on DPDD, single images: 350 training and 76 test scenes.

The recipe of lcdnet_gopro.py with half of its steps, because there are few scenes.

Command: python train.py --config configs/lcdnet_dpdd_single.py --workdir runs/dpdd
         python eval.py --workdir runs/dpdd --modes full,local,tiled
DPDD is expected in data/DPDD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Training scores the validation scenes. To score the test scenes use --split test, test_indoor or
test_outdoor for eval.py. Time and score: not yet run; it needs several accelerators.
"""

from ml_collections import ConfigDict

from configs import lcdnet_gopro


def get_config(preset: str = "base") -> ConfigDict:
    """Returns the recipe for a preset of LCDNet."""
    config = lcdnet_gopro.get_config(preset)
    config.data.train.source = config.data.eval.source = "dpdd"
    config.data.train.path = config.data.eval.path = "data/DPDD"
    config.data.eval.split = "val"
    config.steps = 150_000
    config.eval.max_images = 0
    return config
