"""LCDNet for defocus deblurring on DPDD, from both views of the dual-pixel sensor.

The input has six channels, the left view and the right view. The output is one RGB image. Training
images are never transposed, and a horizontal flip exchanges the views.

Command: python train.py --config configs/lcdnet_dpdd_dual.py --workdir runs/dpdd_dual
         python eval.py --workdir runs/dpdd_dual --modes full,local,tiled
DPDD is expected in data/DPDD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
Test scenes: --split test for eval.py.
Time and score: not yet run; it needs several accelerators.
"""

from ml_collections import ConfigDict

from configs import lcdnet_dpdd_single


def get_config(preset: str = "base") -> ConfigDict:
    """Returns the recipe for a preset of LCDNet."""
    config = lcdnet_dpdd_single.get_config(preset)
    config.data.train.source = config.data.eval.source = "dpdd_dual"
    config.data.channels = 6
    return config
