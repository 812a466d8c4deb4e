"""SADNet for color images with white Gaussian noise, the recipe of the official code.

Source: Chang et al., ECCV 2020, section 4.1 and the released training code: Adam, learning rate
1e-4 halved every 3e5 steps, batches of 16 crops of 128, mean squared error, one network for each
noise level, noisy images clipped to [0, 1]. The paper trains on DIV2K (800 images) cut into tiles
of 300 pixels with a stride of 150. Its script skips a tile that ends exactly at the border; this
recipe keeps it.

Command: python train.py --config configs/sadnet_color_awgn.py:50 --workdir runs/color50
(needs DIV2K prepared by TFDS: tfds build div2k; other images:
--config.data.train.source=folder --config.data.train.path=DIR)
Time and score: not yet run. The paper reports 29.64 dB on Kodak24 at sigma 50.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(sigma: str = "50") -> ConfigDict:
    """Returns the published recipe for one noise level, in 8-bit units."""
    config = default.get_config()
    config.data.train.source = "tfds"
    config.data.train.path = "div2k/bicubic_x2"
    config.data.train.split = "train"
    config.data.train.feature = "hr"
    config.data.cache_gb = 8.0
    config.data.tile, config.data.tile_stride = 300, 150
    config.degradation.sigma_min = config.degradation.sigma_max = float(sigma)
    config.degradation.protocol = "clipped"
    config.eval.sigmas = (float(sigma),)
    return config
