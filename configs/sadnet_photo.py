"""SADNet `small` (0.31 million parameters) for the noise in camera photographs.

Our own recipe: sensor noise from very low levels to those of a high ISO speed, then demosaicing,
white balance and JPEG, made from clean photographs.

Command: python train.py --config configs/sadnet_photo.py --workdir runs/photo
with --config.data.train.path=DIR, where DIR holds several hundred photographs. The comma is part of
the path: the second source, the photographs of scikit-image, has an empty path.
Time: checkpoints/README.md; scores: docs/results/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config() -> ConfigDict:
    """Returns the color recipe."""
    config = sadnet_blind.get_config()
    config.degradation.kind = "camera"
    # The default of camera_noise, listed so that the command line can change it.
    config.degradation.options = ConfigDict({"camera": {"shot": (1e-4, 0.012)}})
    config.degradation.protocol = "8bit"
    return config
