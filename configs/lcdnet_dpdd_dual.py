"""LCDNet against defocus on DPDD, from both views of the dual-pixel sensor.

Six channels go in, the left view's and the right view's, and one picture comes out. Training
images are never transposed, and a horizontal flip swaps the views.

Command: python train.py --config configs/lcdnet_dpdd_dual.py --workdir runs/dpdd_dual
         python eval.py --workdir runs/dpdd_dual --modes full,local,tiled
DPDD is expected in data/DPDD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Test scenes: --config configs/lcdnet_dpdd_dual.py --config.data.eval.split=test for eval.py.
Time and score: not run; it is meant for several accelerators.
"""

from ml_collections import ConfigDict

from configs import lcdnet_dpdd_single


def get_config(preset: str = "base") -> ConfigDict:
    """The recipe, for any preset of LCDNet."""
    config = lcdnet_dpdd_single.get_config(preset)
    config.data.train.source = config.data.eval.source = "dpdd_dual"
    config.data.channels = 6
    return config
