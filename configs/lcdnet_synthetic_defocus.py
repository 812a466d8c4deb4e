"""LCDNet for defocus deblurring, trained on clean photographs that are blurred on the device.

The recipe of lcdnet_synthetic_motion.py, but light is blurred, not stored values. Variants: a
preset of LCDNet or "control", as there; each also with ":dual", which restores one image from the
two views of a dual-pixel sensor.

Command: python train.py --config configs/lcdnet_synthetic_defocus.py:tiny --workdir runs/defocus
         python train.py --config configs/lcdnet_synthetic_defocus.py:tiny:dual --workdir runs/dual
Photographs to train on are expected in data/BSDS500 and clean ones to score in data/CBSD68:
--config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: not run.
"""

from ml_collections import ConfigDict

from configs import lcdnet_synthetic_motion


def get_config(variant: str = "tiny") -> ConfigDict:
    """Returns a short run for CPUs; raise steps and batch_size for more."""
    size, colon, views = variant.partition(":")
    if colon and views != "dual":
        raise ValueError(f"no variant {variant!r}; use {size} or {size}:dual")
    config = lcdnet_synthetic_motion.get_config(size)
    config.degradation.kind = "defocus"
    config.degradation.options = ConfigDict({"defocus": {"radius": (1.0, 5.0)}})
    if views:
        config.degradation.kind = "dual_pixel"
        # Radii of both signs: in front of and behind the plane of focus.
        config.degradation.options = ConfigDict({"dual_pixel": {"radius": (-5.0, 5.0)}})
        config.data.channels = 6
    return config
