"""SADNet for gray images with white Gaussian noise: sadnet_color_awgn.py with one channel.

Source: Chang et al., ECCV 2020, section 4.1.

Command: python train.py --config configs/sadnet_gray_awgn.py:50 --workdir runs/gray50
Time and score: not yet run. The paper reports 26.51 dB on BSD68 at sigma 50.
"""

from ml_collections import ConfigDict

from configs import sadnet_color_awgn


def get_config(sigma: str = "50") -> ConfigDict:
    """Returns the published recipe for one noise level, in 8-bit units."""
    config = sadnet_color_awgn.get_config(sigma)
    config.data.channels = 1
    return config
