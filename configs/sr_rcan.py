"""RCAN for gray x4 super-resolution, with and without frequency masking.

Variants: "regular"; "sfm", where a band of frequencies is masked in half of the clean images before
they are reduced, as the SFM paper describes it (the target is not masked). All else is equal.

Source: Zhang et al., ECCV 2018: DIV2K, small crops of 48 pixels, 16 a batch, L1, Adam with 1e-4
halved every 200,000 steps. The number of steps is ours. Training on luma alone follows the SFM
code. The small images of DIV2K are made by MATLAB's bicubic, which is computed here during
training.

Command: python train.py --config configs/sr_rcan.py:sfm --workdir runs/rcan_sfm
         python eval.py --workdir runs/rcan_sfm --data data/Set5 --protocols sr,8bit
Clean photographs to train on are expected in data/DIV2K and clean ones to score in data/Set5:
--config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the comparison."""
    if variant not in ("regular", "sfm"):
        raise ValueError(f"no variant {variant!r}; use regular or sfm")
    config = default.get_config()
    config.network.name = "rcan"
    config.network.kwargs = ConfigDict({"preset": "base", "scale": 4})
    config.data.train.source = config.data.eval.source = "folder"
    config.data.train.path = "data/DIV2K"
    config.data.eval.path = "data/Set5"
    config.data.channels = 1
    config.data.crop = 192
    config.degradation.kind = "low_resolution"
    config.degradation.options = ConfigDict(
        {"low_resolution": {"scale": 4, "downsampling": "matlab"}}
    )
    config.degradation.protocol = "8bit"
    if variant == "sfm":
        config.sfm.rate = 0.5
        config.sfm.mode = "uniform"
    config.loss = "l1"
    config.batch_size = 16
    config.steps = 1_000_000
    config.optimizer.learning_rate = 1e-4
    config.optimizer.decay_every = 200_000
    return config
