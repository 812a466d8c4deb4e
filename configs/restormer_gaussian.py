"""Restormer for Gaussian noise, the recipe of the official code.

The recipe of restormer_gopro.py on clean photographs, with tiles every 416 pixels. The noise is
unclipped. The argument is "color" or "gray" and a level of noise (15, 25 or 50) or "blind" for 0 to
50. Mixup with weights of Beta(1.2, 1.2) in half of the steps, as in the option files; each of the 8
GPUs there mixes its part of the batch by itself, so that the batches of 8 images are not mixed.

Command: python train.py --config configs/restormer_gaussian.py:color:25 --workdir runs/restormer25
The authors train on DIV2K, Flickr2K, the Waterloo Exploration Database and BSD400, which are
expected in one folder, data/DFWB: --config.data.train.path=DIR. Test images are expected in
data/CBSD68: --config.data.eval.path=DIR.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import restormer_gopro


def get_config(variant: str = "color:blind") -> ConfigDict:
    """Returns the recipe for "color" or "gray", then a level of noise or "blind"."""
    kind, _, level = variant.partition(":")
    if kind not in ("color", "gray") or level not in ("15", "25", "50", "blind"):
        raise ValueError(
            f"no variant {variant!r}; use color or gray, a colon, and 15, 25, 50 or blind"
        )
    config = restormer_gopro.get_config()
    config.network.kwargs.preset = f"gaussian_{kind}"
    config.data.train.source = config.data.eval.source = "folder"
    config.data.train.path, config.data.eval.path = "data/DFWB", "data/CBSD68"
    config.data.channels = 3 if kind == "color" else 1
    config.data.tile_stride = 416
    config.data.cache_gb = 4.0
    config.mixup.rate, config.mixup.beta, config.mixup.groups = 0.5, 1.2, 8
    config.degradation.kind = "awgn"
    if level == "blind":
        config.degradation.sigma_min, config.degradation.sigma_max = 0.0, 50.0
        config.eval.sigmas = (15.0, 25.0, 50.0)
    else:
        config.degradation.sigma_min = config.degradation.sigma_max = float(level)
        config.eval.sigmas = (float(level),)
    config.eval.max_images = 0
    return config
