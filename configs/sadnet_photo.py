"""SADNet `small` (0.31 million parameters) for what photographs from cameras have.

Our own recipe: noise of the sensor at any level from hardly any to that of a high sensitivity,
demosaiced, white-balanced and stored as JPEG, made from clean photographs.

Command: python train.py --config configs/sadnet_photo.py --workdir runs/photo
with --config.data.train.path=DIR, where DIR holds several hundred photographs. The comma belongs to
it: the second source, the photographs of scikit-image, has no path.
Time and score: docs/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config() -> ConfigDict:
    """Color."""
    config = sadnet_blind.get_config()
    config.degradation.kind = "camera"
    # The default of camera_noise; given here, it can be set from the command line.
    config.degradation.options = ConfigDict({"camera": {"shot": (1e-4, 0.012)}})
    config.degradation.protocol = "8bit"
    return config
