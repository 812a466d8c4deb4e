"""SADNet `small` (0.31 million parameters) for what photographs from cameras have.

Our own recipe: noise of the sensor at any level from hardly any to that of a high sensitivity,
demosaiced, white-balanced and stored as JPEG, made from clean photographs.

Command: python train.py --config configs/sadnet_photo.py --workdir runs/photo
with --config.data.train.path=DIR, (a folder of several hundred photographs; nothing after the comma
is the path of those of scikit-image, which are added).
Time and score: docs/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config() -> ConfigDict:
    """Colour."""
    config = sadnet_blind.get_config()
    config.degradation.kind = "camera"
    # The default of camera_noise; given here, it can be set from the command line.
    config.degradation.options = ConfigDict({"camera": {"shot": (1e-4, 0.012)}})
    config.degradation.protocol = "8bit"
    return config
