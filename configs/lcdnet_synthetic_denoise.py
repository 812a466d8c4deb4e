"""LCDNet for camera noise, trained on clean photographs that are made noisy on the device.

The recipe of lcdnet_synthetic_motion.py. Sensor noise is followed by the processing of a camera,
JPEG included. Variants: a preset of LCDNet, or "control", as there.

Command: python train.py --config configs/lcdnet_synthetic_denoise.py:tiny --workdir runs/denoise
         python eval.py --workdir runs/denoise --data sidd_validation:data/SIDD,polyu:data/PolyU
Photographs to train on are expected in data/BSDS500 and clean ones to score in data/CBSD68:
--config.data.train.path=DIR and --config.data.eval.path=DIR. The second command scores real pairs.
Plain Gaussian noise of one level, unclipped: --config.degradation.kind=awgn
--config.degradation.protocol=float; levels as in default.py. Time and score: not run.
"""

from ml_collections import ConfigDict

from configs import lcdnet_synthetic_motion


def get_config(size: str = "tiny") -> ConfigDict:
    """Returns a short run for CPUs; raise steps and batch_size for more."""
    config = lcdnet_synthetic_motion.get_config(size)
    config.degradation.kind = "camera"
    config.degradation.options = ConfigDict()
    return config
