"""LCDNet for deraining, trained on clean photographs with synthetic rain made on the device.

The recipe of lcdnet_synthetic_motion.py with a third of its steps. Each image draws light or heavy
rain. Variants: a preset of LCDNet, or "control", as there.

Command: python train.py --config configs/lcdnet_synthetic_rain.py:tiny --workdir runs/rain
         python eval.py --workdir runs/rain --data rainy/ --protocols rain
Photographs to train on are expected in data/BSDS500 and clean ones to score in data/CBSD68:
--config.data.train.path=DIR and --config.data.eval.path=DIR. The second command scores pairs in
rainy/input and rainy/target.
Time and score: 25 minutes of CPU time (2026-11-20); 28.06 dB on CBSD68 in synthetic rain (18.65
before), 33.86 on ten pairs of Rain100L (27.71 before); docs/results/lcdnet.md has all scores.
"""

from ml_collections import ConfigDict

from configs import lcdnet_synthetic_motion


def get_config(size: str = "tiny") -> ConfigDict:
    """Returns a short run for CPUs; raise steps and batch_size for more."""
    config = lcdnet_synthetic_motion.get_config(size)
    config.steps = 3_000
    config.degradation.kind = "rain"
    config.degradation.options = ConfigDict({"rain": {"kind": ("light", "heavy")}})
    return config
