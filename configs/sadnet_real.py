"""SADNet for the noise of real cameras, the recipe of the official code.

Source: Chang et al., ECCV 2020, section 4.1 and the released training code: as
sadnet_color_awgn.py, but on pairs, with the mean absolute error. The pairs are SIDD-Medium (sRGB)
and RENOIR, whose clean image is the mean of its two low-noise ones.

Command: python train.py --config configs/sadnet_real.py --workdir runs/real
The three data sets are expected in data/ in their original layout, or elsewhere with
--config.data.train.path=SIDD,RENOIR --config.data.eval.path=SIDD_VALIDATION. The decoded pairs take
tens of gigabytes, and decoding a large PNG for each crop is slow: set --config.data.cache_dir=DIR,
a folder on a fast local disk, or raise --config.data.cache_gb.
Time and score: not yet run. The paper reports 39.46 dB on the SIDD validation blocks.
"""

from ml_collections import ConfigDict

from configs import sadnet_color_awgn


def get_config() -> ConfigDict:
    """Returns training on SIDD-Medium and RENOIR, scored on the SIDD validation blocks."""
    config = sadnet_color_awgn.get_config()
    config.data.train.source = "sidd,renoir"
    config.data.train.path = "data/SIDD_Medium_Srgb,data/RENOIR"
    config.data.eval.source = "sidd_validation"
    config.data.eval.path = "data/SIDD_validation"
    config.degradation.kind = "none"
    config.loss = "l1"
    return config
